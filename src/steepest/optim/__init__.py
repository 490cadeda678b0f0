"""Steepest descent as torch optimizers: a norm decides the geometry, the mode decides the length."""

from steepest.optim._muon import Muon, muon_norm
from steepest.optim._sign_descent import SignDescent
from steepest.optim._steepest_descent import SteepestDescent

__all__ = ["Muon", "SignDescent", "SteepestDescent", "muon_norm"]
