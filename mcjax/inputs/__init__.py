"""Paths between inputs of one network: inputs are points as parameters are."""

from .adaptive import AdaptivePGD, Templates
from .around import Bypass
from .bypass import Bypassed, bypass
from .detection import Detection, detect
from .features import (
    Feature,
    InputSpectrum,
    LayerSpectrum,
    LocalDimension,
    LossCurve,
    Mahalanobis,
    Watched,
)
from .interpolation import Interpolation, interpolate
from .synthesis import Synthesis, Synthesised, synthesise

__all__ = [
    "AdaptivePGD",
    "Bypass",
    "Bypassed",
    "Detection",
    "Feature",
    "InputSpectrum",
    "Interpolation",
    "LayerSpectrum",
    "LocalDimension",
    "LossCurve",
    "Mahalanobis",
    "Synthesis",
    "Synthesised",
    "Templates",
    "Watched",
    "bypass",
    "detect",
    "interpolate",
    "synthesise",
]
