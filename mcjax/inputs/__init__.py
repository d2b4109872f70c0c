"""Paths between inputs of one network: inputs are points as parameters are."""

from .around import Bypass
from .bypass import Bypassed, bypass
from .interpolation import Interpolation, interpolate

__all__ = ["Bypass", "Bypassed", "Interpolation", "bypass", "interpolate"]
