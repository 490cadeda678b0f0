import functools
import html
import json
import math
import os
import signal

import numpy as np
import pytest
import torch
from torch import nn

from steepest.compare import Budget, Candidate, Cell, Sequential, analyse, compare
from steepest.errors import ImportFailed, InvalidArgument, SteepestError, TaskError, UnknownName
from steepest.init import Normal
from steepest.optim import SteepestDescent
from steepest.report import write
from steepest.tasks import accuracy
from steepest.train import train

SMALL = Budget(rates=5, tuning_seeds=1)


class Counting:
    """Counts the runs that were really executed."""

    def __init__(self):
        self.runs = []
        self.lines = []

    def started(self, run):
        self.runs.append(run)

    def known(self, losses, total):
        assert total >= len(losses)

    def noticed(self, line):
        self.lines.append(line)

    def waiting(self, reason):
        self.lines.append(reason)


@pytest.fixture(scope="module")
def comparison(tiny_task):
    return compare(tiny_task(), ["sgd", "adamw", "muon"], ["he", "zero"], seeds=4, budget=SMALL, workers=1)


def files(comparison, folder):
    write(comparison, folder)
    return (folder / "results.csv").read_bytes()


def test_every_cell_has_its_tuning_and_its_final_runs(comparison):
    assert len(comparison.design.cells) == 6
    for cell in comparison.design.cells:
        assert len(comparison.final_histories(cell)) == 4
    assert len(comparison.table()) == 6
    assert [s.value.estimate for s in comparison.table()] == sorted(s.value.estimate for s in comparison.table())


def test_cells_of_one_init_start_from_the_same_loss_in_every_seed(comparison):
    for init in ("he", "zero"):
        starts = {
            tuple(history.valid_loss[0] for history in comparison.final_histories(cell))
            for cell in comparison.design.cells
            if cell.init == init
        }
        assert len(starts) == 1


def test_the_target_is_the_median_best_of_the_baseline_and_it_reaches_it_itself(comparison):
    assert comparison.baseline_cell.optimizer == "adamw"
    best = sorted(min(h.valid_loss) for h in comparison.final_histories(comparison.baseline_cell))
    assert comparison.target == best[2]
    standing = next(s for s in comparison.table() if s.cell == comparison.baseline_cell)
    assert standing.steps_to_target < math.inf


def test_results_do_not_depend_on_the_number_of_workers(comparison, tiny_task, tmp_path):
    two = compare(tiny_task(), ["sgd", "adamw", "muon"], ["he", "zero"], seeds=4, budget=SMALL, workers=2)
    assert files(two, tmp_path / "two") == files(comparison, tmp_path / "one")


@pytest.mark.slow
def test_a_finished_comparison_started_again_runs_nothing_and_more_seeds_run_only_what_is_missing(tiny_task, tmp_path):
    def again(seeds):
        counting = Counting()
        url = f"sqlite:///{tmp_path / 'study.db'}"
        result = compare(
            tiny_task(), ["sgd", "adamw"], seeds=seeds, budget=SMALL, workers=1, storage=url, listener=counting
        )
        return result, counting.runs

    first, runs = again(3)
    assert len(runs) == len(first.histories)
    again_first, none = again(3)
    assert none == []
    assert files(again_first, tmp_path / "b") == files(first, tmp_path / "a")
    more, new = again(5)
    assert {run.seed for run in new} == {1003, 1004}
    whole = compare(tiny_task(), ["sgd", "adamw"], seeds=5, budget=SMALL, workers=1)
    assert files(more, tmp_path / "c") == files(whole, tmp_path / "d")
    fewer, none = again(3)
    assert none == []
    assert files(fewer, tmp_path / "e") == files(first, tmp_path / "a")


@pytest.mark.slow
def test_runs_stored_in_an_older_format_are_not_used(tiny_task, tmp_path, monkeypatch):
    def executed():
        counting = Counting()
        given = {"seeds": 3, "budget": SMALL, "workers": 1, "storage": tmp_path / "study.db", "listener": counting}
        compare(tiny_task(), ["sgd"], **given)
        return len(counting.runs), counting.lines

    with monkeypatch.context() as older:
        older.setattr("steepest.compare._identity.identify._FORMAT", 1)
        first, _ = executed()
    assert executed() == (first, [])
    again, _ = executed()
    assert again == 0


def test_metrics_after_the_first_have_columns_of_their_own_at_the_end_of_the_table(tiny_task, tmp_path):
    def table(metric):
        found = compare(tiny_task(metric=metric), ["sgd"], seeds=3, budget=SMALL, workers=1)
        lines = files(found, tmp_path / "out").decode().splitlines()
        return [line.split(",") for line in lines], found

    both, found = table({"accuracy": accuracy, "errors": lambda *given: 1 - accuracy(*given)})
    one, _ = table(accuracy)
    assert [line[:-1] for line in both] == one
    assert both[0][-1] == "final_errors"
    assert [float(line[-1]) for line in both[1:]] == pytest.approx([1 - float(line[7]) for line in one[1:]])
    assert found.table()[0].metrics["accuracy"] == pytest.approx(
        np.mean([float(line[7]) for line in one if line[0] == "final"])
    )


@pytest.mark.slow
def test_a_storage_holds_many_comparisons_and_each_uses_its_own_runs(tiny_task, tmp_path):
    def executed(task, optimizers, **options):
        counting = Counting()
        url = f"sqlite:///{tmp_path / 'study.db'}"
        given = {"seeds": 3, "budget": SMALL, "workers": 1, "storage": url, "listener": counting, **options}
        return compare(task, optimizers, **given), counting

    first, _ = executed(tiny_task(), ["sgd"])
    other, counting = executed(tiny_task(batch_size=8), ["sgd"])
    assert len(counting.runs) == len(other.runs)
    assert files(other, tmp_path / "a") == files(
        compare(tiny_task(batch_size=8), ["sgd"], seeds=3, budget=SMALL, workers=1), tmp_path / "b"
    )
    longer, counting = executed(tiny_task(steps=13), ["sgd"])
    assert len(counting.runs) == len(longer.runs)
    more, counting = executed(tiny_task(), ["sgd", "adamw"])
    assert not {run for run in counting.runs if run in first.histories}
    assert counting.lines[0].startswith(f"{len(first.runs)} finished runs of 20")
    assert more.notices == tuple(counting.lines)
    again, counting = executed(tiny_task(), ["sgd"])
    assert counting.runs == []
    assert files(again, tmp_path / "c") == files(first, tmp_path / "d")


@pytest.mark.slow
def test_after_an_edit_the_old_runs_are_neither_used_nor_mixed_with_new_ones_unless_the_edit_is_accepted(
    tiny_task, tmp_path
):
    def result(factor, **options):
        def loss(output, target):
            return factor * nn.functional.cross_entropy(output, target)

        counting = Counting()
        given = {"seeds": 3, "budget": SMALL, "workers": 1, "storage": f"sqlite:///{tmp_path / 's.db'}", **options}
        return compare(tiny_task(loss=loss), ["sgd"], **given, listener=counting), counting

    first, _ = result(1.0)
    edited, counting = result(1.01, seeds=4)  # more seeds at once: where the two could be mixed
    assert len(counting.runs) == len(edited.runs)
    assert files(edited, tmp_path / "a") == files(result(1.01, seeds=4, storage=None)[0], tmp_path / "b")
    assert len(counting.lines) == 1
    assert "function loss is 1.01 instead of 1: new runs are made." in counting.lines[0]
    assert counting.lines[0].endswith("are left alone; --accept-edits (accept_edits=True) uses them.")
    write(edited, tmp_path / "c")
    assert json.loads((tmp_path / "c" / "results.json").read_text())["notices"] == counting.lines
    assert counting.lines[0] in html.unescape((tmp_path / "c" / "report.html").read_text())
    back, counting = result(1.0)
    assert counting.runs == []
    assert files(back, tmp_path / "d") == files(first, tmp_path / "e")
    _, counting = result(1.02, accept_edits=True, seeds=5)
    assert {run.seed for run in counting.runs} == {1004}
    assert "function loss is 1.02 instead of 1.01." in counting.lines[0]


def test_a_candidate_that_always_diverges_is_a_bad_result_and_not_a_crash(tiny_task, tmp_path):
    explosive = Candidate("explosive", lambda model, _lr: torch.optim.SGD(model.parameters(), math.inf), 1e-1)
    result = compare(tiny_task(), ["sgd", explosive], ["he"], seeds=3, budget=SMALL, workers=1)
    standing = result.table()[-1]
    assert (standing.cell.optimizer, standing.diverged, standing.lr_on_edge) == ("explosive", 3, True)
    assert math.isfinite(standing.value.estimate)
    write(result, tmp_path)
    assert json.loads((tmp_path / "results.json").read_text())["ranking"][-1]["diverged"] == 3


def test_one_alternative_alone_is_no_comparison(tiny_task):
    verdict = compare(tiny_task(), ["sgd"], seeds=3, budget=SMALL, workers=1).verdict
    assert "nothing to compare" in str(verdict)
    assert verdict.choice == Cell("sgd", "default")
    assert math.isinf(verdict.regret)


def test_a_clear_winner_is_named_and_beats_all_others(tiny_task):
    lame = Candidate("lame", lambda model, lr: torch.optim.SGD(model.parameters(), 1e-9 * lr), 1e-1)
    verdict = compare(tiny_task(), ["adamw", lame], ["he"], seeds=5, budget=SMALL, workers=1).verdict
    assert verdict.choice == Cell("adamw", "he")
    assert verdict.headline == "Take adamw: with 95% confidence the other is not better."
    assert verdict.beaten == (Cell("lame", "he"),)
    assert verdict.next_step is None


def test_an_optimizer_under_two_names_is_undecided(tiny_task):
    twice = [Candidate(name, lambda model, lr: torch.optim.SGD(model.parameters(), lr), 0.1) for name in ("a", "b")]
    verdict = compare(tiny_task(), twice, ["he"], seeds=5, budget=SMALL, workers=1).verdict
    assert verdict.headline == "Take a or another: no result tells the rest from it."
    assert "b gave the same results as a in every seed." in str(verdict)
    assert verdict.undecided == ()
    assert verdict.next_step is None


@pytest.mark.slow
def test_on_real_runs_an_optimizer_against_itself_is_called_different_in_at_most_5_percent(tiny_task):
    def sgd(model, lr):
        return torch.optim.SGD(model.parameters(), lr)

    pool = np.array(
        [train(tiny_task(), sgd, "he", lr=0.03, seed=seed, validations=1).valid_loss[-1] for seed in range(2000)]
    )
    assert len(set(pool)) > 1900
    rng = np.random.default_rng(0)
    for count in (2, 5):
        wrong = 0
        for _ in range(600):
            drawn = pool[rng.permutation(2000)[: 80 * count]].reshape(count, 80)
            found = analyse(dict(enumerate(drawn)), Sequential(max_seeds=80))
            wrong += any(difference.better is not None for difference in found.differences)
        assert wrong <= (0.05 + 2 * math.sqrt(0.05 * 0.95 / 600)) * 600


def test_optimizers_come_as_names_classes_partials_and_module_paths(tiny_task):
    specs = ["sgd", torch.optim.RAdam, functools.partial(torch.optim.SGD, momentum=0.5), "torch.optim:NAdam"]
    result = compare(tiny_task(), specs, [Normal(std=0.1)], seeds=3, budget=SMALL, workers=1, baseline="sgd")
    assert {cell.optimizer for cell in result.design.cells} == {"sgd", "RAdam", "SGD(momentum=0.5)", "NAdam"}
    assert {cell.init for cell in result.design.cells} == {"Normal(std=0.1)"}


@pytest.mark.slow
def test_models_that_are_lambdas_reach_worker_processes(tiny_task):
    scale = 0.5  # captured by the lambda

    def build():
        model = nn.Linear(4, 3)
        model.weight.data.mul_(scale)
        return model

    result = compare(tiny_task(model=lambda: build()), ["sgd"], ["default"], seeds=3, budget=SMALL, workers=2)
    assert len(result.table()) == 1


def test_an_error_in_the_tasks_own_code_while_training_is_told_and_finished_runs_are_kept(tiny_task, tmp_path):
    calls = iter(range(10_000))

    def fragile(output, target):
        if next(calls) > 250:
            raise RuntimeError("the disk is on fire")
        return nn.functional.cross_entropy(output, target)

    url = f"sqlite:///{tmp_path / 'study.db'}"
    with pytest.raises(TaskError, match="the disk is on fire"):
        compare(tiny_task(loss=fragile), ["sgd"], seeds=3, budget=SMALL, workers=1, storage=url)
    counting = Counting()
    options = {"seeds": 3, "budget": SMALL, "workers": 1, "storage": url}
    result = compare(tiny_task(), ["sgd"], **options, listener=counting, accept_edits=True)
    assert 0 < len(counting.runs) < len(result.runs)


@pytest.mark.slow
def test_a_worker_that_is_killed_is_told_and_the_next_start_goes_on(tiny_task, tmp_path):
    flag, main = tmp_path / "killed", os.getpid()

    def deadly(output, target):
        if output.requires_grad and os.getpid() != main and not flag.exists():
            flag.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return nn.functional.cross_entropy(output, target)

    options = {"seeds": 3, "budget": SMALL, "storage": f"sqlite:///{tmp_path / 'study.db'}", "workers": 2}
    with pytest.raises(SteepestError, match="must not die"):
        compare(tiny_task(loss=deadly), ["sgd"], **options)
    assert flag.exists()
    assert len(compare(tiny_task(loss=deadly), ["sgd"], **options).table()) == 1


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"optimizers": ["adammw"]}, UnknownName, "Did you mean adamw"),
        ({"optimizers": []}, InvalidArgument, "at least one optimizer"),
        ({"optimizers": ["sgd", "sgd"]}, InvalidArgument, "must appear in a comparison once"),
        ({"optimizers": ["torch.optim:Nadamm"]}, ImportFailed, "has no attribute 'Nadamm'"),
        ({"optimizers": ["math:sqrt"]}, InvalidArgument, "an optimizer must be a name"),
        ({"optimizers": [torch.optim.LBFGS]}, InvalidArgument, "closure"),
        ({"optimizers": [SteepestDescent]}, InvalidArgument, "norm must be a norm"),
        ({"optimizers": ["steepest.optim:Muon"]}, InvalidArgument, "Muon must have matrices"),
        ({"inits": ["hee"]}, UnknownName, "Did you mean he"),
        ({"inits": []}, InvalidArgument, "at least one init"),
        ({"task": "digitz"}, UnknownName, "Did you mean digits"),
        ({"seeds": 2}, InvalidArgument, "seeds must be a whole number from 3"),
        ({"seeds": math.nan}, InvalidArgument, "seeds must be a whole number from 3"),
        ({"seeds": True}, InvalidArgument, "seeds must be a whole number from 3"),
        ({"budget": 7}, InvalidArgument, "budget must be a Budget"),
        ({"listener": print}, InvalidArgument, "listener must be a Listener"),
        ({"task": None}, InvalidArgument, "task must be a Task, the name of one, or a program"),
        ({"optimizers": "sgd"}, InvalidArgument, r"optimizers must be several .*Pass a list, for example \['sgd'\]"),
        ({"optimizers": None}, InvalidArgument, "optimizers must be several"),
        ({"inits": "he"}, InvalidArgument, "inits must be several"),
        ({"device": None}, InvalidArgument, "device must be one that torch can use here"),
        ({"workers": 0}, InvalidArgument, "workers must be a whole number >= 1"),
        ({"workers": True}, InvalidArgument, "workers must be a whole number >= 1"),
        ({"run_timeout": 0}, InvalidArgument, "run_timeout must be a number in"),
        ({"run_timeout": "later"}, InvalidArgument, "run_timeout must be a time > 0"),
        ({"storage": 3}, InvalidArgument, "storage must be a URL or a path"),
        ({"accept_edits": "yes"}, InvalidArgument, "accept_edits must be True or False"),
        ({"device": "cuda:99"}, InvalidArgument, "device must be one"),
        ({"device": "gpu"}, InvalidArgument, "device must be one"),
        ({"baseline": "sdg"}, UnknownName, "Did you mean sgd"),
    ],
)
def test_bad_arguments_are_refused_before_anything_runs(tiny_task, arguments, error, says):
    counting = Counting()
    given = {"task": tiny_task(), "optimizers": ["sgd"], "seeds": 3, "workers": 1, **arguments}
    with pytest.raises(error, match=says):
        compare(**{"listener": counting, **given})
    assert counting.runs == []


def test_threads_and_random_state_of_the_caller_are_left_alone(tiny_task):
    before = torch.get_num_threads(), torch.random.get_rng_state()
    compare(tiny_task(), ["sgd"], seeds=3, budget=SMALL, workers=1)
    assert torch.get_num_threads() == before[0]
    assert torch.equal(torch.random.get_rng_state(), before[1])
