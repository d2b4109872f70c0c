"""Doubly stochastic matrices in the place of permutations (tatro2020, App. E).

The convex hull of the permutation matrices is the set of doubly stochastic ones; a parameter tree
whose units are mixed by such matrices instead of permuted can be differentiated in them.
"""

from __future__ import annotations

import string
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from .._types import Params, Permutations
from ..network.blocks import Block, dependee, map_blocks
from ..network.network import Group, Network, touches

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
