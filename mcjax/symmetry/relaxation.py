"""Doubly stochastic matrices in the place of permutations (tatro2020, App. E).

The convex hull of the permutation matrices is the set of doubly stochastic ones; a parameter tree
whose units are mixed by such matrices instead of permuted can be differentiated in them.
"""

from __future__ import annotations

import string
import warnings
from collections.abc import Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import linear_sum_assignment

from .._types import Params, Permutations
from ..network.blocks import Block, dependee, map_blocks
from ..network.network import Group, Network, touches

# Fixed, so that the iterations can be differentiated.
_SINKHORN_STEPS = 200

Matrices = Mapping[str, jax.Array]


def matrices_of(network: Network, permutations: Permutations) -> dict[str, jax.Array]:
    """Permutation matrices of every group: P[…, i, p[…, i]] = 1, of shape (*group.shape, size).

    Groups that are absent get the identity.
    """
    network.check_permutations(permutations)
    whole = {**network.identity_permutations(), **permutations}
    return {n: jax.nn.one_hot(whole[n], g.size) for n, g in network.groups.items()}


def transport(network: Network, matrices: Matrices, params: Params) -> Params:
    """Units mixed by matrices: unit i of the result is Σ_j D[i, j] · unit j.

    For permutation matrices this is `network.permute`; for others the function changes.
    Differentiable in both arguments.

    **Arguments:**
    - `matrices`: group name → (*group.shape, size); absent groups stay
    - `params`: parameters of the traced structure

    **Raises:** `ValueError` for an unknown group or a matrix of another shape.

        >>> import jax.numpy as jnp, mcjax
        >>> f = lambda p, x: jnp.tanh(x @ p["w1"]) @ p["w2"]
        >>> params = {"w1": jnp.array([[1.0, 3.0]]), "w2": jnp.ones((2, 1))}
        >>> network = mcjax.trace(f, params, jnp.ones((2, 1)))
        >>> mcjax.symmetry.transport(network, {"w1": jnp.full((2, 2), 0.5)}, params)["w1"].tolist()
        [[2.0, 2.0]]
    """
    for name, matrix in matrices.items():
        if name not in network.groups:
            raise ValueError(
                f"matrices: unknown group {name!r}; the groups are "
                f"{', '.join(map(repr, network.groups)) or 'none'}"
            )
        expected = (*network.groups[name].shape, network.groups[name].size)
        if np.shape(matrix) != expected:
            raise ValueError(
                f"matrices[{name!r}] has shape {np.shape(matrix)}, expected {expected}"
            )
    given = {network.groups[n].atom: m for n, m in matrices.items()}

    def move(block, dims: Block):
        todo = [(i, network.group_of(d)) for i, d in enumerate(dims) if d.factor in given]
        for i, group in sorted(todo, key=lambda pair: len(pair[1].outer)):
            block = _mix(block, dims, i, group, given[group.atom])
        return block

    leaves = network.flatten(params, "params")
    out = [
        map_blocks(move, jnp.asarray(leaf), axes) if touches(axes, given) else leaf
        for leaf, axes in zip(leaves, network.leaf_axes, strict=True)
    ]
    return jax.tree.unflatten(network.treedef, out)


def _mix(block, dims: Block, i: int, group: Group, matrix):
    """Mix dimension i of a block, by a matrix that may differ along other dimensions."""
    along = [dependee(o, dims[i], dims) for o in group.outer]
    for position, dim in enumerate(along):
        if dims[dim].only is not None:  # the block is one index of that outer axis
            matrix = jnp.take(matrix, jnp.array([dims[dim].only]), axis=position)
    letters = string.ascii_letters[: len(dims)]
    new = string.ascii_letters[len(dims)]
    of_matrix = "".join(letters[d] for d in along) + new + letters[i]
    result = letters[:i] + new + letters[i + 1 :]
    return jnp.einsum(f"{of_matrix},{letters}->{result}", matrix.astype(block.dtype), block)


# -- from free matrices to doubly stochastic ones ------------------------------------------------


def as_given(matrix: jax.Array) -> jax.Array:
    """The matrix itself: it is kept doubly stochastic by projections (PAM)."""
    return matrix


def sinkhorn(matrix: jax.Array, temperature: float = 0.1) -> jax.Array:
    """argmax ⟨D, M⟩ + τ H(D) over doubly stochastic D (ott-jax, differentiated step by step)."""
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
    """argmax_P ⟨P, M⟩ for each matrix, as index arrays (SciPy; tatro2020, Eq. 52)."""
    matrix = np.asarray(matrix)
    flat = matrix.reshape(-1, *matrix.shape[-2:])
    columns = [linear_sum_assignment(m, maximize=True)[1] for m in flat]
    return np.stack(columns).astype(np.int32).reshape(matrix.shape[:-1])


@partial(jax.jit, static_argnames="iterations")
def project(matrix: jax.Array, iterations: int = 20) -> jax.Array:
    """Nearly the nearest doubly stochastic matrix: alternating projections (App. E.2).

    In turn onto the nonnegative matrices and onto those whose rows and columns sum to 1; the
    first has the last word, so that no entry is negative.

        >>> import jax.numpy as jnp
        >>> from mcjax.symmetry.relaxation import project
        >>> bool(jnp.allclose(project(jnp.array([[3.0, 0.0], [0.0, 3.0]])), jnp.eye(2), atol=1e-3))
        True
    """

    def both(m, _):
        n = m.shape[-1]
        rows = (m.sum(-1, keepdims=True) - 1) / n
        columns = (m.sum(-2, keepdims=True) - 1) / n
        centre = (m.sum((-1, -2), keepdims=True) - n) / n**2
        return jnp.maximum(m - rows - columns + centre, 0), None

    return jax.lax.scan(both, jnp.maximum(matrix, 0), None, length=iterations)[0]


def _over_outer(function):
    def apply(matrix):
        flat = matrix.reshape(-1, *matrix.shape[-2:])
        # One after the other: the matrices of a group inside others are small and few.
        return jnp.stack([function(m) for m in flat]).reshape(matrix.shape)

    return apply
