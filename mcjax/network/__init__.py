"""A traced model: its groups, layers, units and actions. `mcjax.trace` makes a `Network`."""

from .absorption.absorb import Absorption
from .action import Action, ActionLogarithm
from .groups import Group, Layer, Place
from .network import Network
from .units import Units, units_of
from .verify import Verification

__all__ = [
    "Absorption",
    "Action",
    "ActionLogarithm",
    "Group",
    "Layer",
    "Network",
    "Place",
    "Units",
    "Verification",
    "units_of",
]
