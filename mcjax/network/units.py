"""The units lens: a group's parameters as rows, one a unit, and the parameters with rows put in.

A row holds every parameter that touches a unit, wherever it stands: incoming weights, bias, what
normalises the unit, outgoing weights; on axes of its own, inside heads, or beside other units in
a concatenation. Whoever needs the parameters of units reads them here; nothing else walks axes.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import _check
from .._static import pack, unpack
from .._tree import is_inexact
from .._types import Params
from .blocks import Block, Plan, cut, join, plan
from .layout import Layout, followed
from .network import Network
from .sides import sides_of, uses

WHICH = ("all", "written", "read")


@dataclasses.dataclass(frozen=True)
class Cell:
    """A block of a leaf that holds the units of a group on one of its dimensions.

    - `leaf`: by number; `block`: its number in the plan of the leaf
    - `layout`: the block as (outer units…, units, columns)
    - `only`: for each outer axis the one index of it that the block holds, or None
    - `written`, `read`: whether these parameters write the units, and read them
    - `slot`: which columns of the rows it fills; blocks that hold one index of an outer axis each
      share one
    - `whole`: the axes of the leaf that hold nothing but these units, and units around them
    """

    leaf: int
    block: int
    layout: Layout
    only: tuple[int | None, ...]
    written: bool
    read: bool
    slot: int
    whole: tuple[int, ...]

    def belongs(self, which: str) -> bool:
        return which == "all" or getattr(self, which)

    @property
    def index(self) -> tuple[slice, ...]:
        """Where in rows with outer axes the cell stands."""
        return tuple(slice(None) if k is None else slice(k, k + 1) for k in self.only)


@dataclasses.dataclass(frozen=True)
class Leaf:
    """A leaf that holds units: its number, name and shape, and how it comes apart into blocks."""

    number: int
    name: str
    shape: tuple[int, ...]
    plan: Plan


@dataclasses.dataclass(frozen=True)
class Units:
    """The parameters of a group's units as rows. Made by `units_of` and `partition`.

    Plain data: compared and hashed by content, a static argument of `jax.jit`.

    - `group`: its name; `shape`: (*outer sizes, size), as in `Network.groups`
    - `cells`: where the units stand; `parts`: the leaves concerned
    """

    group: str
    shape: tuple[int, ...]
    cells: tuple[Cell, ...]
    parts: tuple[Leaf, ...]
    count: int  # leaves of the parameters

    def rows(self, params: Params, which: str = "all") -> Any:
        """One row a unit, of all parameters that belong to it.

        **Arguments:**
        - `params`: parameters of the traced structure
        - `which`: `"written"` (incoming weights, bias, normalisation), `"read"` (outgoing
          weights) or `"all"`

        **Returns:** (*group.shape, columns), a NumPy array if all leaves concerned are; columns
        as `columns` says, zeros where an outer unit has no such parameter.

        **Raises:** `ValueError` for parameters that are not the network's.
        """
        blocks = self._blocks(params)
        cells = self._cells(which)
        on_host = all(isinstance(b, np.ndarray) for of in blocks.values() for b in of)
        xp: Any = np if on_host else jnp
        dtype = self._dtype([blocks[c.leaf][c.block] for c in cells])
        pieces = []
        for _, found in itertools.groupby(cells, key=lambda c: c.slot):
            pieces.append(self._slot(list(found), blocks, xp, dtype))
        return xp.concatenate(pieces, -1) if pieces else xp.zeros((*self.shape, 0), dtype)

    def put(self, params: Params, rows: Any, which: str = "all") -> Params:
        """The parameters with these rows in the place of the units': `put(p, rows(p))` is p.

        Each leaf keeps its type. Where a group stands twice on one leaf, as in a recurrent
        weight, entries are in two rows: what is written counts.

        **Arguments:**
        - `rows`: (*group.shape, columns), as `rows` returns them

        **Raises:** `ValueError` for parameters that are not the network's, rows of another shape.
        """
        blocks = self._blocks(params)
        cells = self._cells(which)
        expected = (*self.shape, self.width(which))
        if np.shape(rows) != expected:
            raise ValueError(f"rows have shape {np.shape(rows)}, expected {expected}")
        starts, end = {}, 0
        for c in cells:
            if c.slot not in starts:
                starts[c.slot], end = end, end + c.layout.columns
        for c in sorted(cells, key=lambda c: c.written):
            start, old = starts[c.slot], blocks[c.leaf][c.block]
            piece = rows[(*c.index, ..., slice(start, start + c.layout.columns))]
            if np.iscomplexobj(piece) and not np.iscomplexobj(old):
                piece = piece.real
            blocks[c.leaf][c.block] = c.layout.back(piece).astype(old.dtype)
        packed = pack(params)
        leaves, treedef = jax.tree.flatten(packed)
        for part in self.parts:
            if any(c.leaf == part.number for c in cells):
                leaves[part.number] = join(blocks[part.number], part.plan, part.shape)
        moved = jax.tree.unflatten(treedef, leaves)
        return moved if packed is params else unpack(moved)

    def columns(self, which: str = "all") -> tuple[tuple[int, int], ...]:
        """(number of the leaf, how many of its columns), in the order of the rows' columns."""
        slots = {c.slot: (c.leaf, c.layout.columns) for c in self._cells(which)}
        return tuple(slots.values())

    def width(self, which: str = "all") -> int:
        """The length of a row."""
        return sum(n for _, n in self.columns(which))

    def leaves(self, which: str = "all") -> frozenset[int]:
        """Numbers of the leaves in the rows."""
        return frozenset(c.leaf for c in self._cells(which))

    def whole_axes(self) -> dict[int, tuple[int, ...]]:
        """Leaf by number → its axes along which there is nothing but units, all of this group."""
        parts = {p.number for p in self.parts if isinstance(p.plan, tuple)}
        return {c.leaf: c.whole for c in self.cells if c.leaf in parts and c.whole}

    def _cells(self, which: str) -> list[Cell]:
        _check.one_of(which, WHICH, "which")
        return [c for c in self.cells if c.belongs(which)]

    def _slot(self, cells: list[Cell], blocks: Mapping[int, Any], xp: Any, dtype: Any) -> Any:
        """The columns of a slot: of one block, or of blocks that hold one outer index each."""
        out = None
        for c in cells:
            matrix = c.layout.matrix(blocks[c.leaf][c.block]).astype(dtype)
            outer = [n if k is None else 1 for n, k in zip(self.shape, c.only, strict=False)]
            piece = matrix.reshape(*outer, self.shape[-1], c.layout.columns)
            if all(k is None for k in c.only):
                return piece
            if out is None:
                out = xp.zeros((*self.shape, c.layout.columns), dtype)
            if xp is np:
                out[c.index] = piece
            else:
                out = out.at[c.index].set(piece)
        return out

    def _dtype(self, blocks: Sequence[Any]) -> Any:
        with jax.numpy_dtype_promotion("standard"):
            return jnp.result_type(*(b.dtype for b in blocks)) if blocks else np.dtype(np.float32)

    def _blocks(self, params: Params) -> dict[int, list[Any]]:
        """The blocks of every leaf concerned."""
        leaves = jax.tree.leaves(pack(params))
        if len(leaves) != self.count:
            raise ValueError(f"params has {len(leaves)} leaves, expected {self.count}")
        out = {}
        for part in self.parts:
            leaf = leaves[part.number]
            if np.shape(leaf) != part.shape:
                raise ValueError(
                    f"params: leaf {part.name!r} has shape {np.shape(leaf)}, expected {part.shape}"
                )
            out[part.number] = cut(leaf, part.plan)
        return out


def units_of(network: Network, name: str, *, statistics: bool = True) -> Units:
    """The lens on a group's units.

    What a layer's weight holds is written into the groups on the layer's output, and read from
    those on what it is applied to; a weight computed from several leaves (LoRA, weight
    normalisation) counts as each of them. All else that holds the units is written: bias, scale,
    shift, statistics. A parameter may be in the rows of several groups (see `partition`), and in
    two rows of one group that stands twice on a leaf.

    Columns follow the order of the leaves, and in a leaf the order of its blocks; in a block all
    other dimensions in their order. So rows of two networks of one architecture whose widths
    differ have the same columns in the same order where the other groups have the same widths.

    **Arguments:**
    - `name`: of the group
    - `statistics`: whether running means and variances of a normalisation are parameters of the
      units

    **Raises:** `ValueError` for an unknown group.

        >>> import jax, jax.numpy as jnp, mcjax
        >>> from mcjax.network.units import units_of
        >>> f = lambda p, x: jax.nn.relu(x @ p["w1"] + p["b1"]) @ p["w2"]
        >>> params = {"b1": jnp.arange(5.0), "w1": jnp.ones((3, 5)), "w2": jnp.ones((5, 2))}
        >>> network = mcjax.trace(f, params, jnp.ones((4, 3)))
        >>> units = units_of(network, "w1")
        >>> units.rows(params).shape, units.rows(params, "written")[4].tolist()
        ((5, 6), [4.0, 1.0, 1.0, 1.0])
        >>> doubled = units.put(params, 2 * units.rows(params, "read"), "read")
        >>> doubled["w2"].tolist()
        [[2.0, 2.0], [2.0, 2.0], [2.0, 2.0], [2.0, 2.0], [2.0, 2.0]]
    """
    _check.one_of(name, tuple(network.groups), "name")
    left = () if statistics else network.normalisations.leaves
    return _units(network, name, [c for c in _cells(network)[name] if c.leaf not in left])


def partition(
    network: Network, names: Collection[str] | None = None, *, statistics: bool = True
) -> tuple[Units, ...]:
    """Lenses on groups so that each parameter is in at most one row of one of them.

    It belongs to the group that it is written into, else to one that it reads: incoming weights
    and bias to a hidden layer, outgoing weights only where what they write is no group. With one
    hidden layer the rows are the butterflies of anokhin2020, Fig. 1. Of several such groups it
    belongs to the innermost (units rather than heads), and rather to one that it only writes.

    **Arguments:**
    - `names`: the groups to share among (default: all)

    **Returns:** a `Units` for each group, in the order of the network's, those without any
    parameter left out.

        >>> import jax, jax.numpy as jnp, mcjax
        >>> from mcjax.network.units import partition
        >>> f = lambda p, x: jnp.tanh(jnp.tanh(x @ p["w1"]) @ p["w2"]) @ p["w3"]
        >>> params = {f"w{i}": jnp.ones((4, 4)) for i in (1, 2, 3)}
        >>> network = mcjax.trace(f, params, jnp.ones((2, 4)))
        >>> [(u.group, u.width()) for u in partition(network)]
        [('w1', 4), ('w2', 8)]
    """
    wanted = tuple(network.groups) if names is None else tuple(names)
    for name in wanted:
        _check.one_of(name, tuple(network.groups), "names")
    left = () if statistics else network.normalisations.leaves
    held: dict[tuple[int, int], list[tuple[str, Cell]]] = {}
    for name, cells in _cells(network).items():
        for cell in cells if name in wanted else ():
            if cell.leaf not in left:
                held.setdefault((cell.leaf, cell.block), []).append((name, cell))
    owned: dict[str, list[Cell]] = {}
    for candidates in held.values():
        name, cell = max(candidates, key=lambda pair: _claim(pair[1]))
        owned.setdefault(name, []).append(cell)
    ordered = {n: sorted(cells, key=lambda c: (c.leaf, c.block)) for n, cells in owned.items()}
    return tuple(_units(network, n, ordered[n]) for n in network.groups if n in ordered)


def choose(network: Network, leaf: int, groups: Collection[str], yes: Any, no: Any) -> Any:
    """A leaf with the entries of `yes` where it holds units of these groups, else of `no`."""
    atoms = {network.groups[n].atom for n in groups}
    how, found = plan(network.leaf_axes[leaf])
    chosen = [any(d.factor in atoms for d in dims) for dims in found]
    if all(chosen) or not any(chosen):
        return yes if all(chosen) and chosen else no
    pairs = zip(chosen, cut(yes, how), cut(no, how), strict=True)
    return join((y if c else n for c, y, n in pairs), how, np.shape(no))


# -- where units stand ---------------------------------------------------------------------


def _claim(cell: Cell) -> tuple[bool, bool, int, int]:
    """The greater, the rather a parameter belongs to the cell's group."""
    return cell.written, not (cell.written and cell.read), len(cell.only), max(cell.layout.units)


def _units(network: Network, name: str, cells: Sequence[Cell]) -> Units:
    """The lens of these cells, their slots numbered anew."""
    order = {slot: i for i, slot in enumerate(dict.fromkeys(c.slot for c in cells))}
    cells = [dataclasses.replace(c, slot=order[c.slot]) for c in cells]
    parts = tuple(
        Leaf(i, network.leaf_names[i], network.leaf_types[i].shape, plan(network.leaf_axes[i])[0])
        for i in dict.fromkeys(c.leaf for c in cells)
    )
    ordered = tuple(sorted(cells, key=lambda c: c.slot))
    return Units(name, network.groups[name].shape, ordered, parts, len(network.leaf_types))


@lru_cache(maxsize=16)
def _cells(network: Network) -> Mapping[str, list[Cell]]:
    """Group → where its units stand."""
    out: dict[str, list[Cell]] = {name: [] for name in network.groups}
    used = uses(network)
    slots: dict[tuple[Any, ...], int] = {}
    for leaf, axes in enumerate(network.leaf_axes):
        if not is_inexact(network.leaf_types[leaf]):
            continue
        seen: dict[tuple[Any, ...], int] = {}  # blocks that hold the same outer index of a group
        for block, dims in enumerate(plan(axes)[1]):
            for i, dim in enumerate(dims):
                group = network.by_atom.get(dim.factor)  # type: ignore[arg-type]
                if group is None:
                    continue
                fixed = followed(dims, i, group.outer)
                only = tuple(dims[d].only for d in fixed)
                layout = Layout(tuple(d.size for d in dims), fixed, (i,))
                sides = sides_of(used.get(leaf, ()), group.atom, dim.axis)
                number = seen[(group.name, only)] = seen.get((group.name, only), -1) + 1
                varied = tuple(k is not None for k in only)
                place = (group.name, leaf, number, varied, layout.columns, *sides)
                slot = slots.setdefault(place, len(slots))
                whole = _whole(dims, (i, *(d for d, o in zip(fixed, group.over, strict=True)
                                           if o is not None)))  # fmt: skip
                out[group.name].append(Cell(leaf, block, layout, only, *sides, slot, whole))
    return out


def _whole(dims: Block, inside: Collection[int]) -> tuple[int, ...]:
    """The axes all of whose dimensions are among these."""
    axes = {dims[i].axis for i in inside}
    other = {d.axis for i, d in enumerate(dims) if i not in inside}
    return tuple(sorted(axes - other))


__all__ = ["Cell", "Leaf", "Units", "choose", "partition", "units_of"]
