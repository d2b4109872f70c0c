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
    """Sums of a block, over dimensions along which no scaling differs, and what scales it."""

    sums: np.ndarray
    uses: list[tuple[Key, _Use]]


@dataclasses.dataclass(frozen=True)
class _Use:
    """A factor on a table: its units there, in the order of the block, and as the group has them.

    - `own`: dimensions of the outer units and the units; `index`: where they are in the group
    - `exponents`: broadcast against the sums; `powers`: those that there are, but 0
    """

    own: tuple[int, ...]
    index: tuple[slice, ...]
    exponents: Any
    powers: tuple[int, ...]

    @classmethod
    def of(cls, stand: Stand, exponents: Any) -> _Use:
        powers = tuple(k for k in np.unique(exponents).tolist() if k)
        return cls((*stand.layout.fixed, *stand.layout.units), stand.index, exponents, powers)

    def seen(self, sums: np.ndarray, k: int, shape: tuple[int, ...]) -> np.ndarray:
        """The sums over each unit's entries of exponent k, of a shape of the group's axes."""
        chosen = sums if np.ndim(self.exponents) == 0 else np.where(self.exponents == k, sums, 0)
        away = tuple(d for d in range(sums.ndim) if d not in self.own)
        places = [sorted(self.own).index(d) for d in self.own]
        return chosen.sum(away).transpose(places).reshape(shape)

    def spread(self, c: np.ndarray, ndim: int) -> np.ndarray:
        """An element, broadcast against the sums."""
        own, sizes = c[self.index], [1] * ndim
        for d, n in zip(self.own, own.shape, strict=True):
            sizes[d] = n
        return own.transpose(sorted(range(own.ndim), key=self.own.__getitem__)).reshape(sizes)


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
        self.of: dict[Key, list[tuple[_Table, _Use]]] = {k: [] for k in keys}
        for (leaf, block), uses in places.items():
            table = _table(leaves[leaf][block], uses)
            for key, use in table.uses:
                self.of[key].append((table, use))

    def sums(self, key: Key) -> dict[int, np.ndarray]:
        """Exponent → the sum over each unit's entries that have it, of `group.shape`."""
        found: dict[int, np.ndarray] = {}
        for table, use in self.of[key]:
            for k in use.powers:
                total = found.setdefault(k, np.zeros(self.network.groups[key[0]].shape))
                here = total[use.index]
                here += use.seen(table.sums, k, here.shape)
        return found

    def scale(self, key: Key, c: np.ndarray) -> None:
        """A factor's element applied."""
        for table, use in self.of[key]:
            own = use.spread(c, table.sums.ndim)
            table.sums = table.sums * own ** (self.degree * use.exponents)


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
        found.append((key, _Use.of(stand, exponents)))
    away = tuple(d for d in range(block.ndim) if d not in kept)
    return _Table(np.asarray(np.sum(block, away, np.float64, keepdims=True)), found)


def squares(array: np.ndarray) -> np.ndarray:
    """abs(x)² of every entry."""
    return np.square(np.abs(array) if np.iscomplexobj(array) else array)


__all__ = ["Scalings", "squares"]
