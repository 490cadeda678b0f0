"""The result of a comparison."""

from __future__ import annotations

import functools
import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from steepest._check import instance, one_of
from steepest.compare._design import Cell, Design, Run, learning_rate
from steepest.compare._measure import Measure
from steepest.compare._protocol import (
    chosen_grid_indices,
    final_analysis,
    final_scores,
    scores_of,
    starts_of,
    worst_score,
)
from steepest.compare._result.against import against
from steepest.compare._result.conclusion import Results, conclude
from steepest.compare._result.curves import X_TITLES, CurvesDisplay, Over, series_of
from steepest.compare._result.diagnoses import CellDiagnosis, diagnose_cell
from steepest.compare._result.displays import DifferencesDisplay, LearningRateDisplay, RankingDisplay
from steepest.compare._result.standing import Standing, first_below, interval_of, is_unusual, mean_of_finite
from steepest.compare._result.text import Table, as_frame, ranking_table
from steepest.compare._result.verdict import Verdict
from steepest.compare._sequential import Analysis
from steepest.compare._tuning import is_edge, mean_scores, tried_grid_indices
from steepest.diagnose import GradientNormDisplay, LayerGradientDisplay
from steepest.errors import InvalidArgument, UnknownName
from steepest.train import History

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Comparison"]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """The result of a fair trial: plain data, and tables, displays and the verdict derived from it.

    Attributes:
        task_name: The task's name.
        design: The cells, the budget, the seeds and the measure.
        steps: Training steps per run.
        directions: By metric, whether higher values are better; None if that is unknown.
        baseline: The optimizer whose median best value is the target.
        histories: The history of every finished run.
        usual_rates: By optimizer, the learning rate at which it is usually found, where that is known.
        environment: Versions and hardware.
        notices: Sentences about the runs for the user: which were used again, and why others were not.
        workers: Runs that were executed in parallel.
        earlier_plans: The number of other plans that looked at some of these runs before.
        command: The command that made it; "" from Python.
        sizes: The numbers of parameters and examples, and the batch size, by name, as far as they are known.
        gradient: The gradient source; "" for backpropagation.
    """

    task_name: str
    design: Design
    steps: int
    directions: Mapping[str, bool | None]
    baseline: str
    histories: Mapping[Run, History] = field(repr=False)
    usual_rates: Mapping[str, float]
    environment: Mapping[str, str]
    notices: tuple[str, ...] = ()
    workers: int = 1
    earlier_plans: int = 0
    command: str = ""
    sizes: Mapping[str, int] = field(default_factory=dict[str, int])
    gradient: str = ""

    def __str__(self) -> str:
        return "\n".join([self.verdict.headline, *self.verdict.details, "", str(self._table())])

    def __repr__(self) -> str:
        return f"<Comparison of {len(self.design.cells)} alternatives on {self.task_name}: {self.verdict.headline}>"

    def _repr_html_(self) -> str:
        return f"{self.verdict._repr_html_()}{self._table()._repr_html_()}"  # pyright: ignore[reportPrivateUsage]

    def _table(self) -> Table:
        return ranking_table(self.table(), self.verdict, self.measure, self.label, self.metric_names)

    def to_frame(self) -> pd.DataFrame:
        """Return one row per run as a pandas `DataFrame`, the tuning runs first.

        Steps and seconds to the target are infinite where it is not reached, and nan for tuning runs.

        Raises:
            MissingExtra: If pandas is not installed.
        """
        return as_frame(
            (run, self.histories[run], *(self._to_target(run) if run.phase == "final" else (math.nan, math.nan)))
            for run in self.runs
        )

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

    @property
    def measure(self) -> Measure:
        """What decides."""
        return self.design.measure

    @property
    def schedule_name(self) -> str:
        """The schedule of the learning rate; "" for a program that may have one of its own, as none was asked for."""
        budget = self.design.budget
        return "" if self.design.repeat and budget.schedule is None else budget.schedule_name

    @property
    def metric_names(self) -> list[str]:
        """The names of the metrics."""
        return list(self.directions)

    @functools.cached_property
    def _scores(self) -> dict[Run, float]:
        return scores_of(self.design, self.histories)

    @functools.cached_property
    def _starts(self) -> dict[Run, float]:
        return starts_of(self.design, self.histories)

    @functools.cached_property
    def analysis(self) -> Analysis[Cell]:
        """What the looks at the final runs allow; smaller values are better in it."""
        return final_analysis(self.design, self._scores, self._starts)

    @functools.cached_property
    def tuning(self) -> dict[Cell, dict[int, float]]:
        """By cell: the mean of the measure over the tuning runs of every grid index tried, ascending."""
        tried = tried_grid_indices(self.design, self._scores)
        means = {cell: mean_scores(self.design, cell, indices, self._scores) for cell, indices in tried.items()}
        return {
            cell: {n: mean if math.isinf(mean) else self.measure.natural(mean) for n, mean in of_cell.items()}
            for cell, of_cell in means.items()
        }

    @functools.cached_property
    def _chosen(self) -> dict[Cell, int]:
        return chosen_grid_indices(self.design, self._scores)

    @functools.cached_property
    def runs(self) -> tuple[Run, ...]:
        """The runs that count, tuning first; each cell's runs are ordered by rate and seed."""
        tuning = [
            Run(cell, grid_index, seed)
            for cell, means in self.tuning.items()
            for grid_index in means
            for seed in range(self.design.budget.tuning_seeds)
        ]
        return (*tuning, *(run for cell in self.design.cells for run in self.final_runs(cell)))

    def final_runs(self, cell: Cell) -> list[Run]:
        """Return the final runs of a cell that count, in the order of the seeds: those until its last look.

        Raises:
            InvalidArgument: If the comparison has no such cell.
        """
        self._require(cell)
        seeds = self.design.final_seeds[: self.analysis.seeds[cell]]
        return [Run(cell, self._chosen[cell], seed) for seed in seeds]

    def final_histories(self, cell: Cell) -> list[History]:
        """Return the histories of a cell's final runs, in the order of the seeds."""
        return [self.histories[run] for run in self.final_runs(cell)]

    @functools.cached_property
    def final_values(self) -> dict[Cell, list[float]]:
        """By cell: the final values of the measure, where a diverged run counts as the worst value of tuning."""
        worst = worst_score(self.design, self._scores, self._starts)
        scores = final_scores(self.design, self._scores, worst)
        return {
            cell: [self.measure.natural(score) for score in of_cell[: self.analysis.seeds[cell]]]
            for cell, of_cell in scores.items()
        }

    @functools.cached_property
    def baseline_cell(self) -> Cell:
        """The baseline optimizer with the init that suits it best."""
        cells = [cell for cell in self.design.cells if cell.optimizer == self.baseline]
        return min(cells, key=lambda cell: self.analysis.means[cell])

    @functools.cached_property
    def target(self) -> float:
        """The median best value over the baseline's final runs; for an even number, the worse of the middle two."""
        bests = (self.measure.best_score(history) for history in self.final_histories(self.baseline_cell))
        return self.measure.natural(statistics.median_high(bests))

    def steps_to_target(self, run: Run) -> float:
        """Return the first validated step at which a run has reached the target; infinite if none is.

        Raises:
            InvalidArgument: If the comparison has no such run.
        """
        return self._to_target(run)[0]

    def seconds_to_target(self, run: Run) -> float:
        """Return the training time in seconds after which a run has reached the target; infinite if it has not.

        Raises:
            InvalidArgument: If the comparison has no such run.
        """
        return self._to_target(run)[1]

    def _to_target(self, run: Run) -> tuple[float, float]:
        if instance("run", run, Run, "a Run") not in self.histories:
            raise InvalidArgument("run must be one of the comparison", got=str(run), remedy="See Comparison.runs.")
        history, target = self.histories[run], self.measure.natural(self.target)
        return first_below(history, [self.measure.natural(value) for value in self.measure.curve(history)], target)

    @functools.cached_property
    def verdict(self) -> Verdict[Cell]:
        """The verdict on the final runs."""
        return conclude(
            Results(
                design=self.design,
                analysis=self.analysis,
                final_values=self.final_values,
                starts={
                    cell: [self.measure.first_score(history) for history in self.final_histories(cell)]
                    for cell in self.design.cells
                },
                standings=self.standings,
                all_diverged=self.all_diverged,
                directions=self.directions,
                usual_rates=self.usual_rates,
                earlier_plans=self.earlier_plans,
                workers=self.workers,
                command=self.command,
                label=self.label,
            )
        )

    def table(self) -> list[Standing]:
        """Return the ranking, the best mean first."""
        return sorted(self.standings.values(), key=lambda standing: self.analysis.means[standing.cell])

    @functools.cached_property
    def standings(self) -> dict[Cell, Standing]:
        """Every cell's row of the ranking, in the order of the cells."""
        return {cell: self._standing(cell) for cell in self.design.cells}

    def _standing(self, cell: Cell) -> Standing:
        runs, histories = self.final_runs(cell), self.final_histories(cell)
        lr = learning_rate(self._chosen[cell])
        ended = [history for history in histories if not history.diverged]
        means = self.tuning[cell]
        return Standing(
            cell=cell,
            lr=lr,
            lr_on_edge=is_edge({n: self.measure.natural(mean) for n, mean in means.items()}),
            lr_is_unusual=is_unusual(lr, self.usual_rates.get(cell.optimizer, lr)),
            seeds=len(runs),
            eliminated_at=self.analysis.eliminated.get(cell, 0),
            value=interval_of(self.final_values[cell]),
            loss=mean_of_finite([history.valid_loss[-1] for history in ended], math.inf),
            metrics={
                name: mean_of_finite([history.valid_metrics[name][-1] for history in ended], math.nan)
                for name in self.metric_names
            },
            best=self.measure.natural(
                statistics.fmean(self.measure.best_score(history) for history in histories) if histories else math.nan
            ),
            steps_to_target=statistics.median(self.steps_to_target(run) for run in runs),
            seconds_to_target=statistics.median(self.seconds_to_target(run) for run in runs),
            diverged=sum(history.diverged for history in histories),
            seconds_per_step=statistics.median(history.seconds_per_step for history in histories),
            seconds_per_run=statistics.median(history.duration for history in histories),
            state_bytes=max(history.state_bytes for history in histories),
        )

    @functools.cached_property
    def all_diverged(self) -> bool:
        """Whether every final run of every cell diverged."""
        return all(history.diverged for cell in self.design.cells for history in self.final_histories(cell))

    def ranking(self) -> RankingDisplay:
        """Return the ranking as a display."""
        return RankingDisplay(
            [self.label(cell) for cell in self.standings],
            [standing.value.estimate for standing in self.standings.values()],
            [standing.value.low for standing in self.standings.values()],
            [standing.value.high for standing in self.standings.values()],
        )

    def differences(self) -> DifferencesDisplay:
        """Return the differences of all others from the choice, with their simultaneous intervals, as a display.

        Raises:
            InvalidArgument: If there is no choice.
        """
        choice = self.verdict.choice
        if choice is None:
            raise InvalidArgument("a comparison must have a choice", got=self.verdict.headline)
        found = {self.label(each.cell): each for each in against(choice, self.verdict.differences, self.measure)}
        return DifferencesDisplay(
            names=[self.label(cell) for cell in self.design.cells],
            choice=self.label(choice),
            differences={name: each.estimate for name, each in found.items()},
            lows={name: each.low for name, each in found.items()},
            highs={name: each.high for name, each in found.items()},
            margin=self.analysis.margin,
            title=self.measure.title,
            higher_is_better=self.measure.higher_is_better,
        )

    def curves(self, name: str = "loss", over: Over = "steps") -> CurvesDisplay:
        """Return a curve of the final runs as a display.

        Args:
            name: "loss" (in validation), "training loss", or the name of a metric.
            over: "steps", "evaluations" (of the training loss) or "seconds" (of training).

        Raises:
            UnknownName: If there is no such curve.
        """
        known = ["loss", "training loss", *self.metric_names]
        if instance("name", name, str, "a string") not in known:
            raise UnknownName.among("curve", name, known)
        one_of("over", over, X_TITLES)
        return CurvesDisplay(
            **series_of({self.label(cell): self.final_histories(cell) for cell in self.design.cells}, name, over),
            target=self.target if name == self.measure.name and math.isfinite(self.target) else None,
            higher_is_better=name in self.metric_names and self.directions[name] is not False,
        )

    def learning_rates(self) -> LearningRateDisplay:
        """Return the tuning of every cell as a display."""
        return LearningRateDisplay(
            {self.label(cell): [learning_rate(n) for n in means] for cell, means in self.tuning.items()},
            {self.label(cell): list(means.values()) for cell, means in self.tuning.items()},
            {self.label(cell): learning_rate(n) for cell, n in self._chosen.items()},
            title=self.measure.title.removeprefix("final "),
            higher_is_better=self.measure.higher_is_better,
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
