"""What the tests of the storage put into it."""

from steepest.compare import Cell, Run
from steepest.compare._identity.identity import Identity
from steepest.diagnose import Diagnosis
from steepest.train import History

CELLS = [Cell("sgd", "he"), Cell("adamw", "he")]
RUNS = [Run(CELLS[0], -8, 0), Run(CELLS[1], -24, 0), Run(CELLS[1], -24, 1000)]


def identity(cell, *, steps=10, code="#1", torch="2.6.0", loss=0.5):
    """The identity of a cell's runs."""
    return Identity(
        request={"task": "tiny", "optimizer": cell.optimizer, "init": cell.init, "steps": steps},
        content={"code": {"mine.py: function loss": code}, "probe": {"the loss at the start": loss}},
        versions={"torch": torch},
    )


def identities(**options):
    return {cell: identity(cell, **options) for cell in CELLS}


IDENTITIES = identities()


def history(loss=0.5):
    return History(
        steps=[0, 10],
        train_loss=[1.0],
        valid_loss=[1.0, loss],
        valid_metrics={"accuracy": [0.1, 0.9]},
        seconds=[0.0, 0.01],
        duration=0.02,
        gradient_steps=[0],
        mean_gradient_norm=[0.1 + 0.2],
        gradient_norm={"weight": [0.1 + 0.2]},
        diagnosis=Diagnosis("dead_units", 0.9, ("act: 95% of the units",), "Set the bias to 0.", ("weight", "bias")),
        diverged=loss == float("inf"),
        seconds_per_step=0.001,
        state_bytes=8,
    )
