"""How workers agree on the mean of their gradients, what that costs, and what survives."""

from steepest.communication._all_reduce import AllReduce
from steepest.communication._all_to_all import AllToAll
from steepest.communication._cost import Cost
from steepest.communication._launch import launch
from steepest.communication._parameter_server import ParameterServer
from steepest.communication._ring import Ring
from steepest.communication._scheme import Scheme
from steepest.communication._traffic import Record, Traffic, measure

__all__ = [
    "AllReduce",
    "AllToAll",
    "Cost",
    "ParameterServer",
    "Record",
    "Ring",
    "Scheme",
    "Traffic",
    "launch",
    "measure",
]
