"""Who is late, who is slow, and who belongs to the next view, as one worker sees it."""

from __future__ import annotations

import statistics
from collections.abc import Iterable

from steepest.communication._membership.clock import RUNNING
from steepest.communication._membership.knowledge import Knowledge
from steepest.communication._membership.membership import Address, Membership
from steepest.communication._membership.messages import Pace
from steepest.communication._membership.peers import Peer

__all__ = ["broken", "coordinator", "late", "ready_to_join", "slow_workers", "successor", "typical"]

NOTICEABLE = 0.005
"""Seconds per step below which nobody is slow."""

GRACE = 0.1, 0.5
"""Seconds in which a member that is computing, or is expected any moment, may answer that a view has ended."""

COMPLETING = 0.1
"""Seconds in which an exchange that another member has completed may be completed here, too."""


def successor(known: Knowledge, now: float) -> Membership | None:
    """Return the view that this member proposes after the present one; None while others are waited for.

    The lowest member that is ready proposes. It waits for all that are not dead, but not beyond the deadline of the
    step. Who joins is taken in only if nobody who may be alive is left out: see `consensus.py`.
    """
    membership, number = known.membership, known.number
    assert membership is not None
    unwanted = known.without.union(*(peer.status.without for peer in known.others if peer.is_recovering(number)))
    if known.me in unwanted or known.is_left_behind:
        return None
    ready: list[Address] = [known.address]
    left_out: list[int] = []
    for peer in known.others:
        worker = peer.address.worker
        if peer.gone:
            continue
        if worker in unwanted:
            left_out.append(worker)
        elif peer.is_recovering(number) and not known.is_silent(peer, now):
            if worker < known.me and peer.status.full:
                return None
            ready.append(peer.address)
        elif _is_late(known, peer, now):
            left_out.append(worker)
        else:
            return None
    if all(address.server for address in ready):
        return None
    return membership.followed_by((*ready, *(() if left_out else _newcomers(known, ready, now))))


def _is_late(known: Knowledge, peer: Peer, now: float) -> bool:
    if peer.phase == "busy" and not known.is_silent(peer, now):
        return False
    is_fresh = not peer.is_silent(now, 3 * known.deadlines.heartbeat)
    grace = GRACE[0] if peer.phase == "computing" and is_fresh else GRACE[1]
    return now > max(known.wait_began + known.step_deadline, known.recovery_began + grace)


def _newcomers(known: Knowledge, ready: Iterable[Address], now: float) -> list[Address]:
    """Return who can be taken in; one separate server at most."""
    serves = any(address.server for address in ready)
    taken: list[Address] = []
    for address in ready_to_join(known, now):
        if not (address.server and serves):
            taken.append(address)
            serves = serves or address.server
    return taken


def ready_to_join(known: Knowledge, now: float) -> list[Address]:
    """Return who asks to be taken in and was heard of lately."""
    asking = [(address, known.peers[worker]) for worker, address in sorted(known.joining.items())]
    limit = 5 * known.deadlines.heartbeat
    return [address for address, peer in asking if not peer.gone and not peer.is_silent(now, limit)]


def broken(known: Knowledge, view: int) -> str:
    """Return why a view has ended, in words; "" if it has not."""
    if known.number > view:
        return "the membership has changed"
    for peer in known.others:
        worker = peer.address.worker
        if peer.gone:
            return f"worker {worker} {'died' if peer.dead else 'has left'}"
        if peer.is_recovering(view):
            return f"worker {worker} was interrupted"
    return ""


def late(known: Knowledge, view: int, now: float) -> str:
    """Return why an exchange of gradients that goes on cannot be completed in time, in words; "" if it still can."""
    is_ahead = [
        peer
        for peer in known.others
        if peer.is_recovering(view)
        and not peer.gone
        and peer.status.step > known.step
        and now < peer.recovering_since + COMPLETING
    ]
    if not is_ahead and (why := broken(known, view)):
        return why
    if known.address.server or now <= known.wait_began + known.step_deadline:
        return ""
    return f"the exchange was not completed within {known.step_deadline:.2g} s"


def coordinator(known: Knowledge, slow: frozenset[int]) -> int:
    """Return who starts a change without a fault: the lowest worker that is neither slow nor gone."""
    assert known.membership is not None
    return min(set(known.membership.workers) - slow - known.gone, default=-1)


def typical(known: Knowledge) -> float | None:
    """Return how long the members of the latest view compute per step, in the median; None if that is unknown."""
    paces = [peer.status.pace for peer in known.others if not peer.gone]
    medians = [pace.median for pace in paces if pace.steps]
    return statistics.median(medians) if medians else None


def slow_workers(known: Knowledge) -> frozenset[int]:
    """Return who computed much longer than the others in every one of the last steps."""
    assert known.membership is not None
    paces: dict[int, Pace] = {
        peer.address.worker: peer.status.pace
        for peer in known.others
        if peer.status.view == known.number and not peer.address.server and not peer.gone
    }
    paces[known.me] = known.clock.pace
    slow: set[int] = set()
    for worker, pace in paces.items():
        others = [other.median for number, other in paces.items() if number != worker and other.steps >= RUNNING]
        if others and pace.steps >= RUNNING:
            limit = max(known.deadlines.slow * statistics.median(others), NOTICEABLE)
            slow |= {worker} if pace.least > limit else set()
    return frozenset(slow)
