"""What `predict`, `certify` and `simulate` accept as a rule."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from torch.optim import Optimizer

from steepest.errors import InvalidArgument
from steepest.implicit_bias._rules.optimizer import class_of
from steepest.implicit_bias._rules.rule import Rule
from steepest.implicit_bias._rules.steepest_optimizer import SteepestOptimizer
from steepest.implicit_bias._rules.torch_optimizer import TorchOptimizer
from steepest.optim import SteepestDescent

__all__ = ["RuleLike", "as_rule"]

RuleLike = Rule | type[Optimizer] | Callable[..., Optimizer] | Optimizer
"""A rule of this package, or an optimizer of `steepest.optim` or of torch: its class, a functools.partial of it, or a
live instance."""


def as_rule(rule: object) -> Rule:
    """Return a rule of this package as it is, an optimizer of this library or of torch as one.

    Raises:
        InvalidArgument: For anything else.
    """
    if isinstance(rule, Rule):
        return rule
    kind = type(rule) if isinstance(rule, Optimizer) else class_of(rule)
    if issubclass(kind, SteepestDescent):
        return SteepestOptimizer(cast("Optimizer", rule))
    if kind is not Optimizer:
        return TorchOptimizer(cast("Optimizer", rule))
    remedy = "Call it, as in GradientDescent()." if isinstance(rule, type) and issubclass(rule, Rule) else ""
    raise InvalidArgument(
        "rule must be one of steepest.implicit_bias, or an optimizer (class, functools.partial or instance)",
        got=rule,
        remedy=remedy or "See the names in steepest.implicit_bias.",
    )
