"""A weight given through its parametrization (torch.nn.utils.parametrize), or through a hook that computes it."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import _SpectralNorm
from torch.nn.utils.parametrize import ParametrizationList
from torch.nn.utils.prune import BasePruningMethod
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm, norm_except_dim

__all__ = ["Hooked", "assign", "assign_hooked", "hooked_weights", "value_of"]

# Power iterations: torch makes 15, after which a norm may be 12% off.
_ITERATIONS = 100


def value_of(parametrizations: ParametrizationList) -> Tensor:
    """Return the weight without the side effects of reading it in training, such as a power iteration."""
    with _in_eval_mode(parametrizations):
        return parametrizations()


def assign(parametrizations: ParametrizationList, weight: Tensor) -> bool:
    """Set the parameters so that they give a weight, or the nearest one to it; return whether that was possible.

    It is impossible for a parametrization without an inverse, or one that gives nan for this weight: the parameters
    then stay unchanged. They keep their memory in any case.
    """
    originals = list(parametrizations.parameters(recurse=False))
    memories = [original.detach() for original in originals]
    before = [original.detach().clone() for original in originals]
    try:
        parametrizations.right_inverse(weight)
        wanted = [original.detach().clone() for original in originals]
        fits = bool(torch.isfinite(value_of(parametrizations)).all())
        if fits:
            _find_singular_vectors(parametrizations)
    except Exception:  # a parametrization of the user's own may fail in any way
        wanted, fits = before, False
    for original, memory, values in zip(originals, memories, wanted if fits else before, strict=True):
        original.set_(memory)  # pyright: ignore[reportArgumentType]
        original.copy_(values)
    return fits


@contextlib.contextmanager
def _in_eval_mode(module: nn.Module) -> Generator[None, None, None]:
    modes = [(each, each.training) for each in module.modules()]
    for each, _ in modes:
        each.training = False
    try:
        yield
    finally:
        for each, training in modes:
            each.training = training


def _find_singular_vectors(parametrizations: ParametrizationList) -> None:
    """Let a spectral norm know those of the weight that it now has."""
    if len(parametrizations) == 1 and isinstance(norm := parametrizations[0], _SpectralNorm):
        weight: Any = parametrizations.original
        if weight.ndim > 1:
            norm._power_method(norm._reshape_weight_to_matrix(weight), _ITERATIONS)


@dataclass(frozen=True, eq=False)
class Hooked:
    """A weight that a hook of torch.nn.utils.weight_norm, .spectral_norm or .prune computes before every forward.

    Attributes:
        name: The weight's name.
        hook: The hook that computes it.
        parameters: The names of the parameters that it is computed from, that of the weight's shape last.
        kind: The name of the hook's kind.
    """

    name: str
    hook: Any
    parameters: tuple[str, ...]
    kind: str


def hooked_weights(module: nn.Module) -> list[Hooked]:
    """Return the weights of a layer that hooks compute."""
    found: list[Hooked] = []
    for hook in module._forward_pre_hooks.values():
        if isinstance(hook, WeightNorm):
            found.append(Hooked(hook.name, hook, (f"{hook.name}_g", f"{hook.name}_v"), "weight_norm"))
        elif isinstance(hook, SpectralNorm):
            found.append(Hooked(hook.name, hook, (f"{hook.name}_orig",), "spectral_norm"))
        elif isinstance(hook, BasePruningMethod):
            found.append(Hooked(hook._tensor_name, hook, (f"{hook._tensor_name}_orig",), "pruning"))
    return found


def assign_hooked(module: nn.Module, hooked: Hooked, weight: Tensor) -> bool:
    """Set the parameters behind a hook so that they give a weight.

    With a spectral norm it is the weight's multiple of norm 1, with pruning what the mask leaves of it.

    Return whether that was possible; it is not for a spectral norm and a weight of zeros, and all then stays as it was.
    """
    held = [tensor for name, tensor in vars(module)["_buffers"].items() if name.startswith(f"{hooked.name}_")]
    held += [module.get_parameter(name) for name in hooked.parameters]
    before = [tensor.detach().clone() for tensor in held]
    main = module.get_parameter(hooked.parameters[-1])
    if hooked.kind == "weight_norm":
        norms = norm_except_dim(weight, 2, hooked.hook.dim)
        # A row of zeros has no direction, and needs one.
        direction = torch.where(norm_except_dim(main, 2, hooked.hook.dim) > 0, main, 1)
        main.copy_(torch.where(norms > 0, weight, direction))
        module.get_parameter(hooked.parameters[0]).copy_(norms)
    else:
        main.copy_(weight)
        for _ in range(_ITERATIONS if hooked.kind == "spectral_norm" else 0):
            hooked.hook.compute_weight(module, do_power_iteration=True)
    fits = bool(torch.isfinite(_computed(module, hooked)).all())
    if not fits:
        for tensor, values in zip(held, before, strict=True):
            tensor.copy_(values)
    # What is read before the next forward, or stays when the norm is removed.
    setattr(module, hooked.name, _computed(module, hooked))
    return fits


def _computed(module: nn.Module, hooked: Hooked) -> Tensor:
    if hooked.kind == "weight_norm":
        return hooked.hook.compute_weight(module).detach()
    if hooked.kind == "pruning":
        return hooked.hook.apply_mask(module).detach()
    return hooked.hook.compute_weight(module, do_power_iteration=False).detach()
