"""How many dimensions neurons really have (ferbach2023, Figure 2)."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import numpy as np

from .. import _check, _check_model
from .._types import Params
from ..adjust.second_moments import second_moments
from ..network.network import Network
from ..transport.problem import finite, real


@_check.on_host
def effective_dimension(matrix: Any) -> float:
    """Dim(S) = tr(S)² / tr(S²): 1 for a matrix of rank one, d for the identity of size d.

    **Arguments:**
    - `matrix`: S, (d, d), symmetric and positive semidefinite; or (batch, d, d), the blocks of a
      block-diagonal one

    **Returns:** a number from 1 to d; NaN for S = 0, which has none.

    **Raises:** `ValueError` for other shapes, and what is not finite or not symmetric.

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
    return float(np.trace(s, axis1=-2, axis2=-1).sum() ** 2 / np.square(s).sum())


@dataclasses.dataclass(frozen=True)
class LayerDimension:
    """Effective dimensions at a layer with weights W (inputs × outputs) and Σ = E[x xᵀ].

    - `layer`: its name
    - `weights`: Dim(Wᵀ W), what matching incoming weights sees
    - `incoming`: Dim(Wᵀ Σ W), what matching them in the metric of the inputs sees
    - `inputs`: Dim(Σ) of the activations that it reads, what matching the layer before by
      (uncentred) activations sees
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
    and layers that have no second moment (inside loops, look-ups, shared weights).

        >>> import jax.numpy as jnp, mcjax
        >>> f = lambda p, x: jnp.tanh(x @ p["w1"]) @ p["w2"]
        >>> params = {"w1": jnp.eye(3), "w2": jnp.ones((3, 2))}
        >>> network = mcjax.trace(f, params, jnp.eye(3))
        >>> first, last = mcjax.theory.layer_dimensions(network, params, jnp.eye(3))
        >>> round(first.weights, 4), round(first.inputs, 4), round(last.weights, 4)
        (3.0, 3.0, 1.0)
    """
    _check_model.network(network)
    (params,) = network.check_parameters(params=params)
    leaves, out = jax.tree.leaves(params), []
    for found in second_moments(network, params, x, range(len(network.layers)), chunk):
        layer = network.layers[found.layer]
        w = found.weights(leaves[layer.contraction.weight])
        transposed = w.swapaxes(-1, -2)
        out.append(
            LayerDimension(
                layer.name,
                effective_dimension(transposed @ w),
                effective_dimension(transposed @ found.moment @ w),
                effective_dimension(found.moment),
            )
        )
    return tuple(out)


__all__ = ["LayerDimension", "effective_dimension", "layer_dimensions"]
