"""The fair trial: its protocol, its storage, its statistics and its result."""

from steepest import _importing

_importing.require("steepest.compare", "optuna", "sqlalchemy", "loky", "cloudpickle", "rich", "scipy", extra="compare")

from steepest.compare._candidates import CANDIDATES, Candidate
from steepest.compare._compare import DEFAULT_OPTIMIZERS, compare
from steepest.compare._design import Budget, Cell, Design, Run
from steepest.compare._files import as_json, require_writable, write_text
from steepest.compare._progress import Lines, Listener, RichProgress
from steepest.compare._queue.url import without_password
from steepest.compare._result.comparison import Comparison, Standing
from steepest.compare._result.diagnoses import CellDiagnosis
from steepest.compare._result.displays import LearningRateDisplay, LossCurvesDisplay, RankingDisplay
from steepest.compare._result.statistics import ALPHA, Interval, Pair, compare_pairs, mean_interval, more_seeds
from steepest.compare._result.verdict import Verdict

__all__ = [
    "ALPHA",
    "CANDIDATES",
    "DEFAULT_OPTIMIZERS",
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
    "Standing",
    "Verdict",
    "as_json",
    "compare",
    "compare_pairs",
    "mean_interval",
    "more_seeds",
    "require_writable",
    "without_password",
    "write_text",
]
