"""The element of a network's symmetry group that is nearest to matrices of any kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import _check
from ..symmetry.matrices import nearest_orthogonal
from ..symmetry.nearest import nearest_monomial, nearest_permutation, nearest_signed_permutation
from .elements import Key, factors
from .groups import Group
from .mixing import check_matrices
from .network import Network


@_check.on_host
def nearest_elements(
    network: Network, matrices: Mapping[str, Any]
) -> tuple[dict[str, np.ndarray], dict[Key, np.ndarray]]:
    """(permutations, elements) of the action whose `matrices()` are nearest; see `Action.nearest`.

    **Raises:** `ValueError` for an unknown group, a wrong shape, entries that are not finite, and
    for what is nearest to no element.
    """
    check_matrices(network.groups, matrices)
    permutations: dict[str, np.ndarray] = {}
    elements: dict[Key, np.ndarray] = {}
    for name, matrix in matrices.items():
        matrix, group = np.asarray(jax.device_get(matrix)), network.groups[name]
        if matrix.dtype.kind not in "iub" and not jnp.issubdtype(matrix.dtype, jnp.floating):
            raise ValueError(f"matrices[{name!r}] is of {matrix.dtype}, expected real numbers")
        matrix = matrix.astype(np.result_type(matrix.dtype, np.float32))
        if not np.isfinite(matrix).all():
            raise ValueError(f"matrices[{name!r}] has entries that are not finite")
        permutations[name], found = _nearest(group, matrix)
        elements |= {k: v.astype(matrix.dtype) for k, v in found.items()}
    return permutations, elements


def _nearest(group: Group, matrix: np.ndarray) -> tuple[np.ndarray, dict[Key, np.ndarray]]:
    own = primary_factors(group)
    stay = np.broadcast_to(np.arange(group.size), group.shape).copy()
    for kind in ("general linear", "orthogonal", "orthogonal fixing ones"):
        if kind in own:
            fixing = kind == "orthogonal fixing ones"
            if kind != "general linear":
                matrix = nearest_orthogonal(matrix, fixing_ones=fixing)
            return stay, {own[kind]: matrix}
    signed, scaled = "sign" in own, "positive" in own
    if not scaled:
        if not signed:
            return nearest_permutation(matrix), {}
        p, s = nearest_signed_permutation(matrix)
        return p, {own["sign"]: s}
    p, c = nearest_monomial(matrix, positive=not signed)
    if (c == 0).any():
        raise ValueError(
            f"matrices[{group.name!r}] is nearest to no element: scales fall to 0; every unit "
            f"needs an entry that is {'not 0' if signed else 'positive'}"
        )
    found = {own["positive"]: np.abs(c)}
    if signed:
        found[own["sign"]] = np.sign(c)
    return p, found


def primary_factors(group: Group) -> dict[str, Key]:
    """Kind → the first factor of that kind that moves what writes the units."""
    found: dict[str, Key] = {}
    for key, factor in factors(group):
        if factor.primary:
            found.setdefault(factor.kind, key)
    return found


__all__ = ["nearest_elements", "primary_factors"]
