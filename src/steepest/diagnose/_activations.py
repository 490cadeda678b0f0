"""What flows through a model: small samples taken in forward hooks, their statistics worked out later, many at once."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized
from torch.utils.hooks import RemovableHandle
from torch.utils.weak import TensorWeakRef

from steepest.diagnose._graph import floating, inside_transform, strangers
from steepest.diagnose._guard import Guard, Hook
from steepest.diagnose._statistics import STATISTICS, Site, sample, statistics

__all__ = ["ActivationRow", "ActivationWatch"]

_ENDS: dict[type[nn.Module], tuple[float, float]] = {
    nn.Tanh: (-1, 1),
    nn.Softsign: (-1, 1),
    nn.Hardtanh: (-1, 1),
    nn.Sigmoid: (0, 1),
    nn.Hardsigmoid: (0, 1),
}
_IDLE = {f"torch.nn.modules.{name}" for name in ("pooling", "dropout", "flatten", "loss", "padding", "pixelshuffle")}
_NORMS = (nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)
_SELDOM = 8
_UNBOUNDED = (nn.ReLU, nn.GELU, nn.SiLU, nn.LeakyReLU, nn.ELU, nn.SELU, nn.Mish, nn.Softplus, nn.PReLU)
_CONVOLUTIONAL = nn.modules.conv._ConvNd
_LEAVES = (nn.MultiheadAttention, nn.RNNBase)


@dataclass(frozen=True)
class ActivationRow:
    """One record, still on its device: a sample of every site, the size of the output's gradient, the whole output."""

    samples: dict[str, Tensor]
    output_gradient: Tensor | float | None
    output: Tensor | None


def _nothing() -> None:
    return None


class ActivationWatch:
    """Takes samples of what the layers of a model return in training, at the steps at which it is armed.

    Statistics of whole activations would cost a good part of a training step. A sample has at most 32 examples or
    positions and 64 units, and only the first pass of a step is seen. Code that `torch.compile` has compiled is not
    seen.

    Args:
        model: What is called.
        inner: Whose layers are looked at: the model, or what torch.compile has wrapped.
        guard: What protects the training from this.
        started: Called before the model's forward pass.
    """

    def __init__(self, model: nn.Module, inner: nn.Module, guard: Guard, started: Callable[[], None]) -> None:
        self._model, self._inner = model, inner
        self._guard = guard
        self._started = started
        self._handles: list[RemovableHandle] = []
        self._turn = 0
        self.forget()
        self._pending: list[ActivationRow] = []
        self._rows: list[dict[str, NDArray[np.float64]]] = []
        self._output_gradients: list[float] = []
        self.sites: dict[str, Site] = {}
        self.first_nonfinite: str | None = None
        self.strangers: list[tuple[int, ...]] | None = None
        self.keep_output = True  # until the loss is recognised

    def arm(self) -> None:
        """Watch from now on."""
        if self._handles:
            return
        for name, module in _watched(self._inner):
            self._handles.append(module.register_forward_hook(Hook(self._layer_hook(name, module))))
        self._handles.append(self._model.register_forward_pre_hook(Hook(self._before)))
        self._handles.append(self._model.register_forward_hook(Hook(self._after), with_kwargs=True))

    def disarm(self) -> None:
        """Remove every hook."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def take(self) -> ActivationRow:
        """Return what this step has shown."""
        samples = self._current
        layers = [name for name in samples if self.sites[name].kind == "weight"]
        if "output" not in samples and layers:  # the model's parts were called without the model
            self._enter("output", "output")
            samples["output"] = samples[layers[-1]]
        row = ActivationRow(samples, self._output_gradient, self._output)
        self.forget()
        return row

    def forget(self) -> None:
        """Drop what this step has shown."""
        self._current: dict[str, Tensor] = {}
        self._alive: list[tuple[str, TensorWeakRef]] = []
        self._output_gradient: Tensor | float | None = None
        self._output: Tensor | None = None
        self._last_layer = self._last_name = ""
        self._last_output: Callable[[], Tensor | None] = _nothing
        self._channels_first = self._repeating = False

    def keep(self, row: ActivationRow) -> None:
        """Keep a record."""
        self._pending.append(replace(row, output=None))
        self._turn += 1

    def flush(self) -> None:
        """Turn the samples kept into numbers on the host."""
        rows: list[dict[str, NDArray[np.float64]]] = [{} for _ in self._pending]
        gradients = [row.output_gradient for row in self._pending]
        for name, site in self.sites.items():
            held = [(i, row.samples[name]) for i, row in enumerate(self._pending) if name in row.samples]
            if not held:
                continue
            if len({sample.shape for _, sample in held}) == 1:
                numbers = statistics(torch.stack([sample for _, sample in held]), site)
            else:
                numbers = torch.cat([statistics(sample[None], site) for _, sample in held])
            for (i, _), row in zip(held, numbers.tolist(), strict=True):
                rows[i][name] = np.array(row)
        self._output_gradients += [math.nan if g is None else float(g) for g in gradients]
        self._rows.extend(rows)
        self._pending = []

    def output_gradients(self) -> NDArray[np.float64]:
        """Return the root mean square over examples of ||dL_i/d output|| at each record, nan where it was not seen."""
        self.flush()
        return np.array(self._output_gradients, dtype=float)

    def rows(self) -> dict[str, NDArray[np.float64]]:
        """Return records x statistics for each site, nan where a record did not see it."""
        self.flush()
        nothing = np.full(len(STATISTICS), np.nan)
        return {
            name: np.array([row.get(name, nothing) for row in self._rows]).reshape(-1, len(STATISTICS))
            for name in self.sites
        }

    def release(self) -> None:
        """Keep the numbers and let go of the model and every tensor."""
        self.disarm()
        self._pending = []
        self.forget()
        self._model = self._inner = nn.Identity()

    def _before(self, module: nn.Module, _args: Any) -> None:
        if self._seeing(module, self._model):
            with self._guard:
                self._started()

    def _after(self, module: nn.Module, args: Any, keywords: Any, output: Any) -> None:
        if not self._seeing(module, self._model):
            return
        with self._guard:
            tensor = floating(output)
            if tensor is None:
                return
            if tensor.requires_grad:
                tensor.register_hook(Hook(self._backward))
            if "output" in self._current:
                return
            same = self._current.get(self._last_name) if tensor is self._last_output() else None
            self._keep("output", "output", tensor if tensor.ndim > 1 else tensor[:, None], same=same)
            self._output = tensor.detach() if self.keep_output else None
            if self.strangers is None:
                self.strangers = strangers(tensor, (args, keywords), set(self._model.parameters()))

    def _backward(self, gradient: Tensor) -> None:
        """See the gradient of the loss with respect to the model's output, at the start of a backward pass."""
        if self._guard.failed:
            return
        with self._guard:
            norm: Any = torch.linalg.vector_norm(gradient.detach())
            if gradient.device.type == "cpu":
                norm = float(norm)
                if not math.isfinite(norm) and self.first_nonfinite is None:
                    self.first_nonfinite = next((name for name, ref in self._alive if not _finite(ref())), "loss")
            # Of a mean over N examples, the root mean square of one's gradient; of accumulated passes the sum.
            width = gradient.shape[-1] if gradient.ndim > 1 else 1
            size = norm * math.sqrt(gradient.numel() / width)
            self._output_gradient = size if self._output_gradient is None else self._output_gradient + size

    def _layer_hook(self, name: str, watched: nn.Module) -> Callable[..., None]:
        kind = _kind(watched)
        ends = next((ends for type_, ends in _ENDS.items() if isinstance(watched, type_)), None)
        may_saturate = ends is not None or (kind == "activation" and not isinstance(watched, _UNBOUNDED))

        def see(module: nn.Module, args: Any, output: Any) -> None:
            if not self._seeing(module, watched):
                return
            with self._guard:
                tensor = floating(output)
                if tensor is None:
                    return
                given = floating(args)
                passed_on = given is not None and given is self._last_output()
                if kind == "weight":
                    self._repeating = name in self._current
                    if given is not None and not (passed_on or self._repeating):
                        # What depends on parameters is not data.
                        data = not self._last_layer and not given.requires_grad
                        self._keep(f"input of {name}", "data" if data else "input", given)
                    self._last_layer = name
                    self._channels_first = isinstance(module, _CONVOLUTIONAL)
                if kind != "idle" and not self._repeating and (kind != "norm" or self._turn % _SELDOM == 0):
                    # One activation module may serve many layers.
                    again = kind == "activation" and name in self._current
                    full = f"{name} after {self._last_layer}" if again else name
                    self._keep(full, kind, tensor, ends, may_saturate)
                    self._last_name = full
                if kind != "idle" or passed_on:
                    self._last_output = weakref.ref(tensor)

        return see

    def _seeing(self, module: nn.Module, watched: nn.Module) -> bool:
        return module is watched and torch.is_grad_enabled() and not self._guard.failed and not inside_transform()

    def _enter(self, name: str, kind: str, ends: tuple[float, float] | None = None, may_saturate: bool = False) -> None:
        if name not in self.sites:
            before = next(reversed(self._current), "")
            self.sites[name] = Site(name, self._last_layer, kind, before, ends, may_saturate or kind == "input")

    def _keep(
        self,
        name: str,
        kind: str,
        tensor: Tensor,
        ends: tuple[float, float] | None = None,
        may_saturate: bool = False,
        same: Tensor | None = None,
    ) -> None:
        if name in self._current:
            return
        self._enter(name, kind, ends, may_saturate)
        self._current[name] = sample(tensor, self._channels_first, self._turn) if same is None else same
        if tensor.device.type == "cpu":
            self._alive.append((name, TensorWeakRef(tensor)))


def _watched(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the modules that are hooked: leaves, and those that compute with their children's weights."""
    inside: set[nn.Module] = set()
    for name, module in model.named_modules():
        if module in inside:
            continue
        whole = isinstance(module, _LEAVES) or is_parametrized(module)
        if whole:
            inside.update(module.modules())
        if name and (whole or next(module.children(), None) is None):
            yield name, module


def _kind(module: nn.Module) -> str:
    """Return "weight", "norm", "activation", or "idle" for a module whose result says nothing new."""
    if type(module).__module__ in _IDLE or isinstance(module, (nn.Identity, nn.Softmax, nn.LogSoftmax)):
        return "idle"
    if isinstance(module, (nn.modules.batchnorm._NormBase, *_NORMS)):
        return "norm"
    if any(p.ndim > 1 for p in module.parameters()):
        return "weight"
    return "idle" if any(True for _ in module.parameters()) and not isinstance(module, nn.PReLU) else "activation"


def _finite(tensor: Tensor | None) -> bool:
    return tensor is None or bool(tensor.detach().isfinite().all())
