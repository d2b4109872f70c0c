"""Which activations of two networks are compared, and where in them units stand."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from .._inputs import length
from .._stream import Inputs
from . import chunks
from .activations import analysis_for, axes_of, tapped
from .axes import Atom
from .blocks import Block, blocks
from .coarse import coarse
from .frozen import Analysis
from .network import Network

# Units of one array that are matched jointly; beyond, their cross moments would not fit. Groups
# that do not depend on each other are better matched one after the other before that.
MAX_JOINT = 8192
MAX_CROSSED = 2048


@dataclasses.dataclass(frozen=True)
class Piece:
    """A block of a value: its number, its fixed axes and those of its units, in order."""

    block: int
    fixed: tuple[int, ...]
    units: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Pool:
    """The blocks of a value that hold the same units: one moment.

    - `fixed`: the outer axes that the units follow and that stand in the block
    - `only`: outer axes of which a block holds one index each; `pieces`: those of each index
    """

    value: int
    units: tuple[Atom, ...]
    fixed: tuple[Atom, ...]
    only: tuple[Atom, ...]
    pieces: tuple[tuple[tuple[int, ...], tuple[Piece, ...]], ...]

    @property
    def bytes(self) -> int:
        units, fixed = (math.prod(a.size for a in some) for some in (self.units, self.fixed))
        return 4 * len(self.pieces) * fixed * units**2


@dataclasses.dataclass(frozen=True)
class Left:
    """Units that stand on an activation and are not compared there, and why not."""

    units: tuple[Atom, ...]
    why: str


def pools(
    network: Network, x: Any, size: int, tap: str, settled: Collection[str]
) -> tuple[list[Pool], list[Left]]:
    """The moments to compare two networks by on `size` examples, and what they leave out.

    **Arguments:**
    - `settled`: groups already matched; their units count as samples
    """
    analysis, found = analysis_for(network, chunks.types(x, size))
    keep = kept(network, settled)
    out: list[Pool] = []
    left: list[Left] = []
    for value in tapped(network, analysis, found, tap):
        pooled: dict[Any, dict[tuple[int, ...], list[Piece]]] = {}
        for number, dims in enumerate(blocks_of(analysis, value, keep)):
            here = [i for i, d in enumerate(dims) if _compared(network, d.factor, settled)]
            units = tuple(network.group_of(dims[i]).atom for i in here)
            reason = _too_much(network, units)
            if reason:
                left.append(Left(units, reason))
            elif units:
                key, index, piece = _piece(network, dims, number, here)
                pooled.setdefault(key, {}).setdefault(index, []).append(piece)
        for (units, fixed, only), by_index in pooled.items():
            pieces = tuple((index, tuple(p)) for index, p in sorted(by_index.items()))
            out.append(Pool(value, units, fixed, only, pieces))
    return out, left


def kept(network: Network, settled: Collection[str]) -> set[Atom]:
    """The atoms whose indices are told apart."""
    groups = [g for g in network.groups.values() if g.name not in settled]
    return {a for g in groups for a in (g.atom, *g.outer)}


def _compared(network: Network, factor: Any, settled: Collection[str]) -> bool:
    group = network.by_atom.get(factor)
    return group is not None and group.name not in settled


def blocks_of(analysis: Analysis, value: int, keep: Collection[Atom]) -> list[Block]:
    """The blocks of a value, as far as atoms that are kept tell them apart."""
    axes = coarse(axes_of(analysis, value), keep)
    shape = [math.prod(f.size for f in e) for e in axes]
    return [dims for _, dims in blocks(np.broadcast_to(np.zeros(()), shape), axes)]


def _too_much(network: Network, units: tuple[Any, ...]) -> str:
    names = " and ".join(repr(network.by_atom[u].name) for u in dict.fromkeys(units))
    if len(set(units)) < len(units):
        return f"an activation holds {names} on several axes at once"
    most = MAX_JOINT if _nested(network, units) else MAX_CROSSED
    if math.prod(u.size for u in units) > most:
        return f"an activation holds more than {most} units of {names} jointly"
    return ""


def _nested(network: Network, units: tuple[Any, ...]) -> bool:
    """Whether all units depend on one of them."""
    outer = {u: network.by_atom[u].outer for u in units}
    return not units or any(all(r is u or r in outer[u] for u in units) for r in units)


def _piece(
    network: Network, dims: Block, number: int, here: list[int]
) -> tuple[Any, tuple[int, ...], Piece]:
    """((units, fixed, only), index along `only`, piece), all in the order of the groups."""
    order = {g.atom: i for i, g in enumerate(network.groups.values())}
    units = sorted(here, key=lambda i: order[dims[i].factor])  # type: ignore[index]
    needed = dict.fromkeys(o for i in units for o in network.group_of(dims[i]).outer)
    along = [i for o in needed for i, d in enumerate(dims) if d.factor is o and i not in units]
    fixed = [i for i in along if dims[i].only is None]
    only = [i for i in along if dims[i].only is not None]
    key = tuple(tuple(dims[i].factor for i in some) for some in (units, fixed, only))
    index = tuple(dims[i].only or 0 for i in only)
    return key, index, Piece(number, tuple(fixed), tuple(units))


def pools_of(
    network: Network, x: Inputs, tap: str, settled: Collection[str]
) -> tuple[list[Pool], list[Left]]:
    """The pools of a chunk of inputs."""
    first = x.first()
    return pools(network, first, chunks.sizes(length(first), x.chunk)[0][0], tap, settled)


def described(found: Sequence[Pool]) -> list[Any]:
    """What pools must have in common to be added up."""
    return [(p.units, p.fixed, p.only, [i for i, _ in p.pieces]) for p in found]
