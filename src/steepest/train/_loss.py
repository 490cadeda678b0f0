"""The training loss of a batch as a function of the parameters, for gradient sources."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils._python_dispatch import TorchDispatchMode

from steepest._random import seeded
from steepest.estimators import pointwise
from steepest.tasks import Batch, Task

__all__ = ["LossOfParameters", "mixed"]

_TOGETHER = 1 << 22
"""Numbers of the largest tensor of one vectorised call: more would not be faster, and would take memory."""


def mixed(*parts: int | str) -> int:
    """Return a seed that no other parts give."""
    return int.from_bytes(hashlib.sha256(" ".join(map(str, parts)).encode()).digest()[:7], "big")


class _Whole(nn.Module):
    """A model with its task: called with a batch, it returns the training loss."""

    def __init__(self, task: Task, model: nn.Module) -> None:
        super().__init__()
        self.model, self.task = model, task

    def forward(self, batch: Batch) -> Tensor:
        return self.task.training_loss(self.model, batch)


class LossOfParameters:
    """The training loss as a function of the parameters that train, which leaves the model as it is.

    All evaluations of one step draw the same random numbers (dropout), so that the difference between two of them is
    that of their parameters, and start with the buffers (statistics of batch normalisation) that the model had before
    the step; after it, `keep_buffers` gives the model those of the first evaluation.

    Args:
        task: The task.
        model: The model, on its device.
        device: The device of the batches.
        needs_autograd: Whether a source differentiates the loss.

    Attributes:
        evaluated: At how many points the loss was evaluated since `at`, also where one call was of many points.
    """

    def __init__(self, task: Task, model: nn.Module, device: str, *, needs_autograd: bool) -> None:
        self._whole, self._device, self._needs_autograd = _Whole(task, model), device, needs_autograd
        self._buffers: dict[str, Tensor] | None = None
        self.evaluated = 0

    @property
    def parameters(self) -> dict[str, Tensor]:
        """The parameters that train, by name; each once."""
        named = self._whole.model.named_parameters()
        return {name: each.detach() for name, each in named if each.requires_grad}

    def at(self, batch: Batch, seed: int, together: int) -> Any:
        """Return the loss of a batch as an objective.

        Args:
            batch: The batch, on the device.
            seed: Of the random numbers that the model draws.
            together: How many points may be evaluated in one call.
        """
        self._buffers, self.evaluated = None, 0
        model = self._whole.model
        of_parameters, of_buffers = _all_names(model.named_parameters), _all_names(model.named_buffers)
        present = dict(model.named_buffers())

        def loss(parameters: Mapping[str, Tensor]) -> Tensor:
            buffers = {name: each.clone() for name, each in present.items()}
            held = {f"model.{each}": tensor for name, tensor in parameters.items() for each in of_parameters[name]}
            held |= {f"model.{each}": tensor for name, tensor in buffers.items() for each in of_buffers[name]}
            with torch.set_grad_enabled(self._needs_autograd), seeded(seed, self._device):
                value = functional_call(self._whole, held, (batch,), tie_weights=False)
            if self._buffers is None:
                after = {name: held[f"model.{name}"].detach() for name in present}
                if any(map(_is_batched, after.values())):
                    raise RuntimeError("the buffers differ between the points of one call")  # so it is made for each
                self._buffers = after
            self.evaluated += _points(parameters)
            return value

        return pointwise(loss, vectorize=together > 1, chunk=together)

    def keep_buffers(self) -> None:
        """Give the model the buffers that the first evaluation since `at` has left."""
        for name, buffer in self._whole.model.named_buffers():
            if self._buffers is not None and name in self._buffers:
                new = self._buffers[name]
                if new.shape == buffer.shape and new.dtype == buffer.dtype:
                    buffer.copy_(new)
                else:
                    path, _, own = name.rpartition(".")
                    self._whole.model.get_submodule(path)._buffers[own] = new
        self._buffers = None

    def rehearse(self, batch: Batch) -> tuple[int, list[bool]]:
        """Return how many points may be evaluated in one call, and of each buffer whether an evaluation changes it.

        One call must not need much more memory than one point, and vmap must be able to make it. The model stays as
        it is.
        """
        parameters = self.parameters
        objective: Any = self.at(batch, 0, 1)
        largest = _Largest()
        with largest:
            objective(parameters)
        buffers = self._buffers or {}
        changed = [not torch.equal(buffers[name], each) for name, each in self._whole.model.named_buffers()]
        together = _TOGETHER // max(largest.numbers, sum(each.numel() for each in parameters.values()), 1)
        if together > 1:
            twice = {name: torch.stack([each, each]) for name, each in parameters.items()}
            try:
                torch.vmap(self.at(batch, 0, 1), randomness="same")(twice)
            except Exception:  # it looks at numbers, or works in place
                together = 1
        self._buffers = None
        return max(1, together), changed


class _Largest(TorchDispatchMode):
    """Finds out how many numbers the largest tensor holds that an operation returns."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        for each in found if isinstance(found, (tuple, list)) else (found,):
            if isinstance(each, Tensor):
                self.numbers = max(self.numbers, each.numel())
        return found


def _all_names(named: Callable[..., Iterable[tuple[str, Tensor]]]) -> dict[str, list[str]]:
    """Return all names of each parameter or buffer, by the first: a tied weight has several."""
    first = {id(tensor): name for name, tensor in named()}
    found: dict[str, list[str]] = {name: [] for name in first.values()}
    for name, tensor in named(remove_duplicate=False):
        found[first[id(tensor)]].append(name)
    return found


def _points(parameters: Mapping[str, Tensor]) -> int:
    """Return how many points tensors by name stand for: one, or as many as `torch.vmap` has put together."""
    functorch: Any = torch._C._functorch  # pyright: ignore[reportAttributeAccessIssue]
    sizes: dict[int, int] = {}  # by level of nested calls
    for each in parameters.values():
        tensor = each
        while functorch.is_functorch_wrapped_tensor(tensor):
            inner = functorch.get_unwrapped(tensor)
            if functorch.is_batchedtensor(tensor):
                sizes[functorch.maybe_get_level(tensor)] = inner.shape[functorch.maybe_get_bdim(tensor)]
            tensor = inner
    return math.prod(sizes.values())


def _is_batched(tensor: Tensor) -> bool:
    functorch: Any = torch._C._functorch  # pyright: ignore[reportAttributeAccessIssue]
    return functorch.is_batchedtensor(tensor)
