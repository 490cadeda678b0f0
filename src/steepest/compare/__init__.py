"""The fair trial: its protocol, its storage, its statistics and its result."""

from steepest.compare._candidates import CANDIDATES, Candidate
from steepest.compare._compare import DEFAULT_OPTIMIZERS, compare
from steepest.compare._comparison import Comparison, Standing
from steepest.compare._diagnoses import CellDiagnosis
from steepest.compare._displays import LearningRateDisplay, LossCurvesDisplay, RankingDisplay
from steepest.compare._files import as_json, require_writable, write_text
from steepest.compare._plan import Budget, Cell, Plan, Run
from steepest.compare._progress import Lines, Listener, RichProgress
from steepest.compare._statistics import ALPHA, Interval, Pair, compare_pairs, mean_interval, more_seeds
from steepest.compare._url import without_password
from steepest.compare._verdict import Verdict

__all__ = [
    "ALPHA",
    "CANDIDATES",
    "DEFAULT_OPTIMIZERS",
    "Budget",
    "Candidate",
    "Cell",
    "CellDiagnosis",
    "Comparison",
    "Interval",
    "LearningRateDisplay",
    "Lines",
    "Listener",
    "LossCurvesDisplay",
    "Pair",
    "Plan",
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
