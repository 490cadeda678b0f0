"""The graph of one run of a model on data."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_iter
from torch.utils.weak import WeakIdKeyDictionary

from steepest.init._graph.graph import Graph, Op
from steepest.init._graph.operations import operation
from steepest.init._graph.steps import add_step
from steepest.init._layers.kinds import is_leaf

__all__ = ["Inputs", "call", "record_call", "record_run"]

Inputs = tuple[Any, ...] | dict[str, Any]
"""What a model is called with: arguments, or keyword arguments."""


def call(function: Callable[..., Any], inputs: Inputs) -> Any:
    """Return function(*inputs), or function(**inputs)."""
    return function(**inputs) if isinstance(inputs, dict) else function(*inputs)


class GraphRecorder(TorchFunctionMode):
    """Records each function that is called on tensors it knows, and each leaf module as one step."""

    def __init__(self) -> None:
        super().__init__()
        self.graph = Graph()
        self.inside = 0
        self._numbers: Any = WeakIdKeyDictionary()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call the function, and record it unless a leaf module calls it."""
        keywords = kwargs or {}
        sources = [] if self.inside else self.numbers((args, keywords))
        result = func(*args, **keywords)
        outputs = list(tensors(result)) if sources else []
        if not outputs:
            return result
        op, activation = operation(func, args, keywords)
        for output in outputs:
            self.mark(output, self.graph.add(op, sources, activation=activation))
        return result

    def record(self, function: Callable[..., Any], inputs: Inputs) -> Graph:
        """Call a function or a module and return the graph."""
        hooks: list[Any] = []
        try:
            for module in function.modules() if isinstance(function, nn.Module) else ():
                if is_leaf(module):
                    hooks.append(module.register_forward_pre_hook(self.enter, with_kwargs=True))
                    hooks.append(module.register_forward_hook(self.leave, with_kwargs=True))
            with self:
                output = call(function, inputs)
        finally:
            for hook in hooks:
                hook.remove()
        self.graph.add(Op.OUTPUT, self.numbers(output))
        return self.graph

    def mark(self, value: Any, number: int) -> None:
        """Register the tensors in a value as the output of a step."""
        for tensor in tensors(value):
            if not isinstance(tensor, nn.Parameter):
                self._numbers[tensor] = number

    def numbers(self, value: Any) -> list[int]:
        """Return the steps whose output the tensors in a value are."""
        return [self._numbers[tensor] for tensor in tensors(value) if tensor in self._numbers]

    def enter(self, _module: nn.Module, _args: Any, _kwargs: Any) -> None:
        """Stop recording; a hook before a leaf module."""
        self.inside += 1

    def leave(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        """Record a leaf module; a hook behind it."""
        self.inside -= 1
        if not self.inside:
            self.mark(output, add_step(self.graph, module, self.numbers((args, kwargs))))


def record_run(model: nn.Module, inputs: Inputs) -> Graph:
    """Run a model once and return its graph."""
    recorder = GraphRecorder()
    recorder.mark(inputs, recorder.graph.add(Op.SOURCE))
    return recorder.record(model, inputs)


def record_call(function: Callable[[Tensor], Any], x: Tensor, layer: nn.Module) -> Graph:
    """Call a function on a layer's output, and return the graph."""
    recorder = GraphRecorder()
    recorder.mark(x, recorder.graph.add(Op.LAYER, layer=layer))
    return recorder.record(function, (x,))


def tensors(value: Any) -> Iterator[Tensor]:
    """Go through the tensors in nested tuples, lists, dicts and dataclasses."""
    for leaf in tree_iter(value):
        if isinstance(leaf, Tensor):
            yield leaf
        elif dataclasses.is_dataclass(leaf) and not isinstance(leaf, type):
            held: Iterable[Any] = [getattr(leaf, f.name) for f in dataclasses.fields(leaf)]
            for inner in held:
                yield from tensors(inner)
