"""A block of the Jacobian, one row per example's gradient, kept as a product."""

from __future__ import annotations

import abc
import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Factor", "Lookup", "Outer", "Rows"]


class Factor(abc.ABC):
    """The rows (example, output) of the Jacobian with respect to one weight of `size` entries.

    A subclass must implement the rows themselves, products with vectors from both sides, and itself in another
    precision.
    """

    size: int

    @abc.abstractmethod
    def rows(self) -> Tensor:
        """Return the rows, [n, C, size]."""

    @abc.abstractmethod
    def matvec(self, v: Tensor) -> Tensor:
        """Return J v, [n, C, m], for v of shape [size, m]."""

    @abc.abstractmethod
    def rmatvec(self, u: Tensor, out: Tensor, add: bool) -> None:
        """Write (J' u)', or add it, [m, size], for u of shape [n, C, m]."""

    def fill(self, out: Tensor) -> None:
        """Write the rows into a tensor of shape [n, C, size]."""
        out.copy_(self.rows())

    @abc.abstractmethod
    def to(self, dtype: torch.dtype) -> Factor:
        """Return the factor in another precision."""

    @property
    def bytes(self) -> int:
        """What the factor occupies."""
        held = [getattr(self, f.name) for f in dataclasses.fields(self)]  # pyright: ignore[reportArgumentType]
        return sum(t.numel() * t.element_size() for t in held if isinstance(t, Tensor))


@dataclass(frozen=True)
class Rows(Factor):
    """The rows as they are.

    Attributes:
        block: [n, C, size].
    """

    block: Tensor

    @property
    def size(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """How many entries the weight has."""
        return self.block.shape[2]

    def rows(self) -> Tensor:
        """Return the rows, [n, C, size]."""
        return self.block

    def matvec(self, v: Tensor) -> Tensor:
        """Return J v, [n, C, m]."""
        return self.block @ v

    def to(self, dtype: torch.dtype) -> Rows:
        """Return the factor in another precision."""
        return self if self.block.dtype == dtype else Rows(self.block.to(dtype))

    def rmatvec(self, u: Tensor, out: Tensor, add: bool) -> None:
        """Write (J' u)', or add it, [m, size]."""
        torch.addmm(out, u.flatten(0, 1).T, self.block.flatten(0, 1), beta=int(add), out=out)


@dataclass(frozen=True)
class Outer(Factor):
    """A weight that multiplies its input: sum over positions t of left_t (outer) right_t, in groups.

    J[i, c, (g, o, m)] = sum_t left[i, c, t, (g, o)] right[i, t, (g, m)]; a bias has no right side, which stands for 1.

    Attributes:
        left: Cotangents of the operation's output, [n, C, T, g o].
        right: Its inputs, [n, T, g m], or None.
        groups: g.
    """

    left: Tensor
    right: Tensor | None
    groups: int = 1

    @property
    def size(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """How many entries the weight has."""
        return self.left.shape[3] * (1 if self.right is None else self.right.shape[2] // self.groups)

    def to(self, dtype: torch.dtype) -> Outer:
        """Return the factor in another precision."""
        if self.left.dtype == dtype and (self.right is None or self.right.dtype == dtype):
            return self
        return Outer(self.left.to(dtype), None if self.right is None else self.right.to(dtype), self.groups)

    @property
    def positions(self) -> int:
        """T."""
        return self.left.shape[2]

    def rows(self) -> Tensor:
        """Return the rows, [n, C, size]."""
        n, outputs, positions, height = self.left.shape
        if positions == 1 and self.right is None:
            return self.left.squeeze(2)
        if positions == 1 and self.groups == 1 and self.right is not None:
            return (self.left.reshape(n, outputs, height, 1) * self.right.reshape(n, 1, 1, -1)).flatten(2)
        out = self.left.new_empty(n, outputs, self.size)
        self.fill(out)
        return out

    def fill(self, out: Tensor) -> None:
        """Write the rows into a tensor of shape [n, C, size]."""
        n, outputs, positions, _ = self.left.shape
        if self.right is None:
            if positions == 1:
                out.copy_(self.left.squeeze(2))
            else:
                torch.sum(self.left, 2, out=out)
        elif positions == 1 and self.groups == 1:
            width, height = self.right.shape[2], self.left.shape[3]
            shaped = out.unflatten(2, (height, width))
            torch.mul(self.left.reshape(n, outputs, height, 1), self.right.reshape(n, 1, 1, width), out=shaped)
        else:
            out.copy_(self._block(slice(None)).reshape(n, outputs, -1))

    def block(self, some: slice) -> Tensor:
        """Return the rows for some of the weight's rows in each group, [n, C, columns]."""
        return self._block(some).flatten(2)

    def _block(self, some: slice) -> Tensor:
        """Return [n, C, g, o', m]."""
        n, outputs, positions, _ = self.left.shape
        left = self.left.reshape(n, outputs, positions, self.groups, -1)[..., some]
        if self.right is None:
            return left.sum(2).reshape(n, outputs, self.groups, -1, 1)
        right = self.right.reshape(n, positions, self.groups, -1)
        if self.groups == 1:
            # [n, C o', T] @ [n, T, m]
            flat = left[:, :, :, 0].transpose(2, 3).reshape(n, -1, positions)
            return torch.bmm(flat, right[:, :, 0]).reshape(n, outputs, 1, -1, right.shape[-1])
        return torch.einsum("nctgo,ntgm->ncgom", left, right)

    def matvec(self, v: Tensor) -> Tensor:
        """Return J v, [n, C, m]."""
        n, outputs, positions, width = self.left.shape
        if self.right is None:
            return self.left.sum(2) @ v
        g, columns = self.groups, v.shape[1]
        right = self.right.reshape(n * positions, g, -1)
        result = self.left.new_empty(n, outputs, columns)
        for k in range(columns):
            weight = v[:, k].reshape(g, width // g, -1)
            moved = (
                right[:, 0] @ weight[0].T if g == 1 else torch.einsum("pgm,gom->pgo", right, weight).flatten(1)
            ).reshape(n, 1, positions, width)
            if outputs == 1 or positions * width > 64:
                # [n, C, T o] @ [n, T o, 1]
                result[:, :, k] = torch.bmm(self.left.reshape(n, outputs, -1), moved.reshape(n, -1, 1)).squeeze(2)
            else:
                result[:, :, k] = (self.left * moved).sum((2, 3))
        return result

    def rmatvec(self, u: Tensor, out: Tensor, add: bool) -> None:
        """Write (J' u)', or add it, [m, size]."""
        n, _, positions, width = self.left.shape
        if self.right is None:
            torch.addmm(out, u.flatten(0, 1).T, self.left.sum(2).flatten(0, 1), beta=int(add), out=out)
            return
        g = self.groups
        right = self.right.reshape(n * positions, -1)
        for k in range(u.shape[2]):
            mixed = self._mixed(u[:, :, k])
            shaped = out[k].view(g, width // g, -1)
            if g == 1:
                torch.addmm(shaped[0], mixed.T, right, beta=int(add), out=shaped[0])
            else:
                sides = mixed.unflatten(1, (g, -1)).permute(1, 2, 0), right.unflatten(1, (g, -1)).transpose(0, 1)
                torch.baddbmm(shaped, *sides, beta=int(add), out=shaped)

    def _mixed(self, u: Tensor) -> Tensor:
        """Return the sum over outputs of u [n, C] times the left side, [n T, g o]."""
        n, outputs, positions, width = self.left.shape
        if outputs == 1:
            return (self.left[:, 0] * u[:, 0, None, None]).reshape(n * positions, width)
        return torch.bmm(u[:, None], self.left.reshape(n, outputs, -1)).reshape(n * positions, width)

    def bilinear(self, u: Tensor, p: Tensor, q: Tensor) -> Tensor:
        """Return p' (J' u) q by column, [m], for u [n, C], p [o, m] and q [i, m]: J' u, [o, i], is never formed."""
        assert self.right is not None
        assert self.groups == 1
        return ((self._mixed(u) @ p) * (self.right.flatten(0, 1) @ q)).sum(0)

    @classmethod
    def sum(cls, uses: Sequence[Outer]) -> Outer:
        """Return the factor of a weight that was used several times, in as many groups and always with inputs or never.

        Its positions are all of theirs.
        """
        rights = [use.right for use in uses if use.right is not None]
        return cls(torch.cat([use.left for use in uses], 2), torch.cat(rights, 1) if rights else None, uses[0].groups)


@dataclass(frozen=True)
class Lookup(Factor):
    """A table of which each position reads a row.

    J[i, c, (v, d)] = sum over t with index[i, t] = v of cotangent[i, c, t, d].

    Attributes:
        index: [n, T].
        cotangent: [n, C, T, d].
        length: Rows of the table.
    """

    index: Tensor
    cotangent: Tensor
    length: int

    @property
    def size(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """How many entries the table has."""
        return self.length * self.cotangent.shape[3]

    def rows(self) -> Tensor:
        """Return the rows, [n, C, size]."""
        n, outputs, _, width = self.cotangent.shape
        out = self.cotangent.new_zeros(n, outputs, self.length, width)
        where = self.index[:, None, :, None].expand_as(self.cotangent)
        return out.scatter_add_(2, where, self.cotangent).flatten(2)

    def matvec(self, v: Tensor) -> Tensor:
        """Return J v, [n, C, m]."""
        read = v.reshape(self.length, -1, v.shape[1])[self.index]  # [n, T, d, m]
        return torch.einsum("nctd,ntdm->ncm", self.cotangent, read)

    def rmatvec(self, u: Tensor, out: Tensor, add: bool) -> None:
        """Write (J' u)', or add it, [m, size]."""
        mixed = torch.einsum("nctd,ncm->mntd", self.cotangent, u)
        table = (out if add else out.zero_()).unflatten(1, (self.length, -1))
        table.index_add_(1, self.index.flatten(), mixed.flatten(1, 2))

    def to(self, dtype: torch.dtype) -> Lookup:
        """Return the factor in another precision."""
        return self if self.cotangent.dtype == dtype else dataclasses.replace(self, cotangent=self.cotangent.to(dtype))

    def of_output(self, c: int) -> Lookup:
        """Return the rows of one output."""
        return dataclasses.replace(self, cotangent=self.cotangent[:, c : c + 1])

    @classmethod
    def sum(cls, uses: Sequence[Lookup]) -> Lookup:
        """Return the factor of a table that was read several times."""
        return cls(
            torch.cat([use.index for use in uses], 1), torch.cat([use.cotangent for use in uses], 2), uses[0].length
        )


def product_cost(factor: Outer, other: Outer) -> tuple[int, int]:
    """Return the multiplications of a Gram matrix by positions and by rows, for each pair of rows."""
    width = factor.left.shape[3] + (0 if factor.right is None else factor.right.shape[2])
    by_positions = factor.positions * other.positions * width
    share = factor.left.shape[0] * factor.left.shape[1]
    by_rows = factor.size + math.ceil(factor.size * (factor.positions + other.positions) / max(share, 1))
    return by_positions, by_rows
