"""One forward pass in which each operation with a rule records the ingredients of its weights' gradients."""

from __future__ import annotations

import collections
import functools
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from steepest.linearize._factors import Factor
from steepest.linearize._trace.layout import Layout
from steepest.linearize._trace.network import original_used
from steepest.linearize._trace.program import Program

__all__ = ["Call", "CallRecorder", "Key", "LayerRule", "Slot", "Use", "alias"]


@dataclass(frozen=True)
class Slot:
    """A trainable parameter, or a view of one, as an operation's argument.

    Attributes:
        name: The parameter.
        index: Where each entry of the argument is in the flat parameter; None where it is the whole, in order.
    """

    name: str
    index: Tensor | None = None


Key = tuple[str, tuple[str, ...], int]
"""A call: its rule's name, its parameters, and which of those with the same ones it is."""

Build = Callable[[Tensor, Layout, int], Factor]
"""build(cotangents, layout, n) -> the factor of one argument. The cotangents are [n, C, T, m], or [C, *lead] as they
are where the call's `shared` says which axes may be those of the examples."""


@dataclass(frozen=True)
class Use:
    """One weight of a call."""

    slot: Slot
    build: Build


@dataclass(frozen=True)
class Call:
    """An operation with weights.

    Attributes:
        edge: Where autograd delivers the cotangent of the output (or of what stands for the weight).
        lead: How many leading dimensions of the cotangent are positions, once `arrange` was applied.
        arrange: Moves the features of a cotangent [C, ...] to its end; None where they are there.
        shared: The axes that may be that of the examples; None for all.
        uses: Its weights.
    """

    edge: GradientEdge
    lead: int
    uses: list[Use]
    arrange: Callable[[Tensor], Tensor] | None = None
    shared: frozenset[int] | None = None


LayerRule = Callable[["CallRecorder", Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any]
"""rule(recorder, function, args, kwargs) -> the operation's result, or NotImplemented to leave it to autograd."""


class CallRecorder(TorchFunctionMode):
    """Intercepts torch's functions: where a rule knows one, the weights are cut out of autograd's graph.

    Uses without a rule stay in the graph and are found there, so that no use of a parameter is lost.

    Args:
        parameters: The trainable parameters by name.
        rules: By function.
        skip: The calls that are to be left to autograd.
        foreign: By identity, tensors that no operation may take.
        program: Records the functions that the pass calls; None where it is run without this recorder.
    """

    def __init__(
        self,
        parameters: Mapping[str, Tensor],
        rules: Mapping[Any, LayerRule],
        skip: frozenset[Key],
        foreign: Mapping[int, Tensor],
        program: Program | None,
    ) -> None:
        super().__init__()
        self.program = program
        self._foreign = foreign
        self.parameters = parameters
        self._names = {id(parameter): name for name, parameter in parameters.items()}
        self._gathered: dict[int, tuple[Tensor, Slot, int]] = {}
        self._rules = rules
        self._skip = skip
        self._seen: collections.Counter[tuple[str, tuple[str, ...]]] = collections.Counter()
        self.calls: dict[Key, Call] = {}

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if self._foreign and any(id(t) in self._foreign for t in _tensors((*args, *(kwargs or {}).values()))):
            raise original_used("a buffer")
        rule = self._rules.get(func)
        result = NotImplemented
        if rule is not None:
            result = rule(self, func, args, kwargs or {})
        elif func in _COMPOSED:
            with self:
                return _without_check(func)(*args, **(kwargs or {}))
        elif func in _DERIVATIVES:
            raise _Differentiates
        if result is NotImplemented:
            result = func(*args, **(kwargs or {}))
        if self.program is not None:
            self.program.calls(func, args, kwargs or {}, result)
        return result

    def slot(self, x: Any) -> Slot | None:
        """Return which parameter x is, or is a view of; None for anything else."""
        if not isinstance(x, Tensor) or not x.requires_grad:
            return None
        name = self._names.get(id(x))
        if name is not None:
            return Slot(name)
        if id(x) in self._gathered:
            result, slot, version = self._gathered[id(x)]
            return slot if result._version == version else None
        base = x._base
        name = None if base is None else self._names.get(id(base))
        if name is None or base is None or x.grad_fn is None or not base.is_contiguous():
            return None
        if x.is_complex() != base.is_complex() or x.is_neg():
            return None
        places = torch.arange(base.numel(), device=base.device)
        return Slot(name, places.as_strided(x.shape, x.stride(), x.storage_offset() - base.storage_offset()).flatten())

    def gathered(self, result: Tensor, slot: Slot) -> None:
        """Remember that a result consists of entries of a parameter."""
        self._gathered[id(result)] = result, slot, result._version

    def begins(self, kind: str, *slots: Slot | None) -> Key | None:
        """Return the key of a call that a rule could take, or None where it is to be left to autograd."""
        names = tuple(slot.name for slot in slots if slot is not None)
        self._seen[kind, names] += 1
        key = kind, names, self._seen[kind, names]
        return None if key in self._skip else key

    def ends(
        self,
        key: Key,
        output: Tensor,
        lead: int,
        uses: list[Use],
        arrange: Callable[[Tensor], Tensor] | None = None,
        *,
        shared: frozenset[int] | None = None,
    ) -> Tensor:
        """Keep a call and return its output, in a form that later in-place operations do not affect."""
        if output.grad_fn is not None and output._base is not None:
            # In-place operations on a view rewrite its history, and the edge would lead nowhere.
            output = output.clone()
        edge = get_gradient_edge(output) if output.grad_fn is None else GradientEdge(output.grad_fn, output.output_nr)
        self.calls[key] = Call(edge, lead, uses, arrange, shared)
        return output


class _Differentiates(Exception):  # noqa: N818
    """A model differentiates inside of its forward pass, where weights that are cut off would be missing."""


def _tensors(values: Iterable[Any]) -> Iterator[Any]:
    for value in values:
        if isinstance(value, (tuple, list)):
            yield from value
        else:
            yield value


def alias(x: Tensor) -> Tensor:
    """Return a leaf with the same memory: the operation needs a gradient, the parameter gets none."""
    return x.detach().requires_grad_()


_COMPOSED = frozenset(
    (F.multi_head_attention_forward, F.embedding, F.layer_norm, F.rms_norm, F.group_norm, F.batch_norm)
)
"""Python functions that call what rules know."""


_DERIVATIVES = frozenset((torch.autograd.grad, torch.autograd.backward, Tensor.backward))


@functools.cache
def _without_check(function: Any) -> Any:
    """Return a function of torch.nn.functional without its first act, which is to ask us."""
    namespace = dict(function.__globals__)
    for name in ("has_torch_function", "has_torch_function_unary", "has_torch_function_variadic"):
        namespace[name] = _never
    inner = types.FunctionType(
        function.__code__, namespace, function.__name__, function.__defaults__, function.__closure__
    )
    inner.__kwdefaults__ = function.__kwdefaults__
    return inner


def _never(*_: Any) -> bool:
    return False
