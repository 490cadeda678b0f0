"""The sample of an activation, and its statistics."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["STATISTICS", "Site", "sample", "statistics"]

STATISTICS = ("mean", "spread", "zeros", "positive", "dead", "saturated", "variation", "similarity")
"""What is kept of each site: the mean and standard deviation of the entries; the share of entries that are 0, and that
are above 0; the share of units that are 0 for every example; the share of entries at the ends of a bounded activation;
the standard deviation over examples relative to the root mean square; the share of units that equal another unit."""

_ROWS, _POSITIONS, _UNITS = 32, 4, 64
_ZERO = 1e-30


@dataclass
class Site:
    """One place where activations are seen.

    Attributes:
        name: The module's name; "input of NAME" where the module was given what no watched module returned,
            because an activation was called as a function; "output" for what the model returns.
        producer: The weight layer that was run last before it: whose units these are.
        kind: "weight", "norm" or "activation" module; "input"; "data" for what the model was given; "output".
        before: The site that was seen last before it.
        ends: The ends of its range if it is known to be bounded, else None.
        may_saturate: Whether its range is bounded, or not known.
    """

    name: str
    producer: str
    kind: str
    before: str
    ends: tuple[float, float] | None = None
    may_saturate: bool = False


def sample(tensor: Tensor, channels_first: bool, turn: int) -> Tensor:
    """Return at most 32 examples or positions x 64 units of a tensor, copied.

    Units are its last axis, or its second; a single axis is one example's units.

    Examples are evenly spaced; positions and units are windows, which lie together in memory: scattered entries would
    cost ten times as much. The windows move from record to record, so that all units are seen in turn. In a training
    loop that fills the caches every call of an operator costs as much as the copy: hence one strided view.
    """
    tensor = tensor.detach() if tensor.ndim > 1 else tensor.detach()[None]
    units = 1 if channels_first and tensor.ndim > 2 else tensor.ndim - 1
    shape, stride, offset = tensor.shape, tensor.stride(), tensor.storage_offset()
    sizes: list[int] = []
    strides: list[int] = []
    last = tensor.ndim - 1 - (units == tensor.ndim - 1)  # the axis of positions along which a window is cut
    for axis in range(tensor.ndim):
        if axis == units:
            continue
        size, step = shape[axis], 1
        if axis == 0:
            step = -(-size // (_ROWS if last <= 0 else _ROWS // _POSITIONS))
        most = -(-size // step) if axis == 0 else _POSITIONS if axis == last else 1
        sizes.append(min(size, most))
        strides.append(stride[axis] * step)
        offset += 0 if axis == 0 else turn * most % max(1, size - most + 1) * stride[axis]
    width = min(shape[units], _UNITS)
    offset += turn * width % max(1, shape[units] - width + 1) * stride[units]
    return tensor.as_strided((*sizes, width), (*strides, stride[units]), offset).clone()


def statistics(samples: Tensor, site: Site) -> Tensor:
    """Return the statistics of samples (records x examples x positions x units) as records x statistics.

    Passes over the samples are what it costs. Masks are several times dearer than arithmetic, hence the shares by
    clamping; and differences from the first example leave nothing to cancel where all examples are alike.
    """
    x = samples.float()
    x = x.unsqueeze(2) if x.ndim == 3 else x.flatten(2, -2)
    x = x if x.shape[1] > 1 else x.transpose(1, 2)  # of a single example, the positions
    apart = x - x[:, :1]
    shift = apart.mean(dim=1)
    about = apart.square().mean(dim=1) - shift.square()  # the variance over examples, records x positions x units
    center = shift + x[:, 0]
    mean = center.mean(dim=(1, 2))
    size = (about + center.square()).mean(dim=(1, 2))
    signs = (x / _ZERO).clamp_(-1, 1)
    net, nonzero = signs.mean(dim=(1, 2, 3)), signs.abs_().mean(dim=(1, 2, 3))
    dead = signs.amax(dim=(1, 2)) < 1
    nothing = torch.full_like(mean, torch.nan)
    # Copies stay copies: every eighth record is checked, and the last.
    looked = sorted({*range(0, len(x), 8), len(x) - 1})
    similarity = nothing.clone()
    similarity[looked] = _copies(x[looked].flatten(1, 2), alive=(about > 1e-6 * center.square()).any(dim=1)[looked])
    return torch.stack(
        [
            mean,
            (size - mean.square()).clamp_min(0).sqrt(),
            1 - nonzero,
            (nonzero + net) / 2,
            torch.where(mean.isfinite(), dead.float().mean(dim=1), nothing),
            _saturated(x.flatten(1, 2), site) if site.may_saturate else nothing,
            # 0 if all entries are 0
            (about.mean(dim=(1, 2)).clamp_min(0) / size.where(size > 0, 1.0)).sqrt() if x.shape[1] > 1 else nothing,
            similarity,
        ],
        dim=1,
    )


def _copies(samples: Tensor, alive: Tensor) -> Tensor:
    """Return the share of units that equal another one for every example; units that do not vary are not counted."""
    generator = torch.Generator("cpu").manual_seed(0)
    directions = torch.randn(samples.shape[1], 4, generator=generator, dtype=torch.float32, device="cpu").to(
        samples.device
    )
    seen = samples.transpose(1, 2) @ directions
    order = seen[..., 0].argsort(dim=1)
    seen = seen.gather(1, order[..., None].expand_as(seen))
    alive = alive.gather(1, order)
    apart = (seen[:, 1:] - seen[:, :-1]).square().sum(dim=2)
    same = (apart <= 1e-8 * seen[:, 1:].square().sum(dim=2)) & alive[:, 1:]
    none = same.new_zeros(len(same), 1)
    return (torch.cat([same, none], dim=1) | torch.cat([none, same], dim=1)).float().mean(dim=1)


def _saturated(samples: Tensor, site: Site) -> Tensor:
    """Return the share of entries within 1% of the ends of a bounded activation, nan where there are no ends."""
    if site.ends is not None:
        low, high = site.ends
        near = 0.01 * (high - low) / 2
        return ((samples < low + near) | (samples > high - near)).float().mean(dim=(1, 2))
    # A function called without a module does not say its range. Entries of which none is beyond 1 and a good part
    # is at +1 come from tanh if some are negative, from a sigmoid if not.
    nothing = samples.new_full((len(samples),), torch.nan)
    bounded = samples.abs().amax(dim=(1, 2)) <= 1
    if samples.shape[2] > 1:  # rows whose sum is at most 1 come from a softmax, or are one-hot
        bounded &= samples.sum(dim=2).amax(dim=1) > 1.01
    if samples.device.type == "cpu" and not bounded.any():  # elsewhere the question would stall the stream
        return nothing
    top = (samples > 0.99).float().mean(dim=(1, 2))
    low = torch.where(samples.amin(dim=(1, 2)) < 0, -0.99, 0.005)
    bottom = (samples < low[:, None, None]).float().mean(dim=(1, 2))
    return torch.where(bounded & (top > 0.05), top + bottom, nothing)
