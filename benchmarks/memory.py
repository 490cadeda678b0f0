"""What a call holds at its peak beyond what was there before it."""

from __future__ import annotations

from collections.abc import Callable

from torch.profiler import ProfilerActivity, profile


def peak(run: Callable[[], object]) -> int:
    """Return in bytes the highest sum of what torch's CPU allocator gave and took back during the call.

    What a library beneath torch asks of the system by itself, for its scratch, is not among it.
    """
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as seen:
        run()
    assert seen.profiler is not None
    assert seen.profiler.kineto_results is not None
    changes = [event for event in seen.profiler.kineto_results.events() if event.name() == "[memory]"]
    held, highest = 0, 0
    for change in sorted(changes, key=lambda event: event.start_ns()):
        held += change.nbytes()
        highest = max(highest, held)
    return highest
