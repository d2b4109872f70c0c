"""Parameters carried over to a network of other widths by couplings of their units."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from .._static import pack, unpack
from .._types import Params
from .blocks import cut, join, plan
from .network import Network
from .units import units_of

# Group → coupling, (units of one network, units of the other).
Couplings = Mapping[str, Any]


def check_alike(network: Network, other: Network) -> None:
    """Raise unless leaves, groups and layers of two networks have the same names."""
    for what, of in (
        ("leaves", lambda n: n.leaf_names),
        ("groups", lambda n: n.groups),
        ("layers", lambda n: [layer.name for layer in n.layers]),
    ):
        one, two = ([*map(str, of(n))] for n in (network, other))
        if one != two:
            apart = sorted({*one} ^ {*two}) or one
            raise ValueError(f"other: not the same model, its {what} differ: {', '.join(apart)}")


def check_same(network: Network, other: Network) -> None:
    """Raise unless two networks differ in nothing but how many units their groups have."""
    check_alike(network, other)
    nested = [name for name, group in network.groups.items() if group.outer]
    if nested:
        raise ValueError(
            f"network: group {nested[0]!r} stands inside others, which are not coupled"
        )
    for k, name in enumerate(network.leaf_names):
        dims, expected = ([_sizes(n, d) for d in plan(n.leaf_axes[k])[1]] for n in (other, network))
        if dims != expected:
            shapes = other.leaf_types[k].shape, network.leaf_types[k].shape
            raise ValueError(
                f"other: leaf {name!r} has shape {shapes[0]}, where network has {shapes[1]}, and "
                "differs in more than units"
            )


def _sizes(network: Network, dims: Any) -> list[Any]:
    """What stands on the dimensions of a block: groups by name, all else by its size."""
    return [network.by_atom[d.factor].name if d.factor in network.by_atom else d.size for d in dims]


def carry(
    network: Network, other: Network, couplings: Couplings, params: Params,
    masses: Mapping[str, Any] | None = None,
) -> Params:  # fmt: skip
    """Parameters of `other` carried to the widths of `network` (barycentric projection).

    What writes unit i becomes the mean Σ_j Π_ij / a_i · (what writes j), a = Π 1; what reads unit j
    is shared out, Π_ij / b_j to each i, b = Πᵀ 1. Of a coupling that sends every j to one i whose
    units all compute the same, or every i to one j, the function stays.

    Of variances of batch normalisation the roots are averaged: the mean of random variables
    deviates by Σ_j p_j σ_j where they move together, as units coupled rightly do, and else by less.

    **Arguments:**
    - `couplings`: of every group, as `Couplings`
    - `params`: of `other`
    - `masses`: group → b, where Πᵀ 1 may fall short of it: what is left behind is not shared out

    **Raises:** `ValueError` for parameters that are not other's.
    """
    leaves = other.flatten(params, "params")
    out = [
        join(
            carried_blocks(other, k, couplings, leaf, masses),
            plan(network.leaf_axes[k])[0],
            network.leaf_types[k].shape,
        )
        for k, leaf in enumerate(leaves)
    ]
    moved = jax.tree.unflatten(network.treedef, out)
    return moved if pack(params) is params else unpack(moved)


def carried_blocks(
    other: Network, leaf: int, couplings: Couplings, array: Any,
    masses: Mapping[str, Any] | None = None,
) -> Sequence[Any]:  # fmt: skip
    """The blocks of a leaf of `other`, the units of the coupled groups carried over."""
    how, found = plan(other.leaf_axes[leaf])
    written = {
        (cell.block, cell.layout.units[0]): cell.written
        for name in couplings
        for cell in units_of(other, name).cells
        if cell.leaf == leaf
    }
    is_variance = leaf in {n.variance.leaf for n in other.normalisations.found}
    out = []
    for number, (block, dims) in enumerate(zip(cut(np.asarray(array), how), found, strict=True)):
        moved = np.sqrt(block) if is_variance else block
        for i, dim in enumerate(dims):
            group = other.by_atom.get(dim.factor)  # type: ignore[arg-type]
            if group is None or group.name not in couplings or (number, i) not in written:
                continue
            coupling = np.asarray(couplings[group.name], np.float64)
            # Units without weight, as dead ones may be, carry nothing.
            total = coupling.sum(-1 if written[number, i] else -2, keepdims=True)
            if masses is not None and not written[number, i]:
                total = np.maximum(total, masses[group.name])
            matrix = np.divide(coupling, total, out=np.zeros_like(coupling), where=total > 0)
            moved = np.moveaxis(np.tensordot(matrix, moved, (1, i)), 0, i)
        out.append((np.square(moved) if is_variance else moved).astype(block.dtype))
    return out


__all__ = ["Couplings", "carried_blocks", "carry", "check_alike", "check_same"]
