"""Orthogonal and invertible matrices as symmetries: random ones, and the nearest to a matrix.

Matrices act on units by rows: Σⱼ g[i, j] (row of unit j) comes to stand at i. All functions take
stacks of them, (…, n, n), and NumPy arrays in their own precision.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

CONDITION = 10.0  # of random invertible matrices, at most


def random_orthogonal(
    key: jax.Array, shape: tuple[int, ...], *, fixing_ones: bool = False
) -> jax.Array:
    """Orthogonal matrices drawn from the Haar measure.

    **Arguments:**
    - `key`: JAX random key
    - `shape`: (…, n), of which matrices (…, n, n) are drawn
    - `fixing_ones`: of those that keep the constant vector, g 1 = 1

        >>> import jax, jax.numpy as jnp
        >>> g = random_orthogonal(jax.random.key(0), (3, 4))
        >>> bool(jnp.allclose(g @ g.mT, jnp.eye(4), atol=1e-5))
        True
    """
    return orthogonal_of(_normal(key, shape, fixing_ones), fixing_ones=fixing_ones)


def orthogonal_of(gaussian: Any, *, fixing_ones: bool = False) -> Any:
    """Haar orthogonal matrices of Gaussian ones: QR with the signs of R's diagonal moved into Q.

    Without the signs Q is not uniform (Mezzadri 2007).

    **Arguments:**
    - `gaussian`: (…, n, n), or (…, n − 1, n − 1) for n × n matrices that fix the constant vector
    """
    xp: Any = _xp(gaussian)
    if gaussian.shape[-1] == 0:
        q = gaussian
    else:
        q, r = xp.linalg.qr(gaussian)
        diagonal = xp.diagonal(r, axis1=-2, axis2=-1)
        q = q * xp.where(diagonal < 0, -1, 1).astype(q.dtype)[..., None, :]
    return around_ones(q) if fixing_ones else q


def random_general_linear(
    key: jax.Array, shape: tuple[int, ...], *, condition: float = CONDITION
) -> jax.Array:
    """Invertible matrices U diag(s) Vᵀ: U, V Haar, log s uniform, so that cond(g) ≤ `condition`.

    **Arguments:**
    - `shape`: (…, n), of which matrices (…, n, n) are drawn

        >>> import jax, jax.numpy as jnp
        >>> g = random_general_linear(jax.random.key(0), (4,))
        >>> bool(jnp.linalg.cond(g) <= 10.01)
        True
    """
    with jax.transfer_guard("allow"):  # jax.random transfers bounds
        u, v, s = jax.random.split(key, 3)
        return general_linear_of(
            _normal(u, shape), _normal(v, shape), jax.random.uniform(s, shape), condition
        )


def general_linear_of(u: Any, v: Any, uniform: Any, condition: float = CONDITION) -> Any:
    """Invertible matrices of Gaussian (…, n, n) and uniform (…, n) ones."""
    stretch = condition ** (uniform - 0.5)
    return (orthogonal_of(u) * stretch[..., None, :]) @ _transposed(orthogonal_of(v))


def random_scaling(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Positive numbers with log c ~ N(0, ¼)."""
    with jax.transfer_guard("allow"):
        return jnp.exp(jax.random.normal(key, shape) / 2)


def random_signs(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """±1, each as likely."""
    with jax.transfer_guard("allow"):
        return jax.random.rademacher(key, shape, jnp.zeros(()).dtype)


def nearest_orthogonal(matrix: Any, *, fixing_ones: bool = False) -> Any:
    """argmax ⟨g, M⟩ over orthogonal g: U Vᵀ of M = U S Vᵀ (orthogonal Procrustes).

    Of n × m matrices over semi-orthogonal ones: gᵀ g = 1, or g gᵀ = 1 where m is greater.

    Differentiable in M wherever it is invertible, also where singular values coincide.

    **Arguments:**
    - `matrix`: M, (…, n, n), or (…, n, m)
    - `fixing_ones`: over those with g 1 = 1, of square ones

        >>> import jax.numpy as jnp
        >>> nearest_orthogonal(jnp.array([[0.0, 2.0], [-3.0, 0.0]])).tolist()
        [[0.0, 1.0], [-1.0, 0.0]]
    """
    if fixing_ones:
        return around_ones(nearest_orthogonal(beside_ones(matrix)))
    if _xp(matrix) is jnp and matrix.shape[-1] == matrix.shape[-2]:
        return _polar(matrix)
    u, _, vt = _xp(matrix).linalg.svd(matrix, full_matrices=False)
    return u @ vt


@jax.custom_jvp
def _polar(matrix: jax.Array) -> jax.Array:
    u, _, vt = jnp.linalg.svd(matrix, full_matrices=False)
    return u @ vt


@_polar.defjvp
def _polar_jvp(primals: Any, tangents: Any) -> tuple[jax.Array, jax.Array]:
    """dg = U [(Uᵀ dM V − its transpose) / (s_i + s_j)] Vᵀ; that of an SVD has s_i − s_j."""
    ((matrix,), (change,)) = primals, tangents
    u, s, vt = jnp.linalg.svd(matrix, full_matrices=False)
    seen = _transposed(u) @ change @ _transposed(vt)
    turned = (seen - _transposed(seen)) / (s[..., :, None] + s[..., None, :])
    return u @ vt, u @ turned @ vt


def _normal(key: jax.Array, shape: tuple[int, ...], fixing_ones: bool = False) -> jax.Array:
    n = shape[-1] - fixing_ones
    with jax.transfer_guard("allow"):
        return jax.random.normal(key, (*shape[:-1], n, n))


def _reflection(n: int, like: Any) -> Any:
    """The reflection that takes the first unit vector to 1/√n: symmetric, its own inverse."""
    v = np.full(n, -1 / np.sqrt(n))
    v[0] += 1
    if n > 1:
        v /= np.linalg.norm(v)
    return _xp(like).asarray(np.eye(n) - 2 * np.outer(v, v), like.dtype)


def around_ones(inner: Any) -> Any:
    """diag(1, inner) in a basis whose first vector is constant."""
    n = inner.shape[-1] + 1
    xp, h = _xp(inner), _reflection(n, inner)
    padding = [(0, 0)] * (inner.ndim - 2) + [(1, 0), (1, 0)]
    corner = np.zeros((*inner.shape[:-2], n, n))
    corner[..., 0, 0] = 1
    return h @ (xp.pad(inner, padding) + xp.asarray(corner, inner.dtype)) @ h


def beside_ones(matrix: Any) -> Any:
    """A matrix on the complement of the constant vector."""
    h = _reflection(matrix.shape[-1], matrix)
    return (h @ matrix @ h)[..., 1:, 1:]


def _transposed(matrix: Any) -> Any:
    return _xp(matrix).swapaxes(matrix, -1, -2)


def _xp(array: Any) -> Any:
    return np if isinstance(array, np.ndarray | np.generic) else jnp


__all__ = [
    "around_ones",
    "beside_ones",
    "general_linear_of",
    "nearest_orthogonal",
    "orthogonal_of",
    "random_general_linear",
    "random_orthogonal",
    "random_scaling",
    "random_signs",
]
