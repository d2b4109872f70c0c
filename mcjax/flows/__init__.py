"""Learnable connections: one model of the neurons of many networks (anokhin2020, Sec. 3.3)."""

from .architecture import Architecture
from .model import ConnectionModel, FlowPath
from .training import AdamProtocol, train_bijection, train_flow

__all__ = [
    "AdamProtocol",
    "Architecture",
    "ConnectionModel",
    "FlowPath",
    "train_bijection",
    "train_flow",
]
