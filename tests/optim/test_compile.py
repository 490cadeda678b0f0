"""A compiled step takes the steps of an eager one, also when the learning rate changes in between."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["eager", "inductor"])
def test_compiled_steps_are_the_eager_ones_and_hear_of_a_learning_rate_that_is_a_tensor(backend):
    script = Path(__file__).with_name("compiled_steps.py")
    command = [sys.executable, script, backend]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    same = [f"{name} is the same" for name in ("SignDescent", "L2", "Muon")]
    assert done.stdout.splitlines() == same, done.stderr[-3000:]
