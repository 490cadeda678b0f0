"""How workers agree on the mean of their gradients, what that costs, and what survives."""

from steepest.communication._all_reduce import AllReduce
from steepest.communication._all_to_all import AllToAll
from steepest.communication._busbw import busbw
from steepest.communication._choose import Choice, choose
from steepest.communication._cluster import Cluster, Heterogeneity, Host, Protocol
from steepest.communication._cost import Cost
from steepest.communication._ddp import ddp_hook
from steepest.communication._displays.curves import CostCurves
from steepest.communication._displays.diagram import MessageDiagram
from steepest.communication._displays.timeline import RecoveryTimeline
from steepest.communication._displays.traffic import LinkTraffic
from steepest.communication._elastic import ElasticGroup
from steepest.communication._faults import Faults
from steepest.communication._fit import fit
from steepest.communication._launch import launch
from steepest.communication._measurement import Measurement, measure_cluster
from steepest.communication._membership.deadlines import Deadlines
from steepest.communication._membership.events import GroupEvent
from steepest.communication._membership.membership import Address, View
from steepest.communication._membership.worker import State
from steepest.communication._parameter_server import ParameterServer
from steepest.communication._predict import predict
from steepest.communication._ring import Ring
from steepest.communication._scheme import Scheme
from steepest.communication._simulate import Simulation, SimulationEvent, simulate
from steepest.communication._traffic import Record, Traffic, measure

__all__ = [
    "Address",
    "AllReduce",
    "AllToAll",
    "Choice",
    "Cluster",
    "Cost",
    "CostCurves",
    "Deadlines",
    "ElasticGroup",
    "Faults",
    "GroupEvent",
    "Heterogeneity",
    "Host",
    "LinkTraffic",
    "Measurement",
    "MessageDiagram",
    "ParameterServer",
    "Protocol",
    "Record",
    "RecoveryTimeline",
    "Ring",
    "Scheme",
    "Simulation",
    "SimulationEvent",
    "State",
    "Traffic",
    "View",
    "busbw",
    "choose",
    "ddp_hook",
    "fit",
    "launch",
    "measure",
    "measure_cluster",
    "predict",
    "simulate",
]
