"""Tangent features over training: an experiment, and an observer for a trial."""

from steepest.features._change import change_of, spectra
from steepest.features._experiment import features
from steepest.features._observer import FeatureObserver
from steepest.features._result import Features
from steepest.features._snapshots import Curves, Snapshot, Snapshots

__all__ = ["Curves", "FeatureObserver", "Features", "Snapshot", "Snapshots", "change_of", "features", "spectra"]
