"""Tasks to train on: a model, its data, its loss and its metric."""

from steepest.tasks._batch import Batch
from steepest.tasks._curve import curve
from steepest.tasks._digits import digits
from steepest.tasks._load import TASKS, load
from steepest.tasks._metric import Metric
from steepest.tasks._metrics import accuracy
from steepest.tasks._mnist5k import mnist5k
from steepest.tasks._networks import mlp
from steepest.tasks._task import Task

__all__ = [
    "TASKS",
    "Batch",
    "Metric",
    "Task",
    "accuracy",
    "curve",
    "digits",
    "load",
    "mlp",
    "mnist5k",
]
