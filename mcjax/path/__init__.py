"""Paths in parameter space: t in [0, 1] ↦ parameters."""

from ._base import Path
from .combination import Arc, Bezier, Linear, PolygonalChain
from .legs import Knots, Legs, Partial
from .swaps import Swaps

__all__ = ["Arc", "Bezier", "Knots", "Legs", "Linear", "Partial", "Path", "PolygonalChain", "Swaps"]
