"""Several workers take the steps of one worker, and go on when one of them dies."""

import dataclasses
import functools
import os

import pytest
import torch
from tests.train.distributed_tasks import normalised, task, unhurried

from steepest.communication import AllReduce, AllToAll, Deadlines, ParameterServer, Ring
from steepest.errors import InvalidArgument, WorkerFailed
from steepest.optim import SteepestDescent
from steepest.train import Fault, train, train_distributed


def by_adam(model, lr):
    return torch.optim.Adam(model.parameters(), lr)


def by_steepest(model, lr):
    from steepest.norms import L2

    return SteepestDescent(model.parameters(), L2(), lr, momentum=0.9)


def run(scheme, workers=3, optimizer=by_adam, of=None, **options):
    what = task() if of is None else of
    return train_distributed(what, optimizer, "default", lr=0.05, seed=3, workers=workers, scheme=scheme, **options)


@functools.cache
def alone(optimizer=by_adam):
    return train(task(), optimizer, "default", lr=0.05, seed=3)


SWEEP = pytest.mark.slow


@pytest.mark.parametrize(
    "scheme",
    [
        Ring(),
        ParameterServer(),
        *(pytest.param(each, marks=SWEEP) for each in (ParameterServer(1), AllToAll(), AllReduce())),
    ],
    ids=repr,
)
def test_several_workers_end_where_one_does(scheme) -> None:
    found = run(scheme)
    assert found.history.steps == alone().steps
    assert found.history.valid_loss == pytest.approx(alone().valid_loss, rel=1e-10)
    assert found.history.valid_metrics["mean_error"] == pytest.approx(alone().valid_metrics["mean_error"], rel=1e-10)
    assert found.group.agrees
    assert found.group.survivors == (0, 1, 2)
    assert [each.step for each in found.group.losses] == list(range(40))
    assert {(each.examples, each.divisor, each.workers) for each in found.group.losses} == {(13, 13, 3)}
    (row,) = found.group.traffic
    assert (row.steps, row.messages, row.bytes) == (40, row.expected_messages, row.expected_bytes)


@SWEEP
def test_whatever_steps_on_the_gradient() -> None:
    found = run(Ring(), optimizer=by_steepest)
    assert found.history.valid_loss == pytest.approx(alone(by_steepest).valid_loss, rel=1e-10)


@pytest.mark.parametrize(
    ("scheme", "worker"),
    [
        (Ring(), 1),
        *(
            pytest.param(*each, marks=SWEEP)
            for each in ((AllToAll(), 0), (ParameterServer(), None), (ParameterServer(1), 1), (ParameterServer(), 2))
        ),
    ],
    ids=repr,
)
def test_a_death_costs_at_most_the_step_under_way(scheme, worker) -> None:
    found = run(scheme, faults=[Fault(kind="kill", worker=worker, step=20)])
    assert found.history.valid_loss == pytest.approx(alone().valid_loss, rel=1e-10)
    assert found.group.agrees
    assert found.group.survivors == tuple(each for each in range(3) if each != worker)
    assert [each.step for each in found.group.losses] == list(range(40))
    assert len(found.group.recoveries) == 1
    assert "died at step" in found.group.recoveries[0]


@SWEEP
def test_a_worker_that_died_is_replaced() -> None:
    slowly = task(300, loss=unhurried)
    found = run(Ring(), workers=2, of=slowly, faults=[Fault(kind="kill", worker=0, step=20)], replace=True)
    assert found.group.survivors == (1, 2)
    assert any("worker 2 joined" in sentence for sentence in found.group.recoveries)


@SWEEP
def test_a_stopped_worker_is_left_out_and_rejoins() -> None:
    stops = [Fault(kind="stop", worker=2, step=20, length=5.0)]
    found = run(Ring(), of=task(600, loss=unhurried), faults=stops, deadlines=Deadlines(step=1.5))
    assert any("left out" in sentence for sentence in found.group.recoveries)
    assert any("worker 2 rejoined" in sentence for sentence in found.group.recoveries)
    assert found.group.survivors == (0, 1, 2)
    assert found.group.agrees


@SWEEP
def test_statistics_are_those_of_all_and_a_death_leaves_nothing_of_the_step() -> None:
    of = task(30, model=normalised)
    undisturbed = [run(Ring(), workers=2, of=of) for _ in range(2)]
    assert undisturbed[0].history.valid_loss == undisturbed[1].history.valid_loss  # to the bit
    assert undisturbed[0].group.agrees
    (row,) = undisturbed[0].group.traffic
    assert row.bytes == row.expected_bytes
    assert undisturbed[0].group.parameters == {"float64": 6 * 8 + 2 * 8 + 9 * 2 + 3 + 2 * 8}
    assert run(Ring(), of=of, faults=[Fault(kind="kill", worker=0, step=29)]).group.agrees


def test_statistics_of_a_repeated_step_count_once() -> None:
    from steepest.train._distributed.replica import Replica
    from steepest.train._distributed.run import settings_of

    options = {"lr": 0.1, "seed": 0, "steps": 9, "schedule": "constant", "warmup": 0, "validations": 1, "device": "cpu"}
    once, twice = (
        Replica(settings_of(task(9, model=normalised), by_adam, "default", scheme=Ring(), **options)) for _ in range(2)
    )
    for replica, attempts in ((once, 1), (twice, 3)):
        for attempt in range(attempts):
            batch, _, _ = replica.shares.at(0, 0, attempt + 1 if attempt < attempts - 1 else 1)
            replica.gradient(batch, 0)
        replica.advance()
    assert once.digest() == twice.digest()
    assert not torch.equal(once.model[1].running_mean, torch.zeros(8))
    assert once.model.unused.grad is None


@pytest.mark.parametrize(
    ("workers", "faults"),
    [
        (1, [Fault(kind="kill", worker=0, step=5)]),
        (2, [Fault(kind="kill", worker=worker, step=5) for worker in range(2)]),
        (2, [Fault(kind="stop", worker=worker, step=5) for worker in range(2)]),
    ],
    ids=["the only one", "all at once", "all stopped"],
)
@pytest.mark.parametrize("replace", [False, pytest.param(True, marks=SWEEP)], ids=["", "replaced"])
def test_without_a_worker_that_can_go_on_the_run_ends(workers, faults, replace) -> None:
    with pytest.raises(WorkerFailed, match="no worker is left that can go on"):
        run(Ring(), workers=workers, faults=faults, replace=replace)


def raises(model, lr):
    if os.getpid() != int(os.environ["STARTED_BY"]):
        raise RuntimeError("not today")
    return by_adam(model, lr)


def test_the_error_of_a_worker_reaches_the_user(monkeypatch) -> None:
    monkeypatch.setenv("STARTED_BY", str(os.getpid()))
    with pytest.raises(WorkerFailed, match=r"worker \d raised .*not today") as caught:
        run(Ring(), optimizer=raises)
    assert "in raises" in str(caught.value.__cause__)


@SWEEP
def test_more_workers_than_examples() -> None:
    few = dataclasses.replace(task(5), batch_size=2, frozen=("0.bias",))
    found = run(Ring(), of=few, workers=3)
    assert found.group.agrees
    one = train(few, by_adam, "default", lr=0.05, seed=3)
    assert found.history.valid_loss == pytest.approx(one.valid_loss, rel=1e-10)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"deadlines": 5.0}, "deadlines must be Deadlines"),
        ({"workers": 0}, "workers must be a whole number >= 1"),
        ({"scheme": "ring"}, "scheme must be a scheme"),
        ({"scheme": ParameterServer(3)}, "server"),
        ({"faults": [Fault(kind="kill", worker=7, step=1)]}, "must be one of 0 to 2"),
        ({"faults": [Fault(kind="kill", worker=1, step=40)]}, "must be less than the number of steps, 40"),
        ({"faults": [Fault(kind="kill", worker=None, step=1)]}, "needs a separate one"),
    ],
)
def test_refusals(options, message) -> None:
    with pytest.raises(InvalidArgument, match=message):
        run(**{"scheme": Ring(), **options})


@pytest.mark.parametrize("text", ["2", "x@3", "2@-1", "2@3x5", "2@3:4", ""])
def test_a_kill_is_a_worker_and_a_step(text) -> None:
    with pytest.raises(InvalidArgument, match="--kill must be WORKER@STEP"):
        Fault.parse("kill", text)


def test_faults_in_words() -> None:
    assert Fault.parse("kill", "server@7") == Fault(kind="kill", worker=None, step=7)
    assert Fault.parse("stop", "1@7:2.5s") == Fault(kind="stop", worker=1, step=7, length=2.5)
    assert Fault.parse("slow", "1@7x4:20") == Fault(kind="slow", worker=1, step=7, factor=4.0, length=20.0)
