"""Which schedules bring a residual to rest that moves by the step itself: r' = |r - step|."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steepest.errors import InvalidArgument
from steepest.implicit_bias import EpochAdam, SignDescent, inverse_square_root, predict, simulate, two_cycle
from steepest.implicit_bias._tails import Schedule, Tail, tail_of

# Steps are whole multiples of 2^-1074: in these units the recursion is exact.
ONE = 2**1074
SEEN = 2**16

# Each example looks at 2^16 steps.
FEW = settings(max_examples=20)


def exactly(step: float) -> int:
    numerator, denominator = float(step).as_integer_ratio()
    return numerator * (ONE // denominator)


def seen(schedule: Schedule) -> list[float]:
    return [schedule(t) for t in range(SEEN)]


def left(steps: list[float], residual: float) -> float:
    """What the exact recursion leaves of a residual."""
    r = exactly(residual)
    for step in map(exactly, steps):
        r = abs(r - step)
    return r / ONE


def halves(t: int) -> float:
    return 1 / 2**t  # whole numbers of many digits


def geometric(q: float, first: float = 0.5) -> Schedule:
    return lambda t: first * q**t


def step_decay(every: int, factor: float, first: float = 0.5) -> Schedule:
    return lambda t: first * factor ** (t // every)


def warmup_then(after: Schedule, length: int = 100, top: float = 0.1) -> Schedule:
    return lambda t: top * (t + 1) / length if t < length else top * after(t - length)


def cosine(length: int, first: float = 0.1) -> Schedule:
    return lambda t: first * (1 + math.cos(math.pi * min(t, length) / length)) / 2


def linear(length: int, first: float = 0.1) -> Schedule:
    return lambda t: first * max(0.0, 1 - t / length)


def floored(schedule: Schedule, floor: float) -> Schedule:
    return lambda t: max(schedule(t), floor)


def restarts(schedule: Schedule, period: int) -> Schedule:
    return lambda t: schedule(t % period)


CONVERGENT = {
    "inverse square root": inverse_square_root,
    "one over t": lambda t: 1 / (t + 1),
    "a tenth over t": lambda t: 0.1 / (t + 1),
    "one over t log t": lambda t: 1 / ((t + 2) * math.log(t + 2)),
    "t to the -1.1": lambda t: (t + 1) ** -1.1,
    "t to the -1.5": lambda t: (t + 1) ** -1.5,
    "t to the -.25": lambda t: 0.01 * (t + 1) ** -0.25,
    "exact halves": lambda t: math.ldexp(1.0, -t),
    "powers of .5": geometric(0.5),
    "powers of .51": geometric(0.51),
    "powers of .6": geometric(0.6),
    "powers of .9": geometric(0.9),
    "powers of .99": geometric(0.99),
    "powers of .999": geometric(0.999),
    "halved every 100": step_decay(100, 0.5),
    "a tenth every 30": step_decay(30, 0.1),
    "a half for ever after a tenth every 30": step_decay(30, 0.1, 30.0),
    "warmup, then inverse square root": warmup_then(inverse_square_root),
    "warmup, then powers of .99": warmup_then(geometric(0.99)),
    "root, then one over t": lambda t: inverse_square_root(t) if t < 1000 else 30 / t,
    "twice each of powers of .4": step_decay(2, 0.4),
    "constant, then inverse square root": lambda t: 0.01 if t < 5000 else 0.01 * inverse_square_root(t - 5000),
}

NOT_CONVERGENT = {
    "constant": lambda _t: 0.01,
    "one step": lambda t: float(t == 0),
    "powers of .3": geometric(0.3),
    "powers of .4": geometric(0.4, 0.9),
    "powers of .49": geometric(0.49),
    "powers of .499": geometric(0.499),
    "powers of .49999": geometric(0.49999),
    "a tenth every 5": step_decay(5, 0.1),
    "a third at every step, from 1e6": geometric(1 / 3, 1e6),
    "cosine to zero": cosine(1000),
    "cosine to zero over 30000": cosine(30_000),
    "cosine to zero over 100000": cosine(100_000),
    "linear to zero": linear(1000),
    "linear to zero over 100000": linear(100_000),
    "warmup, then cosine": warmup_then(cosine(1000, 1.0)),
    "warmup, then constant": warmup_then(lambda _t: 1.0),
    "warmup, then linear": warmup_then(linear(500, 1.0)),
    "warmup for ever": lambda t: 1e-3 * min(t, 10**9) / 10**9,
    "root with a floor of 1e-3": floored(inverse_square_root, 1e-3),
    "root with a floor of 1e-6": floored(inverse_square_root, 1e-6),
    "root with a floor of 1e-8": floored(inverse_square_root, 1e-8),
    "root with a floor of 1e-9": floored(inverse_square_root, 1e-9),
    "powers with a floor": floored(geometric(0.99), 1e-4),
    "powers of .9 with a floor of 1e-12": floored(geometric(0.9), 1e-12),
    "root and a constant": lambda t: 0.001 + inverse_square_root(t),
    "cosine restarts": restarts(cosine(100), 100),
    "rare restarts": restarts(inverse_square_root, 40_000),
    "rarer restarts": restarts(inverse_square_root, 1_000_000),
    "restarts at 2^k": lambda t: (t + 2 - 2 ** int(math.log2(t + 1))) ** -0.5 if t < 2**40 else 1.0,
    "a full step at every power of 2": lambda t: 1.0 if t & (t - 1) == 0 else inverse_square_root(t),
    "a full step after every power of 2": lambda t: 1.0 if (t - 1) & (t - 2) == 0 else inverse_square_root(t),
    "a full step at every square": lambda t: 1.0 if math.isqrt(t) ** 2 == t else inverse_square_root(t),
    "alternating": lambda t: 0.1 if t % 2 else inverse_square_root(t),
    "constant for 100000, then nothing": lambda t: 0.01 if t < 100_000 else 0.0,
    "constant for 100000, then another": lambda t: 0.01 if t < 100_000 else 0.003,
    "root for 100000, then constant": lambda t: inverse_square_root(min(t, 100_000)),
    "powers of .9 with two full steps at the end": lambda t: 0.5 * 0.9**t if t != 400 else 0.5,
    "a table": [0.1, 0.05, 0.02].__getitem__,
    "an empty table": [].__getitem__,
    "a mapping": {0: 0.1, 1: 0.1}.__getitem__,
    "a table to 70000": np.full(70_000, 0.01).__getitem__,
    "no value at 100": lambda t: 0.1 / (100 - t) ** 2,
    "a floor below a slow power": lambda t: 4e-4 + (t + 1) ** -0.1,
    "a high floor": lambda t: 0.01 + (t + 1) ** -0.01,
    "a late step": lambda t: 0.1 if t == 5001 else 0.9 * 0.6**t,
    "late restarts": lambda t: 0.9 * 0.6 ** (t % 9000),
}


def exactly_converges(schedule: Schedule, shares: tuple[float, ...]) -> None:
    tail, steps = tail_of(schedule), seen(schedule)
    assert tail.converges, tail.note
    assert tail.total >= sum(steps) * (1 - 1e-9)
    for share in shares:
        assert left(steps, share * sum(steps)) <= max(steps[-1], 1e-15 * sum(steps)), share


@pytest.mark.parametrize("name", CONVERGENT)
def test_schedules_that_converge_are_seen_to_and_the_exact_recursion_converges(name):
    exactly_converges(CONVERGENT[name], (0.7071,))


@pytest.mark.slow
@pytest.mark.parametrize("schedule", [*CONVERGENT.values(), halves], ids=[*CONVERGENT, "halves of whole numbers"])
def test_schedules_that_converge_do_so_for_residuals_of_any_size(schedule):
    exactly_converges(schedule, (0.0, 0.13, 0.95))


@pytest.mark.parametrize("name", NOT_CONVERGENT)
def test_schedules_that_do_not_converge_are_never_said_to(name):
    tail = tail_of(NOT_CONVERGENT[name])
    assert not tail.converges
    assert tail.note


@pytest.mark.slow
@FEW
@given(q=st.floats(0.3, 0.9995), first=st.floats(1e-6, 1e6))
def test_powers_converge_exactly_from_a_half_on(q, first):
    if abs(q - 0.5) > 1e-6:
        assert tail_of(geometric(q, first)).converges == (q > 0.5)


@pytest.mark.slow
@FEW
@given(power=st.floats(0.05, 3), first=st.floats(1e-3, 1e3), shift=st.integers(1, 50), share=st.floats(0, 0.99))
def test_whatever_is_said_of_powers_of_t_holds_for_the_exact_recursion(power, first, shift, share):
    def schedule(t: int) -> float:
        return first * (t + shift) ** -power

    tail, steps = tail_of(schedule), seen(schedule)
    if tail.converges:
        assert left(steps, share * sum(steps)) <= max(steps[-1], 1e-15 * first)
    elif power > 1.2:
        # Slower ones converge; of these some step is more than all that follow, the integral bounding those unseen.
        unseen = (SEEN + shift - 1) ** (1 - power) / (power - 1) * first
        rests = np.append(np.cumsum(steps[::-1])[::-1][1:], 0.0) + unseen
        assert bool((np.array(steps) > rests * (1 - 1e-3)).any())
    else:
        raise AssertionError(tail.note)


@pytest.mark.slow
@FEW
@given(steps=st.lists(st.floats(0, 1), min_size=1, max_size=12), share=st.floats(0, 1))
def test_whatever_is_said_of_steps_that_end_holds_for_the_exact_recursion(steps, share):
    def schedule(t: int) -> float:
        return steps[t] if t < len(steps) else 0.0

    tail = tail_of(schedule)
    if tail.converges:
        assert left(steps, share * sum(steps)) <= 1e-9 * max(steps) + 1e-300


@pytest.mark.slow
@FEW
@given(steps=st.lists(st.integers(0, 6), min_size=1, max_size=6), then=st.sampled_from([0.5, 0.6, 0.9]))
def test_any_steps_before_a_sufficient_tail_converge_only_if_it_takes_them_up(steps, then):
    def schedule(t: int) -> float:
        return float(steps[t]) if t < len(steps) else then ** (t - len(steps))

    tail = tail_of(schedule)
    rests = [sum(steps[k + 1 :]) + 1 / (1 - then) for k in range(len(steps))]
    assert tail.converges == all(step <= rest + 1e-9 for step, rest in zip(steps, rests, strict=True))


def test_no_steps_at_all_bring_nothing_to_rest_but_what_rests():
    assert tail_of(lambda _t: 0.0).total == 0
    assert two_cycle([1.0], lambda _t: 0.0) == (1, 1)
    assert not predict(EpochAdam(schedule=lambda _t: 0.0), [[1, 2]], [1]).determined


def test_the_sum_is_a_lower_bound():
    assert tail_of(geometric(0.9, 0.05)).total == pytest.approx(0.5, rel=1e-9)
    assert 9 < tail_of(lambda t: (t + 1) ** -1.1).total < 10.5845


@pytest.mark.parametrize(("bad", "at"), [(-1.0, 65_535), (math.nan, 5), (math.inf, 0), (-1e-300, 65_535)])
def test_what_is_no_step_is_refused(bad, at):
    def schedule(t: int) -> float:
        return bad if t == at else inverse_square_root(t)

    with pytest.raises(InvalidArgument, match="a schedule must return finite steps >= 0"):
        tail_of(schedule)


def test_a_schedule_beyond_the_first_steps_that_is_no_step_is_refused():
    with pytest.raises(InvalidArgument, match="a schedule must return finite steps >= 0"):
        tail_of(lambda t: inverse_square_root(t) if t < 10**9 else -1.0)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["inverse square root", "powers of .9", "halved every 100", "exact halves"])
def test_epoch_adam_is_determined_with_a_schedule_that_converges_and_reaches(name):
    A, b = [[0.3, -0.1, 0.01]], [0.1]
    prediction = predict(EpochAdam(schedule=CONVERGENT[name]), A, b)
    assert prediction.determined, prediction.reason
    run = simulate(EpochAdam(schedule=CONVERGENT[name]), A, b, CONVERGENT[name], 3000)
    assert float((run.point[0] - prediction.point).norm()) <= 3 * CONVERGENT[name](2999) + 1e-9


@pytest.mark.parametrize(
    "name", ["constant", "powers of .49", "linear to zero", "a floor below a slow power", "a table"]
)
def test_epoch_adam_is_not_determined_with_one_that_does_not(name):
    prediction = predict(EpochAdam(schedule=NOT_CONVERGENT[name]), [[0.3, -0.1, 0.01]], [0.1])
    assert not prediction.determined
    assert prediction.point is None


def test_a_schedule_that_converges_but_does_not_reach_so_far_is_not_determined():
    slow = geometric(0.9, 0.05)
    # Its steps sum to .5, of 1.11 each.
    for due, reached in ((0.5, True), (0.554, True), (0.556, False), (1.0, False)):
        prediction = predict(EpochAdam(schedule=slow), [[1, 0.1, 0.01]], [due])
        assert prediction.determined == reached
        if not reached:
            assert "stops short" in prediction.reason


def test_a_simulation_has_converged_only_if_its_schedule_converges():
    # The constant step divides the way, so that the residual is 0 to rounding and yet it would go on.
    schedules = [lambda t: 0.3 * 0.98**t, 0.5, lambda t: 0.5 * 0.4**t]
    run = simulate(SignDescent(), [[1.0, 1.0]], [1.0], schedules, 2000)
    assert run.converged.tolist() == [True, False, False]


def test_a_tail_converges_if_its_steps_vanish_and_suffice():
    for vanishes in (True, False):
        for suffices in (True, False):
            assert Tail(vanishes, suffices, 1.0, True, False, np.ones(1), "").converges == (vanishes and suffices)
