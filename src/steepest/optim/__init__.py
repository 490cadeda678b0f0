"""Steepest descent as torch optimizers: a norm decides the geometry, the mode decides the length."""

from steepest._schedules import inverse_square_root
from steepest.optim._epoch_adam import EpochAdam
from steepest.optim._muon import Muon, muon_norm, muon_rules
from steepest.optim._route import Route, Routing
from steepest.optim._scion import Scion, route, scion_rules
from steepest.optim._sign_descent import SignDescent
from steepest.optim._steepest_descent import SteepestDescent

__all__ = [
    "EpochAdam",
    "Muon",
    "Route",
    "Routing",
    "Scion",
    "SignDescent",
    "SteepestDescent",
    "inverse_square_root",
    "muon_norm",
    "muon_rules",
    "route",
    "scion_rules",
]
