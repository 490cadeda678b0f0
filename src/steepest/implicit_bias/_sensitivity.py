"""How much each coordinate of theta changes predictions on data of given scales."""

from __future__ import annotations

from torch import Tensor

from steepest._shapes import Float
from steepest.errors import InvalidArgument
from steepest.implicit_bias._problem import ArrayLike, numbers_of, vector

__all__ = ["sensitivity"]


def sensitivity(point: Float[Tensor, " n"], scales: ArrayLike) -> Float[Tensor, " n"]:
    """Return |point_j| scales_j: how much a feature of that scale changes the prediction <x, point>.

    Args:
        point: n coefficients.
        scales: The features' scales, >= 0: root mean squares of the training data, or of data of another kind.

    Raises:
        InvalidArgument: For scales that are negative, not finite, or not n numbers.

    >>> import torch
    >>> theta = torch.tensor([1.0, 10.0, 100.0], dtype=torch.float64) / 3
    >>> sensitivity(theta, [1, 0.1, 0.01])  # on data like the training data all features count alike
    tensor([0.3333, 0.3333, 0.3333], dtype=torch.float64)
    >>> sensitivity(theta, [1, 1, 1])  # on data where all features have one scale the last one rules
    tensor([ 0.3333,  3.3333, 33.3333], dtype=torch.float64)
    """
    given = numbers_of("point", point)
    coefficients = vector("point", given, given.numel(), "")
    sizes = vector("scales", scales, len(coefficients), "one number for each coordinate")
    if not bool((sizes >= 0).all()):
        raise InvalidArgument("scales must be >= 0", got=float(sizes.min()), remedy="Pass root mean squares.")
    return coefficients.abs() * sizes
