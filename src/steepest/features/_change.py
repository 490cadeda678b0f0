"""What an observer has left in the history of a run."""

from __future__ import annotations

from steepest._check import instance
from steepest.linearize import FeatureChange, SpectrumDisplay
from steepest.train import History

__all__ = ["change_of", "spectra"]


def change_of(history: History, name: str = "features") -> FeatureChange | str | None:
    """Return how a run has changed the features, or why that cannot be said; None where no `FeatureObserver` looked.

    Args:
        history: What the run left.
        name: Under which name the observer was given to `steepest.compare.compare`.

    Raises:
        InvalidArgument: If history is no `History`, or what is under that name was left by another observer.
    """
    found = instance("history", history, History, "a History").observations.get(instance("name", name, str, "a string"))
    return found if found is None or isinstance(found, str) else FeatureChange.from_dict(found)


def spectra(change: FeatureChange) -> SpectrumDisplay:
    """Return the singular values of the features before and after a run as a display.

    Raises:
        InvalidArgument: If change is no `FeatureChange`.
    """
    instance("change", change, FeatureChange, "a FeatureChange")
    ends = {"initialisation": change.start, "end": change.end}
    return SpectrumDisplay(
        {name: spectrum.singular_values for name, spectrum in ends.items()},
        {name: spectrum.rank for name, spectrum in ends.items()},
        {name: spectrum.threshold for name, spectrum in ends.items()},
    )
