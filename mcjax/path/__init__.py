"""Paths in parameter space: t in [0, 1] ↦ parameters."""

from ._base import Path
from .combination import Arc, Bezier, Linear, PolygonalChain

__all__ = ["Arc", "Bezier", "Linear", "Path", "PolygonalChain"]
