"""Optimizers in a trial: their learning rate, and whether the trial is the only one that sets it."""

import functools
import math

import pytest
import torch
from torch import nn

from steepest.compare import CANDIDATES, Budget, Candidate, compare
from steepest.compare._candidates import check_candidate
from steepest.errors import InvalidArgument
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
