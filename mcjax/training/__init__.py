"""Training: end points, curves, the free points of any path."""

from .curves import Renewed, train_curve
from .driver import State, Trainer, run
from .fit import Fit, fit
from .loss import MeanLoss, TrainingLoss
from .networks import train_networks
from .protocol import Protocol, tatro2020

__all__ = [
    "Fit",
    "MeanLoss",
    "Protocol",
    "Renewed",
    "State",
    "Trainer",
    "TrainingLoss",
    "fit",
    "run",
    "tatro2020",
    "train_curve",
    "train_networks",
]
