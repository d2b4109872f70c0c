"""Loss along paths and on planes: sweeps, barriers, batch-normalisation statistics, REPAIR."""

from .along import evaluate, evaluate_points
from .barrier import barrier
from .batch_norm import estimate_batch_norm
from .curve import Curve
from .layers import LayerCurves, evaluate_layers
from .over_networks import PairMean, mean_over_pairs
from .pairs import evaluate_pairs
from .pairwise import PairwiseCurves
from .plane import Plane, evaluate_plane
from .repair import Repaired
from .statistics import Statistics, StatisticsWarning, batch_norm_along
from .surface import Surface
from .sweep import metrics_at

__all__ = [
    "Curve",
    "LayerCurves",
    "PairMean",
    "PairwiseCurves",
    "Plane",
    "Repaired",
    "Statistics",
    "StatisticsWarning",
    "Surface",
    "barrier",
    "batch_norm_along",
    "estimate_batch_norm",
    "evaluate",
    "evaluate_layers",
    "evaluate_pairs",
    "evaluate_plane",
    "evaluate_points",
    "mean_over_pairs",
    "metrics_at",
]
