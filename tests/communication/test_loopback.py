"""The bytes that a network interface counts are those that were measured, and those of the formula."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OWN_NETWORK = ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$0" "$@"']


def why_not() -> str:
    """Why this process can't have a network of its own; empty if it can."""
    if not (shutil.which("unshare") and shutil.which("ip")):
        return "unshare and ip are not installed"
    tried = subprocess.run([*OWN_NETWORK, "true"], capture_output=True, text=True, check=False)
    return "" if tried.returncode == 0 else f"it needs root: {tried.stderr.strip()}"


@pytest.mark.slow
def test_the_bytes_on_the_interface_are_the_payload_within_one_percent():
    if reason := why_not():
        pytest.skip(reason)
    command = [*OWN_NETWORK, sys.executable, "-m", "tests.communication.loopback"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    cases = [case for found in json.loads(done.stdout) for case in found.items()]
    assert len(cases) == 3 * 5
    for scheme, (passed, payload, formula) in cases:
        assert payload == formula, scheme
        assert abs(passed / payload - 1) < 0.01, (scheme, passed / payload)
