"""The fair trial: protocol, storage, statistics and result."""

from steepest import _importing

_importing.require(
    "steepest.compare", "optuna", "sqlalchemy", "loky", "cloudpickle", "msgspec", "rich", "scipy", extra="compare"
)

from steepest.compare._candidates import CANDIDATES, Candidate
from steepest.compare._compare import DEFAULT_OPTIMIZERS, compare
from steepest.compare._design import FIRST_SEED, Budget, Cell, Design, Run
from steepest.compare._progress import Lines, Listener, RichProgress
from steepest.compare._queue.url import without_password
from steepest.compare._result.comparison import Comparison, Standing
from steepest.compare._result.diagnoses import CellDiagnosis
from steepest.compare._result.displays import LearningRateDisplay, LossCurvesDisplay, RankingDisplay
from steepest.compare._result.statistics import ALPHA, Interval, Pair, compare_pairs, mean_interval, more_seeds
from steepest.compare._result.verdict import Verdict
from steepest.compare._run import RunObserver

__all__ = [
    "ALPHA",
    "CANDIDATES",
    "DEFAULT_OPTIMIZERS",
    "FIRST_SEED",
    "Budget",
    "Candidate",
    "Cell",
    "CellDiagnosis",
    "Comparison",
    "Design",
    "Interval",
    "LearningRateDisplay",
    "Lines",
    "Listener",
    "LossCurvesDisplay",
    "Pair",
    "RankingDisplay",
    "RichProgress",
    "Run",
    "RunObserver",
    "Standing",
    "Verdict",
    "compare",
    "compare_pairs",
    "mean_interval",
    "more_seeds",
    "without_password",
]
