"""Rows of steepest.compare."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path

from rich.console import Console
from tests.public.kinds import (
    FLAG,
    FUNCTION,
    MAPPING,
    NUMBERS,
    OBJECT,
    PATH,
    SERIES,
    TEXT,
    choice,
    number,
    untried,
    whole,
)
from tests.public.rows import Fresh, Result, Row, row
from tests.public.table_tasks import sgd, task

from steepest.compare import (
    Budget,
    Cell,
    Comparison,
    Interval,
    Measure,
    NextStep,
    Sequential,
    compare,
)

FAST = {"steps": 2, "rates": 5, "tuning_seeds": 1}
SGD, HE = "sgd", "he"


@functools.cache
def comparison() -> Comparison:
    return compare(task(), ["sgd", "adamw"], seeds=3, budget=Budget(**FAST), workers=1)


@functools.cache
def run():
    return comparison().runs[-1]


@functools.cache
def history():
    return comparison().histories[run()]


def table_of_runs():
    path = Path(tempfile.mkdtemp()) / "results.csv"
    path.write_text("alternative,seed,loss\na,0,1.0\n")
    return path


def cell():
    return Cell("sgd", "he")


def plotted(display):
    display.plot()


HUGE = ("10**30", "10**400")
OWN = (Fresh(comparison), OBJECT.also("module"))
CELL = (Fresh(cell), OBJECT.also("''"))
INIT = (HE, TEXT.also("'x'"))
RUN = (Fresh(run), OBJECT.also("''"))
COMMAND = ("steepest compare", TEXT)
LOSSES = ({"a": [1.0, 0.5]}, SERIES)
VALUES = ([1.0, 2.0, 4.0], NUMBERS.also("[]", "[nan]", "[-1]", "5-d tensor", "inf tensor"))

CONSOLE = (Fresh(lambda: Console(quiet=True)), OBJECT)
TOLD = untried("the trial tells it")
KNOWN = row(losses=(Fresh(lambda: {run(): 1.0}), TOLD), total=(3, TOLD))
NOTICED = row(line=("Waiting.", TOLD))
WAITING = row(reason=("for another process", TOLD))
STARTED = row(run=(Fresh(run), TOLD))
ROUNDS = {"looks": ((5, 10), NUMBERS.also("long vector")), "higher_is_better": (False, FLAG)}

TABLE: dict[str, Row | Result] = {
    "compare.Budget": row(
        costly=HUGE,
        steps=(5, whole(1).but("None")),
        evaluations=(None, whole(1).but("None")),
        rates=(7, whole(5)),
        tuning_seeds=(3, whole(1, 1000)),
        schedule=("cosine", FUNCTION.but("None").also("''")),
        warmup=(0, whole(0).but("0.5", "'0'").also("''", "'x'")),
    ),
    "compare.Candidate": row(name=("mine", TEXT.also("''")), build=(sgd, FUNCTION), lr=(0.1, number("(0, inf)"))),
    "compare.Cell": Result(cell),
    "compare.CellDiagnosis": Result(lambda: comparison().diagnoses(HE)[0]),
    "compare.Comparison": Result(comparison),
    "compare.Comparison.diagnoses": row(init=INIT),
    "compare.Comparison.final_histories": row(cell=CELL),
    "compare.Comparison.final_runs": row(cell=CELL),
    "compare.Comparison.gradient_norms": row(init=INIT),
    "compare.Comparison.label": row(cell=CELL),
    "compare.Comparison.layer_gradients": row(cell=CELL),
    "compare.Comparison.learning_rates": row(),
    "compare.Comparison.curves": row(name=("loss", choice()), over=("steps", choice())),
    "compare.Comparison.differences": row(),
    "compare.Comparison.ranking": row(),
    "compare.Comparison.seconds_to_target": row(run=RUN, nan="infinite where it is not reached"),
    "compare.Comparison.steps_to_target": row(run=RUN, nan="infinite where it is not reached"),
    "compare.Comparison.table": row(),
    "compare.Comparison.to_frame": row(),
    "compare.Interval": Result(lambda: Interval(1.0, 0.0, 2.0)),
    "compare.LearningRateDisplay": row(
        then=plotted,
        rates=({"a": [0.1, 1.0]}, SERIES),
        losses=LOSSES,
        chosen=({"a": 0.1}, SERIES.also("{'x': [1.0]}")),
        title=("loss", TEXT),
        higher_is_better=(False, FLAG),
    ),
    "compare.LearningRateDisplay.plot": row(),
    "compare.CurvesDisplay": row(
        then=plotted,
        x=({"a": [[0, 1], [0, 1]]}, SERIES.also("{'x': [1.0]}")),
        y=({"a": [[1.0, 0.5], [2.0, 0.4]]}, SERIES.also("{'x': [1.0]}")),
        x_title=("step", TEXT),
        y_title=("loss", TEXT),
        target=(0.5, number("[-inf, inf]").but("None")),
        higher_is_better=(False, FLAG),
    ),
    "compare.CurvesDisplay.plot": row(),
    "compare.DifferencesDisplay": row(
        then=plotted,
        names=(["a", "b"], NUMBERS.but("['x']", "numpy text").also("[1.0, 2.0]", "long vector")),
        choice=("a", TEXT),
        differences=({"b": 0.5}, SERIES),
        lows=({"b": 0.1}, SERIES),
        highs=({"b": 0.9}, SERIES),
        margin=(0.1, number("[0, inf)")),
        title=("loss", TEXT),
        higher_is_better=(False, FLAG),
    ),
    "compare.DifferencesDisplay.plot": row(),
    "compare.Analysis": Result(lambda: comparison().analysis),
    "compare.Difference": Result(lambda: comparison().verdict.differences[0]),
    "compare.Margin": row(amount=(0.02, number("(0, inf)")), relative=(True, FLAG)),
    "compare.Margin.at": row(mean=(1.0, TOLD), standard_error=(0.1, TOLD)),
    "compare.Margin.parse": row(value=("2%", number("(0, inf)"))),
    "compare.Measure": row(name=("accuracy", TEXT.also("''")), higher_is_better=(True, FLAG)),
    "compare.Measure.best_score": row(history=(Fresh(history), TOLD)),
    "compare.Measure.curve": row(history=(Fresh(history), TOLD)),
    "compare.Measure.first_score": row(history=(Fresh(history), TOLD)),
    "compare.Measure.natural": row(score=(1.0, TOLD)),
    "compare.Measure.score": row(history=(Fresh(history), TOLD)),
    "compare.NextStep": Result(
        lambda: NextStep(seeds=40, settles=True, regret=0.1, minutes=2.0, command="steepest compare")
    ),
    "compare.NextStep.of": row(
        differences=([[1.0, 2.0, 4.0]], TOLD), alternatives=(2, TOLD), margin=(0.0, TOLD), look=(3, TOLD)
    ),
    "compare.judge_runs": row(
        runs=(Fresh(lambda: {"a": {0: 1.0, 1: 2.0, 2: 4.0}, "b": {0: 2.0, 1: 2.0, 2: 3.0}}), SERIES.also("{1: 2}")),
        plan=(None, OBJECT.but("None")),
        measure=(Measure(), OBJECT),
        diverged=(None, number("(-inf, inf)").but("None")),
    ),
    "compare.read_runs": row(path=(Fresh(table_of_runs), PATH), measure=(Measure(), OBJECT)),
    "compare.Sequential": row(
        costly=HUGE,
        max_seeds=(10, whole(5, 100_000).but("None")),
        until=("choice", choice()),
        margin=(0.02, number("(0, inf)").but("None")),
        looks=((5, 10), NUMBERS.also("[nan]", "[-1]")),
    ),
    "compare.analyse": row(
        values=(Fresh(lambda: {"a": [1.0, 2.0, 4.0], "b": [2.0, 2.0, 3.0]}), SERIES),
        plan=(Sequential(looks=(3,)), OBJECT),
        worst=(None, TOLD),
        alpha=(0.05, number("(0, 1)")),
    ),
    "compare.seeds_to_settle": row(
        differences=VALUES, alternatives=(2, whole(2, 10**9)), margin=(0.0, number("[0, inf)"))
    ),
    "compare.Design": row(
        costly=HUGE,
        cells=(Fresh(lambda: {cell(): 0}), MAPPING.also("{}", "{'x': None}", "{1: 2}")),
        budget=(Budget(**FAST), OBJECT),
        seeds=(3, whole(3, 100_000).but("None")),
        measure=(Measure(), OBJECT),
        repeat=(False, FLAG),
    ),
    "compare.RankingDisplay": row(
        then=plotted,
        names=(["a", "b"], NUMBERS.but("['x']", "numpy text").also("[1.0, 2.0]", "long vector")),
        means=([1.0, 2.0], NUMBERS.also("long vector")),
        lows=([0.5, 1.5], NUMBERS.also("long vector")),
        highs=([1.5, 2.5], NUMBERS.also("long vector")),
    ),
    "compare.RankingDisplay.plot": row(),
    "compare.RichProgress": row(console=CONSOLE, **ROUNDS),
    "compare.RichProgress.known": KNOWN,
    "compare.RichProgress.noticed": NOTICED,
    "compare.RichProgress.started": STARTED,
    "compare.RichProgress.waiting": WAITING,
    "compare.Lines": row(console=CONSOLE, **ROUNDS),
    "compare.Lines.known": KNOWN,
    "compare.Lines.noticed": NOTICED,
    "compare.Lines.started": STARTED,
    "compare.Lines.waiting": WAITING,
    "compare.Run": Result(run),
    "compare.Standing": Result(lambda: comparison().table()[0]),
    "compare.Verdict": Result(lambda: comparison().verdict),
    "compare.compare": row(
        costly=HUGE,
        task=(Fresh(task), OBJECT.also("''")),
        optimizers=(["sgd"], OBJECT.also("[None]", "['x']", "{'x': None}", "{1: 2}", "[nan]")),
        inits=([HE], OBJECT.but("None").also("[None]", "['x']", "{'x': None}", "{1: 2}", "[nan]")),
        seeds=(3, whole(3, 100_000).but("None")),
        budget=(Budget(**FAST), OBJECT.but("None")),
        rank_by=("loss", TEXT.but("None").also("''", "'x'")),
        at_most=(600.0, number("(0, inf)").but("None")),
        baseline=(SGD, choice().but("None")),
        storage=(None, TEXT.but("None").also("''", "'x'", "a zero byte")),
        workers=(1, whole(1)),
        gradient=(None, OBJECT.but("None").also("''", "'x'")),
        device=("cpu", OBJECT.also("''")),
        run_timeout=(600.0, number("(0, inf)").but("None")),
        accept_edits=(False, FLAG),
        observers=(None, MAPPING.but("None").also("{'x': None}", "{1: 2}")),
        listener=(None, OBJECT.but("None")),
        progress=(False, FLAG),
    ),
    "compare.Price": Result(lambda: price(task(), ["sgd"], seeds=3, budget=Budget(**FAST))),
    "compare.price": row(
        costly=HUGE,
        task=(Fresh(task), OBJECT.also("''")),
        optimizers=(["sgd"], OBJECT.also("[None]", "['x']", "{'x': None}", "{1: 2}", "[nan]")),
        inits=([HE], OBJECT.but("None").also("[None]", "['x']", "{'x': None}", "{1: 2}", "[nan]")),
        seeds=(3, whole(3, 100_000).but("None")),
        budget=(Budget(**FAST), OBJECT.but("None")),
        rank_by=("loss", TEXT.but("None").also("''", "'x'")),
        storage=(None, TEXT.but("None").also("''", "a zero byte")),
        workers=(1, whole(1)),
        gradient=(None, OBJECT.but("None").also("''", "'x'")),
        device=("cpu", OBJECT.also("''")),
        accept_edits=(False, FLAG),
    ),
    "compare.mean_interval": row(values=VALUES, alpha=(0.05, number("(0, 1)"))),
    "compare.without_password": row(storage=("sqlite:///trial.db", TEXT)),
}
