"""The monitor inside the loops of Lightning and of Transformers: its examples are run, in processes of their own.

Both libraries warn while they are imported, and warnings are errors here.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
ENVIRONMENT = {"HF_HUB_OFFLINE": "1", "DO_NOT_TRACK": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "OMP_NUM_THREADS": "1"}

NO_NETWORK = """
import os, runpy, sys
def refuse(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"):
        print("it tried to reach the network:", event, arguments, file=sys.stderr, flush=True)
        os._exit(3)
sys.addaudithook(refuse)
sys.path[0] = {folder!r}
"""

RUN_FILE = "del sys.argv[0]; runpy.run_path(sys.argv[0], run_name='__main__')"

LIGHTNING = """
import json, os, torch
from lightning.pytorch.plugins import MixedPrecision
from torch import nn
from examples.lightning_monitor import Digits, MonitorCallback, lightning, train

class Scheduled(Digits):
    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        halving = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": halving, "interval": "step"}}

class Failing(Digits):
    def training_step(self, batch):
        if self.global_step == 5:
            raise ZeroDivisionError
        return super().training_step(batch)

class Witness(lightning.Callback):
    '''Works out by hand what the monitor should have seen.'''
    def __init__(self):
        self.norms, self.losses = [], []
    def on_before_optimizer_step(self, trainer, module, optimizer):
        self.norms.append(float(module.first[0].weight.grad.norm()))
    def on_train_batch_end(self, trainer, module, outputs, *_):
        self.losses.append(float(outputs["loss"]))

def run(kind=Digits, watch=True, **options):
    model, callback, witness = kind(), MonitorCallback(), Witness()
    callbacks = [callback, witness] if watch else [witness]
    try:
        train(model, callbacks, **{"max_epochs": 1, **options})
    except ZeroDivisionError:
        pass
    return model, callback, witness

def overflowing():
    '''The weights in float16, of which the first steps overflow and are skipped.'''
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**28)
    return {"plugins": [MixedPrecision("16-mixed", "cpu", scaler=scaler)]}
"""

TRANSFORMERS = """
import contextlib, json, os, torch
from transformers import TrainerCallback
from examples.transformers_monitor import MonitorCallback, gpt2, train

class Witness(MonitorCallback):
    '''A monitor, and by hand what it should have seen.'''
    def __init__(self, watch, fail_at):
        super().__init__()
        self.watch, self.fail_at, self.norms, self.losses = watch, fail_at, [], []
    def on_train_begin(self, *args, **kwargs):
        if self.watch:
            super().on_train_begin(*args, **kwargs)
    def on_log(self, args, state, control, logs, **kwargs):
        if self.watch:
            super().on_log(args, state, control, logs, **kwargs)
        if "loss" in logs:
            self.losses.append(logs["loss"])
    def on_pre_optimizer_step(self, args, state, control, model, **_):
        self.norms.append(float(model.transformer.wte.weight.grad.norm()))
    def on_step_end(self, args, state, control, **_):
        if state.global_step == self.fail_at:
            raise ZeroDivisionError

def run(watch=True, fail_at=None, **options):
    model, witness = gpt2(), Witness(watch, fail_at)
    try:
        with contextlib.closing(witness):
            train(model, witness, **{"max_steps": 10, **options})
    except ZeroDivisionError:
        pass
    return model, witness, witness
"""

SHARED = """
def hooks(model):
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return sum(len(getattr(module, kind)) for module in model.modules() for kind in kinds)

def same(**options):
    states = [run(watch=watch, **options)[0].state_dict().values() for watch in (True, False)]
    return all(torch.equal(p, q) for p, q in zip(*states, strict=True))

def seen(model, callback, witness, name):
    history = callback.monitor.history
    return {
        "cause": callback.monitor.diagnosis().cause,
        "hooks": hooks(model),
        "steps": history["step"],
        "losses": [history["loss"], witness.losses],
        "norms": [history["gradient_norm"][name], witness.norms],
        "rates": history["learning_rate"],
        "updates": history["update_ratio"][name],
    }
"""


def python(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
        cwd=ROOT,
        env={**os.environ, **ENVIRONMENT},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def answers(setting: str, questions: dict[str, str]) -> dict[str, Any]:
    """Evaluate expressions in one process, since the import takes longer than they do."""
    table = ", ".join(f"{name!r}: {question}" for name, question in questions.items())
    code = NO_NETWORK.format(folder=str(ROOT)) + setting + SHARED + f"print('\\n' + json.dumps({{{table}}}))"
    return json.loads(python(code).splitlines()[-1])


@pytest.fixture(scope="module")
def lightning() -> dict[str, Any]:
    weight = "'first.0.weight'"
    return answers(
        LIGHTNING,
        {
            "same": "same()",
            "same, accumulating": "same(accumulate_grad_batches=4)",
            "same, in bfloat16": "same(precision='bf16-mixed')",
            "plain": f"seen(*run(), {weight})",
            "accumulating": f"seen(*run(accumulate_grad_batches=4), {weight})",
            "scheduled": f"seen(*run(Scheduled), {weight})",
            "failing": f"seen(*run(Failing), {weight})",
            "overflowing": f"seen(*run(**overflowing()), {weight})",
        },
    )


@pytest.fixture(scope="module")
def transformers() -> dict[str, Any]:
    weight = "'transformer.wte.weight'"
    return answers(
        TRANSFORMERS,
        {
            "same": "same()",
            "same, accumulating": "same(gradient_accumulation_steps=4, per_device_train_batch_size=8)",
            "same, in bfloat16": "same(bf16=True)",
            "plain": f"seen(*run(), {weight})",
            "accumulating": f"seen(*run(gradient_accumulation_steps=4, per_device_train_batch_size=8), {weight})",
            "failing": f"seen(*run(fail_at=5), {weight})",
            "logging seldom": f"seen(*run(logging_steps=5), {weight})",
        },
    )


def slow(*case: str | None) -> Any:
    """A run of an example of which others are representative."""
    return pytest.param(*case, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    ("example", "fault", "cause"),
    [
        slow("lightning_monitor", "zero", "zero_gradients"),  # their imports alone take ten seconds
        slow("transformers_monitor", None, "healthy"),
        slow("lightning_monitor", None, "healthy"),
        slow("lightning_monitor", "frozen", "disconnected_parameters"),
        slow("transformers_monitor", "rate", "learning_rate_too_high"),
        slow("transformers_monitor", "constant", "symmetric_units"),
    ],
)
def test_an_example_names_its_fault_and_reaches_for_no_network(tmp_path, example, fault, cause):
    page = tmp_path / "monitor.html"
    options = ["--out", str(page), *(["--fault", fault] if fault else [])]
    code = NO_NETWORK.format(folder=str(ROOT / "examples")) + RUN_FILE
    printed = python(code, str(ROOT / "examples" / f"{example}.py"), *options)
    assert printed.startswith(f"{cause} (confidence ")
    assert ("What to do:" in printed) == (fault is not None)
    assert cause.replace("_", " ") in page.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("how", ["same", "same, accumulating", "same, in bfloat16"])
@pytest.mark.parametrize("framework", ["lightning", "transformers"])
def test_a_training_with_the_callback_is_the_same_bit_for_bit(request, framework, how):
    assert request.getfixturevalue(framework)[how] is True


@pytest.mark.slow
@pytest.mark.parametrize("framework", ["lightning", "transformers"])
def test_it_sees_the_gradient_that_the_optimizer_was_given(request, framework):
    for how, steps in (("plain", 29 if framework == "lightning" else 10), ("accumulating", None)):
        found = request.getfixturevalue(framework)[how]
        recorded, given = found["norms"]
        assert len(given) == len(found["steps"]) == (steps or len(given))
        assert recorded == pytest.approx(given, rel=1e-5)
        assert found["steps"] == list(range(len(given)))
        assert min(found["updates"]) > 0


@pytest.mark.slow
@pytest.mark.parametrize("framework", ["lightning", "transformers"])
def test_it_has_the_loss_of_every_step(request, framework):
    recorded, logged = request.getfixturevalue(framework)["plain"]["losses"]
    assert recorded == logged


@pytest.mark.slow
def test_over_accumulated_batches_the_loss_is_the_mean(lightning):
    recorded, parts = lightning["accumulating"]["losses"]
    assert len(recorded) == 8  # of 29 batches, the last alone
    assert recorded == pytest.approx([sum(parts[i : i + 4]) for i in range(0, 29, 4)], rel=1e-5)


@pytest.mark.slow
def test_the_learning_rate_is_the_one_of_the_step_and_not_of_the_next(lightning):
    assert lightning["scheduled"]["rates"][:3] == pytest.approx([0.1, 0.05, 0.025])


@pytest.mark.slow
def test_steps_that_the_gradient_scaler_skips_are_no_fault(lightning):
    found = lightning["overflowing"]
    assert found["updates"][0] == 0
    assert found["updates"][-1] > 0
    assert found["cause"] == "healthy"


@pytest.mark.slow
def test_a_loss_that_is_logged_seldom_is_given_to_its_own_step(transformers):
    found = transformers["logging seldom"]
    recorded, logged = found["losses"]
    assert found["steps"] == list(range(10))
    assert [recorded[4], recorded[9]] == logged
    assert sum(loss == loss for loss in recorded) == 2


@pytest.mark.slow
@pytest.mark.parametrize("framework", ["lightning", "transformers"])
def test_after_a_training_no_hook_is_left(request, framework):
    assert request.getfixturevalue(framework)["plain"]["hooks"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("framework", ["lightning", "transformers"])
def test_after_an_exception_no_hook_is_left_and_what_was_seen_can_be_read(request, framework):
    found = request.getfixturevalue(framework)["failing"]
    assert found["hooks"] == 0
    assert len(found["steps"]) == 5
