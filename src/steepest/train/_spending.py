"""How far a run has come, counted in evaluations of the loss."""

from __future__ import annotations

from steepest.errors import InvalidArgument

__all__ = ["Spending"]


class Spending:
    """The evaluations of the loss that a run may spend, and has spent.

    Schedules and validations follow `position`, the number of steps of the first step's cost that were spent: for a
    constant cost it is the number of steps.

    Args:
        cost: The evaluations of the first step, >= 1; one for backpropagation.
        steps: The number of such steps, if `evaluations` is None.
        evaluations: All that may be spent; None for what the steps cost.
        spent: What was spent before the first step, to measure its cost.

    Attributes:
        steps: The number of steps, if all cost the same.
        spent: The evaluations spent so far.

    Raises:
        InvalidArgument: If the evaluations do not suffice for one step.

    >>> spending = Spending(20, steps=1, evaluations=105)
    >>> spending.steps
    5
    >>> spending.add(20)
    >>> spending.position, spending.spent, spending.allows(85), spending.allows(86)
    (1, 20, True, False)
    """

    def __init__(self, cost: int, *, steps: int, evaluations: int | None = None, spent: int = 0) -> None:
        self._cost, self._before, self.spent = cost, spent, spent
        self._total = spent + steps * cost if evaluations is None else evaluations
        self.steps = (self._total - spent) // cost
        if self.steps < 1:
            measured = f", after {spent} to measure that" if spent else ""
            raise InvalidArgument(
                f"evaluations must be enough for a step, which needs {cost}{measured}",
                got=evaluations,
                remedy="Allow more, or take a gradient source with fewer samples.",
            )

    @property
    def position(self) -> int:
        """How many steps of the first step's cost were spent, at most `steps`."""
        return min((self.spent - self._before) // self._cost, self.steps)

    def allows(self, cost: int) -> bool:
        """Return whether a step of this cost can still be paid."""
        return self.spent + cost <= self._total

    def add(self, cost: int) -> None:
        """Count the evaluations of a step."""
        self.spent += cost
