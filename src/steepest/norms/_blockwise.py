"""The norm of a whole network, built from its layers' norms."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, Self

import torch
from torch import Tensor

from steepest._check import instance, one_of
from steepest._shapes import Float
from steepest.errors import InvalidArgument, UnknownName
from steepest.norms._norm import Norm, check_norm

__all__ = ["Blockwise"]

_DUAL = {"max": "sum", "l2": "l2", "sum": "max"}


@dataclass(frozen=True)
class Blockwise(Norm[dict[str, Tensor]]):
    """A norm of tensors by name, combined from the norms n_i of the blocks.

    | combine | norm            | dual norm          | duality map                | penalized step of block i    |
    |---------|-----------------|--------------------|----------------------------|------------------------------|
    | "max"   | max n_i         | sum n_i*           | d_i                        | -(alpha/2) (sum_j n_j*) d_i  |
    | "l2"    | sqrt(sum n_i^2) | sqrt(sum (n_i*)^2) | (n_i* / the dual norm) d_i | -(alpha/2) n_i* d_i          |
    | "sum"   | sum n_i         | max n_i*           | d_i of the largest n_i*    | -(alpha/2) n_i* d_i of that  |

    A block that is left out counts as zero.

    Args:
        norms: The norm of each block by name.
        combine: "max", "l2" or "sum".

    Raises:
        InvalidArgument: If there is no norm, one that is not the norm of a tensor, or no such way to combine them.
        UnknownName: When called, if a tensor has a name without a norm.

    >>> from steepest.norms import L2, LInf
    >>> norm = Blockwise({"weight": LInf(), "bias": L2()})
    >>> norm({"weight": torch.tensor([[1.0, -2.0]]), "bias": torch.tensor([3.0, 4.0])})
    tensor(5., dtype=torch.float64)

    Source: Large et al., "Scalable Optimization in the Modular Norm" (2024, arXiv:2405.14813).
    """

    blocks: tuple[tuple[str, Norm], ...]
    combine: Literal["max", "l2", "sum"] = "max"

    def __init__(self, norms: Mapping[str, Norm], combine: Literal["max", "l2", "sum"] = "max") -> None:
        remedy = 'Try {"weight": Spectral()}.'
        if not instance("norms", norms, Mapping, "a dict of norms by name", remedy=remedy):
            raise InvalidArgument("norms must hold a norm for each block", got=norms, remedy=remedy)
        for name, norm in norms.items():
            instance("the name of a block", name, str, "a string", remedy=remedy)
            check_norm(norm)
        object.__setattr__(self, "blocks", tuple(sorted(norms.items())))
        object.__setattr__(self, "combine", one_of("combine", combine, ("max", "l2", "sum")))

    @property
    def norms(self) -> dict[str, Norm]:
        """The norm of each block by name."""
        return dict(self.blocks)

    def __call__(self, x: dict[str, Tensor]) -> Float[Tensor, ""]:
        """Return the combined norm."""
        return self._combine([norm(part) for _, norm, part in self._parts(x)], self.combine)

    def dual_norm(self, g: dict[str, Tensor]) -> Float[Tensor, ""]:
        """Return the combined dual norm."""
        return self._combine([norm.dual_norm(part) for _, norm, part in self._parts(g)], _DUAL[self.combine])

    def duality_map(self, g: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the duality map of each block, times its share."""
        if self.combine == "max":
            return self._maps(g)
        return self.duality_pair(g)[0]

    def duality_pair(self, g: dict[str, Tensor]) -> tuple[dict[str, Tensor], Float[Tensor, ""]]:
        """Return the duality maps and the dual norm."""
        pairs = {name: norm.duality_pair(part) for name, norm, part in self._parts(g)}
        duals = [dual for _, dual in pairs.values()]
        total = self._combine(duals, _DUAL[self.combine])
        if self.combine == "max" or not pairs:
            return {name: direction for name, (direction, _) in pairs.items()}, total
        sizes = torch.stack([dual.double() for dual in duals])
        if self.combine == "l2":
            shares = sizes / torch.where(total > 0, total, 1)
        else:
            shares = torch.zeros_like(sizes).scatter(0, sizes.argmax().view(1), 1.0)
        parts = zip(pairs.items(), shares, strict=True)
        return {name: direction.mul_(share) for (name, (direction, _)), share in parts}, total

    @property
    def takes_names(self) -> bool:
        """True."""
        return True

    def exactly(self) -> Self:
        """Return the same with nothing approximated in the blocks."""
        return type(self)({name: norm.exactly() for name, norm in self.blocks}, self.combine)

    def _maps(self, g: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the duality map of each block, blocks of one norm at once."""
        names: dict[Norm, list[str]] = {}
        for name, norm, _ in self._parts(g):
            names.setdefault(norm, []).append(name)
        maps: dict[str, Tensor] = {}
        for norm, members in names.items():
            maps.update(zip(members, norm.duality_maps([g[name] for name in members]), strict=True))
        return {name: maps[name] for name in g}

    def _parts(self, x: dict[str, Tensor]) -> Iterator[tuple[str, Norm, Tensor]]:
        norms = self.norms
        for name, part in instance("the argument of a network's norm", x, dict, "a dict of tensors by name").items():
            if instance("the name of a block", name, str, "a string") not in norms:
                raise UnknownName.among("block in this norm", name, norms)
            yield name, norms[name], part

    @staticmethod
    def _combine(values: list[Tensor], how: str) -> Float[Tensor, ""]:
        """Combine in float64, sorted so that rounding does not depend on the order of the names; none is 0."""
        if not values:
            return torch.zeros((), dtype=torch.float64)
        all_values = torch.stack([value.double() for value in values]).sort().values
        if how == "sum":
            return all_values.sum()
        return all_values.amax() if how == "max" else torch.linalg.vector_norm(all_values)
