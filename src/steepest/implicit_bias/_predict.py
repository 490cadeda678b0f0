"""Predictions of where a run ends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor
from torch.optim import Optimizer

from steepest._check import in_range
from steepest.errors import InvalidArgument
from steepest.implicit_bias._limits.limit import Certificate, Limit, Unknown
from steepest.implicit_bias._problem import ArrayLike, Problem, vector
from steepest.implicit_bias._rules.accepted import RuleLike, as_rule
from steepest.implicit_bias._rules.rule import Rule
from steepest.implicit_bias._runs.spread import Spread, spread
from steepest.implicit_bias._sensitivity import sensitivity

if TYPE_CHECKING:
    from steepest.implicit_bias._tails import Schedules

__all__ = ["Prediction", "certify", "predict", "predict_batch"]

_TOLERANCE = 1e-6
_EXACT = 1e-9


@dataclass(frozen=True, eq=False)
class Prediction:
    """The limit of a rule on a problem, if that is known.

    Attributes:
        point: The limit, n numbers; None where theta diverges, or the limit is not determined.
        direction: The limit of theta / ||theta||_2 on separable data; else None.
        determined: Whether the limit is known to be a function of A, b, theta0 and the rule alone, for all step sizes
            that `reason` names.
        reason: The theorem with its source, or why nothing is claimed.
        certificate: The check of the point or the direction; failed where there is none.
        rule: The rule.
        problem: The problem, validated and in float64.
    """

    point: Tensor | None
    direction: Tensor | None
    determined: bool
    reason: str
    certificate: Certificate
    rule: Rule = field(repr=False)
    problem: Problem = field(repr=False)

    def __str__(self) -> str:
        """Return the answer and its reason."""
        if self.point is not None:
            return f"ends at {_listed(self.point)}. {self.reason}"
        if self.direction is not None:
            return f"grows in the direction {_listed(self.direction)}. {self.reason}"
        return f"not determined. {self.reason}"

    def __bool__(self) -> bool:
        """Return `determined`."""
        return self.determined

    def spread(
        self,
        schedules: Schedules | None = None,
        steps: int = 2000,
        seeds: int = 4,
    ) -> Spread:
        """Run the rule with many step sizes and orders of the rows, and measure how far apart the runs end.

        Args:
            schedules: Step sizes or schedules; by default six sizes around the rule's own scale, vanishing for rules
                whose steps do not shrink with the gradient.
            steps: The number of steps of each run.
            seeds: Orders of the rows, for a rule with a batch size.

        Raises:
            InvalidArgument: For an invalid schedule, number of steps or seeds.
        """
        return spread(self.rule, self.problem, schedules, steps, seeds)

    def sensitivity(self, scales: ArrayLike | None = None) -> Tensor:
        """Return how much each coordinate of the limit changes a prediction: see `sensitivity`.

        Args:
            scales: The scales of the features; by default the root mean squares of A's columns.

        Raises:
            InvalidArgument: If there is no point or direction.
        """
        where = self.point if self.point is not None else self.direction
        if where is None:
            raise InvalidArgument(
                "the prediction must have a point or a direction",
                got="not determined",
                remedy="Look at .spread().points.",
            )
        own = self.problem.A.square().mean(dim=0).sqrt()
        return self.problem.back(sensitivity(where, own if scales is None else scales))


def predict(
    rule: RuleLike,
    A: ArrayLike,
    b: ArrayLike,
    theta0: ArrayLike | None = None,
    loss: str = "squared",
) -> Prediction:
    """Predict where a rule ends on a linear model, and prove it, or say that nothing determines it.

    The losses, over the rows a_i of A, are (1/2) sum (<a_i, theta> - b_i)^2 ("squared"), sum log(1 + exp(-b_i <a_i,
    theta>)) ("logistic") and sum exp(-b_i <a_i, theta>) ("exponential").

    Args:
        rule: A rule of this package, or an optimizer of `steepest.optim` or of torch: a class, a functools.partial of
            one, or a live instance, which goes on from its state.
        A: m x n, one equation or example per row; anything that numpy or torch converts. Computed in float64.
        b: m targets, or labels -1 and 1.
        theta0: n starting values; by default zeros, the minimum of a mirror descent's potential, or a live optimizer's
            parameters.
        loss: One of the three.

    Returns:
        The prediction. `determined` is True only by a theorem that `reason` names and with a certificate that passes.

    Raises:
        InvalidArgument: For shapes that do not fit, numbers that are not finite, labels other than -1 and 1, a theta0
            outside of a potential's domain, or an object that is not a rule.
        UnknownName: For another loss.

    >>> from steepest.implicit_bias import GradientDescent, SignDescent
    >>> prediction = predict(GradientDescent(), [[1.0, 0.1, 0.01]], [1.0])
    >>> prediction.determined, prediction.point.mul(1.0101)
    (True, tensor([1.0000, 0.1000, 0.0100], dtype=torch.float64))
    >>> predict(SignDescent(), [[1.0, 0.1, 0.01], [0.0, 1.0, 2.0]], [1.0, 1.0]).determined
    False
    >>> predict(GradientDescent(), [[2.0, 0.0], [0.0, 1.0]], [1.0, 1.0], loss="logistic").direction
    tensor([0.4472, 0.8944], dtype=torch.float64)
    """
    known = as_rule(rule)
    return _prediction(known, Problem.checked(A, b, theta0, loss, known.start))


def predict_batch(
    rule: RuleLike | list[RuleLike],
    A: Sequence[ArrayLike] | Tensor,
    b: Sequence[ArrayLike] | Tensor,
    theta0: Sequence[ArrayLike] | Tensor | None = None,
    loss: str = "squared",
) -> list[Prediction]:
    """Predict for many problems, of any sizes: `predict` of each.

    Args:
        rule: As for `predict`; or a list of k rules, one per problem.
        A: k matrices, stacked or in a list.
        b: k vectors.
        theta0: k vectors; by default as for `predict`.
        loss: One of the three.

    Raises:
        InvalidArgument: As `predict`, or if the numbers of A, b and theta0 differ.
    """
    for name, many in (("A", A), ("b", b), ("theta0", theta0)):
        listed = isinstance(many, Sequence) and not isinstance(many, (str, bytes))
        stacked = isinstance(many, (Tensor, np.ndarray)) and many.ndim > 0
        if not (listed or stacked or (many is None and name == "theta0")):
            raise InvalidArgument(f"{name} must be a stack or a list", got=many, remedy="Use predict for one problem.")
    if not len(A) == len(b) or (theta0 is not None and len(theta0) != len(A)):
        raise InvalidArgument(
            "there must be as many b, and theta0, as A",
            got=f"{len(A)} A, {len(b)} b" + ("" if theta0 is None else f", {len(theta0)} theta0"),
            remedy="Stack the problems along the first dimension.",
        )
    rules = [as_rule(each) for each in rule] if isinstance(rule, list) else [as_rule(rule)] * len(A)
    if len(rules) != len(A):
        raise InvalidArgument(
            "there must be as many rules as A", got=f"{len(rules)} rules, {len(A)} A", remedy="Or pass one."
        )
    starts = [None] * len(A) if theta0 is None else theta0
    return [
        _prediction(known, Problem.checked(matrix, target, start, loss, known.start))
        for known, matrix, target, start in zip(rules, A, b, starts, strict=True)
    ]


def certify(
    rule: RuleLike,
    A: ArrayLike,
    b: ArrayLike,
    theta: ArrayLike,
    theta0: ArrayLike | None = None,
    loss: str = "squared",
    tolerance: float = _TOLERANCE,
) -> Certificate:
    """Check whether a run ended at the point or direction that is predicted for its rule.

    Args:
        rule: As for `predict`.
        A: m x n.
        b: m targets or labels.
        theta: The end of the run, n numbers.
        theta0: The start of the run; by default as for `predict`, but required for a live optimizer. A live optimizer
            whose parameters are not at theta0 is taken to have started without a state.
        loss: One of the three.
        tolerance: The tolerance of the residual and the distances, relative to the distance from theta0 to the limit.
            Runs in float32 need about 1e-5; directions of margins, which converge like 1 / log t, need 1e-2.

    Returns:
        The certificate, failed where no kind of point is predicted.

    Raises:
        InvalidArgument: As `predict`, or for a live optimizer without theta0, or a tolerance not between 0 and 1.

    >>> from steepest.implicit_bias import GradientDescent
    >>> certify(GradientDescent(), [[1.0, 1.0]], [2.0], theta=[1.0, 1.0]).passed
    True
    >>> far = certify(GradientDescent(), [[1.0, 1.0]], [2.0], theta=[2.0, 0.0])  # solves, but is not the nearest
    >>> far.passed, far.residual, round(far.distance, 6)
    (False, 0.0, 1.414214)
    """
    known = as_rule(rule)
    if theta0 is None and isinstance(rule, Optimizer):
        raise InvalidArgument(
            "theta0 must be given, as a live optimizer holds where its run ended",
            got="no theta0",
            remedy="Pass theta0.",
        )
    problem = Problem.checked(A, b, theta0, loss, known.start)
    end = vector("theta", theta, problem.columns, "one number for each column of A")
    standing = known.start(problem.columns) if isinstance(rule, Optimizer) else None
    if standing is not None and not bool((standing == problem.theta0).all()):
        known = known.afresh()  # its state is not that of the start
    allowed = in_range("tolerance", tolerance, "(0, 1)", remedy="Try 1e-6.")
    return _limit(known, problem)[0].certify(end, allowed)


def _prediction(rule: Rule, problem: Problem) -> Prediction:
    limit, certificate = _limit(rule, problem)
    reason = limit.reason
    still = [j for j in problem.idle if _stays(limit, problem, j)]
    if still:
        reason += f" Columns of zeros, {_few(still)}: there theta stays where it started."
    return Prediction(
        point=None if limit.point is None else problem.back(limit.point),
        direction=None if limit.direction is None else problem.back(limit.direction),
        determined=limit.determined,
        reason=reason,
        certificate=certificate,
        rule=rule,
        problem=problem,
    )


def _limit(rule: Rule, problem: Problem) -> tuple[Limit, Certificate]:
    """Return what is known, if its own point or direction passes, and the certificate of that or of theta0."""
    felt = problem.A.any(dim=1)
    if not bool(felt.all()) and bool(felt.any()):
        # A row of zeros contributes to no gradient, whatever its target or label.
        problem = problem.only(felt)
    try:
        limit = rule.limit(problem)
    except ArithmeticError as error:
        limit = Unknown(f"What is known needs a linear program that could not be solved: {error}")
    end = limit.point if limit.point is not None else limit.direction
    certificate = limit.certify(problem.theta0 if end is None else end, _EXACT)
    if limit.determined and not certificate.passed:
        limit = Unknown(f"A limit is known, but could not be computed to {_EXACT:g}: {limit.reason}")
    return limit, certificate


def _stays(limit: Limit, problem: Problem, j: int) -> bool:
    if limit.point is not None:
        return bool(limit.point[j] == problem.theta0[j])
    return limit.direction is not None and bool(limit.direction[j] == 0)


def _few(indices: list[int]) -> str:
    return ", ".join(map(str, indices[:8])) + (", ..." if len(indices) > 8 else "")


def _listed(x: Tensor) -> str:
    return "[" + ", ".join(f"{float(entry):.6g}" for entry in x[:8]) + (", ...]" if len(x) > 8 else "]")
