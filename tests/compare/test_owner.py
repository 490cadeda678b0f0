import json
import os
import subprocess
import sys
import time

import pytest
from optuna.trial import TrialState, create_trial

from steepest import _alive
from steepest.compare._queue.owner import LEASE_SECONDS, Owner


class Clock:
    """A time that goes on when it is told to."""

    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


def claimed(owner=None, number=0):
    """Return a trial that runs, signed by `owner`."""
    attributes = {} if owner is None else {"owner": owner}
    trial = create_trial(state=TrialState.RUNNING, user_attrs=attributes)
    trial.number = number
    return trial


def elsewhere(**changes):
    """Return a signature from another machine."""
    return {**Owner().signed(), "machine": "another", "token": "another", **changes}


def dead_process():
    """Return the number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def watcher(clock):
    return Owner(clock)


def test_a_signature_is_ones_own_only_by_its_token(watcher):
    assert watcher.is_mine(claimed(watcher.signed()))
    assert not watcher.is_mine(claimed(Owner().signed())), "another store of the same process"
    assert not watcher.is_mine(claimed())


def test_a_signature_is_another_every_time_and_fit_for_json(watcher):
    first, second = watcher.signed(), watcher.signed()
    assert first != second
    assert json.loads(json.dumps(first)) == first


def test_ones_own_run_is_never_abandoned(watcher, clock):
    trial = claimed(watcher.signed())
    assert not watcher.is_abandoned(trial)
    clock.now += 10 * LEASE_SECONDS
    assert not watcher.is_abandoned(trial)


@pytest.mark.parametrize(
    "owner",
    [
        elsewhere(),
        elsewhere(seen=time.time() + 1e9),  # a clock that is years ahead
        {"host": "elsewhere", "pid": 1, "seen": time.time() - 1e9},  # an earlier version's, and years behind
        "nonsense",
        {"seen": float("nan")},
    ],
    ids=["elsewhere", "ahead", "behind", "nonsense", "nan"],
)
def test_a_lease_ends_when_it_has_not_changed_for_its_time_whatever_stands_in_it(watcher, clock, owner):
    trial = claimed(owner)
    assert not watcher.is_abandoned(trial)
    clock.now += LEASE_SECONDS - 1
    assert not watcher.is_abandoned(trial)
    clock.now += 2
    assert watcher.is_abandoned(trial)


def test_a_lease_that_is_renewed_does_not_end(watcher, clock):
    for renewals in range(10):
        assert not watcher.is_abandoned(claimed(elsewhere(renewals=renewals)))
        clock.now += LEASE_SECONDS - 1


def test_every_run_is_watched_for_itself(watcher, clock):
    owner = elsewhere()
    assert not watcher.is_abandoned(claimed(owner, 0))
    clock.now += LEASE_SECONDS + 1
    assert not watcher.is_abandoned(claimed(owner, 1))
    assert watcher.is_abandoned(claimed(owner, 0))


def test_a_run_that_nobody_signed_is_abandoned_soon(watcher, clock):
    assert not watcher.is_abandoned(claimed())
    clock.now += 9
    assert not watcher.is_abandoned(claimed())
    clock.now += 2
    assert watcher.is_abandoned(claimed())


def test_a_process_that_has_ended_here_has_abandoned_its_runs_at_once(watcher):
    assert watcher.is_abandoned(claimed({**Owner().signed(), "pid": dead_process()}))


def test_a_process_that_runs_here_has_not(watcher):
    assert not watcher.is_abandoned(claimed(Owner().signed()))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux says when a process started")
def test_a_number_that_was_given_to_another_process_is_not_taken_for_its_owner(watcher):
    assert watcher.is_abandoned(claimed({**Owner().signed(), "started": "1"}))


@pytest.mark.skipif(sys.platform != "linux", reason="looks at processes as Linux shows them")
def test_a_process_that_was_killed_and_not_yet_collected_has_ended(watcher):
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    owner = {**Owner().signed(), "pid": process.pid, "started": _alive.started(process.pid)}
    assert not watcher.is_abandoned(claimed(owner))
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert watcher.is_abandoned(claimed(owner))
    process.wait()
    process.stdin.close()


@pytest.mark.parametrize("key", ["machine", "namespace"])
@pytest.mark.parametrize("unknown", [False, True])
def test_a_process_that_cannot_be_seen_from_here_is_waited_for(watcher, clock, key, unknown):
    owner = {**Owner().signed(), "pid": dead_process(), key: "" if unknown else "another"}
    if unknown:
        watcher._me[key] = ""
    assert not watcher.is_abandoned(claimed(owner)), "the numbers of another container's processes mean nothing here"
    clock.now += LEASE_SECONDS + 1
    assert watcher.is_abandoned(claimed(owner))


@pytest.mark.parametrize("pid", [None, "1", -1, 0, 10**30, 1.5])
def test_a_number_that_is_none_does_no_harm(watcher, pid):
    assert watcher.is_abandoned(claimed({**Owner().signed(), "pid": pid})) == (pid == 10**30)


def test_it_says_whom_one_waits_for_and_how_long(watcher, clock):
    trial = claimed(elsewhere(host="calculon", pid=17))
    assert "process 17 on calculon, which is at work" in watcher.describe(trial)
    clock.now += 60
    assert "not heard of for 60 s (after 120 s" in watcher.describe(trial)
    assert "an unknown process" in watcher.describe(claimed())
