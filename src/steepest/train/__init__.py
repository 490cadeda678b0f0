"""One training run, of a task or of a program of the user's own, and its history."""

from steepest.train._distributed.faults import Fault
from steepest.train._distributed.result import GroupRun, TrainingRun
from steepest.train._distributed.run import train_distributed
from steepest.train._events import End, Event, Observer, Start, Step, Validated
from steepest.train._history import History
from steepest.train._lightning import lightning_callback
from steepest.train._loop import train
from steepest.train._program import Program, run_program
from steepest.train._rates import Rates
from steepest.train._schedules import SCHEDULES
from steepest.train._transformers import transformers_callback
from steepest.train._trial import Trial

__all__ = [
    "SCHEDULES",
    "End",
    "Event",
    "Fault",
    "GroupRun",
    "History",
    "Observer",
    "Program",
    "Rates",
    "Start",
    "Step",
    "TrainingRun",
    "Trial",
    "Validated",
    "lightning_callback",
    "run_program",
    "train",
    "train_distributed",
    "transformers_callback",
]
