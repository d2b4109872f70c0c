"""How many dimensions neurons really have (ferbach2023, Figure 2)."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np

from .. import _check, _check_model
from .._readonly import make_read_only
from .._types import Params
from ..adjust.second_moments import LayerMoment, second_moments
from ..network.network import Network
from ..transport.problem import finite, real
from .transport import points_of


@_check.on_host
def effective_dimension(matrix: Any) -> float:
    """Dim(S) = tr(S)² / tr(S²): 1 for a matrix of rank one, d for the identity of size d.

    **Arguments:**
    - `matrix`: S, (d, d), symmetric and positive semidefinite; or (batch, d, d), the blocks of a
      block-diagonal one

    **Returns:** a number from 1 to d; NaN for S = 0, which has none.

    **Raises:** `ValueError` for other shapes, what is not finite or not symmetric, and a diagonal
    that is negative somewhere.

        >>> import numpy as np, mcjax
        >>> mcjax.theory.effective_dimension(np.diag([2.0, 1.0, 1.0]))
        2.6666666666666665
    """
    s = real(matrix, "matrix")
    if s.ndim not in (2, 3) or s.shape[-1] != s.shape[-2] or not s.size:
        raise ValueError(f"matrix: expected (d, d) or (batch, d, d), got shape {s.shape}")
    finite(s, "matrix")
    largest = np.abs(s).max()
    if not largest:
        return np.nan
    s = s / largest
    if not np.allclose(s, s.swapaxes(-1, -2), atol=1e-6):
        raise ValueError("matrix must be symmetric")
    if (least := np.diagonal(s, axis1=-2, axis2=-1).min()) < -1e-6:
        raise ValueError(
            f"matrix must be positive semidefinite, has {least * largest:.4g} on its diagonal"
        )
    return float(np.trace(s, axis1=-2, axis2=-1).sum() ** 2 / np.square(s).sum())


@dataclasses.dataclass(frozen=True)
class LayerDimension:
    """Effective dimensions at a layer with weights W (inputs × outputs) and Σ = E[x xᵀ].

    - `layer`: its name
    - `weights`: Dim(Wᵀ W), what matching incoming weights sees
    - `incoming`: Dim(Wᵀ Σ W), what matching them in the metric of the inputs sees
    - `inputs`: Dim(Σ) of the activations that it reads, what matching the layer before by
      (uncentred) activations sees

    An embedding reads one-hot vectors of tokens: Σ is the diagonal of their shares f, and Dim(Σ) =
    1 / Σ f² (where every token has a row) the effective number of different ones.
    """

    layer: str
    weights: float
    incoming: float
    inputs: float


@_check.on_host
def layer_dimensions(
    network: Network, params: Params, x: Any, *, chunk: int | None = None
) -> tuple[LayerDimension, ...]:
    """The three effective dimensions of every layer, over inputs x, in one pass.

    **Arguments:**
    - `x`: inputs batched on axis 0
    - `chunk`: examples at a time; default: as many as fit in 128 MiB

    **Raises:** `ValueError` for parameters that do not fit, inputs that are empty or not finite,
    and layers that have no second moment (inside loops, shared weights).

        >>> import jax.numpy as jnp, mcjax
        >>> f = lambda p, x: jnp.tanh(x @ p["w1"]) @ p["w2"]
        >>> params = {"w1": jnp.eye(3), "w2": jnp.ones((3, 2))}
        >>> network = mcjax.trace(f, params, jnp.eye(3))
        >>> first, last = mcjax.theory.layer_dimensions(network, params, jnp.eye(3))
        >>> round(first.weights, 4), round(first.inputs, 4), round(last.weights, 4)
        (3.0, 3.0, 1.0)
    """
    return tuple(
        LayerDimension(
            name,
            effective_dimension(weights.swapaxes(-1, -2) @ weights),
            effective_dimension(weights.swapaxes(-1, -2) @ found.times(weights)),
            effective_dimension(found.blocks),
        )
        for name, weights, found in _matrices(network, params, x, chunk)
    )


@dataclasses.dataclass(frozen=True, eq=False)
class NeuronClouds:
    """Neurons at a layer with weights W (inputs × outputs) and Σ = E[x xᵀ], as points: a row each.

    Their inner products are the matrices whose effective dimensions `LayerDimension` has; no
    rotation of the points changes these, nor a distance.

    - `layer`: its name
    - `weights`: Wᵀ, (outputs, inputs)
    - `incoming`: Wᵀ Σ^½, (outputs, inputs): distances in the metric of the inputs
    - `inputs`: Σ^½, (inputs, inputs), the units that it reads: ‖row i − row j‖² = E[(x_i − x_j)²];
      None for an embedding, whose tokens exclude each other and are near no other
    """

    layer: str
    weights: np.ndarray
    incoming: np.ndarray
    inputs: np.ndarray | None

    def __post_init__(self) -> None:
        make_read_only(self, "weights", "incoming", "inputs")


@_check.on_host
def neuron_clouds(
    network: Network, params: Params, x: Any, *, chunk: int | None = None
) -> tuple[NeuronClouds, ...]:
    """The neurons of every layer as points, over inputs x, in one pass.

    Of a layer in blocks (a grouped convolution) the blocks are orthogonal to each other.

    **Arguments** and **raises:** as `layer_dimensions`.

        >>> import jax.numpy as jnp, mcjax
        >>> f = lambda p, x: jnp.tanh(x @ p["w1"]) @ p["w2"]
        >>> params = {"w1": jnp.ones((3, 4)), "w2": jnp.ones((4, 2))}
        >>> network = mcjax.trace(f, params, jnp.eye(3))
        >>> first, last = mcjax.theory.neuron_clouds(network, params, jnp.eye(3))
        >>> first.weights.shape, first.incoming.shape, last.inputs.shape
        ((4, 3), (4, 3), (4, 4))
    """
    from scipy.linalg import block_diag

    out = []
    for name, weights, found in _matrices(network, params, x, chunk):
        root = found.root()  # symmetric
        plain, incoming = (
            np.asarray(block_diag(*w.swapaxes(-1, -2))) for w in (weights, root.times(weights))
        )
        read = None if found.is_lookup else np.asarray(block_diag(*root.moment))
        out.append(NeuronClouds(name, plain, incoming, read))
    return tuple(out)


def _matrices(
    network: Network, params: Params, x: Any, chunk: int | None
) -> Iterator[tuple[str, np.ndarray, LayerMoment]]:
    """Name, W (batch, inputs, outputs) and Σ of every layer."""
    _check_model.network(network)
    (params,) = network.check_parameters(params=params)
    leaves = jax.tree.leaves(params)
    for found in second_moments(network, params, x, range(len(network.layers)), chunk):
        layer = network.layers[found.layer]
        yield layer.name, found.weights(leaves[layer.contraction.weight]), found


@_check.on_host
def intrinsic_dimension(cloud: Any, estimator: Any = None) -> float:
    """The dimension of the set that points lie near, curved or flat, by scikit-dimension.

    Where `effective_dimension` counts directions of a linear space, weighted by their variance,
    this looks at points near each other. Estimators by distances find too little where points are
    few for the dimension, as distances to the nearest of n points in d dimensions shrink as
    n^{−1/d} only: of 512 Gaussian points TwoNN finds 16 dimensions for 20 and 130 to 140 for 784.

    **Arguments:**
    - `cloud`: points, (n, d), such as those of `neuron_clouds`; points that coincide to ten digits
      (dead units) count once
    - `estimator`: a scikit-dimension estimator, or whatever has `fit(points)` and then
      `dimension_`; default: `skdim.id.TwoNN()` (Facco et al. 2017)

    **Raises:** `ValueError` for no points, other shapes, what is not finite, and clouds that the
    estimator does not work on, such as fewer points than its neighbours; `ImportError` without
    scikit-dimension and an estimator.

        >>> import numpy as np, mcjax
        >>> from sklearn.decomposition import PCA
        >>> class Linear(PCA):  # any object with fit and dimension_
        ...     dimension_ = property(lambda self: int((self.explained_variance_ > 1e-9).sum()))
        >>> circle = [[np.cos(t), np.sin(t), 0.0] for t in np.linspace(0, 6, 50)]
        >>> mcjax.theory.intrinsic_dimension(circle, Linear())  # TwoNN says 1
        2.0
    """
    points = points_of(cloud, "cloud")
    estimator = _two_nearest() if estimator is None else estimator
    points = points / (np.abs(points).max() or 1.0)
    _, distinct = np.unique(points.round(10), axis=0, return_index=True)
    points = points[np.sort(distinct)]
    if points.shape[1] == 1:  # estimators want two coordinates
        points = np.pad(points, ((0, 0), (0, 1)))
    kind = type(estimator).__name__
    try:
        estimator.fit(points)
        found = float(estimator.dimension_)
    except Exception as error:
        raise ValueError(
            f"cloud: {kind} does not work on {len(points)} different points of "
            f"{points.shape[1]} coordinates: {error}"
        ) from error
    if not np.isfinite(found):
        raise ValueError(
            f"cloud: {kind} finds the dimension {found} for {len(points)} different points"
        )
    return found


def _two_nearest() -> Any:
    try:
        return importlib.import_module("skdim.id").TwoNN()
    except ImportError:
        raise ImportError(
            "intrinsic dimensions are estimated by scikit-dimension: pip install "
            "'mcjax[dimension]', or hand over an estimator of another package"
        ) from None


__all__ = [
    "LayerDimension",
    "NeuronClouds",
    "effective_dimension",
    "intrinsic_dimension",
    "layer_dimensions",
    "neuron_clouds",
]
