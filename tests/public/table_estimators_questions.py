"""Rows of steepest.estimators: the questions that are answered by measurement."""

from __future__ import annotations

from tests.public.kinds import FUNCTION, MAPPING, NAMES, NUMBERS, OBJECT, SERIES, number, whole
from tests.public.rows import Result, Row, row

from steepest.estimators import Ascent, ScoreFunction, sample_efficiency


def plotted(display):
    display.plot()


ASCENT = (Ascent(steps=2), OBJECT.but("None"))
SOURCES = (None, MAPPING.but("None"))
SEED = (0, whole(0, 2**63 - 1))
RUNS = (2, whole(1, 10**6))
REPETITIONS = (2, whole(2, 10**6))
PLANE = (None, OBJECT.but("None"))
LEFT_OUT = ((), NAMES.but("['x']"))

TABLE: dict[str, Row | Result] = {
    "estimators.Ascent": row(
        objective=(Ascent().objective, FUNCTION),
        start=((0.0, 1.0), NUMBERS),
        sigma=(0.3, number("(0, inf)")),
        step=(0.1, number("(0, inf)")),
        steps=(2, whole(1)),
    ),
    "estimators.Ascent.paths": row(
        receiver=lambda: Ascent(steps=2), source=(ScoreFunction(0.3, 4), FUNCTION), runs=RUNS, seed=SEED
    ),
    "estimators.DeltaEffect": row(
        then=plotted,
        deltas=([0.1, 0.2], NUMBERS),
        samples=([1], NUMBERS),
        bias=({"forward": [0.1, 0.2]}, SERIES),
        error=({"forward": [[0.1, 0.2]]}, SERIES),
        value=({"forward": [[0.1, 0.2]]}, SERIES),
        alone=({"forward": [0.1, 0.2]}, SERIES),
        evaluations=({"forward": [3]}, SERIES),
        steps=(2, whole(1)),
    ),
    "estimators.DeltaEffect.plot": row(),
    "estimators.SampleEfficiency": row(
        then=plotted,
        samples=([2], NUMBERS),
        evaluations=({"a": [2]}, SERIES),
        bias=({"a": [0.1]}, SERIES),
        spread=({"a": [0.1]}, SERIES),
        to_target=({"a": [20.0]}, SERIES),
        target=(1.0, number("(-inf, inf)")),
        left_out=LEFT_OUT,
    ),
    "estimators.SampleEfficiency.evaluations_for": row(
        receiver=lambda: sample_efficiency(Ascent(steps=2), samples=(2,), repetitions=2, runs=2),
        error=(0.1, number("(0, inf)")),
    ),
    "estimators.SampleEfficiency.plot": row(),
    "estimators.ScoreFunctionTerms": row(
        then=plotted,
        point=([0.0, 0.0], NUMBERS),
        samples=([[0.1, 0.2]], NUMBERS),
        values=([1.0], NUMBERS),
        terms=([[1.0, 2.0]], NUMBERS),
        centred=([[1.0, 2.0]], NUMBERS),
        gradient=([1.0, 1.0], NUMBERS),
        plane=PLANE,
    ),
    "estimators.ScoreFunctionTerms.plot": row(),
    "estimators.StepSizeEffect": row(
        then=plotted,
        step_sizes=([0.1, 0.2], NUMBERS),
        samples=([1], NUMBERS),
        values=({"a": [[[0.0, 1.0, 2.0], [0.0, 1.0, 2.0]]]}, SERIES),
        evaluations=({"a": [1]}, SERIES),
        steps=(2, whole(1)),
    ),
    "estimators.StepSizeEffect.plot": row(),
    "estimators.Straightness": row(
        then=plotted,
        samples=([1], NUMBERS),
        ratio=({"a": [[1.0, 2.0, 3.0]]}, SERIES),
        spread=({"a": [1.0]}, SERIES),
        paths=({"a": [[[0.0], [1.0]], [[0.0], [1.0]]]}, SERIES),
        shown=((1, 1), NUMBERS),
        plane=PLANE,
        left_out=LEFT_OUT,
    ),
    "estimators.Straightness.plot": row(),
    "estimators.ZeroGradient": row(
        then=plotted,
        zero=({"a": 0.5}, SERIES),
        reached=({"a": [0.0, 0.5]}, SERIES),
        visited=({"a": [0.0, 0.5]}, SERIES),
        level=(1.0, number("(-inf, inf)")),
        runs=(2, whole(1)),
        paths=({"a": [[0.0], [1.0]]}, SERIES),
        plane=PLANE,
        left_out=LEFT_OUT,
    ),
    "estimators.ZeroGradient.plot": row(),
    "estimators.delta_effect": row(
        ascent=ASCENT,
        deltas=((0.1,), NUMBERS),
        samples=((2,), NUMBERS),
        repetitions=REPETITIONS,
        runs=RUNS,
        seed=SEED,
    ),
    "estimators.sample_efficiency": row(
        ascent=ASCENT,
        sources=SOURCES,
        samples=((2,), NUMBERS),
        target=(None, number("(-inf, inf)").but("None")),
        repetitions=REPETITIONS,
        runs=RUNS,
        seed=SEED,
    ),
    "estimators.score_function_terms": row(ascent=ASCENT, samples=(2, whole(2, 10**6)), seed=SEED),
    "estimators.step_size_effect": row(
        ascent=ASCENT,
        sources=SOURCES,
        step_sizes=((0.1,), NUMBERS),
        samples=((2,), NUMBERS),
        runs=RUNS,
        seed=SEED,
    ),
    "estimators.straightness": row(
        ascent=ASCENT,
        sources=SOURCES,
        samples=((2,), NUMBERS),
        runs=RUNS,
        repetitions=REPETITIONS,
        seed=SEED,
    ),
    "estimators.zero_gradient": row(
        ascent=ASCENT,
        sources=SOURCES,
        level=(None, number("(-inf, inf)").but("None")),
        runs=RUNS,
        seed=SEED,
    ),
}
