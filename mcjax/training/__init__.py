"""Training: end points, curves, the free points of any path."""

from .curves import train_curve
from .fit import Fit, fit
from .networks import train_networks
from .protocol import Protocol, tatro2020

__all__ = ["Fit", "Protocol", "fit", "tatro2020", "train_curve", "train_networks"]
