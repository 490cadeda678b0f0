"""The result of a `FeatureObserver` in the history of a run."""

from __future__ import annotations

from steepest._check import instance
from steepest.errors import InvalidArgument
from steepest.linearize import FeatureChange, SpectrumDisplay
from steepest.train import History

__all__ = ["change_of", "spectra"]


def change_of(history: History, name: str = "features") -> FeatureChange | str | None:
    """Return how a run has changed the tangent features, or why that is unknown; None without a `FeatureObserver`.

    Args:
        history: The history of the run.
        name: The name of the observer in `steepest.compare.compare`.

    Raises:
        InvalidArgument: If history is no `History`, or the observer of that name was not a `FeatureObserver`.
    """
    found = instance("history", history, History, "a History").observations.get(instance("name", name, str, "a string"))
    try:
        return found if found is None or isinstance(found, str) else FeatureChange.from_dict(found)
    except InvalidArgument as error:
        raise InvalidArgument(
            f"observations[{name!r}] must be what a FeatureObserver has found",
            got=found,
            remedy="Give other observers another name.",
        ) from error


def spectra(change: FeatureChange) -> SpectrumDisplay:
    """Return the singular values of the tangent features before and after a run as a display.

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
