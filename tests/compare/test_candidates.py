"""Optimizers in a trial: their learning rate, and whether the trial is the only one that sets it."""

import functools
import math
import sys

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from steepest.compare import CANDIDATES, Budget, Candidate, compare
from steepest.compare._candidates import check_candidate, resolve_candidate
from steepest.errors import ImportFailed, InvalidArgument
from steepest.optim import SignDescent
from steepest.report import write

SMALL = {"rates": 5, "tuning_seeds": 1}


class Warming(torch.optim.AdamW):
    """Has a warm-up of its own inside of step()."""

    def __init__(self, params, lr, attached=True):
        super().__init__(params, lr)
        self.inner = torch.optim.lr_scheduler.LinearLR(self, 0.01, total_iters=10) if attached else None

    def step(self, closure=None):
        out = super().step(closure)
        if self.inner:
            self.inner.step()
        return out


class Decaying(torch.optim.SGD):
    """Changes its rate by hand, only after some steps."""

    taken, after = 0, 0

    def step(self, closure=None):
        out = super().step(closure)
        self.taken += 1
        if self.taken > self.after:
            for group in self.param_groups:
                group["lr"] *= 0.9
        return out


class Late(Decaying):
    after = 5


def of(optimizer, **options):
    return lambda model, lr: optimizer(model.parameters(), lr, **options)


def in_groups(*factors):
    def build(model, lr):
        groups = [
            {"params": [p], "lr": f if isinstance(f, float) else lr * f}
            for p, f in zip(model.parameters(), factors, strict=True)
        ]
        return torch.optim.SGD(groups, lr)

    return build


@pytest.mark.parametrize("name", CANDIDATES)
@pytest.mark.parametrize("schedule", ["cosine", "constant"])
def test_nothing_is_said_of_those_that_have_a_name(name, schedule, tiny_task):
    assert check_candidate(CANDIDATES[name], tiny_task(), schedule) is None


@pytest.mark.parametrize(
    "build",
    [
        in_groups(1, 10),
        lambda model, lr: torch.optim.SGD(model.parameters(), 1e-9 * lr),
        lambda model, lr: torch.optim.Adam(model.parameters(), torch.tensor(lr), foreach=False),
    ],
    ids=["groups", "proportional", "tensor"],
)
def test_nothing_is_said_of_rates_in_fixed_proportion(build, tiny_task):
    assert check_candidate(Candidate("own", build, 1e-2), tiny_task(), "cosine") is None


@pytest.mark.parametrize("optimizer", [Warming, Decaying])
def test_a_schedule_of_ones_own_is_refused_beside_the_trials_and_left_alone_beside_a_constant_one(optimizer, tiny_task):
    candidate = Candidate("own", of(optimizer), 1e-2)
    with pytest.raises(InvalidArgument, match=r"own must leave its learning rate to the trial's cosine schedule \(got"):
        check_candidate(candidate, tiny_task(), "cosine")
    notice = check_candidate(candidate, tiny_task(), "constant")
    assert notice.startswith("own has a schedule of its own, which is left alone: its learning rate is ")
    assert "where 0.01 was requested" in notice


def test_the_rates_at_the_first_steps_are_told(tiny_task):
    with pytest.raises(InvalidArgument, match=r"0.0001 at first, then 0.00109, where 0.01 was requested"):
        check_candidate(Candidate("own", of(Warming), 1e-2), tiny_task(), "cosine")


@pytest.mark.parametrize(
    ("build", "says"),
    [
        (
            lambda model, _: torch.optim.SGD(model.parameters(), 0.5),
            r"ignores the learning rate .* \(0.5 for 0.01\)",
        ),
        (in_groups(1, 0.5), "in 1 of 2 parameter groups"),
    ],
)
def test_a_rate_that_does_not_follow_the_one_asked_for_is_told(build, says, tiny_task):
    candidate = Candidate("own", build, 1e-2)
    with pytest.warns(UserWarning, match=f"own ignores the learning rate it is given.*{says.split('rate ')[-1]}"):
        comparison = compare(tiny_task(), [candidate], seeds=3, budget=Budget(**SMALL), workers=1)
    assert len(comparison.notices) == 1


class Listening:
    def __init__(self):
        self.lines = []

    def started(self, run): ...
    def known(self, losses, total): ...
    def waiting(self, line): ...

    def noticed(self, line):
        self.lines.append(line)


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_schedule_that_begins_later_is_told_once_for_each_optimizer(workers, tiny_task, tmp_path):
    late = functools.partial(Late, lr=1e-2)
    listener = Listening()
    comparison = compare(
        tiny_task(), ["sgd", late], seeds=3, budget=Budget(**SMALL), workers=workers, listener=listener
    )
    (line,) = listener.lines
    assert line.startswith("Late: The learning rate is not the one that was set")
    assert comparison.notices == (line,)
    assert "The learning rate is not the one that was set" in write(comparison, tmp_path).read_text()


def test_what_an_init_leaves_is_told(tiny_task):
    listener = Listening()
    options = {"seeds": 3, "budget": Budget(**SMALL), "workers": 1, "listener": listener}
    compare(tiny_task(frozen=("bias",)), ["sgd"], ["default"], **options)
    assert listener.lines == []
    compare(tiny_task(frozen=("bias",)), ["sgd"], ["he", "default"], **options)
    assert listener.lines == ["he: 1 parameters that need no gradient stay as the model made them (bias)."]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"lr": 0.0}, r"lr must be a number in \(0, inf\) \(got 0.0\). Try 1e-2."),
        ({"lr": math.nan}, r"lr must be a number in \(0, inf\) \(got nan\)"),
        ({"lr": True}, "lr must be a number"),
        ({"name": None}, r"name must be a string \(got None\)"),
        ({"name": ""}, "name must not be empty"),
        ({"build": None}, r"build must be a function \(got None\)"),
    ],
)
def test_a_candidate_that_cannot_be_one_is_refused(changes, says):
    with pytest.raises(InvalidArgument, match=says):
        Candidate(**{"name": "own", "build": of(torch.optim.SGD), "lr": 0.1, **changes})


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"steps": 0}, "steps must be a whole number >= 1"),
        ({"steps": 2.5}, "steps must be a whole number >= 1"),
        ({"rates": 4}, "rates must be a whole number >= 5"),
        ({"rates": math.nan}, "rates must be a whole number >= 5"),
        ({"tuning_seeds": 0}, "tuning_seeds must be a whole number from 1 to 1000"),
        ({"tuning_seeds": True}, "tuning_seeds must be a whole number"),
        ({"schedule": "linaer"}, r"no such schedule \(got 'linaer'\). Did you mean linear"),
        ({"schedule": 3}, r"schedule must be a function \(got 3\). Pass one of cosine, linear, constant, wsd"),
        ({"schedule": lambda progress: -progress}, r"schedule\(0.5\) must be a number in \[0, inf\) \(got -0.5\)"),
        ({"warmup": "5 steps"}, "warmup must be a whole number of steps, or a share of the run"),
    ],
)
def test_a_budget_that_cannot_be_one_is_refused(changes, says):
    with pytest.raises(InvalidArgument, match=says):
        Budget(**changes)


def test_an_optimizer_that_ends_the_program_is_refused(tiny_task):
    def leave(*_):
        raise SystemExit(0)

    with pytest.raises(InvalidArgument, match="must not end the program"):
        check_candidate(Candidate("own", leave, 0.1), tiny_task(), "cosine")


def test_frozen_parameters_do_not_move_under_any_named_optimizer(tiny_task):
    for name, candidate in CANDIDATES.items():
        made = []

        def model(made=made):
            made.append(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 3)))
            return made[-1]

        check_candidate(candidate, tiny_task(model=model, frozen=("0",)), "cosine")
        fresh = tiny_task(model=lambda: nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 3))).build(0)
        assert torch.equal(made[0][0].weight, fresh[0].weight), name
        assert not torch.equal(made[0][1].weight, fresh[1].weight), name


@pytest.mark.parametrize(
    ("spec", "name", "kind", "lr"),
    [
        ("SGD", "sgd", torch.optim.SGD, 0.1),
        ("AdamW", "adamw", torch.optim.AdamW, 1e-3),
        ("adam", "adam", torch.optim.Adam, 1e-3),
        ("Adam", "adam", torch.optim.Adam, 1e-3),
        ("rmsprop", "rmsprop", torch.optim.RMSprop, 1e-2),
        ("torch.optim.Adam", "Adam", torch.optim.Adam, 1e-3),
        ("torch.optim:Adam", "Adam", torch.optim.Adam, 1e-3),
        ("steepest.optim.SignDescent", "SignDescent", SignDescent, 1e-2),
    ],
)
def test_the_spellings_that_people_try_are_understood(spec, name, kind, lr, tiny_task):
    candidate = resolve_candidate(spec)
    optimizer = candidate.build(tiny_task().build(0), 0.25)
    assert (candidate.name, type(optimizer), candidate.lr) == (name, kind, lr)
    assert {group["lr"] for group in optimizer.param_groups} == {0.25}
    assert check_candidate(candidate, tiny_task(), "cosine") is None


def of_parameters(params, lr):
    return torch.optim.SGD(params, lr, momentum=0.5)


def with_a_default(parameters, *, lr=0.25, momentum):
    return torch.optim.SGD(parameters, lr, momentum=momentum)


def positional(a, b, /):
    return torch.optim.SGD(a, b)


def of_model(model, lr):
    return torch.optim.SGD([{"params": model.weight}, {"params": model.bias, "weight_decay": 0.1}], lr)


def annotated(net: nn.Linear, lr: float) -> torch.optim.Optimizer:
    return of_model(net, lr)


class Callable:
    def __call__(self, params, lr):
        return of_parameters(params, lr)


@pytest.mark.parametrize(
    ("function", "name", "lr"),
    [
        (of_parameters, "of_parameters", 1e-2),
        (functools.partial(with_a_default, momentum=0.5), "with_a_default", 0.25),
        (positional, "positional", 1e-2),
        (of_model, "of_model", 1e-2),
        (annotated, "annotated", 1e-2),
        (Callable(), "Callable", 1e-2),
        (lambda params, lr: torch.optim.SGD(params, lr), "<lambda>", 1e-2),
    ],
)
def test_a_function_of_the_parameters_or_of_the_model_is_an_optimizer(function, name, lr, tiny_task):
    candidate = resolve_candidate(function)
    assert (candidate.name, candidate.lr) == (name, lr)
    optimizer = candidate.build(tiny_task().build(0), 0.5)
    assert {group["lr"] for group in optimizer.param_groups} == {0.5}
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 2
    assert check_candidate(candidate, tiny_task(), "cosine") is None


def test_a_function_in_a_file_is_found_by_its_path(tmp_path, monkeypatch, tiny_task):
    name = f"rules_{abs(hash(str(tmp_path)))}"
    (tmp_path / f"{name}.py").write_text(
        "import torch\n\ndef mine(params, lr):\n    return torch.optim.SGD(params, lr)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*sys.path])
    for spec in (f"./{name}.py:mine", f"{name}:mine", f"{name}.mine"):
        candidate = resolve_candidate(spec)
        assert candidate.name == "mine"
        assert check_candidate(candidate, tiny_task(), "cosine") is None


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            "adamm",
            r"no such optimizer \(got 'adamm'\). Did you mean adam or radam or nadam\? Known: sgd, .*",
        ),
        ("torch.optim.Adamm", r"no such optimizer \(got 'torch.optim.Adamm'\). Did you mean adam "),
        ("mine.py", r"or your own as module:attribute or file.py:attribute"),
        ("torch.optim:Adamm", r"module torch.optim has no attribute 'Adamm'.* Did you mean Adam"),
        (lambda _: None, r"an optimizer must be .* \(got .*<lambda>: TypeError: .*\). Give it the parameters"),
        (nn.Linear, r"an optimizer must be a name, a torch.optim.Optimizer class, a function \(params, lr\) or"),
        (3, r"an optimizer must be a name, .* \(got 3\)"),
    ],
)
def test_what_is_no_optimizer_is_refused_with_the_right_spelling(spec, message):
    with pytest.raises((InvalidArgument, ImportFailed), match=message):
        resolve_candidate(spec)


@pytest.mark.slow
def test_files_in_another_folder_are_found_by_worker_processes(tmp_path, monkeypatch):
    name = f"apart_{abs(hash(str(tmp_path)))}"
    (tmp_path / "apart").mkdir()
    (tmp_path / "apart" / f"{name}.py").write_text(
        "import torch\nfrom torch import nn\nfrom steepest.tasks import Task\n"
        "x = torch.linspace(-1, 1, 64)[:, None]\n"
        "class Net(nn.Linear):\n    pass\n"
        "def mine(params, lr):\n    return torch.optim.SGD(params, lr)\n"
        "task = Task(model=lambda: Net(1, 1), loss=nn.functional.mse_loss, train=(x, 2 * x), valid=(x, 2 * x),\n"
        "            batch_size=16, steps=4)\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*sys.path])
    given = {"seeds": 3, "budget": Budget(rates=5, tuning_seeds=1)}
    path = f"./apart/{name}.py"
    two = compare(f"{path}:task", [f"{path}:mine"], workers=2, **given)
    one = compare(f"{path}:task", [f"{path}:mine"], workers=1, **given)
    assert {run: history.valid_loss for run, history in two.histories.items()} == {
        run: history.valid_loss for run, history in one.histories.items()
    }


@pytest.mark.slow
def test_worker_processes_may_start_those_of_a_data_loader(tiny_task):
    given = tiny_task()

    def loader(data, **options):
        return DataLoader(TensorDataset(*data), batch_size=16, num_workers=1, **options)

    task = tiny_task(train=loader(given.train, shuffle=True, persistent_workers=True), valid=loader(given.valid))
    found = [
        compare(task, ["sgd"], seeds=3, budget=Budget(rates=5, tuning_seeds=1, steps=3), workers=workers).histories
        for workers in (1, 2)
    ]
    curves = [{run: history.valid_loss for run, history in each.items()} for each in found]
    assert curves[0] == curves[1]
