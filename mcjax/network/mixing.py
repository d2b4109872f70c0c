"""Units mixed by doubly stochastic matrices in the place of permutations (tatro2020, App. E).

The convex hull of the permutation matrices is the set of doubly stochastic ones; a parameter tree
whose units are mixed by such matrices instead of permuted can be differentiated in them.
"""

from __future__ import annotations

import string
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import _check
from .axes import Atom, Axes
from .groups import Group
from .layout import Layout, act

Matrices = Mapping[str, jax.Array]

# By how much rows and columns may miss 1, and an entry 0.
_TOLERANCE = 1e-3


def mix_leaf(groups: Mapping[Atom, Group], given: Mapping[Atom, Any], leaf: Any, axes: Axes):
    """One leaf with its units mixed.

    **Arguments:**
    - `groups`: atom → group, for all of a network
    - `given`: atom → matrices of shape (*group.shape, size)
    """

    return act(_mix, groups, given, jnp.asarray(leaf), axes)


def _mix(matrix: Any, block: Any, layout: Layout) -> Any:
    """The units of a block mixed, by a matrix that may differ along other dimensions."""
    (i,), letters = layout.units, string.ascii_letters[: block.ndim]
    new = string.ascii_letters[block.ndim]
    of_matrix = "".join(letters[d] for d in layout.fixed) + new + letters[i]
    result = letters[:i] + new + letters[i + 1 :]
    return jnp.einsum(f"{of_matrix},{letters}->{result}", matrix.astype(block.dtype), block)


def check_matrices(groups: Mapping[str, Group], matrices: Matrices) -> None:
    """Raise unless every matrix has its group's shape."""
    if not isinstance(matrices, Mapping):
        raise ValueError(
            f"matrices must map names of groups to arrays, got a {type(matrices).__name__}"
        )
    for name, matrix in matrices.items():
        if name not in groups:
            raise ValueError(
                f"matrices: unknown group {name!r}; the groups are "
                f"{', '.join(map(repr, groups)) or 'none'}"
            )
        expected = (*groups[name].shape, groups[name].size)
        if np.shape(matrix) != expected:
            raise ValueError(
                f"matrices[{name!r}] has shape {np.shape(matrix)}, expected {expected}"
            )


def check_doubly_stochastic(matrices: Matrices) -> None:
    """Raise if a matrix at hand holds NaN or a negative entry, or a row or column that does not
    sum to 1."""
    for name, matrix in matrices.items():
        if not _check.is_concrete(matrix):
            continue
        host = np.asarray(jax.device_get(matrix), np.float64)
        least = host.min(initial=0.0)
        misses = [np.abs(host.sum(axis) - 1).max(initial=0.0) for axis in (-1, -2)]
        if not np.isfinite(host).all():
            why = "it holds NaN or infinite values"
        elif least < -_TOLERANCE:
            why = f"it holds {least:.3g}"
        elif max(misses) > _TOLERANCE:
            why = f"a {'row' if misses[0] >= misses[1] else 'column'} misses 1 by {max(misses):.3g}"
        else:
            continue
        raise ValueError(
            f"matrices[{name!r}] is not doubly stochastic (no negative entries, rows and columns "
            f"that sum to 1): {why}. For other matrices the function changes altogether; "
            "check=False mixes by them all the same"
        )


__all__ = ["Matrices", "check_doubly_stochastic", "check_matrices", "mix_leaf"]
