"""The papers' named methods: `mcjax.connect(method, …)` returns a path."""

from .connect import METHODS, Connection, Method, connect, construct
from .curves import train_curve
from .learned_alignment import Objective, learn_permutations
from .pam import PAM, pam

__all__ = [
    "METHODS",
    "PAM",
    "Connection",
    "Method",
    "Objective",
    "connect",
    "construct",
    "learn_permutations",
    "pam",
    "train_curve",
]
