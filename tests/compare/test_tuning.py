import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steepest.compare import Budget, Cell, Design, Run
from steepest.compare._protocol import next_runs
from steepest.compare._tuning import best_grid_index, is_edge, tried_grid_indices

CELLS = {Cell("sgd", "he"): -8, Cell("adamw", "he"): -24}


def design(cells=CELLS, **budget):
    return Design(cells=dict(cells), budget=Budget(**budget), seeds=3)


def play(design, loss):
    """Run the whole protocol on a made-up loss; return the losses of all runs in the order of running."""
    losses = {}
    while runs := next_runs(design, losses, losses):
        assert not set(runs) & set(losses), "a finished run is asked for again"
        losses.update((run, loss(run)) for run in runs)
    return losses


def valley(bottoms, width=8.0):
    """A loss whose best grid_index differs from cell to cell."""
    return lambda run: ((run.grid_index - bottoms[run.cell.optimizer]) / width) ** 2


def test_the_first_round_is_five_rates_half_a_decade_apart():
    runs = next_runs(design(), {}, {})
    assert {run.grid_index for run in runs if run.cell.optimizer == "sgd"} == {-16, -12, -8, -4, 0}
    assert len(runs) == 2 * 5 * 3


@given(st.integers(-60, 60), st.integers(-60, 60), st.integers(5, 9))
def test_every_cell_gets_the_same_number_of_rates(a, b, rates):
    asked = design(rates=rates)
    losses = play(asked, valley({"sgd": a, "adamw": b}))
    assert len({len(grid_indices) for grid_indices in tried_grid_indices(asked, losses).values()}) == 1


@given(st.integers(-40, 24), st.integers(-56, 8))
def test_the_grid_grows_until_no_best_is_on_an_edge(a, b):
    asked = design()
    losses = play(asked, valley({"sgd": a, "adamw": b}))
    for cell, bottom in zip(CELLS, (a, b), strict=True):
        means = {n: losses[Run(cell, n, 0)] for n in tried_grid_indices(asked, losses)[cell]}
        assert not is_edge(means)
        assert abs(best_grid_index(means) - bottom) <= 4, "the best rate is missed by more than half a decade"


def test_a_best_rate_too_far_away_ends_at_twice_the_budget_and_is_called_an_edge():
    asked = design()
    losses = play(asked, valley({"sgd": 1000, "adamw": -24}))
    grid_indices = tried_grid_indices(asked, losses)[Cell("sgd", "he")]
    assert len(grid_indices) == 14
    assert is_edge({n: losses[Run(Cell("sgd", "he"), n, 0)] for n in grid_indices})


def test_where_everything_diverges_smaller_rates_are_tried():
    asked = design()
    losses = play(asked, lambda run: math.inf if run.grid_index > -40 else float(-run.grid_index))
    assert min(tried_grid_indices(asked, losses)[Cell("sgd", "he")]) < -40


def test_one_diverged_seed_rules_a_rate_out():
    def loss(run):
        if run.grid_index == -8 and run.seed == 2:
            return math.inf
        return abs(run.grid_index + 8) / 8

    losses = play(design(), loss)
    assert {run.grid_index for run in losses if run.phase == "final" and run.cell.optimizer == "sgd"} != {-8}


def test_rates_that_make_no_difference_are_no_reason_to_go_on():
    asked = design()
    losses = play(asked, lambda run: 1.0)  # noqa: ARG005
    assert all(len(grid_indices) == 7 for grid_indices in tried_grid_indices(asked, losses).values())


def test_final_seeds_are_fresh_and_the_same_in_every_cell():
    losses = play(design(), valley({"sgd": -8, "adamw": -24}))
    final = [run for run in losses if run.phase == "final"]
    tuning = {run.seed for run in losses if run.phase == "tuning"}
    for cell in CELLS:
        seeds = {run.seed for run in final if run.cell == cell}
        assert len(seeds) == 3
        assert not seeds & tuning


@given(st.data())
def test_whatever_was_finished_before_an_interruption_the_same_runs_are_made(data):
    asked, loss = design(), valley({"sgd": 9, "adamw": -30})
    whole = play(asked, loss)
    # An interruption leaves the finished rounds and any part of the current one.
    kept = {}
    for _ in range(data.draw(st.integers(0, 6))):
        kept.update((run, loss(run)) for run in next_runs(asked, kept, kept))
    current = next_runs(asked, kept, kept)
    kept.update((run, loss(run)) for run in current if data.draw(st.booleans()))
    while runs := next_runs(asked, kept, kept):
        kept.update((run, loss(run)) for run in runs)
    assert kept == whole


def test_the_order_of_the_runs_is_fixed():
    first, second = (list(itertools.islice(play(design(), valley({"sgd": 0, "adamw": 0})), 200)) for _ in range(2))
    assert first == second


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({"steps": 0}, "steps"),
        ({"rates": 4}, "rates must be a whole number >= 5"),
        ({"tuning_seeds": 0}, "tuning_seeds"),
        ({"schedule": "lineer"}, "schedule"),
    ],
)
def test_a_budget_outside_its_range_is_refused(options, rule):
    with pytest.raises(ValueError, match=rule):
        Budget(**options)
