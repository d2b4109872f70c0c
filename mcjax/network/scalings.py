"""What all scalings of a network see of its parameters: sums over entries that move together."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .blocks import cut, plan
from .elements import Key
from .network import Network
from .stands import Stand, stands


@dataclasses.dataclass
class _Table:
    """Sums of a block, over dimensions along which no scaling differs, and where these stand."""

    sums: np.ndarray
    uses: list[tuple[Key, Stand, Any]]  # with the exponents, broadcast against the sums


class Scalings:
    """Sums of a quantity of each entry, such as its square, as scalings multiply it.

    A scaling c multiplies an entry of exponent k by cᵏ, and the quantity by c^(k · degree).

    **Arguments:**
    - `keys`: the factors, scalings
    - `quantity`: leaf by number → an array of the leaf's shape, of what scales with `degree`
    """

    def __init__(
        self, network: Network, keys: Sequence[Key], quantity: Callable[[int], Any], degree: int
    ) -> None:
        self.network, self.degree = network, degree
        places: dict[tuple[int, int], list[tuple[Key, Stand]]] = {}
        for key in keys:
            for stand in stands(network, key):
                places.setdefault((stand.leaf, stand.block), []).append((key, stand))
        leaves: dict[int, list[Any]] = {}
        for leaf in dict.fromkeys(leaf for leaf, _ in places):
            leaves[leaf] = cut(quantity(leaf), plan(network.leaf_axes[leaf])[0])
        self.of: dict[Key, list[tuple[_Table, Stand, Any]]] = {k: [] for k in keys}
        for (leaf, block), uses in places.items():
            table = _table(leaves[leaf][block], uses)
            for key, stand, exponents in table.uses:
                self.of[key].append((table, stand, exponents))

    def sums(self, key: Key) -> dict[int, np.ndarray]:
        """Exponent → the sum over each unit's entries that have it, of `group.shape`."""
        shape = self.network.groups[key[0]].shape
        found: dict[int, np.ndarray] = {}
        for table, stand, exponents in self.of[key]:
            own = (*stand.layout.fixed, *stand.layout.units)
            away = tuple(d for d in range(table.sums.ndim) if d not in own)
            order = np.argsort(np.argsort(own))
            for k in np.unique(exponents).tolist():
                if k:
                    uniform = np.ndim(exponents) == 0
                    chosen = table.sums if uniform else np.where(exponents == k, table.sums, 0)
                    total = found.setdefault(k, np.zeros(shape))
                    total[stand.index] += (
                        chosen.sum(away).transpose(order).reshape(total[stand.index].shape)
                    )
        return found

    def scale(self, key: Key, c: np.ndarray) -> None:
        """A factor's element applied."""
        for table, stand, exponents in self.of[key]:
            fixed, (i,) = stand.layout.fixed, stand.layout.units
            own = c[stand.index]
            order = (*fixed, i)
            sizes = [1] * table.sums.ndim
            for d, n in zip(order, own.shape, strict=True):
                sizes[d] = n
            own = own.transpose(np.argsort(order)).reshape(sizes)
            table.sums = table.sums * own ** (self.degree * exponents)


def _table(block: np.ndarray, uses: Sequence[tuple[Key, Stand]]) -> _Table:
    kept, found = set(), []
    for key, stand in uses:
        kept |= {*stand.layout.fixed, *stand.layout.units}
        exponents = stand.exponents
        if np.ndim(exponents):
            whole = stand.layout.back(exponents)
            for d in range(whole.ndim):
                first = whole.take([0], axis=d)
                if (whole == first).all():
                    whole = first
            kept |= {d for d, n in enumerate(whole.shape) if n > 1}
            exponents = whole
        found.append((key, stand, exponents))
    away = tuple(d for d in range(block.ndim) if d not in kept)
    return _Table(np.asarray(np.sum(block, away, np.float64, keepdims=True)), found)


__all__ = ["Scalings"]
