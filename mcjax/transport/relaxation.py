"""Doubly stochastic matrices in the place of permutations (tatro2020, App. E): array functions.

The convex hull of the permutation matrices is the set of doubly stochastic ones.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .exact import assignment
from .problem import finite, real

# Fixed, so that the iterations can be differentiated.
_SINKHORN_STEPS = 200
# Of entries and of the sums of rows and columns; what is trained is projected nearly.
_TOLERANCE = 0.05
_PROJECTIONS = 3000


def as_given(matrix: jax.Array) -> jax.Array:
    """The matrix itself: it is kept doubly stochastic by projections (PAM)."""
    return matrix


@partial(jax.jit, static_argnames="temperature")
def sinkhorn(matrix: jax.Array, temperature: float = 0.1) -> jax.Array:
    """argmax ⟨D, M⟩ + τ H(D) over doubly stochastic D (ott-jax, differentiated step by step).

    **Arguments:**
    - `matrix`: M, (…, n, n)
    - `temperature`: τ

        >>> import jax.numpy as jnp, mcjax
        >>> mcjax.transport.sinkhorn(jnp.zeros((2, 2))).tolist()
        [[0.5, 0.5], [0.5, 0.5]]
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # ott imports jaxopt, which warns
        from ott.geometry.geometry import Geometry
        from ott.solvers import linear

    matrix = _square(matrix)

    def one(m):
        geometry = Geometry(-m, epsilon=temperature)
        found = linear.solve(
            geometry, implicit_diff=None,
            min_iterations=_SINKHORN_STEPS, max_iterations=_SINKHORN_STEPS,
        )  # fmt: skip
        return len(m) * found.matrix

    return _over_outer(one)(matrix)


def nearest_permutation(matrix: Any) -> np.ndarray:
    """argmax_P ⟨P, D⟩ of doubly stochastic D, as index arrays (SciPy; tatro2020, Eq. 52).

    **Arguments:**
    - `matrix`: D, (…, n, n)

    **Returns:** (…, n)

    **Raises:** `ValueError` where D is not doubly stochastic or not finite.

        >>> import mcjax
        >>> mcjax.transport.nearest_permutation([[0.2, 0.8], [0.8, 0.2]]).tolist()
        [1, 0]
    """
    matrix = doubly_stochastic(matrix, "matrix")
    flat = matrix.reshape(-1, *matrix.shape[-2:])
    return np.stack([assignment(m) for m in flat]).astype(np.int32).reshape(matrix.shape[:-1])


def doubly_stochastic(matrix: Any, name: str) -> np.ndarray:
    """The matrices in float64; raise unless rows and columns sum to 1 and no entry is negative."""
    array = real(matrix, name)
    if array.ndim < 2 or array.shape[-1] != array.shape[-2] or not array.size:
        raise ValueError(f"{name} must be square, (…, n, n), got shape {array.shape}")
    finite(array, name)
    least = array.min()
    if least < -_TOLERANCE:
        raise ValueError(f"{name} is not doubly stochastic: its least entry is {least:.3g}")
    for axis, word in ((-1, "row"), (-2, "column")):
        sums = array.sum(axis)
        off = np.abs(sums - 1)
        if off.max() > _TOLERANCE:
            place = np.unravel_index(int(off.argmax()), off.shape)
            where = ", ".join(map(str, place))
            raise ValueError(
                f"{name} is not doubly stochastic: {word} {where} sums to {sums[place]:.4g}, "
                "expected 1; mcjax.transport.project makes it so"
            )
    return array


@partial(jax.jit, static_argnames="iterations")
def project(matrix: jax.Array, iterations: int = 20) -> jax.Array:
    """Nearly the nearest doubly stochastic matrix: alternating projections (App. E.2).

    In turn onto the nonnegative matrices and onto those whose rows and columns sum to 1; the
    first has the last word, so that no entry is negative.

        >>> import jax.numpy as jnp, mcjax
        >>> found = mcjax.transport.project(jnp.array([[3.0, 0.0], [0.0, 3.0]]))
        >>> bool(jnp.allclose(found, jnp.eye(2), atol=1e-3))
        True
    """

    def both(m, _):
        return jnp.maximum(_with_sums(m), 0), None

    matrix = _square(matrix)
    return jax.lax.scan(both, jnp.maximum(matrix, 0), None, length=iterations)[0]


def projected(matrix: Any, name: str) -> np.ndarray:
    """As `project`, on the host, until rows and columns sum to 1 (or nothing helps).

    **Raises:** `ValueError` where the matrix is not finite.
    """
    array = real(matrix, name)
    finite(array, name)
    array = np.maximum(array, 0)
    for _ in range(_PROJECTIONS):
        off = max(np.abs(array.sum(axis) - 1).max(initial=0) for axis in (-1, -2))
        if off <= _TOLERANCE / 10:
            break
        array = np.maximum(_with_sums(array), 0)
    return array


def _square(matrix: Any) -> jax.Array:
    """The matrices as an array of JAX's; raise unless they are square."""
    matrix = jnp.asarray(matrix)
    if matrix.ndim < 2 or matrix.shape[-1] != matrix.shape[-2] or not matrix.size:
        raise ValueError(f"matrix must be square, (…, n, n), got shape {matrix.shape}")
    return matrix


def _with_sums(m: Any) -> Any:
    """The nearest matrix whose rows and columns sum to 1."""
    n = m.shape[-1]
    rows = (m.sum(-1, keepdims=True) - 1) / n
    columns = (m.sum(-2, keepdims=True) - 1) / n
    centre = (m.sum((-1, -2), keepdims=True) - n) / n**2
    return m - rows - columns + centre


def _over_outer(function: Callable[[jax.Array], jax.Array]) -> Callable[[jax.Array], jax.Array]:
    def apply(matrix):
        flat = matrix.reshape(-1, *matrix.shape[-2:])
        # One after the other: the matrices of a group inside others are small and few.
        return jnp.stack([function(m) for m in flat]).reshape(matrix.shape)

    return apply
