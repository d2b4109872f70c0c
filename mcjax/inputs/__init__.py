"""Paths between inputs of one network: inputs are points as parameters are."""

from .around import Bypass
from .bypass import Bypassed, bypass
from .interpolation import Interpolation, interpolate
from .synthesis import Synthesis, Synthesised, synthesise

__all__ = [
    "Bypass",
    "Bypassed",
    "Interpolation",
    "Synthesis",
    "Synthesised",
    "bypass",
    "interpolate",
    "synthesise",
]
