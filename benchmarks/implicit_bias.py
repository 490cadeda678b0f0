"""What a prediction of `steepest.implicit_bias` costs and how exact it is, against what people do instead.

No other software predicts where an optimizer ends. One runs the optimizer until it stands still, or knows the theorem
and computes the limit by hand: by a pseudo-inverse, by a convex solver for a Bregman projection or a margin, by
scikit-learn for the L2 margin. That gives the limit; it does not say whether there is one, nor prove it.
"""

from __future__ import annotations

import itertools
import statistics
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from sklearn.svm import SVC, LinearSVC
from threadpoolctl import threadpool_limits

from benchmarks.harness import Candidate, Row, Table, installed, interleave, ratio
from steepest.implicit_bias import (
    Entropy,
    EpochAdam,
    GradientDescent,
    Hypentropy,
    MirrorDescent,
    NormSteepest,
    PNorm,
    Potential,
    Preconditioned,
    RescaledFeatures,
    Rule,
    SignDescent,
    certify,
    predict,
    predict_batch,
)
from steepest.norms import L1, Ellipsoid, LInf, Lp

ROWS, COLUMNS = 20, 50
PREDICTIONS, ROUNDS = 1000, 5
A_ROUND, MARGINS_A_ROUND, RUNS_A_ROUND = PREDICTIONS // ROUNDS, 40, 4
CHECKED = 20
STOP, TOLERANCE = 1e-8, 1e-6
GOAL = "2"
PACKAGES = ("numpy", "scipy", "scikit-learn", "cvxpy", "clarabel")
DIAGONAL = np.random.default_rng(0).uniform(0.1, 1.0, COLUMNS)

TOLERANCES: Mapping[str, dict[str, float]] = {
    "cvxpy": {},
    "cvxpy at 1e-12": {"tol_gap_abs": 1e-12, "tol_gap_rel": 1e-12, "tol_feas": 1e-12},
}
SLSQP: Mapping[str, dict[str, float]] = {"scipy SLSQP": {}, "scipy SLSQP at 1e-12": {"ftol": 1e-12}}
MACHINES: Mapping[str, Callable[[], Any]] = {
    "LinearSVC": lambda: LinearSVC(C=1e6, fit_intercept=False, random_state=0),
    "LinearSVC at 1e-10": lambda: LinearSVC(C=1e6, fit_intercept=False, random_state=0, tol=1e-10, max_iter=10**6),
    "SVC": lambda: SVC(C=1e6, kernel="linear"),
    "SVC at 1e-10": lambda: SVC(C=1e6, kernel="linear", tol=1e-10),
}

Array = NDArray[np.float64]
Problem = tuple[Array, Array]
"""A and b."""
Answer = Callable[[Array, Array], Array | None]
"""A, b -> theta, or None where a peer gives up."""


@dataclass(frozen=True)
class Peer:
    """Another way to the same point; so many problems are timed in each round, fewer of what takes long."""

    answer: Answer
    a_round: int = 10


@dataclass(frozen=True)
class Subject:
    """A rule, what makes its problem number k, and the peers that find its limit."""

    rule: Rule | type[torch.optim.Optimizer]
    problem: Callable[[int], Problem]
    peers: Mapping[str, Peer]
    loss: str = "squared"
    a_round: int = A_ROUND
    goal: str = GOAL

    def predict(self, A: Array, b: Array) -> Array | None:  # noqa: N803
        """Return steepest's answer."""
        prediction = predict(self.rule, A, b, loss=self.loss)
        end = prediction.direction if prediction.point is None else prediction.point
        return None if end is None else end.numpy()


def run() -> tuple[Table, Table]:
    subjects = _subjects()
    # Whatever a solver warns of, its answer is checked.
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _times(subjects), _answers(subjects)


def _times(subjects: Mapping[str, Subject]) -> Table:
    return Table(
        title="How long 1,000 predictions take",
        method=f"Seconds of this process for {PREDICTIONS:,} Gaussian problems of {ROWS} x {COLUMNS}, of 1 x {COLUMNS} "
        f"where a rule ends on one equation only, {A_ROUND} in each of {ROUNDS} rounds, in turns with the peers; "
        f"margins {MARGINS_A_ROUND} a round, peers {RUNS_A_ROUND} to {A_ROUND}, scaled to {PREDICTIONS:,}. "
        "Median round; the ratios with quartiles, above 1 where the peer is faster. steepest's time includes the check "
        "of what the theorem asks for (separability, say) and the certificate; a peer's is the answer alone. `run`: "
        f"torch's SGD, or numpy's multiplicative updates, with constant steps until the residual is {STOP:g} ||b||. "
        "cvxpy solves by CLARABEL, compiled once with A and b as parameters; hypentropy, which it does not have, is "
        "written as two entropies. scipy has the gradients, and starts at the least-squares solution, for entropy at "
        "ones. SVC, which has an intercept, gets each example's mirror image too, which makes it 0.",
        columns=("rule", "determined", "steepest s", "goal <=", "peer", "peer s", "steepest / peer"),
        rows=[row for name, subject in subjects.items() for row in _time_rows(name, subject)],
        packages=PACKAGES,
    )


def _time_rows(name: str, subject: Subject) -> Iterator[Row]:
    determined: list[bool] = []

    def ours(problems: list[Problem]) -> None:
        predictions = predict_batch(subject.rule, [A for A, _ in problems], [b for _, b in problems], loss=subject.loss)
        determined.extend(prediction.determined for prediction in predictions)

    def theirs(answer: Answer, problems: list[Problem]) -> None:
        for A, b in problems:  # noqa: N806
            answer(A, b)

    sizes = {"steepest": subject.a_round, **{way: min(p.a_round, subject.a_round) for way, p in subject.peers.items()}}
    runs = {"steepest": ours, **{way: partial(theirs, peer.answer) for way, peer in subject.peers.items()}}
    seconds = interleave({way: _candidate(runs[way], subject, size) for way, size in sizes.items()}, ROUNDS)
    thousand = {way: [s * PREDICTIONS / sizes[way] for s in of.cpu] for way, of in seconds.items()}
    share = statistics.mean(determined[-ROUNDS * subject.a_round :])
    first = (name, f"{share:.1%}", _seconds(thousand["steepest"]), subject.goal)
    for way in subject.peers:
        yield (*first, way, _seconds(thousand[way]), ratio(thousand["steepest"], thousand[way]))
        first = ("", "", "", "")


def _candidate(run: Callable[[list[Problem]], None], subject: Subject, size: int) -> Candidate:
    """Return what takes other problems each round, the first ones of those that steepest takes in it."""
    turns = itertools.count()
    problems: list[Problem] = []

    def prepare() -> None:
        first = next(turns) * subject.a_round
        problems[:] = [subject.problem(k) for k in range(first, first + size)]

    return Candidate(lambda: run(problems), prepare)


def _seconds(rounds: Sequence[float]) -> str:
    return f"{statistics.median(rounds):.2g}"


def _answers(subjects: Mapping[str, Subject]) -> Table:
    rows: list[Row] = []
    for name, subject in subjects.items():
        rows.append((name, "steepest", *_worst(subject, subject.predict)[:-1], ""))
        rows.extend(("", way, *_worst(subject, peer.answer)) for way, peer in subject.peers.items())
    return Table(
        title="How exact the answers are",
        method=f"`certify`, at its tolerance {TOLERANCE:g}, of the answers to the first {CHECKED} of those problems: "
        "how many pass, and the worst numbers. residual: ||A theta - b||; for a margin the duality gap relative to the "
        "largest margin. distance: of grad psi(theta) - grad psi(theta0) from the row space of A, or of theta - theta0 "
        "from where the rule's steps lead; for a margin from steepest's direction. from steepest: how far theta is "
        "from steepest's, relative to the way there; for a margin as before.",
        columns=("rule", "answer of", "pass", "residual", "distance", "from steepest"),
        rows=rows,
        packages=PACKAGES,
    )


def _worst(subject: Subject, answer: Answer) -> Row:
    """Return how many pass, and the largest residual, distance and error; of those with an answer."""
    answers = [(A, b, answer(A, b)) for A, b in map(subject.problem, range(CHECKED))]
    checks = [
        certify(subject.rule, A, b, theta, loss=subject.loss, tolerance=TOLERANCE)
        for A, b, theta in answers
        if theta is not None
    ]
    # Where nothing is determined there is no distance (NaN).
    known = [check for check in checks if check.distance == check.distance]
    worst = (max((getattr(c, of) for c in known), default=np.nan) for of in ("residual", "distance", "error"))
    return (f"{sum(map(bool, checks))} of {CHECKED}", *(f"{number:.1e}" for number in worst))


def _subjects() -> dict[str, Subject]:
    return {**_linear_rules(), **_single_equations(), **_mirror_descents(), **_margins()}


def _linear_rules() -> dict[str, Subject]:
    plain = {
        "torch.optim.SGD, run": Peer(partial(_descend, momentum=0.0), RUNS_A_ROUND),
        "numpy.linalg.pinv": Peer(_pseudo_inverse, A_ROUND),
        "numpy.linalg.lstsq": Peer(_least_squares, A_ROUND),
    }
    heavy = {"torch.optim.SGD, run": Peer(partial(_descend, momentum=0.9), RUNS_A_ROUND)}
    weighted = {"numpy.linalg.pinv": Peer(_preconditioned, A_ROUND)}
    in_norm = NormSteepest(Ellipsoid(torch.from_numpy(DIAGONAL)))
    signs = {"numpy.linalg.solve": Peer(_by_signs, A_ROUND)}
    return {
        "GradientDescent()": Subject(GradientDescent(), _gaussian, plain),
        "GradientDescent(momentum=0.9)": Subject(GradientDescent(momentum=0.9), _gaussian, heavy),
        "torch.optim.SGD": Subject(torch.optim.SGD, _gaussian, plain),
        "Preconditioned(D)": Subject(Preconditioned(DIAGONAL), _gaussian, weighted),
        "NormSteepest(Ellipsoid(D))": Subject(in_norm, _gaussian, weighted),
        "RescaledFeatures()": Subject(RescaledFeatures(), _gaussian, {"numpy.linalg.lstsq": Peer(_rescaled, A_ROUND)}),
        "SignDescent(batch_size=1)": Subject(SignDescent(batch_size=1), _gaussian, signs),
    }


def _single_equations() -> dict[str, Subject]:
    """Return the rules that end at a known point on one equation: theta is a multiple of a known direction of a."""
    kinds: dict[str, tuple[Rule, Callable[[Array], Array]]] = {
        "EpochAdam()": (EpochAdam(), np.sign),
        "SignDescent()": (SignDescent(), np.sign),
        "NormSteepest(LInf())": (NormSteepest(LInf()), np.sign),
        "NormSteepest(L1())": (NormSteepest(L1()), lambda a: np.sign(a) * (np.abs(a) == np.abs(a).max())),
        "NormSteepest(Lp(3))": (NormSteepest(Lp(3)), lambda a: np.sign(a) * np.sqrt(np.abs(a))),
    }
    return {
        f"{name}, 1 x {COLUMNS}": Subject(
            rule, partial(_gaussian, rows=1), {"numpy": Peer(partial(_along, direction), A_ROUND)}
        )
        for name, (rule, direction) in kinds.items()
    }


def _mirror_descents() -> dict[str, Subject]:
    updates = {"multiplicative updates, run": Peer(_multiply, RUNS_A_ROUND)}
    signed = (PNorm(3), PNorm(1.5), PNorm(1.1), Hypentropy(1.0), Hypentropy(0.01))
    return {
        "MirrorDescent(Entropy())": Subject(
            MirrorDescent(Entropy()), _positive, {**updates, **_projections(Entropy())}
        ),
        **{f"MirrorDescent({of})": Subject(MirrorDescent(of), _gaussian, _projections(of)) for of in signed},
    }


def _margins() -> dict[str, Subject]:
    machines = {name: Peer(partial(_machine, make)) for name, make in MACHINES.items()}
    kinds: dict[str, tuple[Rule, dict[str, Peer]]] = {
        "L2, GradientDescent()": (GradientDescent(), {**_margin(2), **machines}),
        "L1, NormSteepest(L1())": (NormSteepest(L1()), _margin(1)),
        "LInf, SignDescent()": (SignDescent(), _margin("inf")),
        "L3, NormSteepest(Lp(3))": (NormSteepest(Lp(3)), _margin(3)),
        "L1.5, NormSteepest(Lp(1.5))": (NormSteepest(Lp(1.5)), _margin(1.5)),
    }
    return {
        f"margin {name}": Subject(rule, _labelled, peers, "logistic", MARGINS_A_ROUND, "")
        for name, (rule, peers) in kinds.items()
    }


def _gaussian(k: int, rows: int = ROWS) -> Problem:
    random = np.random.default_rng(k)
    return random.standard_normal((rows, COLUMNS)), random.standard_normal(rows)


def _positive(k: int) -> Problem:
    """Return equations that have a solution above 0."""
    A, _ = _gaussian(k)  # noqa: N806
    return A, A @ np.random.default_rng(k).uniform(0.5, 1.5, COLUMNS)


def _labelled(k: int) -> Problem:
    """Return labelled examples, fewer than dimensions, so that they are separable."""
    A, b = _gaussian(k)  # noqa: N806
    return A, np.sign(b)


def _descend(A: Array, b: Array, momentum: float) -> Array:  # noqa: N803
    """Train a linear model until it stands still."""
    rows, target = torch.from_numpy(A), torch.from_numpy(b)
    theta = torch.zeros(COLUMNS, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([theta], lr=1 / float(torch.linalg.matrix_norm(rows, 2)) ** 2, momentum=momentum)
    enough = STOP * float(target.norm())
    while True:
        residual = rows @ theta - target
        if float(residual.detach().norm()) <= enough:
            return theta.detach().numpy()
        optimizer.zero_grad()
        (residual.square().sum() / 2).backward()
        optimizer.step()


def _multiply(A: Array, b: Array) -> Array:  # noqa: N803
    """Run exponentiated gradient descent from ones until it stands still."""
    theta, curvature, enough = np.ones(COLUMNS), np.linalg.norm(A, 2) ** 2, STOP * np.linalg.norm(b)
    while np.linalg.norm(residual := A @ theta - b) > enough:
        theta = theta * np.exp(-(A.T @ residual) / (curvature * theta.max()))
    return theta


def _pseudo_inverse(A: Array, b: Array) -> Array:  # noqa: N803
    return np.linalg.pinv(A) @ b


def _least_squares(A: Array, b: Array) -> Array:  # noqa: N803
    return np.linalg.lstsq(A, b)[0]


def _by_signs(A: Array, b: Array) -> Array:  # noqa: N803
    return np.sign(A).T @ np.linalg.solve(A @ np.sign(A).T, b)


def _preconditioned(A: Array, b: Array) -> Array:  # noqa: N803
    moved = A * DIAGONAL
    return moved.T @ (np.linalg.pinv(moved @ A.T) @ b)


def _rescaled(A: Array, b: Array) -> Array:  # noqa: N803
    scales = np.sqrt((A**2).mean(axis=0))
    return np.linalg.lstsq(A / scales, b)[0] / scales


def _along(direction: Callable[[Array], Array], A: Array, b: Array) -> Array:  # noqa: N803
    step = direction(A[0])
    return step * (b[0] / (A[0] @ step))


def _projections(potential: Potential) -> dict[str, Peer]:
    """Return the general solvers of the Bregman projection of the potential's minimum."""
    scipy = {name: Peer(partial(_scipy, potential, options)) for name, options in SLSQP.items()}
    if not installed("cvxpy"):
        return scipy
    import cvxpy as cp

    x, y = cp.Variable(COLUMNS), cp.Variable(COLUMNS)
    if isinstance(potential, Entropy):
        return {**_cvxpy(cp.sum(cp.kl_div(x, np.ones(COLUMNS))), x), **scipy}
    if isinstance(potential, PNorm):
        return {**_cvxpy(cp.sum(cp.power(cp.abs(x), potential.p)), x), **scipy}
    if not isinstance(potential, Hypentropy):
        raise TypeError(potential)
    # beta sinh z = (beta / 2) exp z - (beta / 2) exp -z: two entropies, around beta / 2.
    half = np.full(COLUMNS, potential.beta / 2)
    return {**_cvxpy(cp.sum(cp.kl_div(x, half) + cp.kl_div(y, half)), x - y), **scipy}


def _margin(p: float | str) -> dict[str, Peer]:
    if not installed("cvxpy"):
        return {}
    import cvxpy as cp

    w = cp.Variable(COLUMNS)
    return _cvxpy(cp.sum_squares(w) if p == 2 else cp.norm(w, p), w, margins=True)


def _cvxpy(objective: Any, theta: Any, margins: bool = False) -> dict[str, Peer]:
    """Return the solver at its own tolerance and at the tight one, of A theta = b or of diag(b) A theta >= 1."""
    import cvxpy as cp

    def solver(options: dict[str, float]) -> Answer:
        # A program of its own: a compiled one keeps the tolerances of its first solution.
        rows, target = cp.Parameter((ROWS, COLUMNS)), cp.Parameter(ROWS)
        program = cp.Problem(cp.Minimize(objective), [rows @ theta >= 1 if margins else rows @ theta == target])

        def solve(A: Array, b: Array) -> Array | None:  # noqa: N803
            rows.value, target.value = (A * b[:, None] if margins else A), b
            try:
                program.solve(solver=cp.CLARABEL, warm_start=False, **options)
            except cp.SolverError:
                return None
            return theta.value

        return solve

    return {name: Peer(solver(options)) for name, options in TOLERANCES.items()}


def _scipy(potential: Potential, options: dict[str, float], A: Array, b: Array) -> Array:  # noqa: N803
    start = potential.start(COLUMNS)
    slopes = potential.gradient(start).numpy()
    positive = isinstance(potential, Entropy)
    return minimize(
        lambda x: float(potential(torch.from_numpy(x)).sum()) - slopes @ x,
        start.numpy() if positive else np.linalg.lstsq(A, b)[0],
        jac=lambda x: potential.gradient(torch.from_numpy(x)).numpy() - slopes,
        constraints={"type": "eq", "fun": lambda x: A @ x - b, "jac": lambda _: A},
        bounds=[(1e-12, None)] * COLUMNS if positive else None,
        method="SLSQP",
        options={"maxiter": 1000, **options},
    ).x


def _machine(make: Callable[[], Any], A: Array, b: Array) -> Array:  # noqa: N803
    """Fit a support vector machine through the origin."""
    machine = make()
    if isinstance(machine, SVC):
        return machine.fit(np.vstack([A, -A]), np.r_[b, -b]).coef_[0]
    return machine.fit(A, b).coef_[0]
