"""Two processes that share a model start from the same weights, sharded or not, and from those of one process."""

from __future__ import annotations

import pytest
from tests.init.two_processes import MODELS, SCHEMES, find
from tests.processes import found_by_two


@pytest.mark.slow
def test_two_processes_hold_parts_of_the_whole_that_one_process_makes_and_whole_models_are_equal(tmp_path):
    found = found_by_two(find, tmp_path)
    for each in found:
        wrong = {name: each[name] for name in [f"{m}, {s}" for m in MODELS for s in SCHEMES] if each[name] != ""}
        assert not wrong
        assert "a model that is run on data must not be sharded (got 'FSDPSequential'). Initialise" in each["refused"]
    assert found[0]["sum"] == found[1]["sum"]
