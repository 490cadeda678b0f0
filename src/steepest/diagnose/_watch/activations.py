"""Activations of a model: small samples taken in forward hooks, whose statistics are computed later, many at once."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from functools import partial
from threading import get_ident
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized
from torch.utils.hooks import RemovableHandle
from torch.utils.weak import TensorWeakRef

from steepest.diagnose._statistics import STATISTICS, Site, sample, statistics
from steepest.diagnose._watch.graph import candidates, floating, heads, inside_transform, unregistered
from steepest.diagnose._watch.guard import Guard, Hook
from steepest.diagnose._watch.outputs import Output, feeds, prediction
from steepest.diagnose._watch.passes import Pass, Passes

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
    """One record, still on its device: a sample of every site, and what the model returned."""

    samples: dict[str, Tensor]
    outputs: list[Output]


class ActivationWatch:
    """Takes samples of what the layers of a model return in training, at the steps at which it is armed.

    Statistics of whole activations would cost a good part of a training step. A sample has at most 32 examples or
    positions and 64 units, and only one pass of a step is seen, see `Passes`. Code that `torch.compile` has compiled is
    not seen.

    Args:
        model: The module that is called.
        inner: The module whose layers are watched: the model, or the one that torch.compile has wrapped.
        guard: The guard that protects the training from errors here.
        started: Called before the model's forward pass.
        known: Returns the parameters that are the model's or the optimizer's.
    """

    def __init__(
        self,
        model: nn.Module,
        inner: nn.Module,
        guard: Guard,
        started: Callable[[], None],
        known: Callable[[], set[nn.Parameter]],
    ) -> None:
        self._model, self._inner = model, inner
        self._guard = guard
        self._started = started
        self._known = known
        self._handles: list[RemovableHandle] = []
        self._layers: list[RemovableHandle] = []
        self._turn = 0
        self.forget()
        self._feeds: list[frozenset[int]] = []
        self._pending: list[ActivationRow] = []
        self._rows: list[dict[str, NDArray[np.float64]]] = []
        self._output_gradients: list[float] = []
        self._sites: dict[str, Site] = {}
        self.heads: frozenset[str] = frozenset()
        self.first_nonfinite: str | None = None
        self.unregistered: list[tuple[int, ...]] = []
        self.keep_output = True  # until the loss is recognised

    def arm(self) -> None:
        """Watch from now on."""
        if self._handles:
            return
        self._arm_layers()
        self._handles.append(self._model.register_forward_pre_hook(Hook(self._before)))
        self._handles.append(self._model.register_forward_hook(Hook(self._after), with_kwargs=True))

    def disarm(self) -> None:
        """Remove every hook."""
        for handle in (*self._handles, *self._layers):
            handle.remove()
        self._handles, self._layers = [], []

    @contextlib.contextmanager
    def paused(self) -> Generator[None]:
        """Remove every hook for a while."""
        armed = bool(self._handles)
        self.disarm()
        try:
            yield
        finally:
            if armed:
                self.arm()

    def follow(self) -> None:
        """Watch the model's present layers."""
        for handle in self._layers:
            handle.remove()
        self._layers = []
        if self._handles:
            self._arm_layers()

    def take(self) -> ActivationRow:
        """Return the record of this step."""
        seen = self._passes.chosen()
        samples = seen.samples
        if seen.silent:  # of what was run without a graph only that which the backward pass has run again
            samples = {k: v for k, v in samples.items() if k not in seen.silent or seen.silent[k] in self._again}
        self.forget()
        return ActivationRow(samples, seen.outputs)

    def forget(self) -> None:
        """Drop the record of this step."""
        self._passes = Passes()
        self._again: set[str] = set()

    def keep(self, row: ActivationRow, target: tuple[int, ...] | None) -> None:
        """Keep a record; the shape of the target, if it is known, tells which output is compared with it."""
        found = prediction(row.outputs, target)
        if found is not None:
            found.whole = found.slope = None
            row = ActivationRow({**row.samples, "output": found.sample}, [found])
        self._pending.append(row if found is not None else ActivationRow(row.samples, []))
        self._turn += 1

    def flush(self) -> None:
        """Compute statistics of the samples, as numbers on the host."""
        rows: list[dict[str, NDArray[np.float64]]] = [{} for _ in self._pending]
        gradients = [row.outputs[0].gradient if row.outputs else None for row in self._pending]
        for name, site in self._sites.items():
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

    @property
    def sites(self) -> dict[str, Site]:
        """The sites of which there is a record, in the order of the forward pass."""
        self.flush()
        seen: set[str] = set().union(*self._rows)
        return {name: site for name, site in self._sites.items() if name in seen}

    def output_gradients(self) -> NDArray[np.float64]:
        """Return the root mean square over examples of ||dL_i/d output|| at each record, nan where it was not seen."""
        self.flush()
        return np.array(self._output_gradients, dtype=float)

    def rows(self) -> dict[str, NDArray[np.float64]]:
        """Return records x statistics for each site, nan where a record did not see it."""
        nothing = np.full(len(STATISTICS), np.nan)
        return {
            name: np.array([row.get(name, nothing) for row in self._rows]).reshape(-1, len(STATISTICS))
            for name in self.sites
        }

    def release(self) -> None:
        """Keep the numbers and release the model and every tensor."""
        self.disarm()
        self._pending = []
        self.forget()
        self._model = self._inner = nn.Identity()
        self._known = set[nn.Parameter]

    def _arm_layers(self) -> None:
        for name, module in _watched(self._inner):
            self._layers.append(module.register_forward_hook(Hook(self._layer_hook(name, module))))

    def _before(self, module: nn.Module, _args: Any) -> None:
        if self._seeing(module, self._model):
            with self._guard:
                self._started()
                begun = self._passes.begin(get_ident(), module.training)
                if begun is not None and self._turn.bit_count() < 2:  # at records 0, 1, 2, 4, 8, ...
                    begun.nodes = {}

    def _after(self, module: nn.Module, args: Any, keywords: Any, output: Any) -> None:
        if not self._seeing(module, self._model):
            return
        with self._guard:
            tensors = candidates(output)
            seen = self._passes.end(get_ident())
            if seen is not None and tensors:
                self._see_outputs(seen, tensors)
                if seen.nodes is not None:
                    self._see_graph(seen, tensors, (args, keywords))
            # Of accumulated passes too, for the gradients of the parameters are their sum.
            for i, tensor in enumerate(tensors):
                if tensor.requires_grad:
                    tensor.register_hook(Hook(partial(self._backward, seen, i)))

    def _see_outputs(self, seen: Pass, tensors: list[Tensor]) -> None:
        if seen.nodes is not None or len(self._feeds) != len(tensors):
            self._feeds = feeds(tensors) if len(tensors) > 1 else [frozenset()]
        self._enter(seen, "output", "output")
        for tensor, fed in zip(tensors, self._feeds, strict=True):
            shown = seen.samples.get(seen.name) if tensor is seen.passed_on() else None
            if shown is None:
                shown = sample(tensor if tensor.ndim > 1 else tensor[:, None], seen.channels_first, self._turn)
            whole = tensor.detach() if self.keep_output else None
            seen.outputs.append(Output(tuple(tensor.shape), shown, fed, whole=whole))
            if tensor.device.type == "cpu":
                seen.alive.append(("output", TensorWeakRef(tensor)))

    def _see_graph(self, seen: Pass, tensors: list[Tensor], inputs: Any) -> None:
        self.unregistered = unregistered(tensors, inputs, self._known())
        ends = [tensor for tensor, fed in zip(tensors, self._feeds, strict=True) if not fed]
        found = heads(ends, seen.nodes or {})
        seen.nodes = None
        if seen.silent or not found:  # what was run without a graph is not in it
            found.add(seen.layer)
        self.heads = frozenset(found)

    def _backward(self, seen: Pass | None, index: int, gradient: Tensor) -> None:
        """See the gradient of the loss with respect to an output of the model, at the start of a backward pass."""
        if self._guard.failed:
            return
        with self._guard:
            norm: Any = torch.linalg.vector_norm(gradient.detach())
            if gradient.device.type == "cpu":
                norm = float(norm)
                if not math.isfinite(norm) and self.first_nonfinite is None:
                    alive = seen.alive if seen is not None else []
                    self.first_nonfinite = next((name for name, ref in alive if not _finite(ref())), "loss")
            # Of a mean over N examples, the root mean square of one's gradient; of accumulated passes the sum.
            width = gradient.shape[-1] if gradient.ndim > 1 else 1
            size = norm * math.sqrt(gradient.numel() / width)
            if seen is not None:
                self._passes.reach(seen)
            outputs = self._passes.chosen().outputs
            if index < len(outputs):
                reached = outputs[index]
                if reached.gradient is None and reached.whole is not None:
                    reached.slope = gradient.detach().clone()
                reached.gradient = size if reached.gradient is None else reached.gradient + size

    def _layer_hook(self, name: str, watched: nn.Module) -> Callable[..., None]:
        kind = _kind(watched)
        ends = next((ends for type_, ends in _ENDS.items() if isinstance(watched, type_)), None)
        may_saturate = ends is not None or (kind == "activation" and not isinstance(watched, _UNBOUNDED))

        def see(module: nn.Module, args: Any, output: Any) -> None:
            if module is not watched or self._guard.failed or inside_transform():
                return
            graph = torch.is_grad_enabled()
            if torch._C._current_graph_task_id() >= 0:  # a checkpoint runs its layers again, during backward
                if graph:
                    self._again.add(name)
                return
            with self._guard:
                seen = self._passes.open.get(get_ident()) or (self._passes.loose() if graph else None)
                tensor = floating(output) if seen is not None else None
                if seen is None or tensor is None:
                    return
                given = floating(args)
                passed_on = given is not None and given is seen.passed_on()
                if kind == "weight":
                    seen.repeating = name in seen.samples
                    if given is not None and not (passed_on or seen.repeating):
                        # What depends on parameters is not data.
                        data = not seen.layer and not given.requires_grad
                        self._keep(seen, f"input of {name}", name, graph, "data" if data else "input", given)
                    seen.layer = name
                    seen.channels_first = isinstance(module, _CONVOLUTIONAL)
                    if seen.nodes is not None and tensor.grad_fn is not None:
                        seen.nodes[tensor.grad_fn] = name
                if kind != "idle" and not seen.repeating and (kind != "norm" or self._turn % _SELDOM == 0):
                    # One activation module may serve many layers.
                    again = kind == "activation" and name in seen.samples
                    full = f"{name} after {seen.layer}" if again else name
                    self._keep(seen, full, name, graph, kind, tensor, ends, may_saturate)
                    seen.name = full
                if kind != "idle" or passed_on:
                    seen.came_from(tensor)

        return see

    def _seeing(self, module: nn.Module, watched: nn.Module) -> bool:
        return module is watched and torch.is_grad_enabled() and not self._guard.failed and not inside_transform()

    def _enter(
        self, seen: Pass, name: str, kind: str, ends: tuple[float, float] | None = None, may_saturate: bool = False
    ) -> None:
        site = self._sites.get(name)
        if site is not None:
            site.producer = seen.layer
            return
        before = next(reversed(seen.samples), "")
        entered = {name: Site(name, seen.layer, kind, before, ends, may_saturate or kind == "input")}
        names = list(self._sites)
        place = names.index(before) + 1 if before in self._sites else len(names)
        if place == len(names):
            self._sites.update(entered)
        else:  # a layer that came later stands where it is run
            items = list(self._sites.items())
            self._sites = dict([*items[:place], *entered.items(), *items[place:]])

    def _keep(
        self,
        seen: Pass,
        name: str,
        module: str,
        graph: bool,
        kind: str,
        tensor: Tensor,
        ends: tuple[float, float] | None = None,
        may_saturate: bool = False,
    ) -> None:
        if name in seen.samples:
            return
        self._enter(seen, name, kind, ends, may_saturate)
        seen.samples[name] = sample(tensor, seen.channels_first, self._turn)
        if not graph:
            seen.silent[name] = module
        if tensor.device.type == "cpu":
            seen.alive.append((name, TensorWeakRef(tensor)))


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
