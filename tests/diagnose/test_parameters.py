"""What is kept of the way that parameters have gone."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from steepest.diagnose._watch.parameters import ParameterWatch


@pytest.mark.parametrize("steps", [8, 30, 100, 1000])
def test_a_run_that_turns_by_a_right_angle_at_half_time_has_no_persistence_however_long_it_is(steps):
    weight = nn.Parameter(torch.ones(2))
    watch = ParameterWatch([weight])
    for step in range(steps):
        before = watch.sample()
        with torch.no_grad():
            weight[0 if step < steps // 2 else 1] += 1 / steps
        watch.keep(watch.measure([torch.ones(2)], before))
        if step % 32 == 31:
            watch.flush()
    rows = watch.rows()
    # The middle is known to one of at least eight stretches of the run.
    assert abs(rows.persistence) < 0.3
    assert float(rows.displacement[0]) == pytest.approx(0.5, rel=1e-3)
