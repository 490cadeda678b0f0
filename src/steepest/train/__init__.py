"""One training run: the loop, its events, and its history."""

from steepest.train._events import End, Event, Observer, Start, Step, Validated
from steepest.train._history import History
from steepest.train._loop import train
from steepest.train._rates import SCHEDULES

__all__ = ["SCHEDULES", "End", "Event", "History", "Observer", "Start", "Step", "Validated", "train"]
