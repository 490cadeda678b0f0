"""Whether planted faults are found and named."""

import time

import pytest
from tests.estimators.planted.faults import FAULTS_PLANTED, SAMPLE
from tests.estimators.planted.objectives import OBJECTIVES

from steepest.estimators import FAULTS, audit


@pytest.mark.parametrize("planted", SAMPLE, ids=lambda each: each.label)
def test_a_fault_of_each_kind_is_named(planted):
    found = audit(planted.make(), *OBJECTIVES[planted.objective])
    assert found.fault == planted.name, str(found)
    assert found.reason


def test_every_name_of_a_fault_is_planted_or_explained():
    assert {each.name for each in FAULTS_PLANTED} == {*FAULTS} - {"not finite", "undecided"}


@pytest.mark.slow
def test_of_all_planted_faults_98_percent_are_named_each_within_ten_seconds():
    assert len(FAULTS_PLANTED) >= 60
    missed = []
    for planted in FAULTS_PLANTED:
        began = time.process_time()
        found = audit(planted.make(), *OBJECTIVES[planted.objective], seconds=60.0)
        assert time.process_time() - began < 10
        if found.fault != planted.name:
            missed.append((planted.label, planted.objective, found.fault))
    assert len(missed) <= 0.02 * len(FAULTS_PLANTED), missed
