"""Calls of what is public with hostile arguments, each within limits, and what came of them."""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib
import importlib.util
import inspect
import resource
import signal
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jaxtyping
import torch
from tests.public.hostile import CallbackError
from tests.public.rows import PUBLIC, Public, Result, Row

from steepest.errors import SteepestError

__all__ = ["CALLS", "EXEMPT", "TABLE", "Outcome", "call"]

SECONDS = 10
"""CPU time after which a call counts as endless."""

BYTES = 4 << 30
"""How much address space a call may add."""

PACKAGES = (
    "norms",
    "optim",
    "init",
    "diagnose",
    "implicit_bias",
    "communication",
    "communication_costs",
    "estimators",
    "estimators_audit",
    "estimators_questions",
    "linearize",
    "tasks",
    "train",
    "features",
    "compare",
    "report",
    "errors",
    "cli",
)
TABLE: dict[str, Row | Result] = {
    name: row
    for package in PACKAGES
    if importlib.util.find_spec(f"tests.public.table_{package}")
    for name, row in importlib.import_module(f"tests.public.table_{package}").TABLE.items()
}
"""All rows by the name of what they call."""


@dataclass(frozen=True)
class Call:
    """Something public and the row that fits it."""

    public: Public
    row: Row


EXEMPT = {
    "communication.launch": "processes would inherit the limits: see tests/communication/test_launch.py",
    "communication.ElasticGroup.serve": "it takes no arguments, and ends with a group of other processes",
    "cli.main": "it reads what was typed: see tests/test_cli.py",
    "tasks.mnist5k": "it checks its arguments as tasks.digits does, and reads megabytes of text for each call",
    "train.lightning_callback": "it imports Lightning, for seconds: see tests/train/test_callbacks.py",
    "train.train_distributed": "processes would inherit the limits: see tests/train/test_distributed.py",
    "train.transformers_callback": "it imports Transformers, for seconds: see tests/train/test_callbacks.py",
    "linearize.Labels.__getitem__": "a sequence of Python's, whose iteration an IndexError ends",
}
"""What is public and has no row, and why."""


def _calls() -> Iterator[tuple[str, Call]]:
    for name, public in PUBLIC.items():
        row = next((TABLE[row] for row in public.rows if row in TABLE), None)
        if isinstance(row, Row):
            yield name, Call(public, row)


CALLS: dict[str, Call] = dict(_calls())
"""All that is tried, by name."""


@dataclass(frozen=True)
class Outcome:
    """What came of a call: a result, a refusal, or what must not come: another error, nan of numbers, no end."""

    kind: Literal["result", "refused", "callback", "raw", "nan", "endless"]
    said: str

    @property
    def fine(self) -> bool:
        """Whether it may come."""
        return self.kind in ("result", "refused", "callback")

    def __str__(self) -> str:
        return f"{self.kind}: {self.said}"


class TooLong(BaseException):
    """A call has used up its time; no `except Exception` catches it."""


@contextlib.contextmanager
def limits() -> Iterator[None]:
    """Limit time and memory, in a folder of its own; no shape checks of the tests, which are not the library's."""

    def stop(*_: object) -> None:
        raise TooLong

    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    memory = resource.getrlimit(resource.RLIMIT_AS)
    handler = signal.signal(signal.SIGPROF, stop)
    jaxtyping.config.update("jaxtyping_disable", True)
    resource.setrlimit(resource.RLIMIT_AS, (used + BYTES, memory[1]))
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    path = list(sys.path)
    try:
        with contextlib.chdir(_folder()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        resource.setrlimit(resource.RLIMIT_AS, memory)
        jaxtyping.config.update("jaxtyping_disable", False)
        signal.signal(signal.SIGPROF, handler)
        sys.path[:] = path


@functools.cache
def _folder() -> str:
    folder = tempfile.TemporaryDirectory(prefix="public")
    atexit.register(folder.cleanup)
    return folder.name


def receiver(public: Public) -> Any:
    """Return a valid object of a method's class."""
    assert public.owner is not None
    row = TABLE[public.name.rpartition(".")[0]]
    if isinstance(row, Result):
        return row.make()
    return row.receiver() if row.receiver else public.owner(**arguments(public.owner, row.valid()))


def arguments(target: Callable[..., Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values without those of the row's that stand for all options: `**options` itself."""
    parameters = inspect.signature(target).parameters
    return {
        n: v
        for n, v in values.items()
        if n not in parameters or parameters[n].kind is not inspect.Parameter.VAR_KEYWORD
    }


def call(name: str, /, **hostile: Callable[[], Any]) -> Outcome:
    """Call by valid arguments, some of them replaced, and return what came of it."""
    public, row = CALLS[name].public, CALLS[name].row
    given = row.valid() | {parameter: make() for parameter, make in hostile.items()}
    if any(p not in hostile and public_kind(public, p) for p in given):
        given = {p: v for p, v in given.items() if p in hostile or not public_kind(public, p)}
    positional = [p.name for p in public.parameters().values() if p.kind is inspect.Parameter.POSITIONAL_ONLY]
    made = receiver(public) if public.bound else None
    calls = any(row.arguments[parameter][1].called and callable(given.get(parameter)) for parameter in hostile)
    had_extremes = calls or any(holds(value, extreme) for value in given.values())
    try:
        with limits():
            first = () if made is None else (made,)
            result = public.target(*first, *(given.pop(p) for p in positional), **given)
            if inspect.isgenerator(result):
                result = next(result, None)
            after = row.then(result)
    except SteepestError as error:
        return Outcome("refused", str(error))
    except CallbackError as error:
        return Outcome("callback", str(error))
    except TooLong:
        return Outcome("endless", f"more than {SECONDS} s")
    except Exception as error:
        if calls:
            return Outcome("callback", f"{type(error).__name__}")
        last = traceback.extract_tb(error.__traceback__)
        ours = [frame for frame in last if "steepest" in frame.filename] or list(last)
        place = ours[-1]
        return Outcome("raw", f"{type(error).__name__}: {_line(error)} [{Path(place.filename).name}:{place.lineno}]")
    if not row.nan and not had_extremes and holds((result, after), torch.isnan):
        return Outcome("nan", "no argument holds nan or infinity")
    return Outcome("result", type(result).__name__)


def public_kind(public: Public, parameter: str) -> bool:
    """Whether a parameter is the `**options` itself, which is passed only where it is hostile."""
    found = public.parameters().get(parameter)
    return found is not None and found.kind is inspect.Parameter.VAR_KEYWORD


def _line(error: Exception) -> str:
    try:
        return " ".join(str(error).split())[:160]
    except Exception:
        return "(cannot be shown)"


def holds(value: Any, bad: Callable[[torch.Tensor], torch.Tensor], depth: int = 0) -> bool:
    """Return whether a number or a tensor, also in containers, holds an entry of which `bad` is true."""
    if isinstance(value, float):
        return bool(bad(torch.tensor(value)))
    if isinstance(value, torch.Tensor):
        usable = value.layout is torch.strided and value.device.type != "meta" and value.dtype.is_floating_point
        return usable and bool(bad(value.detach()).any())
    if isinstance(value, Mapping) and depth < 3:
        return any(holds(item, bad, depth + 1) for item in value.values())
    if type(value) in (list, tuple) and depth < 3:
        return any(holds(item, bad, depth + 1) for item in value)
    return False


def extreme(x: torch.Tensor) -> torch.Tensor:
    """Return where a number is none, or so large that differences of its powers may be none."""
    return ~(x.abs() < 1e30)
