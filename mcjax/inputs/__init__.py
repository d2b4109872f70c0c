"""Paths between inputs of one network: inputs are points as parameters are."""

from .interpolation import Interpolation, interpolate

__all__ = ["Interpolation", "interpolate"]
