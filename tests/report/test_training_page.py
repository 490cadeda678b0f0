"""The page of a training run."""

from __future__ import annotations

import json

import pytest
from tests.report.looks import LAPTOP, PHONE, cut_off, texts_cut_off

from steepest.communication import AllReduce, AllToAll, GroupEvent, Measurement, ParameterServer, Ring
from steepest.report import as_json, write
from steepest.report._training.curves import loss_figure, metric_figure
from steepest.train import GroupRun, History, TrainingRun
from steepest.train._distributed.ledger import Counted, exchanges
from steepest.train._distributed.result import Pace, StepLoss

COMMAND = "steepest train --task </script><b>mine"
START = 1_700_000_000.0


def ledger(view: int, workers: tuple[int, ...], steps: int, me: int) -> dict[int, Counted]:
    """What a worker of a server's group sees: it sends 12 bytes, and gets 12."""
    counted = Counted(workers, 9, steps)
    for link in ((me, 9), (9, me)):
        counted.messages[link], counted.bytes[link] = steps, 12 * steps
    return {view: counted}


def group(**changes) -> GroupRun:
    told = [ledger(0, (0, 1, 2), 10, me) for me in (0, 1)] + [ledger(0, (0, 1, 2), 8, 2)]
    told += [ledger(1, (0, 1), 20, me) for me in (0, 1)]
    died = [GroupEvent("died", START + 1 + k / 1000, step, 2, "") for k, step in enumerate((0, 10, 10))]
    losses = [StepLoss(step=k, loss=1 / (k + 1), examples=8, divisor=8, workers=3) for k in range(30)]
    events = [GroupEvent("formed", START, 0, None, "3 workers"), *died]
    times = [
        Measurement(scheme, n, p, 1e-4 * n + 1e-8 * p)
        for scheme in (Ring(), AllToAll())
        for n in (2, 3)
        for p in (10, 10**6)
    ]
    fields = {
        "workers": 3,
        "scheme": ParameterServer(),
        "parameters": {"float32": 3},
        "losses": losses,
        "exchanges": exchanges(told),
        "events": [*events, GroupEvent("recovered", START + 1.03, 10, None, "2 workers, 0.030 s")],
        "paces": [Pace(worker=k, steps=30, computing=0.001, exchanging=0.002) for k in range(3)],
        "survivors": (0, 1),
        "agrees": True,
        "measurements": times,
    }
    return GroupRun(**{**fields, **changes})


def run(of: GroupRun | None, **settings: str) -> TrainingRun:
    history = History(
        steps=[0, 15, 30],
        valid_loss=[2.0, 1.0, 0.5],
        valid_metrics={"accuracy": [0.1, 0.5, 0.75]},
        seconds=[0.0, 1.0, 2.0],
        duration=3.0,
        diverged=False,
        seconds_per_step=0.07,
        state_bytes=0,
        remarks=["A remark."],
        gradient_steps=[0, 15],
        train_loss=[2.1, 0.9],
        evaluations=[3, 93, 183] if settings else [],
    )
    return TrainingRun(history=history, task_name="mine", settings={"optimizer": "sgd", **settings}, group=of)


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return write(run(group()), tmp_path_factory.mktemp("training"), COMMAND)


def rows(page, heading):
    section = page.locator("section", has=page.get_by_role("heading", name=heading, exact=True))
    return [row.all_inner_texts() for row in (each.locator("th, td") for each in section.locator("tbody tr").all())]


@pytest.mark.browser
def test_it_shows_what_was_sent_what_happened_and_how_long_it_took(open_file, path):
    page = open_file(path)
    assert page.title() == "mine: a training run"
    assert page.locator("h1").inner_text() == "mine: validation loss 0.5, accuracy 0.75 after 30 steps in 2 s."
    assert "Worker 2 died at step 10; went on with 2 workers." in page.locator("header").inner_text()
    assert rows(page, "What was sent, and what the formulas say") == [
        ["3 workers and a server", "10", "6", "6", "72", "72"],
        ["2 workers and a server", "20", "4", "4", "48", "48"],
    ]
    happened = rows(page, "What happened to the group")
    assert [row[1:] for row in happened] == [
        ["0", "", "formed: 3 workers"],
        ["0", "2", "died"],
        ["10", "", "recovered: 2 workers, 0.030 s"],
    ]
    assert rows(page, "Time of a step")[0] == ["0", "30", "1 ms", "2 ms"]
    for figure in ("loss", "metric-1", "messages", "links", "events", "costs"):
        page.locator(f"#{figure} .main-svg").first.wait_for(state="attached")
    assert "ring" in page.locator("section", has_text="Time of a step").last.inner_text().lower()
    assert page.locator("#command").inner_text() == COMMAND


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [PHONE, LAPTOP], ids=["phone", "laptop"])
def test_nothing_is_cut_off(open_file, path, viewport, scheme):
    page = open_file(path, viewport=viewport, color_scheme=scheme)
    page.locator("#costs .main-svg").first.wait_for(state="attached")
    assert cut_off(page) == []
    assert texts_cut_off(page) == []


@pytest.mark.parametrize(
    ("of", "has", "lacks"),
    [
        (None, "Loss", "What was sent"),
        (group(scheme=AllReduce(), measurements=[]), "are counted by the textbook ring", "Who sends what to whom"),
        (group(agrees=False), "did NOT end with the same parameters", "ended with the same bits"),
        (group(workers=40), "Payload per link", "diverged"),
    ],
    ids=["alone", "the backend's own", "differing", "many"],
)
def test_what_there_is_none_of_is_left_out(tmp_path, of, has, lacks):
    text = write(run(of), tmp_path, "").read_text()
    assert has in text
    assert lacks not in text
    assert "A remark." in text


@pytest.mark.parametrize("of", [None, group()], ids=["alone", "several"])
def test_curves_are_over_evaluations_where_a_source_has_estimated_the_gradients(of, tmp_path):
    estimated, plain = run(of, gradient="ScoreFunction(sigma=0.1, samples=6)"), run(of)
    assert estimated.headline.endswith("after 30 steps (183 evaluations of the loss) in 2 s.")
    changes = [10]
    for found, title, ends, mark in (
        (estimated, "evaluations of the loss", (3, 183), 63),
        (plain, "step", (0, 30), 10),
    ):
        for figure in (loss_figure(found, changes), metric_figure(found, "accuracy", changes)):
            assert figure.layout.xaxis.title.text == title
            (validation,) = (trace for trace in figure.data if trace.name == "validation")
            assert (validation.x[0], validation.x[-1]) == ends
            assert figure.layout.shapes[0].x0 == mark
        training = next(trace for trace in loss_figure(found, changes).data if trace.name == "training")
        step = 15 if of is None else 1
        assert training.x[1] == (3 + 6 * step if found is estimated else step)
    text = write(estimated, tmp_path, "").read_text()
    assert "gradient ScoreFunction(sigma=0.1, samples=6)" in text
    assert "training, each batch, as estimated" in text


def test_json_has_no_number_that_json_lacks():
    losses = [StepLoss(step=0, loss=float("nan"), examples=0, divisor=8, workers=1)]
    found = as_json(run(group(losses=losses)), COMMAND)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["group"]["losses"][0]["loss"] is None
    assert found["group"]["recoveries"] == ["worker 2 died at step 10; went on with 2 workers"]
