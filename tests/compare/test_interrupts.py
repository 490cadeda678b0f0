import signal
import threading

import pytest

from steepest.compare._queue.interrupts import DeferredInterrupts


def interrupt():
    signal.raise_signal(signal.SIGINT)


def test_an_interrupt_waits_until_it_is_allowed():
    reached = []
    with pytest.raises(KeyboardInterrupt), DeferredInterrupts() as interrupts:
        interrupt()
        reached.append("the end of what must not be disturbed")
        with interrupts.allowed():
            reached.append("too far")
    assert reached == ["the end of what must not be disturbed"]


def test_where_it_is_allowed_it_comes_at_once_and_a_second_one_does_not_disturb_the_cleaning_up():
    reached = []
    with pytest.raises(KeyboardInterrupt), DeferredInterrupts() as interrupts:
        try:
            with interrupts.allowed():
                interrupt()
                reached.append("too far")
        finally:
            interrupt()
            reached.append("cleaned up")
    assert reached == ["cleaned up"]


def test_one_that_was_never_allowed_comes_at_the_end():
    with pytest.raises(KeyboardInterrupt), DeferredInterrupts():
        interrupt()


def test_without_an_interrupt_nothing_happens_and_the_handler_is_restored():
    before = signal.getsignal(signal.SIGINT)
    with DeferredInterrupts() as interrupts, interrupts.allowed():
        assert signal.getsignal(signal.SIGINT) != before
    assert signal.getsignal(signal.SIGINT) == before


def test_in_another_thread_it_leaves_the_handler_alone():
    before, seen = signal.getsignal(signal.SIGINT), []

    def work():
        with DeferredInterrupts() as interrupts, interrupts.allowed():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]
