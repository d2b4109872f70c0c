"""Units of two networks zipped in pairs, within each network too (ZipIt: Stoica et al. 2024)."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax.numpy as jnp
import numpy as np

from .._static import pack
from .._types import Params
from ..align.activations import checked_inputs
from .correlations import correlations
from .pleas import merged_whole
from .problem import Method, Problem

_CHUNK = 500


@dataclasses.dataclass(frozen=True)
class ZipIt(Method):
    """Of all 2n units of both networks the most correlated pairs, n of them, become one unit each.

    A pair may be two units of one network, so that units which only one network has are kept where
    it has others to spare. A unit of the merged network is the mean of its pair, and what read
    one of them reads it: with S_A, S_B (n, n), 1 where a network's unit is in a pair,

    W = ½ Σ_{i ∈ {A, B}} S_i W_i S_i'ᵀ,

    S of the units that W writes, S' of those that it reads. Pairs are taken greedily, the most
    correlated first. Groups inside others and those around them (heads) are averaged in the order
    that they are in. All layers are zipped; the paper's partial zip, which ends in a head for each
    network, is no network of the same architecture (`pleas` merges in part).
    """

    label = "ZipIt"
    source = "Stoica et al. 2024, Sec. 4"
    needs_inputs = True
    pairs_only = True

    def __call__(self, problem: Problem) -> Params:
        if problem.weights != (0.5, 0.5):
            raise ValueError(f"weights: ZipIt takes both networks alike, got {problem.weights}")
        network, (a, b) = problem.network, map(pack, problem.networks)
        inputs = checked_inputs(network, problem.x, _CHUNK)
        inputs.passes(3, "ZipIt")
        whole = merged_whole(network, network)
        names, both = [n for n in network.groups if n not in whole], (network, network)
        of_a, across, of_b = (
            correlations(both, pair, inputs, names) for pair in ((a, a), (a, b), (b, b))
        )
        selections: tuple[dict[str, Any], ...] = ({}, {})
        for name in names:
            found = zipped(of_a[name], across[name], of_b[name])
            for mine, one in zip(selections, found, strict=True):
                mine[name] = jnp.asarray(one, jnp.float32)
        mixed = [network.mix(s, p, check=False) for s, p in zip(selections, (a, b), strict=True)]
        return dataclasses.replace(problem, networks=tuple(mixed)).mean()


def zipped(of_a: np.ndarray, across: np.ndarray, of_b: np.ndarray) -> tuple[Any, Any]:
    """(S_A, S_B), (n, n) each, from correlations within networks and across them.

    Pairs stand in the order of their first units, A's before B's. Of pairs that are alike those
    of units in the same place in both networks come first.
    """
    n = len(across)
    every = np.block([[of_a, across], [across.T, of_b]])
    first, second = np.triu_indices(2 * n, 1)
    order = np.lexsort((second - first != n, -every[first, second]))
    partner = np.full(2 * n, -1)
    for i, j in zip(first[order], second[order], strict=True):
        if partner[i] < 0 and partner[j] < 0:
            partner[i], partner[j] = j, i
    chosen = np.zeros((n, 2 * n), np.float32)
    heads = [i for i in range(2 * n) if i < partner[i]]
    for row, i in zip(chosen, heads, strict=True):
        row[[i, partner[i]]] = 1
    return chosen[:, :n], chosen[:, n:]


__all__ = ["ZipIt", "zipped"]
