"""The graph of a model without data, by torch.fx."""

from __future__ import annotations

import dis
import inspect
import sys
from itertools import pairwise
from typing import Any

from torch import fx, nn

from steepest.init._graph.graph import Graph, Op
from steepest.init._graph.operations import operation
from steepest.init._graph.steps import add_step
from steepest.init._layers.kinds import is_leaf

__all__ = ["trace_symbolically"]


class Tracer(fx.Tracer):
    """Traces every module that is not a leaf and not of a type that cannot be traced; knows the current module."""

    proxy_buffer_attributes = True  # a mask is cut to a length that is a symbol

    def __init__(self, closed: set[type]) -> None:
        super().__init__()
        self.closed = closed
        self.inside: list[nn.Module] = []
        self.met: list[nn.Module] = []

    @property
    def failed(self) -> nn.Module | None:
        """The innermost module that was gone into and not left, once the trace has ended with an error."""
        return self.inside[-1] if self.inside else None

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:  # noqa: ARG002
        """Return whether a module is one step."""
        return is_leaf(m) or type(m) in self.closed

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:  # noqa: ARG002
        """Go into a module past its hooks, which are not made for symbols."""
        if type(m) in self.closed:
            self.met.append(m)
        self.inside.append(m)
        result = super().call_module(m, m.forward, args, kwargs)
        self.inside.pop()
        return result

    def to_bool(self, obj: fx.Proxy) -> bool:
        """Let the conditions of `assert` hold; any other that depends on a tensor cannot be decided."""
        frame = sys._getframe()
        while frame.f_back and frame.f_code is not fx.Proxy.__bool__.__code__:
            frame = frame.f_back
        caller = frame.f_back
        return (caller is not None and _asserts(caller.f_code, caller.f_lasti)) or super().to_bool(obj)


def _asserts(code: Any, at: int) -> bool:
    """Return whether a condition there in the bytecode is that of an assert: a jump over an AssertionError."""
    steps = [step for step in dis.get_instructions(code) if step.offset >= at][:4]
    for jump, target in pairwise(steps):
        if jump.opname.startswith("POP_JUMP"):
            loads = target.opname == "LOAD_ASSERTION_ERROR" or target.argval is AssertionError
            return loads and jump.opname.endswith("IF_TRUE")
    return False


def trace_symbolically(model: nn.Module) -> Graph:
    """Return the graph of a model; where it cannot be traced as a whole, the graphs of its parts side by side."""
    graph = Graph()
    if is_leaf(model):
        graph.add(Op.OUTPUT, [add_step(graph, model, [graph.add(Op.SOURCE)])])
        return graph
    _add(graph, model, Op.OUTPUT)
    return graph


def _add(graph: Graph, module: nn.Module, end: Op) -> None:
    """Append the steps of a module that is no leaf, or, if its own forward cannot be traced, those of its children."""
    closed: set[type] = set()
    while True:
        tracer = Tracer(closed)
        try:
            traced = tracer.trace(module, concrete_args=_defaults(module))
        except Exception:  # anything at all may go wrong in a forward that gets symbols
            if tracer.failed is None or type(tracer.failed) in closed:
                graph.complete = False
                return _add_children(graph, module)
            closed.add(type(tracer.failed))
        else:
            break
    _convert(graph, traced, dict(module.named_modules(remove_duplicate=False)), end)
    for inner in dict.fromkeys(tracer.met):
        graph.complete = False
        _add_children(graph, inner)
    return None


def _add_children(graph: Graph, module: nn.Module) -> None:
    for child in module.children():
        if is_leaf(child):
            graph.add(Op.EXIT, [add_step(graph, child, [])])
        else:
            _add(graph, child, Op.EXIT)


def _defaults(module: nn.Module) -> dict[str, Any]:
    """Return the forward's optional arguments, which the trace leaves at their defaults."""
    parameters = inspect.signature(type(module).forward).parameters
    return {name: p.default for name, p in parameters.items() if p.default is not inspect.Parameter.empty}


def _convert(graph: Graph, traced: fx.Graph, modules: dict[str, nn.Module], end: Op) -> None:
    """Append the steps of a torch.fx graph."""
    numbers: dict[fx.Node, int] = {}
    for node in traced.nodes:
        sources = [numbers[source] for source in node.all_input_nodes if source in numbers]
        if node.op == "placeholder":
            numbers[node] = graph.add(Op.SOURCE)
        elif node.op == "output":
            graph.add(end, sources)
        elif node.op == "call_module":
            numbers[node] = add_step(graph, modules[str(node.target)], sources)
        elif node.op in ("call_function", "call_method") and sources:
            op, activation = operation(node.target, node.args, node.kwargs)
            if op in (Op.ADD, Op.MULTIPLY) and len(node.args) == 2 and node.args[0] is node.args[1]:
                sources = sources * 2
            numbers[node] = graph.add(op, sources, activation=activation)
