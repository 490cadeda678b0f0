"""Products of Jacobians, J1 J2', layer by layer, without the Jacobians."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeGuard

import torch
from torch import Tensor

from steepest.linearize._factors import Factor, Lookup, Outer, product_cost
from steepest.linearize._jacobian.products import rows_of, single
from steepest.linearize._trace.factorize import Factored, Placed

__all__ = ["add_gram"]

_TILE = 1 << 20
"""Entries of a tile of the kernel, a few megabytes: it stays in the cache while all layers are added to it."""

_PARTS, _LEAST = 4, 128
"""Tiles along a side of a small symmetric kernel, and their least height: with smaller ones, products are slower."""

Pair = tuple[Outer, Outer]
"""The factors of one parameter from both sides."""


def add_gram(
    out: Tensor, one: Factored, other: Factored, sizes: Mapping[str, int], trace: bool, work_bytes: int
) -> None:
    """Write J1 J2' into `out`, or add the sum over outputs of its diagonal blocks.

    Args:
        out: [n1 C, n2 C], or [n1, n2] for the trace.
        one: J1.
        other: J2, of the same parameters, or the same object.
        sizes: Entries of each parameter.
        trace: Whether only the sum over outputs is asked for.
        work_bytes: The memory that temporary blocks may occupy, in bytes.
    """
    plain: dict[tuple[int, int], list[Pair]] = {}
    rest: list[tuple[Sequence[Placed], Sequence[Placed], int]] = []
    for name, placed in one.blocks.items():
        against = other.blocks[name]
        if not placed or not against:
            continue
        a, b = single(placed), single(against)
        if _is_product(a) and _is_product(b):
            # The weight and the bias of a layer have one tensor of cotangents and two inner products of inputs.
            plain.setdefault((id(a.left), id(b.left)), []).append((a, b))
        else:
            rest.append((placed, against, sizes[name]))
    if trace:
        out.zero_()
        for pairs in plain.values():
            left, right = (factor.left.flatten(1).to(out.dtype) for factor in pairs[0])
            out.addcmul_(left @ right.T, _inputs_product(pairs, slice(None), slice(None), out.dtype))
    else:
        _tiles(out, list(plain.values()), one is other)
    for placed, against, size in rest:
        _add_rows(out, placed, against, size, trace, work_bytes)


def _is_product(factor: Factor | None) -> TypeGuard[Outer]:
    return isinstance(factor, Outer) and factor.positions == 1 and factor.groups == 1


def _inputs_product(pairs: Sequence[Pair], rows: slice, columns: slice, dtype: torch.dtype) -> Tensor:
    """Return the sum over a layer's parameters of <right_i, right_j>, which is 1 for a bias."""
    one, other = (factor.left[some, 0, 0, 0] for factor, some in zip(pairs[0], (rows, columns), strict=True))
    total = one.new_zeros(len(one), len(other), dtype=dtype)
    for a, b in pairs:
        if a.right is None or b.right is None:
            total += 1
        else:
            total.addmm_(a.right[rows, 0].to(dtype), b.right[columns, 0].to(dtype).T)
    return total


def _tiles(out: Tensor, layers: Sequence[Sequence[Pair]], symmetric: bool) -> None:
    """Write sum over layers of (left right') * inputs, the inputs' product repeated over the outputs."""
    if not layers:
        out.zero_()
        return
    n1, outputs = layers[0][0][0].left.shape[:2]
    n2 = layers[0][0][1].left.shape[0]
    dtype = out.dtype
    step = max(1, int(_TILE**0.5) // outputs)
    if symmetric:  # what is above the diagonal is not computed
        step = min(step, max(_LEAST // outputs, -(-n1 // _PARTS)))
    for i in range(0, n1, step):
        rows = slice(i, min(i + step, n1))
        for j in range(0, rows.stop if symmetric else n2, step):
            columns = slice(j, min(j + step, n2))
            tile = out[rows.start * outputs : rows.stop * outputs, columns.start * outputs : columns.stop * outputs]
            total: Tensor | None = None
            for pairs in layers:
                left, right = pairs[0][0].left[rows, :, 0], pairs[0][1].left[columns, :, 0]
                cotangents = left.flatten(0, 1).to(dtype) @ right.flatten(0, 1).to(dtype).T
                weights = _inputs_product(pairs, rows, columns, dtype)
                if outputs > 1:
                    weights = weights.repeat_interleave(outputs, 1)
                shaped = cotangents.view(rows.stop - i, outputs, -1)
                if total is None:
                    total = shaped.mul_(weights[:, None])
                else:
                    total.addcmul_(shaped, weights[:, None])
            assert total is not None
            found = total.flatten(0, 1)
            tile.copy_(found)
            if symmetric and j < i:
                out[columns.start * outputs : columns.stop * outputs, rows.start * outputs : rows.stop * outputs] = (
                    found.T
                )


def _add_rows(
    out: Tensor, placed: Sequence[Placed], against: Sequence[Placed], size: int, trace: bool, work_bytes: int
) -> None:
    """Add the product of one parameter's rows: by positions where that is less work, else block by block."""
    a, b = single(placed), single(against)
    if isinstance(a, Outer) and isinstance(b, Outer):
        by_positions, by_rows = product_cost(a, b)
        if by_positions < by_rows and a.right is not None and b.right is not None and a.groups == 1 and not trace:
            _add_by_positions(out, a, b, work_bytes)
            return
        for some in _weight_blocks(a, b, work_bytes):
            _add_product(out, a.block(some), None if a is b else b.block(some), trace)
    elif isinstance(a, Lookup) and isinstance(b, Lookup) and not _is_short(a, b, out, work_bytes):
        if trace:
            for c in range(a.cotangent.shape[1]):
                _add_lookups(out, a.of_output(c), b.of_output(c), work_bytes)
        else:
            _add_lookups(out, a, b, work_bytes)
    else:
        _add_product(out, rows_of(placed, size), None if placed is against else rows_of(against, size), trace)


def _add_product(out: Tensor, first: Tensor, second: Tensor | None, trace: bool) -> None:
    """Add the product of rows [n, C, columns]; without the second, with themselves."""
    one = first.flatten(1) if trace else first.flatten(0, 1)
    one = one.to(out.dtype)
    if second is None:
        out.addmm_(one, one.T)
    else:
        out.addmm_(one, (second.flatten(1) if trace else second.flatten(0, 1)).to(out.dtype).T)


def _is_short(a: Lookup, b: Lookup, out: Tensor, work_bytes: int) -> bool:
    """Return whether all rows of a table are less work than all pairs of positions, and fit."""
    held = (a.cotangent[:, :, 0, 0].numel() + b.cotangent[:, :, 0, 0].numel()) * a.size * out.element_size()
    return a.length <= a.index.shape[1] * b.index.shape[1] and held <= work_bytes


def _weight_blocks(a: Outer, b: Outer, work_bytes: int) -> list[slice]:
    """Return slices of the weight's rows whose blocks of both sides fit into the budget."""
    height = a.left.shape[3]
    per_row = (a.left.shape[0] * a.left.shape[1] + b.left.shape[0] * b.left.shape[1]) * (a.size // height) * 16
    step = max(1, work_bytes // max(per_row, 1))
    return [slice(start, start + step) for start in range(0, height, step)]


def _add_by_positions(out: Tensor, a: Outer, b: Outer, work_bytes: int) -> None:
    """Add sum over t, s of <left_t, left_s> <right_t, right_s>."""
    assert a.right is not None
    assert b.right is not None
    n1, outputs, t, width = a.left.shape
    n2, s = b.left.shape[0], b.left.shape[2]
    dtype = out.dtype
    view = out.view(n1, outputs, n2, outputs)
    left2, right2 = b.left.to(dtype).reshape(-1, width), b.right.to(dtype).reshape(n2 * s, -1)
    step = max(1, work_bytes // (3 * t * n2 * s * outputs * outputs * out.element_size()))
    for i in range(0, n1, step):
        left1, right1 = a.left[i : i + step].to(dtype), a.right[i : i + step].to(dtype)
        some = len(left1)
        cotangents = (left1.reshape(-1, width) @ left2.T).view(some, outputs, t, n2, outputs, s)
        inputs = (right1.reshape(some * t, -1) @ right2.T).view(some, 1, t, n2, 1, s)
        view[i : i + step] += (cotangents * inputs).sum((2, 5))


def _add_lookups(out: Tensor, a: Lookup, b: Lookup, work_bytes: int) -> None:
    """Add sum over t, s of <cotangent_t, cotangent_s> where both read the same row."""
    n1, outputs, t, width = a.cotangent.shape
    n2, s = b.cotangent.shape[0], b.cotangent.shape[2]
    dtype = out.dtype
    view = out.view(n1, outputs, n2, outputs)
    second = b.cotangent.to(dtype).reshape(-1, width)
    step = max(1, work_bytes // (3 * t * n2 * s * outputs * outputs * out.element_size()))
    for i in range(0, n1, step):
        first = a.cotangent[i : i + step].to(dtype)
        products = (first.reshape(-1, width) @ second.T).view(len(first), outputs, t, n2, outputs, s)
        same = a.index[i : i + step, None, :, None, None, None] == b.index[None, None, None, :, None, :]
        view[i : i + step] += (products * same).sum((2, 5))
