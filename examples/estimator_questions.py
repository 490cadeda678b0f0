"""What delta, step size and the number of samples do, and which estimator is better: measured, printed and drawn.

    python examples/estimator_questions.py [FILE.html]

Ascents on an objective with 17 local maxima, along gradients by finite differences, the score function and the pathwise
estimator. Each question is one function of `steepest.estimators`, which takes any other objective as well:
`Ascent(objective, start, sigma, step, steps)`. The figures are written to one page.
"""

import sys
from pathlib import Path

import torch

from steepest.estimators import (
    delta_effect,
    sample_efficiency,
    score_function_terms,
    step_size_effect,
    straightness,
    zero_gradient,
)


def main(page: Path | None) -> None:
    """Print the answers, and write the figures to a page."""
    delta, steps, needed = delta_effect(), step_size_effect(), sample_efficiency()
    terms, straight, zero = score_function_terms(), straightness(), zero_gradient()

    print("relative error of forward differences with 20 samples:")
    for size, error in zip(delta.deltas[::2], delta.error["forward"][1, ::2], strict=True):
        print(f"  delta {size:7.1g}: {error:.2f}")
    print("the best step size (nan: all runs diverge):")
    for name, best in steps.best.items():
        print(f"  {name}: " + ", ".join(f"{size:g} (N = {n})" for size, n in zip(best, steps.samples, strict=True)))
    print("evaluations for a relative error of .2, and until nine tenths of the way up are made:")
    for name, evaluations in needed.evaluations_for(error=0.2).items():
        print(f"  {name}: {evaluations:.0f}, {needed.fewest_to_target[name]:.0f}")
    print("length of a path over the distance of its ends:")
    for name, ratio in straight.ratio.items():
        print(
            f"  {name}: " + ", ".join(f"{r:.1f} (N = {n})" for n, r in zip(straight.samples, ratio[:, 1], strict=True))
        )
    print("quantised: share of zero gradients, and of runs that end at the highest level:")
    for name, share in zero.zero.items():
        print(f"  {name}: {share:.0%}, {zero.reached[name][-1]:.1%}")

    if page is not None:
        figures = [each.plot() for each in (delta, steps, needed, terms, straight, zero)]
        first, *others = figures
        parts = [first.to_html(full_html=False, include_plotlyjs=True)]
        parts += [each.to_html(full_html=False, include_plotlyjs=False) for each in others]
        page.write_text("<meta charset='utf-8'>" + "\n".join(parts), encoding="utf-8")
        print(f"figures: {page}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
