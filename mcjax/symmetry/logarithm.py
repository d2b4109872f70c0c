"""Curves from the identity to an invertible matrix, inside the invertible ones.

det g > 0 does not give g a real logarithm: negative eigenvalues must pair up in Jordan blocks,
and of Gaussian 32 × 32 matrices 93 % have a negative one. The polar form g = Q S does it for all
of GL⁺: t ↦ exp(t log Q) exp(t log S), with log Q by a real Schur form whose −1s are paired, and
log S by an eigendecomposition. Both are computed once; at each t there are rotations of planes,
exponentials of numbers, and products.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import _check
from .._tree import at_least_single


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Logarithm:
    """log Q and log S of g = Q S, diagonalised: Q = Z R(angles) Zᵀ, S = V exp(λ) Vᵀ.

    - `basis`: Z, (…, n, n); the planes of rotation are spanned by its columns 2 k and 2 k + 1
    - `angles`: (…, ⌊n / 2⌋), in radians, in [−π, π]
    - `axes`: V, (…, n, n)
    - `stretches`: λ, (…, n)

        >>> import numpy as np, mcjax
        >>> quarter = np.array([[0.0, -1.0], [1.0, 0.0]])
        >>> found = mcjax.symmetry.log(quarter)
        >>> round(abs(float(found.angles[0])), 4)
        1.5708
        >>> bool(np.allclose(found.power(2.0), -np.eye(2), atol=1e-6))
        True
    """

    basis: Any
    angles: Any
    axes: Any
    stretches: Any

    def power(self, t: Any) -> jax.Array:
        """exp(t log Q) exp(t log S), (…, n, n): the identity at 0 and g at 1."""
        stretch = jnp.exp(t * self.stretches)[..., None, :]
        return self._rotation(t) @ (self.axes * stretch) @ jnp.swapaxes(self.axes, -1, -2)

    def inverse_power(self, t: Any) -> jax.Array:
        """The inverse of `power(t)`, without solving for it."""
        stretch = jnp.exp(-t * self.stretches)[..., None, :]
        return (self.axes * stretch) @ jnp.swapaxes(self.axes, -1, -2) @ self._rotation(-t)

    def _rotation(self, t: Any) -> jax.Array:
        """Z R(t · angles) Zᵀ."""
        n = self.basis.shape[-1]
        even = n - n % 2
        planes = self.basis[..., :even].reshape(*self.basis.shape[:-1], even // 2, 2)
        first, second = planes[..., 0], planes[..., 1]
        cos, sin = (f(t * self.angles)[..., None, :] for f in (jnp.cos, jnp.sin))
        turned = jnp.stack([cos * first + sin * second, cos * second - sin * first], -1)
        turned = turned.reshape(*self.basis.shape[:-1], even)
        turned = jnp.concatenate([turned, self.basis[..., even:]], -1)
        return turned @ jnp.swapaxes(self.basis, -1, -2)


@_check.on_host
def log(g: Any, name: str = "g") -> Logarithm:
    """The logarithms of the factors of the polar form g = Q S.

    **Arguments:**
    - `g`: (…, n, n), real, det g > 0; computed in float64, kept in its own precision (at least
      float32)
    - `name`: of the argument, for errors

    **Raises:** `ValueError` for matrices that are not square, complex, not finite, singular to
    rounding, or of negative determinant: those are joined to the identity by no curve of
    invertible matrices (apply an odd permutation first; it keeps the function too).
    """
    matrix = np.asarray(g)
    if jnp.issubdtype(matrix.dtype, jnp.floating):
        matrix = matrix.astype(at_least_single(matrix.dtype))
    require_invertible(matrix, name)
    u, s, vt = np.linalg.svd(matrix.astype(np.float64))
    q = u @ vt
    negative = np.linalg.slogdet(q)[0] < 0
    if negative.any():
        raise ValueError(
            f"{name} has a negative determinant{_at(negative)}: no curve of invertible matrices "
            "joins it to the identity. Apply an odd permutation of its units first; what is left "
            "has a positive one."
        )
    n = q.shape[-1]
    flat = [_planes(one) for one in q.reshape(-1, n, n)]
    basis = np.array([z for z, _ in flat]).reshape(q.shape)
    angles = np.array([a for _, a in flat]).reshape(*q.shape[:-2], n // 2)
    dtype = matrix.dtype if matrix.dtype.kind == "f" else np.dtype(float)
    made = (basis, angles, np.swapaxes(vt, -1, -2), np.log(s))
    return Logarithm(*(jnp.asarray(v.astype(dtype)) for v in made))


def _planes(q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(Z, angles): an orthogonal matrix of determinant 1 as rotations of planes."""
    import scipy.linalg

    n = len(q)
    found: Any = scipy.linalg.schur(q, output="real")
    t, z = found
    pairs, angles, ones, minus = [], [], [], []
    k = 0
    while k < n:
        if k + 1 < n and abs(t[k + 1, k]) > abs(t[k, k + 1]) / 2 > 0:
            pairs += [k, k + 1]
            angles.append(np.arctan2(t[k + 1, k], t[k, k]))
            k += 2
        else:
            (ones if t[k, k] > 0 else minus).append(k)
            k += 1
    angles += [np.pi] * (len(minus) // 2)
    order = [*pairs, *minus, *ones]
    return z[:, order], np.array(angles + [0.0] * (n // 2 - len(angles)))


def require_invertible(matrix: np.ndarray, name: str) -> None:
    """Raise unless matrices (…, n, n) are real, finite and not singular to rounding."""
    if matrix.ndim < 2 or matrix.shape[-1] != matrix.shape[-2]:
        raise ValueError(f"{name}: expected square matrices (…, n, n), got shape {matrix.shape}")
    if matrix.dtype.kind not in "fiub":
        raise ValueError(f"{name}: expected real numbers, got {matrix.dtype}")
    if not np.isfinite(matrix).all():
        raise ValueError(f"{name} has entries that are not finite")
    s = np.linalg.svd(matrix.astype(np.float64), compute_uv=False)
    rounding = np.finfo(matrix.dtype if matrix.dtype.kind == "f" else float).eps
    singular = s[..., -1] <= matrix.shape[-1] * rounding * s[..., 0]
    singular |= s[..., -1] < np.finfo(matrix.dtype if matrix.dtype.kind == "f" else float).tiny
    if singular.any():
        raise ValueError(
            f"{name} is singular to rounding{_at(singular)}: its singular values go from "
            f"{s[..., 0].max():.3g} to {s[..., -1].min():.3g}"
        )


def _at(where: np.ndarray) -> str:
    """Which matrix of a stack."""
    if where.ndim == 0:
        return ""
    return f" at index {tuple(int(i) for i in np.argwhere(where)[0])}"


__all__ = ["Logarithm", "log", "require_invertible"]
