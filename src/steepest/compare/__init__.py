"""The fair trial: protocol, storage, statistics and result."""

from steepest import _importing

_importing.require(
    "steepest.compare", "optuna", "sqlalchemy", "loky", "cloudpickle", "msgspec", "rich", "scipy", extra="compare"
)

from steepest.compare._candidates import CANDIDATES, Candidate
from steepest.compare._compare import DEFAULT_OPTIMIZERS, compare, price
from steepest.compare._design import FIRST_SEED, Budget, Cell, Design, Run
from steepest.compare._existing import judge_runs, read_runs
from steepest.compare._measure import Measure
from steepest.compare._plan import LOOKS, Margin, Sequential
from steepest.compare._price import Price
from steepest.compare._progress import Lines, Listener, RichProgress
from steepest.compare._queue.url import without_password
from steepest.compare._result.comparison import Comparison
from steepest.compare._result.curves import CurvesDisplay
from steepest.compare._result.diagnoses import CellDiagnosis
from steepest.compare._result.displays import DifferencesDisplay, LearningRateDisplay, RankingDisplay
from steepest.compare._result.intervals import Interval, mean_interval, seeds_to_settle
from steepest.compare._result.next_step import NextStep
from steepest.compare._result.standing import Standing
from steepest.compare._result.verdict import Verdict
from steepest.compare._run import RunObserver
from steepest.compare._sequential import ALPHA, Analysis, Difference, analyse

__all__ = [
    "ALPHA",
    "CANDIDATES",
    "DEFAULT_OPTIMIZERS",
    "FIRST_SEED",
    "LOOKS",
    "Analysis",
    "Budget",
    "Candidate",
    "Cell",
    "CellDiagnosis",
    "Comparison",
    "CurvesDisplay",
    "Design",
    "Difference",
    "DifferencesDisplay",
    "Interval",
    "LearningRateDisplay",
    "Lines",
    "Listener",
    "Margin",
    "Measure",
    "NextStep",
    "Price",
    "RankingDisplay",
    "RichProgress",
    "Run",
    "RunObserver",
    "Sequential",
    "Standing",
    "Verdict",
    "analyse",
    "compare",
    "judge_runs",
    "mean_interval",
    "price",
    "read_runs",
    "seeds_to_settle",
    "without_password",
]
