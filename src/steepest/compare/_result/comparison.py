"""The result of a comparison."""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field

from steepest._check import instance
from steepest.compare._design import Cell, Design, Run, learning_rate
from steepest.compare._result.diagnoses import CellDiagnosis, diagnose_cell
from steepest.compare._result.displays import LearningRateDisplay, LossCurvesDisplay, RankingDisplay
from steepest.compare._result.statistics import Interval, compare_pairs, is_seedless, mean_interval
from steepest.compare._result.verdict import Verdict, all_diverged, judge
from steepest.compare._tuning import best_grid_index, is_edge, mean_losses, tried_grid_indices
from steepest.diagnose import GradientNormDisplay, LayerGradientDisplay
from steepest.errors import InvalidArgument, UnknownName
from steepest.train import History

__all__ = ["Comparison", "Standing"]


@dataclass(frozen=True)
class Standing:
    """One cell's row of the ranking.

    Attributes:
        cell: Optimizer and init.
        lr: The tuned learning rate.
        lr_on_edge: Whether the best rate was at the edge of the rates tried, so that a better one may lie beyond.
        loss: Mean final validation loss over the seeds with its 95% interval; a diverged run counts as the worst
            loss seen in any final run, its start included.
        metric: Mean final validation metric; nan without one.
        steps_to_target: Median number of steps to the target over the seeds, infinite where half of them miss it.
        diverged: The number of final runs that diverged.
        seconds_per_step: Time per step in seconds, the median over the final runs.
        state_bytes: Size of the optimizer's state in bytes.
    """

    cell: Cell
    lr: float
    lr_on_edge: bool
    loss: Interval
    metric: float
    steps_to_target: float
    diverged: int
    seconds_per_step: float
    state_bytes: int


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The result of a fair trial: plain data, and tables, displays and the verdict derived from it.

    Attributes:
        task_name: The task's name.
        metric_name: The name of the first metric, "" without one.
        design: The cells, the budget and the number of seeds.
        steps: Training steps per run.
        baseline: The optimizer whose median best loss is the target.
        histories: The history of every finished run.
        environment: Versions and hardware.
        notices: Sentences about the runs for the user: which were used again, and why others were not.
    """

    task_name: str
    metric_name: str
    design: Design
    steps: int
    baseline: str
    histories: Mapping[Run, History] = field(repr=False)
    environment: Mapping[str, str]
    notices: tuple[str, ...] = ()

    def label(self, cell: Cell) -> str:
        """Return the name of a cell: its optimizer where there is only one init, its init where there is one optimizer.

        Raises:
            InvalidArgument: If the comparison has no such cell.
        """
        self._require(cell)
        if len({c.init for c in self.design.cells}) == 1:
            return cell.optimizer
        return cell.init if len({c.optimizer for c in self.design.cells}) == 1 else str(cell)

    def _require(self, cell: Cell) -> None:
        if instance("cell", cell, Cell, "a Cell") not in self.design.cells:
            known = ", ".join(map(str, self.design.cells))
            raise InvalidArgument("cell must be one of the comparison", got=str(cell), remedy=f"It has {known}.")

    def _of_init(self, init: str) -> list[Cell]:
        instance("init", init, str, "the name of an init")
        cells = [cell for cell in self.design.cells if cell.init == init]
        if not cells:
            raise UnknownName.among("init in this comparison", init, {cell.init for cell in self.design.cells})
        return cells

    @functools.cached_property
    def tuning(self) -> dict[Cell, dict[int, float]]:
        """By cell: the mean tuning loss of every grid index tried, ascending."""
        losses = {run: history.valid_loss[-1] for run, history in self.histories.items()}
        tried = tried_grid_indices(self.design, losses)
        return {cell: mean_losses(self.design, cell, grid_indices, losses) for cell, grid_indices in tried.items()}

    @functools.cached_property
    def runs(self) -> tuple[Run, ...]:
        """The runs of the protocol, tuning first; each cell's runs are ordered by rate and seed."""
        tuning = [
            Run(cell, grid_index, seed)
            for cell, means in self.tuning.items()
            for grid_index in means
            for seed in range(self.design.budget.tuning_seeds)
        ]
        return (*tuning, *(run for cell in self.design.cells for run in self.final_runs(cell)))

    def final_runs(self, cell: Cell) -> list[Run]:
        """Return the final runs of a cell, in the order of the seeds.

        Raises:
            InvalidArgument: If the comparison has no such cell.
        """
        self._require(cell)
        grid_index = best_grid_index(self.tuning[cell])
        return [Run(cell, grid_index, seed) for seed in self.design.final_seeds]

    def final_histories(self, cell: Cell) -> list[History]:
        """Return the histories of a cell's final runs, in the order of the seeds."""
        return [self.histories[run] for run in self.final_runs(cell)]

    @functools.cached_property
    def final_losses(self) -> dict[Cell, list[float]]:
        """By cell: the final validation losses, a diverged run counted as the worst loss of all final runs.

        All are infinite if no run of any cell had a finite loss even at its start.
        """
        worst = max(
            (
                loss
                for cell in self.design.cells
                for history in self.final_histories(cell)
                for loss in (history.valid_loss[0], history.valid_loss[-1])
                if math.isfinite(loss)
            ),
            default=math.inf,
        )
        return {
            cell: [min(history.valid_loss[-1], worst) for history in self.final_histories(cell)]
            for cell in self.design.cells
        }

    @functools.cached_property
    def baseline_cell(self) -> Cell:
        """The baseline optimizer with the init that suits it best."""
        cells = [cell for cell in self.design.cells if cell.optimizer == self.baseline]
        return min(cells, key=lambda cell: statistics.fmean(self.final_losses[cell]))

    @functools.cached_property
    def target(self) -> float:
        """The median best loss over the baseline's final runs; for an even number, the higher of the middle two."""
        return statistics.median_high(min(history.valid_loss) for history in self.final_histories(self.baseline_cell))

    def steps_to_target(self, run: Run) -> float:
        """Return the first validated step at which a run's loss is at most the target; infinite if none is.

        Raises:
            InvalidArgument: If the comparison has no such run.
        """
        if instance("run", run, Run, "a Run") not in self.histories:
            raise InvalidArgument("run must be one of the comparison", got=str(run), remedy="See Comparison.runs.")
        history = self.histories[run]
        reached = (
            s for s, loss in zip(history.steps, history.valid_loss, strict=True) if loss <= self.target < math.inf
        )
        return float(next(reached, math.inf))

    @functools.cached_property
    def verdict(self) -> Verdict:
        """The verdict on the final runs."""
        if all(history.diverged for cell in self.design.cells for history in self.final_histories(cell)):
            return all_diverged()
        steps = {cell: [self.steps_to_target(run) for run in self.final_runs(cell)] for cell in self.design.cells}
        return judge(
            {cell: standing.loss.estimate for cell, standing in self.standings.items()},
            {cell: standing.steps_to_target for cell, standing in self.standings.items()},
            compare_pairs(self.final_losses, steps),
            self.baseline_cell,
            self.target,
            self.label,
            [
                cell
                for cell in self.design.cells
                if is_seedless([history.valid_loss[0] for history in self.final_histories(cell)])
            ],
        )

    def table(self) -> list[Standing]:
        """Return the ranking, the lowest mean loss first."""
        return sorted(self.standings.values(), key=lambda standing: standing.loss.estimate)

    @functools.cached_property
    def standings(self) -> dict[Cell, Standing]:
        """Every cell's row of the ranking, in the order of the cells."""
        return {cell: self._standing(cell) for cell in self.design.cells}

    def _standing(self, cell: Cell) -> Standing:
        histories = self.final_histories(cell)
        return Standing(
            cell=cell,
            lr=learning_rate(best_grid_index(self.tuning[cell])),
            lr_on_edge=is_edge(self.tuning[cell]),
            loss=self._mean_loss(cell),
            metric=statistics.fmean(history.valid_metrics[self.metric_name][-1] for history in histories)
            if self.metric_name
            else math.nan,
            steps_to_target=statistics.median(self.steps_to_target(run) for run in self.final_runs(cell)),
            diverged=sum(history.diverged for history in histories),
            seconds_per_step=statistics.median(history.seconds_per_step for history in histories),
            state_bytes=max(history.state_bytes for history in histories),
        )

    def _mean_loss(self, cell: Cell) -> Interval:
        losses = self.final_losses[cell]
        return mean_interval(losses) if math.isfinite(losses[0]) else Interval(math.inf, math.inf, math.inf)

    def ranking(self) -> RankingDisplay:
        """Return the ranking as a display."""
        return RankingDisplay(
            [self.label(cell) for cell in self.standings],
            [standing.loss.estimate for standing in self.standings.values()],
            [standing.loss.low for standing in self.standings.values()],
            [standing.loss.high for standing in self.standings.values()],
        )

    def loss_curves(self) -> LossCurvesDisplay:
        """Return the validation losses of the final runs as a display."""
        histories = {cell: self.final_histories(cell) for cell in self.design.cells}
        steps = max(
            (h.steps for of_cell in histories.values() for h in of_cell if not h.diverged),
            key=len,
            default=[0],
        )
        return LossCurvesDisplay(
            steps,
            {
                # A diverged run has its last, infinite loss at a step of its own.
                self.label(cell): [(h.valid_loss + [math.inf] * len(steps))[: len(steps)] for h in of_cell]
                for cell, of_cell in histories.items()
            },
            self.target if math.isfinite(self.target) else None,
        )

    def learning_rates(self) -> LearningRateDisplay:
        """Return the tuning of every cell as a display."""
        return LearningRateDisplay(
            {self.label(cell): [learning_rate(n) for n in means] for cell, means in self.tuning.items()},
            {self.label(cell): list(means.values()) for cell, means in self.tuning.items()},
            {self.label(cell): learning_rate(best_grid_index(means)) for cell, means in self.tuning.items()},
        )

    def gradient_norms(self, init: str) -> GradientNormDisplay:
        """Return the mean gradient norm with an init: the median over the seeds, one curve per optimizer.

        Raises:
            UnknownName: If the comparison has no such init.
        """
        steps: dict[str, list[int]] = {}
        norms: dict[str, list[float]] = {}
        for cell in self._of_init(init):
            histories = self.final_histories(cell)
            shortest = min(histories, key=lambda h: len(h.gradient_steps)).gradient_steps
            columns = zip(*(h.mean_gradient_norm[: len(shortest)] for h in histories), strict=True)
            steps[self.label(cell)] = shortest
            norms[self.label(cell)] = [statistics.median(column) for column in columns]
        return GradientNormDisplay(steps, norms, {self.label(cell): i for i, cell in enumerate(self.design.cells)})

    def layer_gradients(self, cell: Cell) -> LayerGradientDisplay:
        """Return the gradient norm of every parameter in the first final run of a cell."""
        history = self.final_histories(cell)[0]
        return LayerGradientDisplay(history.gradient_steps, history.gradient_norm)

    def diagnoses(self, init: str) -> list[CellDiagnosis]:
        """Return, for each optimizer with an init, its gradients and why its final runs do not train.

        Raises:
            UnknownName: If the comparison has no such init.
        """
        found = [diagnose_cell(cell, self.final_histories(cell)) for cell in self._of_init(init)]
        return [each for each in found if each is not None]
