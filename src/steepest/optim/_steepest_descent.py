"""Steepest descent in any norm, as a torch optimizer."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Generator, Iterator
from typing import Any, ClassVar, cast, overload

import torch
from torch import Tensor, nn
from torch._compile import _disable_dynamo
from torch.optim.optimizer import Optimizer, ParamsT

from steepest._check import function, instance, one_of
from steepest._sharding import local, part_like, whole_like
from steepest.errors import InvalidArgument, NonFiniteGradient
from steepest.norms import Blockwise, Norm
from steepest.norms._points import widened
from steepest.optim._finite import are_finite, check_dense, nonfinite_parameters
from steepest.optim._loading import arranged
from steepest.optim._options import (
    Mode,
    Nonfinite,
    check_group,
    check_members,
    group_of,
    groups_of,
    in_own_words,
    plain,
    refuse,
)
from steepest.optim._updates import directions, follow, move

__all__ = ["SteepestDescent"]

# Up to so many entries a call costs more than its arithmetic.
_SMALL = 2**16

# Entrywise steps on a CPU go in pieces of so many entries, which the cache still holds when they are used again.
_PIECE = 2**20


class SteepestDescent(Optimizer):
    """Steepest descent in a norm, one parameter at a time.

    With the momentum buffer m <- momentum m + g (the first is g, as in torch's SGD) and
    v = m (v = g + momentum m with Nesterov), a step is theta <- theta + u with

        penalized:    u = argmin <v, u> + ||u||^2 / (2 lr) = -lr ||v||_* d(v)
        constrained:  u = argmin <v, u> over ||u|| <= lr   = -lr d(v)

    so that `SteepestDescent(params, L2(), lr)` is SGD. Weight decay is decoupled:
    theta <- (1 - lr weight_decay) theta before the step, only where there is a gradient. A group's option `factor`,
    1 by default, multiplies its steps: it belongs to the norm, so that schedules that set `lr` leave it unchanged, and
    weight decay does not use it. `p.grad` is never changed. Sharded parameters (DTensor) are gathered one at a time
    where the norm needs the whole of them.

    Args:
        params: Parameters, named parameters or group dicts, as in torch.
        norm: The norm of every parameter, or a `Blockwise` norm of all parameters of a group by name (then pass
            `model.named_parameters()`); a group's own `norm` comes first.
        lr: Learning rate (half of the penalty's alpha) or radius, >= 0. A tensor of one element stays on its device,
            and where there are several groups each has a copy of its own, to be changed in `param_groups`.
        mode: "penalized" or "constrained"; a group option like `norm`.
        momentum: In [0, 1).
        nesterov: Use Nesterov's form of momentum, which looks one step ahead; needs momentum > 0.
        weight_decay: Decoupled decay, >= 0.
        maximize: Maximize the objective: step uphill.
        nonfinite: How a NaN or infinite gradient is handled: "raise", "skip" the whole step, or "ignore", which saves
            the check of the gradients and is what torch's own optimizers do.
        **unsupported: Options of torch's optimizers that are refused, with what to do instead (`foreach`, `fused`,
            `capturable`, `differentiable`).

    Raises:
        InvalidArgument: At construction, for an option outside its range, a missing norm, or a parameter that is not
            dense, real and floating-point; in a step, for a sparse gradient, or when it is captured in a CUDA graph and
            would check the gradients.
        UnknownName: At construction, if a `Blockwise` norm and the parameters' names do not match.
        NonFiniteGradient: In a step, before anything has changed.

    >>> from steepest.norms import LInf
    >>> w = torch.nn.Parameter(torch.zeros(2))
    >>> w.grad = torch.tensor([3.0, -4.0])
    >>> SteepestDescent([w], LInf(), lr=0.1, mode="constrained").step()
    >>> w.data
    tensor([-0.1000,  0.1000])

    Source: Bernstein and Newhouse, "Old Optimizer, New Norm: An Anthology" (2024, arXiv:2409.20325).
    """

    _kept: ClassVar[frozenset[str]] = frozenset({"momentum_buffer"})
    """The tensors kept for a parameter."""

    _fixed: ClassVar[tuple[str, ...]] = ()
    """The options, besides norm and factor, that come neither from the user nor from a state."""

    def __init__(
        self,
        params: ParamsT,
        norm: Norm[Any] | None = None,
        lr: float | Tensor = 1e-3,
        *,
        mode: Mode = "penalized",
        momentum: float = 0.0,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        maximize: bool = False,
        nonfinite: Nonfinite = "raise",
        **unsupported: object,
    ) -> None:
        options: dict[str, Any] = {
            "norm": norm,
            "lr": lr,
            "mode": mode,
            "momentum": momentum,
            "nesterov": nesterov,
            "weight_decay": weight_decay,
            "maximize": maximize,
        }
        refuse(unsupported, [*options, "nonfinite"])
        self.nonfinite = one_of("nonfinite", nonfinite, ("raise", "skip", "ignore"))
        with in_own_words():
            super().__init__(groups_of(params), {**options, "factor": 1.0})

    def __getstate__(self) -> dict[str, Any]:
        """Return what a copy needs; torch's own leaves `nonfinite` out."""
        return {**super().__getstate__(), "nonfinite": self.nonfinite}

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters; see `torch.optim.Optimizer.add_param_group`.

        Raises:
            InvalidArgument: If an option of the group is outside its range, no norm is given, or a parameter is not
                dense, real and floating-point; the optimizer then stays as it was.
            UnknownName: If a `Blockwise` norm and the parameters' names do not match.
        """
        with self._unchanged_if_refused():
            group = group_of(param_group)
            check_group({**self.defaults, **group})
            with in_own_words():
                super().add_param_group({**plain(self.defaults), **plain(group)})
            check_members(self.param_groups[-1])
        _give_each_its_own_rate(self.param_groups)

    @contextlib.contextmanager
    def _unchanged_if_refused(self) -> Generator[None, None, None]:
        """Remove the groups that were added inside if an error is raised."""
        before = list(self.param_groups)
        try:
            yield
        except Exception:
            self.param_groups[:] = before
            raise

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Take one step; returns the closure's loss where there is a closure.

        Raises:
            NonFiniteGradient: If a gradient holds NaN or infinity and `nonfinite="raise"`.
            InvalidArgument: If a gradient is sparse, or the step is captured and would check the gradients; if the
                closure is not a function.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = _loss_of(closure)
        check_dense([parameter for group in self.param_groups for parameter in group["params"]])
        if self.nonfinite == "ignore" or self._gradients_are_finite():
            for group in self.param_groups:
                self._step_group(group)
        return loss

    @_disable_dynamo  # what follows depends on numbers
    def _gradients_are_finite(self) -> bool:
        """Check all gradients before anything changes."""
        if torch.cuda.is_available() and torch.cuda.is_current_stream_capturing():
            raise InvalidArgument(
                "a step that is captured in a CUDA graph cannot check its gradients",
                got=f"nonfinite={self.nonfinite!r}",
                remedy='Pass nonfinite="ignore".',
            )
        finite = are_finite([parameter for group in self.param_groups for parameter in group["params"]])
        if not finite and self.nonfinite == "raise":
            raise NonFiniteGradient(
                "gradients must be finite",
                got=f"NaN or infinity in {', '.join(nonfinite_parameters(self.param_groups))}",
                remedy='Lower lr, clip the gradients, or pass nonfinite="skip".',
            )
        return finite

    def _step_group(self, group: dict[str, Any]) -> None:
        norm: Norm[Any] = group["norm"]
        parameters = [p for p in group["params"] if p.grad is not None]
        if isinstance(norm, Blockwise):
            self._step_network(norm, parameters, group)
        elif norm.map_is_entrywise if group["mode"] == "constrained" else norm.step_factor is not None:
            for batch in _batches(parameters, together_on_gpu=True):
                self._step_entrywise(norm, batch, group)
        else:
            for batch in _batches(parameters, together_on_gpu=False):
                self._step(norm, batch, group)

    def _step(self, norm: Norm, parameters: list[Tensor], group: dict[str, Any]) -> None:
        """Step each parameter separately, as a whole."""
        vs = [whole_like(v, p) for v, p in zip(self._follow(parameters, group), parameters, strict=True)]
        steps, factor = directions(norm, vs, group["mode"])
        parts = [part_like(step, p) for step, p in zip(steps, parameters, strict=True)]
        self._move(parameters, parts, factor, group)

    def _step_entrywise(self, norm: Norm, parameters: list[Tensor], group: dict[str, Any]) -> None:
        """Step each entry separately, piece by piece and without any communication."""
        gradients, buffers = self._gradients(parameters, group), self._buffers(parameters, group)
        held = [local(p) for p in parameters]
        momentum, nesterov, mode = group["momentum"], group["nesterov"], group["mode"]
        for ps, gs, bs in _pieces(held, gradients, buffers):
            steps, factor = directions(norm, follow(gs, bs, momentum, nesterov), mode)
            move(ps, steps, factor * group["factor"], _number(group["lr"]), group["weight_decay"])

    def _step_network(self, norm: Blockwise, parameters: list[Tensor], group: dict[str, Any]) -> None:
        """Step all parameters of a group together, in the norm of the network."""
        if not parameters:
            return
        names = dict(zip(group["params"], group["param_names"], strict=True))
        vs = {names[p]: whole_like(v, p) for v, p in zip(self._follow(parameters, group), parameters, strict=True)}
        constrained = group["mode"] == "constrained"
        steps = norm.duality_map(vs) if constrained else norm.penalized_step(widened(vs), 2.0)
        parts = [part_like(steps[names[p]], p) for p in parameters]
        self._move(parameters, parts, -1.0 if constrained else 1.0, group)

    def _gradients(self, parameters: list[Tensor], group: dict[str, Any]) -> list[Tensor]:
        """Return the gradients' local parts, downhill."""
        gradients = [local(cast("Tensor", p.grad)) for p in parameters]
        return list(torch._foreach_neg(gradients)) if group["maximize"] and gradients else gradients

    def _buffers(self, parameters: list[Tensor], group: dict[str, Any]) -> list[Tensor] | None:
        """Return the local parts of the momentum buffers, new ones being zero; None without momentum."""
        if not group["momentum"]:
            return None
        for p in parameters:
            if "momentum_buffer" not in self.state[p]:
                self.state[p]["momentum_buffer"] = torch.zeros_like(p, memory_format=torch.preserve_format)
        return [local(self.state[p]["momentum_buffer"]) for p in parameters]

    def _follow(self, parameters: list[Tensor], group: dict[str, Any]) -> list[Tensor]:
        gradients, buffers = self._gradients(parameters, group), self._buffers(parameters, group)
        return follow(gradients, buffers, group["momentum"], group["nesterov"])

    def _move(self, parameters: list[Tensor], steps: list[Tensor], factor: float, group: dict[str, Any]) -> None:
        held = [local(p) for p in parameters]
        move(held, steps, factor * group["factor"], _number(group["lr"]), group["weight_decay"])

    def state_dict(self) -> dict[str, Any]:
        """Return the state with the norms in words, so that `torch.load(weights_only=True)` takes it."""
        state = super().state_dict()
        for group in state["param_groups"]:
            group["norm"] = repr(group["norm"])
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state: of an optimizer of this kind, or of torch's SGD without dampening.

        Parameters are matched by name where both sides have names, and in order elsewhere. Norms and factors stay
        those that this optimizer was made with, and so do options that the state lacks.

        Args:
            state_dict: A state as `state_dict()` returns it, or as torch.distributed.checkpoint restores it.

        Raises:
            InvalidArgument: If the names, groups, shapes or tensors of the state are not this optimizer's, or an option
                is outside its range; the optimizer then stays as it was.
        """
        own = frozenset({"norm", "factor", *self._fixed})
        # The last of the hooks, after the user's.
        handle = self.register_load_state_dict_pre_hook(
            lambda _, state: arranged(state, self.param_groups, self._kept, own)
        )
        try:
            super().load_state_dict(instance("a state", state_dict, dict, "what state_dict() returns"))
        finally:
            handle.remove()

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take a state; one that is loaded leaves the norms and factors that this optimizer was made with."""
        for group, now in zip(state["param_groups"], getattr(self, "param_groups", []), strict=False):
            group["norm"], group["factor"] = now["norm"], now["factor"]
        super().__setstate__(state)
        _give_each_its_own_rate(self.param_groups)


def _loss_of(closure: Callable[[], float]) -> float:
    function("closure", closure)
    try:
        return closure()
    except TypeError as error:
        try:  # only now, as inspecting a signature can take longer than the closure
            inspect.signature(closure.forward if isinstance(closure, nn.Module) else closure).bind()
        except TypeError:
            rule = "closure must be a function without arguments"
            raise InvalidArgument(rule, got=closure, remedy="Pass one that returns the loss.") from error
        raise


def _give_each_its_own_rate(groups: list[dict[str, Any]]) -> None:
    """Let no two groups share a tensor as lr, which a schedule would change in place, once for each of them."""
    rates = [group["lr"] for group in groups]
    for group in groups:
        if isinstance(group["lr"], Tensor) and sum(rate is group["lr"] for rate in rates) > 1:
            group["lr"] = group["lr"].clone()


def _number(lr: float | Tensor) -> float | Tensor:
    """Return a float, except where reading the number would make the host wait or a compiled step old."""
    if isinstance(lr, Tensor) and (lr.device.type != "cpu" or torch.compiler.is_compiling()):
        return lr.reshape(())
    return float(lr)


def _batches(parameters: list[Tensor], together_on_gpu: bool) -> Iterator[list[Tensor]]:
    """Yield small tensors together, where calls cost most, and large ones one at a time, so that memory stays flat."""
    if torch.compiler.is_compiling() and together_on_gpu:
        yield parameters
        return
    small = [p for p in parameters if p.numel() <= _SMALL or (together_on_gpu and p.device.type != "cpu")]
    if small:
        yield small
    taken = set(map(id, small))
    for parameter in parameters:
        if id(parameter) not in taken:
            yield [parameter]


def _pieces(
    parameters: list[Tensor], gradients: list[Tensor], buffers: list[Tensor] | None
) -> Iterator[tuple[list[Tensor], list[Tensor], list[Tensor] | None]]:
    """Yield a batch as it is, or one large contiguous tensor on a CPU piece by piece."""
    tensors = [parameters, gradients, *([buffers] if buffers is not None else [])]
    (first, *more) = parameters
    if more or first.numel() <= _PIECE or first.device.type != "cpu" or not all(t.is_contiguous() for (t,) in tensors):
        yield parameters, gradients, buffers
        return
    for p, g, *b in zip(*(t.view(-1).split(_PIECE) for (t,) in tensors), strict=True):
        yield [p], [g], b or None
