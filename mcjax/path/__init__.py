"""Paths in parameter space: t in [0, 1] ↦ parameters."""

from ._base import Path
from .combination import Arc, Bezier, Linear, PolygonalChain
from .legs import Knots, Known, Legs, Partial
from .swaps import Swaps
from .transported import Transported

__all__ = [
    "Arc",
    "Bezier",
    "Knots",
    "Known",
    "Legs",
    "Linear",
    "Partial",
    "Path",
    "PolygonalChain",
    "Swaps",
    "Transported",
]
