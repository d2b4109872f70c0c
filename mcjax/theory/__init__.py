"""Bounds and closed forms of the papers, computed for real networks."""

from .alignment_bound import Bound, alignment_bound
from .components import (
    OrbitComponents,
    group_components,
    level_set_components_bound,
    orbit_components,
)
from .curvature import ChordBound, chord_bound, curvature
from .curves import ApproximateCurve, GroupCurve, act_between, approximate_action
from .dimension import (
    LayerDimension,
    NeuronClouds,
    effective_dimension,
    intrinsic_dimension,
    layer_dimensions,
    neuron_clouds,
)
from .linear_networks import (
    LinearMinimum,
    component_count,
    component_label,
    connect_minima,
    connecting_permutations,
    permute_linear,
)
from .low_rank import LowRankNoise, low_rank_noise
from .mean_field import dropout_bound, dropout_error, mean_field_violations
from .orbits import OrbitDistance, distance_to_hyperbola, distance_to_orbit
from .percolation import (
    Percolation,
    cell_side,
    infinite_cluster,
    lipschitz_bound,
    outside_infinite_cluster,
    percolate,
)
from .permuted_barrier import PermutedBarrier, permuted_barrier
from .rescaling import (
    barrier_height,
    bounded_barrier,
    scale_for_barrier,
    segment_gain,
    worst_alpha,
)
from .residual import residual_component, residual_component_count
from .transport import (
    Rate,
    Wasserstein,
    fit_rate,
    gaussian_exponent,
    layer_errors,
    relu_bound,
    sufficient_width,
    two_layer_bound,
    wasserstein,
    worst_case_exponent,
)

__all__ = [
    "ApproximateCurve",
    "Bound",
    "ChordBound",
    "GroupCurve",
    "LayerDimension",
    "LinearMinimum",
    "LowRankNoise",
    "NeuronClouds",
    "OrbitComponents",
    "OrbitDistance",
    "Percolation",
    "PermutedBarrier",
    "Rate",
    "Wasserstein",
    "act_between",
    "alignment_bound",
    "approximate_action",
    "barrier_height",
    "bounded_barrier",
    "cell_side",
    "chord_bound",
    "component_count",
    "component_label",
    "connect_minima",
    "connecting_permutations",
    "curvature",
    "distance_to_hyperbola",
    "distance_to_orbit",
    "dropout_bound",
    "dropout_error",
    "effective_dimension",
    "fit_rate",
    "gaussian_exponent",
    "group_components",
    "infinite_cluster",
    "intrinsic_dimension",
    "layer_dimensions",
    "layer_errors",
    "level_set_components_bound",
    "lipschitz_bound",
    "low_rank_noise",
    "mean_field_violations",
    "neuron_clouds",
    "orbit_components",
    "outside_infinite_cluster",
    "percolate",
    "permute_linear",
    "permuted_barrier",
    "relu_bound",
    "residual_component",
    "residual_component_count",
    "scale_for_barrier",
    "segment_gain",
    "sufficient_width",
    "two_layer_bound",
    "wasserstein",
    "worst_alpha",
    "worst_case_exponent",
]
