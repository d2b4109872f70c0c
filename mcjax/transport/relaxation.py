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

from .._check import is_concrete
from .exact import assignment
from .problem import finite, real

# Fixed, so that the iterations can be differentiated.
_SINKHORN_STEPS = 200
# Of entries and of the sums of rows and columns; what is trained is projected nearly.
_TOLERANCE = 0.05
# Projections go on until the sums are that close to 1, so many at a time.
_CLOSE = _TOLERANCE / 10
_PROJECTIONS, _AT_A_TIME = 3000, 20
# Further away the projections go the same way from any distance.
_FAR = 1e3


def as_given(matrix: jax.Array) -> jax.Array:
    """The matrix itself: it is kept doubly stochastic by projections (PAM)."""
    return matrix


def sinkhorn(matrix: jax.Array, temperature: float = 0.1) -> jax.Array:
    """argmax ⟨D, M⟩ + τ H(D) over doubly stochastic D (ott-jax, differentiated step by step).

    After 200 iterations; entries of M that are far apart in units of τ take more. Where rows and
    columns do not sum to 1 within 0.05, a warning says so; under `jit`, `vmap` or `grad` none can.

    **Arguments:**
    - `matrix`: M, (…, n, n)
    - `temperature`: τ

        >>> import jax.numpy as jnp, mcjax
        >>> mcjax.transport.sinkhorn(jnp.zeros((2, 2))).tolist()
        [[0.5, 0.5], [0.5, 0.5]]
    """
    found = _sinkhorn(_square(matrix), temperature)
    _warn_of_sums(found, "sinkhorn", "take a greater temperature, or a smaller matrix")
    return found


@partial(jax.jit, static_argnames="temperature")
def _sinkhorn(matrix: jax.Array, temperature: float) -> jax.Array:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # ott imports jaxopt, which warns
        from ott.geometry.geometry import Geometry
        from ott.solvers import linear

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


def project(matrix: jax.Array, iterations: int = _PROJECTIONS) -> jax.Array:
    """Nearly the nearest doubly stochastic matrix: alternating projections (App. E.2).

    In turn onto the nonnegative matrices and onto those whose rows and columns sum to 1; the
    first has the last word, so that no entry is negative. They go on until rows and columns sum to
    1 within 0.005; where they do not within 0.05, a warning says so (under `jit` or `vmap` none
    can). No reverse-mode gradients: `sinkhorn` has them.

    **Arguments:**
    - `matrix`: (…, n, n)
    - `iterations`: at most about so many; near ones take 20, far ones about 10 n

        >>> import jax.numpy as jnp, mcjax
        >>> found = mcjax.transport.project(jnp.array([[3.0, 0.0], [0.0, 3.0]]))
        >>> bool(jnp.allclose(found, jnp.eye(2), atol=1e-3))
        True
    """
    found = _project(_square(matrix), iterations)
    _warn_of_sums(found, "project", "give it more iterations")
    return found


@partial(jax.jit, static_argnames="iterations")
def _project(matrix: jax.Array, iterations: int) -> jax.Array:
    def both(m, _):
        return jnp.maximum(_with_sums(m), 0), None

    def some(state):
        count, m = state
        return count + _AT_A_TIME, jax.lax.scan(both, m, None, length=_AT_A_TIME)[0]

    def far(state):
        count, m = state
        return (count < iterations) & (_off(m) > _CLOSE)

    # What is near already is projected too: PAM's steps are small.
    start = some((0, jnp.maximum(_brought_near(matrix), 0)))
    return jax.lax.while_loop(far, some, start)[1]


def projected(matrix: Any, name: str) -> np.ndarray:
    """As `project`, on the host.

    **Raises:** `ValueError` where the matrix is not finite.
    """
    array = real(matrix, name)
    finite(array, name)
    array = np.maximum(_brought_near(array), 0)
    for _ in range(_PROJECTIONS):
        if _off(array) <= _CLOSE:
            break
        array = np.maximum(_with_sums(array), 0)
    _warn_of_sums(array, name, "the nearest permutation may be another")
    return array


def _off(matrix: Any) -> Any:
    """How far sums of rows and columns are from 1, at most; NaN where there is one."""
    xp: Any = np if isinstance(matrix, np.ndarray) else jnp
    return xp.maximum(*(xp.abs(matrix.sum(axis) - 1).max() for axis in (-1, -2)))


def _brought_near(matrix: Any) -> Any:
    """Each matrix with its entries scaled to at most `_FAR`."""
    xp: Any = np if isinstance(matrix, np.ndarray) else jnp
    return matrix / xp.maximum(1, xp.abs(matrix).max((-1, -2), keepdims=True) / _FAR)


def _warn_of_sums(matrix: Any, name: str, remedy: str) -> None:
    """A warning where a matrix at hand is not doubly stochastic."""
    if is_concrete(matrix):
        off = float(_off(np.asarray(matrix, np.float64)))
        if not off <= _TOLERANCE:
            warnings.warn(
                f"{name}: not doubly stochastic, a row or column sums to 1 ± {off:.3g}; {remedy}",
                stacklevel=3,
            )


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
