"""How workers agree on the mean of their gradients, what that costs, and what survives."""

from steepest.communication._all_reduce import AllReduce
from steepest.communication._all_to_all import AllToAll
from steepest.communication._cost import Cost
from steepest.communication._elastic import ElasticGroup
from steepest.communication._launch import launch
from steepest.communication._membership.deadlines import Deadlines
from steepest.communication._membership.events import GroupEvent
from steepest.communication._membership.membership import Address, View
from steepest.communication._membership.worker import State
from steepest.communication._parameter_server import ParameterServer
from steepest.communication._ring import Ring
from steepest.communication._scheme import Scheme
from steepest.communication._traffic import Record, Traffic, measure

__all__ = [
    "Address",
    "AllReduce",
    "AllToAll",
    "Cost",
    "Deadlines",
    "ElasticGroup",
    "GroupEvent",
    "ParameterServer",
    "Record",
    "Ring",
    "Scheme",
    "State",
    "Traffic",
    "View",
    "launch",
    "measure",
]
