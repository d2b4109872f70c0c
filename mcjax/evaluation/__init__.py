"""Loss along a path: sweeps, barriers, batch-normalisation statistics."""

from ..metrics import accuracy, cross_entropy
from .along import Curve, evaluate
from .barrier import barrier
from .batch_norm import estimate_batch_norm

__all__ = ["Curve", "accuracy", "barrier", "cross_entropy", "estimate_batch_norm", "evaluate"]
