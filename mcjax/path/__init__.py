"""Families of points in parameter space, and paths: t in [0, 1] ↦ parameters."""

from ._base import Combination, Family, Path, static, time
from .combination import Arc, Bezier, Linear, PolygonalChain
from .legs import Knots, Legs, Partial
from .orbit import Orbit
from .points import Point, Points
from .segments import Segments
from .star import Star
from .swaps import Swaps
from .transformation import Transformation
from .transported import Transported

__all__ = [
    "Arc",
    "Bezier",
    "Combination",
    "Family",
    "Knots",
    "Legs",
    "Linear",
    "Orbit",
    "Partial",
    "Path",
    "Point",
    "Points",
    "PolygonalChain",
    "Segments",
    "Star",
    "Swaps",
    "Transformation",
    "Transported",
    "static",
    "time",
]
