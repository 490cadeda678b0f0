"""The outputs of a model, and a private copy of the model that computes them."""

from __future__ import annotations

import collections
import contextlib
import copy
import functools
import math
import numbers
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor, nn

from steepest._check import at_least, instance
from steepest._random import seeded
from steepest.errors import InvalidArgument
from steepest.linearize._inputs import Inputs, shown

__all__ = ["Network", "original_used", "quietly"]

P = ParamSpec("P")
R = TypeVar("R")


class Network:
    """A private copy of a model, called for a tensor [n, C].

    Attributes:
        model: The copy.
        parameters: Its trainable parameters by name, in the order of the columns.
        device: The device of the parameters.
        coupled: Whether an example's outputs depend on the others of its batch, so that a batch must not be divided.
        buffers_of_original: By identity, those of the user's model, until it was seen that the copy does without them.
        seed: The seed of the random numbers in each call; None for a model that draws none.
        dtype: The precision that the copy was converted to; None where it has the model's own.
        converted_bytes: The memory of the parameters and buffers that were converted, in bytes.
    """

    def __init__(self, model: nn.Module, outputs: Any, seed: int | None, dtype: torch.dtype | None = None) -> None:
        instance("model", model, nn.Module, "a torch.nn.Module", remedy="Pass the module.")
        seed = None if seed is None else at_least("seed", seed, 0, most=(1 << 63) - 1)
        _refuse_modes(model, seed)
        try:
            with torch.inference_mode(False):
                self.model = copy.deepcopy(getattr(model, "_orig_mod", model))
        except Exception as error:  # a module may hold anything
            raise InvalidArgument(
                "the model must be copyable, as a linearization is of a copy",
                got=_said(error),
                remedy="copy.deepcopy(model) must work. Replace weight_norm by its parametrization.",
            ) from error
        lazy = [name for name, t in _state(self.model) if nn.parameter.is_lazy(t)]
        if lazy:
            raise InvalidArgument(
                "the model must have all its parameters before it is linearized",
                got=f"uninitialized: {lazy[0]}",
                remedy="Call a lazy layer once on a batch.",
            )
        empty = [name for name, t in _state(self.model) if t.is_meta]
        if empty:
            raise InvalidArgument(
                "the model must have data in all its parameters and buffers",
                got=f"{empty[0]} on device meta",
                remedy="Move it with model.to_empty(device='cpu'), and fill it.",
            )
        self.dtype, self.converted_bytes = dtype, self._convert(dtype)
        self.parameters = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        if not self.parameters:
            raise InvalidArgument(
                "the model must have parameters that require gradients",
                got=type(model).__name__,
                remedy="Call requires_grad_() on the parameters to be linearized.",
            )
        odd = [name for name, p in self.parameters.items() if p.is_complex() or p.layout != torch.strided]
        if odd:
            raise InvalidArgument(
                "parameters must be real and dense", got=odd[0], remedy="Freeze it, or use real numbers."
            )
        self.device = next(iter(self.parameters.values())).device
        self._tensors = [t for _, t in _state(self.model)]
        self._outputs = outputs
        self.buffers_of_original = {id(b): b for b in model.buffers()}
        self._originals = [p for p in model.parameters() if p.requires_grad]
        self.seed = seed
        self.coupled = seed is not None  # one draw is that of a whole batch
        self.is_half = any(p.dtype.itemsize < 4 for p in self.parameters.values())
        self._width: int | None = None

    def _convert(self, dtype: torch.dtype | None) -> int:
        """Convert the copy to that precision, and return the bytes of the converted parameters and buffers."""
        if dtype is None:
            return 0
        others = {id(t): t for _, t in _state(self.model) if t.is_floating_point() and t.dtype != dtype}
        needed = sum(t.numel() for t in others.values()) * dtype.itemsize
        try:
            with torch.inference_mode(False):
                getattr(self.model, _CONVERSIONS[dtype])()
        except Exception as error:  # a module's own code may raise anything, and not every device has every precision
            raise InvalidArgument(
                f"the model must allow its conversion to {dtype}", got=_said(error), remedy="Leave dtype out."
            ) from error
        return needed

    def __call__(self, inputs: Inputs, parameters: Mapping[str, Tensor] | None = None) -> Tensor:
        """Return the outputs, [n, C]; with other parameters where they are given."""
        if parameters is None:
            return self.flat(self.run(inputs), len(inputs[0]))
        return self.flat(torch.func.functional_call(self.model, dict(parameters), inputs), len(inputs[0]))

    def evaluate(self, inputs: Inputs) -> Tensor:
        """Return the outputs alone, without gradients unless the model itself uses some."""
        self.reseed()
        try:
            with torch.no_grad():
                return self(inputs).detach()
        except InvalidArgument:
            self.reseed()
            return self(inputs).detach()

    def precisely(self, inputs: Inputs) -> Tensor:
        """Return the outputs in float32, in which rounding hides less; as they are if the model's code forbids it."""

        def up(t: Tensor) -> Tensor:
            return t.float() if t.is_floating_point() and t.dtype.itemsize < 4 else t

        try:
            return self(tuple(up(t) for t in inputs), {name: up(t.detach()) for name, t in _state(self.model)})
        except Exception:  # a model's own code may raise anything
            return self(inputs)

    def run(self, inputs: Inputs) -> Any:
        """Return what the model returns.

        Raises:
            InvalidArgument: If it does not take such inputs.
        """
        try:
            return self.model(*(t.clone() for t in inputs))  # it may write into them
        except Exception as error:  # a model's own code may raise anything
            shapes = ", ".join(str(tuple(t.shape[1:])) for t in inputs)
            remedy = "The first dimension counts the examples; pass several inputs as a tuple."
            if self.dtype is not None:
                remedy += " If its code asks for another precision, leave dtype out."
            raise InvalidArgument(
                f"the model must take x, examples of shapes {shapes}" + (f", in {self.dtype}" if self.dtype else ""),
                got=_said(error),
                remedy=remedy,
            ) from error

    def flat(self, found: Any, n: int) -> Tensor:
        """Return what the model returned as [n, C], or those outputs that are asked for."""
        if callable(self._outputs):
            try:
                found = self._outputs(found)
            except Exception as error:  # the user's own code may raise anything
                raise InvalidArgument(
                    "outputs must be a function of what the model returns",
                    got=_said(error),
                    remedy="It gets one argument, the whole output of a batch.",
                ) from error
        if n == 1 and isinstance(found, Tensor) and found.numel() == self._width:
            found = found.reshape(1, -1)  # the model may have squeezed it
        parts = _parts(found, n)
        width = sum(part.shape[1] for part in parts)
        if not width:
            raise InvalidArgument("the model must have outputs", got="none", remedy="Return a number per example.")
        self._width = width if self._width is None else self._width
        if width != self._width:
            raise InvalidArgument(
                f"the model must have {self._width} outputs in every batch", got=width, remedy="Return them all."
            )
        if self._outputs is None or callable(self._outputs):
            return parts[0] if len(parts) == 1 else torch.cat(parts, 1)
        try:
            chosen = list(self._outputs)
        except Exception:  # a single one, or what raises anything else of its own
            chosen = [self._outputs]
        owners = [(k, c) for k, part in enumerate(parts) for c in range(part.shape[1])]
        whole = all(isinstance(c, numbers.Integral) and c is not True and c is not False for c in chosen)
        if not chosen or not whole or any(not 0 <= int(c) < len(owners) for c in chosen):
            raise InvalidArgument(
                f"outputs must be whole numbers from 0 to {len(owners) - 1}",
                got=self._outputs,
                remedy="Count them from 0, or pass a function of the model's output.",
            )
        if len(parts) == 1:
            return parts[0][:, [int(c) for c in chosen]]
        # Only of the tensors that are asked for, so that what belongs to others is not connected.
        return torch.stack([parts[k][:, c] for k, c in (owners[int(c)] for c in chosen)], 1)

    def state(self) -> dict[str, float]:
        """Return a number of every parameter and buffer that changes with it.

        But tables may bound the rows that they look up (max_norm), unless another layer uses them, too.
        """
        users = collections.Counter(id(p) for _, p in self.model.named_parameters(remove_duplicate=False))
        bounded = {
            id(getattr(m, "weight", m)) for m in self.model.modules() if getattr(m, "max_norm", None) is not None
        }
        of = {
            name: t
            for name, t in _state(self.model)
            if (t.is_floating_point() or t.is_complex()) and (id(t) not in bounded or users[id(t)] > 1)
        }
        if not of:
            return {}
        with torch.no_grad():
            return dict(zip(of, torch.stack([t.norm().double() for t in of.values()]).tolist(), strict=True))

    def version(self) -> int:
        """Return a number that grows whenever a parameter or buffer is written into."""
        return sum(t._version for t in self._tensors)

    def require_state(self, before: Mapping[str, float]) -> None:
        """Refuse a model that changes its parameters or buffers when it is called.

        Raises:
            InvalidArgument: If they differ from those before.
        """
        after = self.state()
        changed = [name for name, value in before.items() if not (after.get(name) == value or math.isnan(value))]
        if changed:
            raise InvalidArgument(
                "the model must give the same outputs whenever it is called",
                got=f"calls that change {changed[0]}",
                remedy="It keeps a state (max_norm does, too): call model.eval(), or first call it on all inputs.",
            )

    def require_copy(self, values: Tensor) -> None:
        """Refuse a model whose code refers to the original: a closure, or a hook, which a copy cannot replace.

        Raises:
            InvalidArgument: If the outputs depend on a parameter of the user's own model.
        """
        if values.requires_grad and self._originals:
            found: Any = torch.autograd.grad(values.sum(), self._originals, retain_graph=True, allow_unused=True)
            if any(gradient is not None for gradient in found):
                raise original_used("a parameter")
        self._originals, self.buffers_of_original = [], {}  # once is enough, and they are the user's

    def require_visible(self, values: Tensor) -> None:
        """Refuse code that hides gradients from `torch.autograd.grad`, which then returns None where there is one.

        Raises:
            InvalidArgument: If there is a reentrant checkpoint.
        """
        seen, ahead = set[Any](), [values.grad_fn]
        while ahead:
            node = ahead.pop()
            if node is None or node in seen:
                continue
            seen.add(node)
            if node.name() == "CheckpointFunctionBackward":
                raise InvalidArgument(
                    "torch.autograd.grad must see all parameters",
                    got="a reentrant checkpoint",
                    remedy="Pass use_reentrant=False to torch.utils.checkpoint.",
                )
            ahead.extend(following for following, _ in node.next_functions)

    def reseed(self) -> None:
        """Start the random numbers again, for another pass within the same `quiet`."""
        if self.seed is not None:
            torch.manual_seed(self.seed)

    def quiet(self) -> contextlib.AbstractContextManager[None]:
        """Evaluate in full precision with gradients, in any context of the caller, from the seed if there is one."""
        autocast = torch.is_autocast_enabled(self.device.type)
        if torch.is_grad_enabled() and self.seed is None and not autocast and not torch.is_inference_mode_enabled():
            return contextlib.nullcontext()
        return self._quiet(autocast)

    @contextlib.contextmanager
    def _quiet(self, autocast: bool) -> Generator[None, None, None]:
        with contextlib.ExitStack() as stack:
            if torch.is_inference_mode_enabled():
                stack.enter_context(torch.inference_mode(False))
            stack.enter_context(torch.enable_grad())
            if autocast:
                stack.enter_context(torch.autocast(self.device.type, enabled=False))
            if self.seed is not None:
                stack.enter_context(seeded(self.seed, str(self.device)))
            yield


def quietly(method: Callable[P, R]) -> Callable[P, R]:
    """Let a method of what holds a Jacobian run as if nothing stood around the call (autocast, inference mode)."""

    @functools.wraps(method)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        holder: Any = args[0]
        with holder._jacobian.network.quiet():
            return method(*args, **kwargs)

    return run


def original_used(what: str) -> InvalidArgument:
    """Return what to raise where a copy is none."""
    return InvalidArgument(
        "a copy of the model must use its own parameters and buffers",
        got=f"{what} of the original",
        remedy="Some function, hook or attribute refers to the original: let it use self.",
    )


_CONVERSIONS = {
    torch.float16: "half",
    torch.bfloat16: "bfloat16",
    torch.float32: "float",
    torch.float64: "double",
}
"""The methods of a module that convert its floating-point numbers, and no complex ones, as `to` would."""


def _said(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"


def _state(model: nn.Module) -> list[tuple[str, Tensor]]:
    return [*model.named_parameters(), *model.named_buffers()]


def _parts(found: Any, n: int) -> list[Tensor]:
    """Return the tensors of an output, [n, outputs] each."""
    if isinstance(found, Mapping):
        found = tuple(found.values())
    if isinstance(found, (tuple, list)):
        if not found or not all(isinstance(t, Tensor) for t in found):
            raise _no_tensor([type(t).__name__ for t in found])
        return [_flat(t, n) for t in found]
    return [_flat(found, n)]


def _flat(found: Any, n: int) -> Tensor:
    if not isinstance(found, Tensor):
        raise _no_tensor(type(found).__name__)
    if found.is_nested or found.is_meta or found.layout != torch.strided:
        raise InvalidArgument(
            "an output must be a dense tensor with data",
            got=shown(found),
            remedy="Pass outputs=function, to make one.",
        )
    if found.ndim == 0 or len(found) != n:
        raise InvalidArgument(
            f"an output's first dimension must count the {n} examples",
            got=f"shape {tuple(found.shape)}",
            remedy="Pass outputs=function, which makes such a tensor of what the model returns.",
        )
    if not found.is_floating_point():
        raise InvalidArgument(
            "an output must hold real floating-point numbers", got=found.dtype, remedy="Return logits, not classes."
        )
    return found.reshape(n, -1)


def _no_tensor(got: object) -> InvalidArgument:
    return InvalidArgument(
        "the model must return a tensor, or several in a tuple, list or dict",
        got=got,
        remedy="Pass outputs=function, which makes a tensor of what it returns.",
    )


def _refuse_modes(model: nn.Module, seed: int | None) -> None:
    for name, module in model.named_modules():
        kind = type(module).__name__
        if not module.training:
            continue
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            raise InvalidArgument(
                "the model must be in evaluation mode, as BatchNorm in training mode couples the examples of a batch",
                got=f"{name or 'the model'}: {kind}",
                remedy="Call model.eval().",
            )
        p = getattr(module, "p" if isinstance(module, nn.modules.dropout._DropoutNd) else "dropout", 0)
        drops = isinstance(module, (nn.modules.dropout._DropoutNd, nn.MultiheadAttention, nn.RNNBase))
        if seed is None and drops and isinstance(p, float) and p > 0:
            raise InvalidArgument(
                "the model must be deterministic, but its dropout is on",
                got=f"{name or 'the model'}: {kind}",
                remedy="Call model.eval(), or pass a seed for one fixed draw.",
            )


Choice = None | int | Sequence[int] | Callable[[Any], Tensor]
"""The choice of outputs: all, some by their indices, or a function of the model's output."""
