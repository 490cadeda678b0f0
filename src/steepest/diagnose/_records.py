"""What a monitor has recorded, as plain arrays: all that a rule may look at."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import nn
from torch.nn.parameter import UninitializedParameter
from torch.optim.optimizer import Optimizer

from steepest.diagnose._parameters import ParameterRows
from steepest.diagnose._statistics import STATISTICS, Site
from steepest.errors import InvalidArgument, UnknownName

__all__ = ["Parameter", "Records", "describe", "watched_parameters"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Parameter:
    """What is known of a parameter before it trains.

    Attributes:
        name: Its name in `model.named_parameters()`.
        module: The name of the module that owns it.
        size: Its number of entries.
        is_weight: Whether it is a matrix or kernel that is no embedding.
        trainable: Whether it requires a gradient.
        optimised: Whether the optimizer holds it; None if no optimizer is known.
        frozen: Whether the user said that it stays on purpose.
    """

    name: str
    module: str
    size: int
    is_weight: bool
    trainable: bool
    optimised: bool | None
    frozen: bool


@dataclass(frozen=True)
class Records:
    """T records of a run with P parameters.

    Attributes:
        parameters: In the order of the model.
        steps: T, the user's numbers of the steps.
        loss: T, nan where none was given.
        given: T, whether a loss was given.
        lr: T, the largest learning rate of the optimizer; nan if no optimizer is known.
        momentum: The optimizer's momentum; 0 if it has none or is not known.
        stepped: T, whether the optimizer took the step (a gradient scaler may skip it).
        start: P, ||w||_2 before the first step.
        rows: Norms and updates.
        activations: By site: T x statistics, see `STATISTICS`.
        sites: By name, in the order in which they were first seen.
        output_gradient: T, the root mean square over examples of ||dL_i/d output||, where it was seen.
        copies: By weight: T' pairs of a record's index (-1 before the first) and the share of units that are copies.
        baselines: The loss of the best constant predictor, by the name of the loss; empty if no target is known.
        first_nonfinite: The first site that was not finite in the step in which that was first so; "loss" if all
            sites were finite.
        strangers: The shapes of parameters that take part in the forward pass and that no module has registered.
    """

    parameters: tuple[Parameter, ...]
    steps: NDArray[np.int64]
    loss: Array
    given: NDArray[np.bool_]
    lr: Array
    momentum: float
    stepped: NDArray[np.bool_]
    start: Array
    rows: ParameterRows
    activations: Mapping[str, Array]
    sites: Mapping[str, Site]
    output_gradient: Array
    copies: Mapping[str, list[tuple[int, float]]]
    baselines: Mapping[str, float]
    first_nonfinite: str | None
    strangers: tuple[tuple[int, ...], ...]

    @classmethod
    def of_nothing(cls, parameters: tuple[Parameter, ...]) -> Records:
        """Return the records of a run of which nothing is known."""
        none, count = np.empty(0), len(parameters)
        rows, unknown = np.empty((0, count)), np.full(count, np.nan)
        return cls(
            parameters=parameters,
            steps=np.empty(0, dtype=np.int64),
            loss=none,
            given=np.empty(0, dtype=bool),
            lr=none,
            momentum=0.0,
            stepped=np.empty(0, dtype=bool),
            start=unknown,
            rows=ParameterRows(rows, rows.astype(bool), rows, rows, rows, unknown, float("nan")),
            activations={},
            sites={},
            output_gradient=none,
            copies={},
            baselines={},
            first_nonfinite=None,
            strangers=(),
        )

    def statistic(self, site: str, name: str) -> Array:
        """Return one statistic of a site over the records.

        >>> STATISTICS.index("dead")
        4
        """
        return self.activations[site][:, STATISTICS.index(name)]

    def names(self, which: NDArray[np.bool_]) -> tuple[str, ...]:
        """Return the names of the parameters chosen."""
        return tuple(p.name for p, chosen in zip(self.parameters, which, strict=True) if chosen)

    @property
    def weights(self) -> NDArray[np.bool_]:
        """P, which parameters are matrices or kernels that train."""
        return np.array([p.is_weight and p.trainable and not p.frozen for p in self.parameters])

    @property
    def mean_gradient_norm(self) -> Array:
        """T, the mean over the parameters that have a gradient of ||g||_2; nan where none has."""
        held = ~self.rows.missing
        counts = held.sum(axis=1)
        return np.where(counts, np.where(held, self.rows.gradient, 0.0).sum(axis=1) / np.maximum(counts, 1), np.nan)

    @property
    def output_layer(self) -> str:
        """The name of the weight layer that is run last, as far as it was seen."""
        layers = [site.name for site in self.sites.values() if site.kind == "weight"]
        return layers[-1] if layers else next((p.module for p in reversed(self.parameters) if p.is_weight), "")


def watched_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return a model's parameters by name, but those of whole numbers, which are quantised and do not train."""
    return {n: p for n, p in model.named_parameters() if p.is_floating_point() or p.is_complex()}


def describe(model: nn.Module, optimizers: tuple[Optimizer, ...], frozen: Iterable[str]) -> tuple[Parameter, ...]:
    """Return what is known of a model's parameters before it trains.

    Raises:
        InvalidArgument: If the model has no parameters, or lazy ones, or the optimizers hold none of them.
        UnknownName: If a name in `frozen` is no parameter's or module's.
    """
    named = watched_parameters(model)
    if not named:
        raise InvalidArgument(
            "a model to watch has parameters", got=type(model).__name__, remedy="Pass a module with layers."
        )
    if lazy := [name for name, p in named.items() if isinstance(p, UninitializedParameter)]:
        raise InvalidArgument(
            "a model to watch knows the shapes of its parameters",
            got=lazy[0],
            remedy="Run one batch through its lazy layers first.",
        )
    held = {id(p) for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]}
    if optimizers and not held & {id(p) for p in named.values()}:
        raise InvalidArgument(
            "the optimizer must hold parameters of the model that is watched",
            got=", ".join(type(optimizer).__name__ for optimizer in optimizers),
            remedy="Make the optimizer from model.parameters(), after the model is complete and on its device.",
        )
    patterns = [frozen] if isinstance(frozen, str) else list(frozen)
    for pattern in patterns:
        if not any(_matches(name, pattern) for name, _ in model.named_parameters()):
            raise UnknownName.among("parameter or module", pattern, named)
    embeddings = {
        id(p)
        for module in model.modules()
        if isinstance(module, (nn.Embedding, nn.EmbeddingBag))
        for p in module.parameters(recurse=False)
    }
    return tuple(
        Parameter(
            name=name,
            module=name.rpartition(".")[0],
            size=p.numel(),
            is_weight=sum(n > 1 for n in p.shape) > 1
            and id(p) not in embeddings
            and not _NO_WEIGHT.search(name.rpartition(".")[2]),
            trainable=p.requires_grad,
            optimised=id(p) in held if optimizers else None,
            frozen=any(_matches(name, pattern) for pattern in patterns),
        )
        for name, p in named.items()
    )


_NO_WEIGHT = re.compile(r"bias|pos|token|embed", re.IGNORECASE)


def _matches(name: str, pattern: str) -> bool:
    return name == pattern or name.startswith(f"{pattern}.") or fnmatch.fnmatchcase(name, pattern)
