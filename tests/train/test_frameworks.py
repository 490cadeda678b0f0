"""Programs in a plain loop, in Lightning, in Transformers' Trainer and by torchrun: the examples are run.

Each in a process of its own, as these libraries warn while they are imported, and warnings are errors here.
"""

from __future__ import annotations

import functools
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from steepest.errors import InvalidArgument
from steepest.train import lightning_callback, transformers_callback

ROOT = Path(__file__).parents[2]
ENVIRONMENT = {"HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "OMP_NUM_THREADS": "1"}

RUNS = """
import dataclasses, functools, json, sys
from examples.{example} import *
from steepest.errors import SteepestError
from steepest.optim import Muon, muon_rules, route
from steepest.train import run_program, train
from tests.recipes import read

def adamw(model, lr):
    return torch.optim.AdamW(model.parameters(), lr)

def muon(model, lr):
    return Muon(route(model, muon_rules(model)).param_groups(lr), lr=lr)

def history(optimizer=adamw, lr=3e-3, seed=0, steps=6, program=run, **options):
    try:
        found = run_program(program, optimizer, lr=lr, seed=seed, steps=steps, **options)
    except SteepestError as error:
        return str(error)
    fields = dataclasses.asdict(found)
    names = ("steps", "valid_loss", "valid_metrics", "diverged", "seconds", "state_bytes")
    return {{name: fields[name] for name in names}}
"""

LIGHTNING = """
def fitted(trial, loss="val_loss", more=lambda *_: None, every=3):
    torch.manual_seed(trial.seed)
    options = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"), False)
    options |= {"val_check_interval": every, "check_val_every_n_epoch": None, "limit_val_batches": 1}
    callbacks = [lightning_callback(trial, loss)]
    model, data = Reader(trial), DataLoader(windows(), batch_size=64)
    trainer = lightning.Trainer(max_steps=trial.steps, callbacks=callbacks, accelerator="cpu", **options)
    trainer.fit(model, data, data)
    more(trainer, model, data)

class Logging(Reader):
    def validation_step(self, batch):
        super().validation_step(batch)
        self.log("half", 0.5)

def logging(trial):
    global Reader
    kept, Reader = Reader, Logging
    try:
        fitted(trial)
    finally:
        Reader = kept

def again(trainer, model, data):
    trainer.validate(model, data, verbose=False)
"""

TRANSFORMERS = """
def trained(trial, loss="eval_loss", final=False, **options):
    torch.manual_seed(trial.seed)
    size = {"vocab_size": 128, "n_positions": CONTEXT, "n_embd": 8, "n_layer": 1, "n_head": 1}
    model = GPT2LMHeadModel(GPT2Config(**size, bos_token_id=0, eos_token_id=0))
    optimizer = trial.optimizer(model)
    bare = {"report_to": "none", "save_strategy": "no", "disable_tqdm": True, "use_cpu": True}
    bare |= {"seed": trial.seed, "max_steps": trial.steps}
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            model,
            TrainingArguments(folder, **{**bare, "eval_strategy": "steps", "eval_steps": 3, **options}),
            train_dataset=windows()[:64],
            eval_dataset={"a": windows()[:8], "b": windows()[8:16]} if "_b_" in loss else windows()[:8],
            optimizers=(optimizer, trial.scheduler(optimizer)),
            compute_metrics=lambda found: {"half": 0.5, "name": "text"},
            callbacks=[transformers_callback(trial, loss)],
        )
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        if final:
            trainer.evaluate()
"""


COMMON = {
    "once": "history()",
    "again": "history()",
    "another seed": "history(seed=1)",
    "another optimizer": "history(muon, lr=0.02)",
    "with an init": "history(init='he')",
    "diverging": "history(lr=1e30)",
}
ASKED = {
    "program": ("", COMMON),
    "lightning_program": (
        LIGHTNING,
        COMMON
        | {
            "a wrong name": "history(program=functools.partial(fitted, loss='valid_loss'))",
            "another metric": "history(program=logging)",
            "validated again": "history(program=functools.partial(fitted, more=again))",
            "validated at the end only": "history(program=functools.partial(fitted, more=again, every=7))",
            "recipe": "history(program=read('Recipes', 'Lightning')['run'], steps=6)",
        },
    ),
    "transformers_program": (
        TRANSFORMERS,
        COMMON
        | {
            "a wrong name": "history(program=functools.partial(trained, loss='eval_lost'))",
            "two sets": "history(program=functools.partial(trained, loss='eval_b_loss'))",
            "evaluated again": "history(program=functools.partial(trained, final=True))",
            "evaluated at the end only": "history(program=functools.partial(trained, final=True, eval_strategy='no'))",
            "recipe": "history(program=read('Recipes', 'Transformers')['run'], steps=6)",
            "task": (
                "train(read('Recipes', 'Transformers')['task'], adamw, 'default', lr=1e-2, seed=0, steps=6).valid_loss"
            ),
        },
    ),
    "torchrun_program": ("", {"once": "history()"}),  # each run starts processes, for seconds
}


@functools.cache
def found(example: str) -> dict[str, Any]:
    """Evaluate expressions about an example in one process, since the import takes longer than they do."""
    setting, questions = ASKED[example]
    return answers(example, setting, questions)


def answers(example: str, setting: str, questions: dict[str, str]) -> dict[str, Any]:
    table = ", ".join(f"{name!r}: {question}" for name, question in questions.items())
    code = RUNS.format(example=example) + setting + f"print('\\n' + json.dumps({{{table}}}))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
        cwd=ROOT,
        env={**os.environ, **ENVIRONMENT},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


# Their imports alone take ten seconds, and so do the processes of torchrun.
FRAMEWORKS = [pytest.param(f"{name}_program", marks=pytest.mark.slow) for name in ("lightning", "transformers")]
TORCHRUN = pytest.param("torchrun_program", marks=pytest.mark.slow)
EVERY_EXAMPLE = pytest.mark.parametrize("example", ["program", TORCHRUN, *FRAMEWORKS])
IN_THIS_PROCESS = pytest.mark.parametrize("example", ["program", *FRAMEWORKS])


@EVERY_EXAMPLE
def test_the_example_trains_and_reports(example):
    once = found(example)["once"]
    assert (once["steps"][0], once["steps"][-1]) == (0, 6)
    assert once["valid_loss"][-1] < once["valid_loss"][0]
    assert not once["diverged"]
    assert once["seconds"] == sorted(once["seconds"])
    assert once["state_bytes"] > 0


@IN_THIS_PROCESS
def test_the_seed_decides_the_result_and_pairs_the_optimizers(example):
    once, again, seed, optimizer, init = (found(example)[name]["valid_loss"] for name in list(COMMON)[:5])
    assert again == once
    assert seed[0] != once[0]
    assert optimizer[0] == once[0]
    assert optimizer[-1] != once[-1]
    assert init[0] != once[0]


@IN_THIS_PROCESS
def test_a_loss_that_is_not_finite_is_a_divergence(example):
    diverges(found(example)["diverging"])


@pytest.mark.slow
@pytest.mark.parametrize("question", ["history(lr=1e30)", "history(muon, lr=1e30)"])
def test_a_loss_or_a_gradient_that_is_not_finite_is_a_divergence_in_another_process_too(question):
    diverges(answers("torchrun_program", "", {"diverging": question})["diverging"])


def diverges(history: dict[str, Any]) -> None:
    assert history["diverged"]
    assert history["valid_loss"][-1] == math.inf
    assert all(map(math.isfinite, history["valid_loss"][:-1]))


@pytest.mark.slow
def test_a_name_that_lightning_does_not_log_is_refused():
    said = found("lightning_program")["a wrong name"]
    assert "loss must be the name of a metric that the validation logs (got 'valid_loss')" in said
    assert "It logs val_loss" in said


@pytest.mark.slow
def test_all_that_lightning_logs_is_reported():
    assert found("lightning_program")["another metric"]["valid_metrics"] == {"half": [0.5, 0.5]}


@pytest.mark.slow
def test_a_second_validation_at_the_same_step_does_not_count():
    runs = found("lightning_program")
    assert runs["another metric"]["steps"] == runs["validated again"]["steps"] == [3, 6]
    assert runs["validated at the end only"]["steps"] == [6]


@pytest.mark.slow
def test_a_name_that_no_evaluation_has_is_refused():
    said = found("transformers_program")["a wrong name"]
    assert "loss must be the name of a metric of the evaluation (got 'eval_lost')" in said
    assert "eval_loss" in said


@pytest.mark.slow
def test_numbers_of_an_evaluation_are_reported_and_its_times_are_not():
    runs = found("transformers_program")
    assert runs["evaluated again"]["valid_metrics"] == {"eval_half": [0.5, 0.5]}
    assert runs["evaluated again"]["steps"] == runs["two sets"]["steps"] == [3, 6]
    assert runs["evaluated at the end only"]["steps"] == [6]


@pytest.mark.parametrize("example", FRAMEWORKS)
def test_the_recipe_trains_and_reports(example):
    recipe = found(example)["recipe"]
    assert recipe["steps"][-1] == 6
    assert not recipe["diverged"]


@pytest.mark.slow
def test_a_model_of_transformers_is_a_task():
    losses = found("transformers_program")["task"]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("callback", [lightning_callback, transformers_callback])
@pytest.mark.parametrize(("trial", "loss"), [(None, "val_loss"), ("trial", "val_loss")])
def test_a_callback_takes_a_trial_only(callback, trial, loss):
    with pytest.raises(InvalidArgument, match="trial must be the trial that the program is given"):
        callback(trial, loss)
