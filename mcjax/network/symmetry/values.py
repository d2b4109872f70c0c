"""Which unknown exponent each entry of a value has, as arrays of unknowns.

A `Value` has such an array for every atom and every axis on which it stands, broadcastable to the
value's shape: of size one along every axis on which nothing varies. What only moves entries
(slices, reshapes, concatenations) moves the unknowns alike.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from ..axes import Atom, Axes, Expr, atoms
from ..blocks import Dim, join, plan
from ..rules.shapes import segments
from .systems import ANY, NONE, Constraints

# Positions on longer axes are taken to be alike: of what is fused there are never so many parts.
_FEW = 64

Key = tuple[Atom, int]  # an atom and the axis on which it stands


@dataclasses.dataclass
class Value:
    """Unknowns of the entries of an array.

    - `unknowns`: (atom, axis) → array of unknowns
    - `zero`: where the entries are known to be 0, or None
    """

    shape: tuple[int, ...]
    unknowns: dict[Key, np.ndarray] = dataclasses.field(default_factory=dict)
    zero: np.ndarray | None = None

    @property
    def rank(self) -> int:
        return len(self.shape)

    def copy(self) -> Value:
        return Value(self.shape, dict(self.unknowns), self.zero)

    def at(self, key: Key) -> np.ndarray:
        """The unknowns for a key; `NONE` where the atom does not stand, `ANY` where all is 0."""
        found = self.unknowns.get(key)
        if found is None:
            found = np.full((1,) * self.rank, NONE)
        return found if self.zero is None else np.where(self.zero, ANY, found)

    def moved(
        self, function: Callable[[np.ndarray], np.ndarray], shape: Sequence[int], to=lambda d: d
    ) -> Value:
        """The arrays changed by a function; axis d comes to stand at `to(d)`, or goes if None."""
        unknowns = {}
        for (atom, d), array in self.unknowns.items():
            moved, target = narrow(function(array)), to(d)
            if target is not None and (moved != NONE).any():
                unknowns[atom, target] = moved
        zero = None if self.zero is None else function(self.zero)
        return Value(tuple(shape), unknowns, zero)


def leaf(constraints: Constraints, axes: Axes) -> Value:
    """A value of which nothing is known: an unknown for each atom and index of positions."""
    shape = tuple(int(np.prod([f.size for f in e], dtype=int)) for e in axes)
    simple = [all(isinstance(f, Atom) and not f.fixed for f in e) for e in axes]
    reduced = tuple(() if s else e for s, e in zip(simple, axes, strict=True))
    how, dims = plan(reduced)
    sizes = tuple(1 if s else n for s, n in zip(simple, shape, strict=True))
    unknowns: dict[Key, np.ndarray] = {}
    for d, expr in enumerate(axes):
        for atom in dict.fromkeys(a for a in atoms(expr) if not a.fixed):
            blocks = [_block(constraints, b, atom, d, simple[d]) for b in dims]
            unknowns[atom, d] = narrow(np.asarray(join(blocks, how, sizes)))
    return Value(shape, unknowns)


def _block(
    constraints: Constraints, dims: tuple[Dim, ...], atom: Atom, axis: int, everywhere: bool
) -> np.ndarray:
    shape = tuple(d.size for d in dims)
    if not everywhere and not any(d.factor is atom and d.axis == axis for d in dims):
        return np.full(shape, NONE)
    positions = [isinstance(d.factor, Atom) and d.factor.fixed and d.size <= _FEW for d in dims]
    varied = tuple(n if p else 1 for n, p in zip(shape, positions, strict=True))
    count = int(np.prod(varied, dtype=int))
    made = [constraints.fresh(atom) for _ in range(count)]
    return np.broadcast_to(np.array(made, int).reshape(varied), shape)


# -- entries together -----------------------------------------------------------------------


def narrow(array: np.ndarray) -> np.ndarray:
    """The array with size one along every axis on which nothing varies."""
    for d, n in enumerate(array.shape):
        first = array[(slice(None),) * d + (slice(0, 1),)]
        if n > 1 and (array == first).all():
            array = first
    return array


def together(arrays: Sequence[np.ndarray], function: Callable[..., int]) -> np.ndarray:
    """`function` of the unknowns that stand at one place, for each place."""
    few, back = _representatives(arrays)
    if all(a.size == 1 for a in few):
        found = np.full((1,) * few[0].ndim, function(*(int(a.reshape(())) for a in few)))
        return narrow(back(found))
    rows = np.broadcast_arrays(*few)
    code = np.zeros(rows[0].shape, np.int64)
    for row in rows:  # a number for each combination
        values, index = np.unique(row, return_inverse=True)
        code = code * len(values) + index.reshape(row.shape)
        code = np.unique(code, return_inverse=True)[1].reshape(row.shape)
    _, first, index = np.unique(code, return_index=True, return_inverse=True)
    flat = [row.reshape(-1) for row in rows]
    found = [function(*(int(row[i]) for row in flat)) for i in first]
    return narrow(back(np.array(found, int)[index].reshape(code.shape)))


def _representatives(
    arrays: Sequence[np.ndarray],
) -> tuple[list[np.ndarray], Callable[[np.ndarray], np.ndarray]]:
    """(arrays with one of the slices that are the same in all of them, along each axis; what takes
    an array over these to one over all)."""
    few, inverse = list(arrays), {}
    for d in range(arrays[0].ndim):
        varied = [np.moveaxis(a, d, 0) for a in few if a.shape[d] > 1]
        if not varied:
            continue
        changes = np.zeros(len(varied[0]) - 1, bool)  # from each slice to the next one
        for v in varied:
            changes |= (v[1:] != v[:-1]).any(tuple(range(1, v.ndim)))
        starts = np.flatnonzero(np.concatenate([[True], changes]))
        known: dict[tuple[bytes, ...], int] = {}
        runs = [known.setdefault(tuple(v[i].tobytes() for v in varied), len(known)) for i in starts]
        first = starts[np.unique(runs, return_index=True)[1]]
        few = [a.take(first, d) if a.shape[d] > 1 else a for a in few]
        inverse[d] = np.repeat(runs, np.diff(starts, append=len(varied[0])))

    def back(found: np.ndarray) -> np.ndarray:
        for d, index in inverse.items():
            found = found.take(index, d) if found.shape[d] > 1 else found
        return found

    return few, back


def along(
    array: np.ndarray, axes: Iterable[int], function: Callable[[Sequence[int]], int]
) -> np.ndarray:
    """`function` of all unknowns along some axes, which then have size one."""
    axes = sorted(axes)
    (array,), back = _representatives([array])
    if all(array.shape[d] == 1 for d in axes):
        return back(together([array], lambda a: function([a])))
    moved = np.moveaxis(array, axes, range(len(axes)))
    rest = moved.shape[len(axes) :]
    columns = moved.reshape(-1, int(np.prod(rest, dtype=int))).T
    known: dict[bytes, int] = {}
    found = []
    for column in columns:
        values = np.unique(column)
        if (key := values.tobytes()) not in known:
            known[key] = function(values.tolist())
        found.append(known[key])
    opened = np.array(found, int).reshape((1,) * len(axes) + rest)
    return narrow(back(np.moveaxis(opened, range(len(axes)), axes)))


def dropped(constraints: Constraints, value: Value, keys: Iterable[Key] | None = None) -> None:
    """Require of the unknowns of some keys (all of them) that nothing but permutations is left."""
    for key in list(value.unknowns if keys is None else keys):
        for a in np.unique(value.unknowns.pop(key)):
            if a > NONE:
                constraints.nothing(int(a))


# -- shapes ---------------------------------------------------------------------------------


def placed(value: Value, targets: Sequence[int | None], shape: Sequence[int]) -> Value:
    """Axis i comes to stand at `targets[i]` (None: it has size one, and goes)."""
    kept = [d for d, t in enumerate(targets) if t is not None]
    order = sorted(kept, key=lambda d: targets[d])  # type: ignore[arg-type,return-value]

    def move(array: np.ndarray) -> np.ndarray:
        sizes = [1] * len(shape)
        for d in kept:
            sizes[targets[d]] = array.shape[d]  # type: ignore[index]
        gone = [d for d, t in enumerate(targets) if t is None]
        return array.transpose(*order, *gone).reshape(sizes)

    return value.moved(move, shape, lambda d: targets[d])


def reshaped(constraints: Constraints, value: Value, shape: Sequence[int], axes: Axes) -> Value:
    """Read in another shape, with these axes."""
    runs = list(segments(value.shape, shape))

    def move(array: np.ndarray) -> np.ndarray:
        opened, sizes = list(array.shape), [1] * len(shape)
        for first, last, start, stop in runs:
            if any(array.shape[d] > 1 for d in range(first, last)):
                opened[first:last] = value.shape[first:last]
                sizes[start:stop] = shape[start:stop]
        return np.broadcast_to(array, opened).reshape(sizes)

    targets: dict[Key, int] = {}
    for atom, d in value.unknowns:
        first, last, start, stop = next(r for r in runs if r[0] <= d < r[1])
        here = [t for t in range(start, stop) if atom in atoms(axes[t])]
        others = [e for a, e in value.unknowns if a is atom and e != d and first <= e < last]
        if len(here) == 1 and not others:
            targets[atom, d] = here[0]
    dropped(constraints, value, [k for k in value.unknowns if k not in targets])
    unknowns = {(k[0], targets[k]): move(array) for k, array in value.unknowns.items()}
    zero = None if value.zero is None else move(value.zero)
    return Value(tuple(shape), unknowns, zero)


def laid(values: Sequence[Value], dim: int, shape: Sequence[int]) -> Value:
    """Values laid one after the other along an axis."""
    out = Value(tuple(shape))

    def lay(pieces: Sequence[np.ndarray]) -> np.ndarray:
        sizes = list(np.broadcast_shapes(*(p[(slice(None),) * dim + (slice(0, 1),)].shape
                                           for p in pieces)))  # fmt: skip
        opened = [np.broadcast_to(p, (*sizes[:dim], v.shape[dim], *sizes[dim + 1 :]))
                  for p, v in zip(pieces, values, strict=True)]  # fmt: skip
        return np.concatenate(opened, axis=dim)

    for key in dict.fromkeys(k for v in values for k in v.unknowns):
        plain = [v.unknowns.get(key, np.full((1,) * v.rank, NONE)) for v in values]
        out.unknowns[key] = lay(plain)
    if any(v.zero is not None for v in values):
        out.zero = lay([np.zeros((1,) * v.rank, bool) if v.zero is None else v.zero
                        for v in values])  # fmt: skip
    return out


def sliced(value: Value, index: Sequence[slice], shape: Sequence[int]) -> Value:
    """The part of an array at some slices."""

    def move(array: np.ndarray) -> np.ndarray:
        part = tuple(s if n > 1 else slice(None) for s, n in zip(index, array.shape, strict=True))
        return array[part]

    return value.moved(move, shape)


def free(expr: Expr) -> bool:
    """Whether units stand on an axis."""
    return any(not a.fixed for a in atoms(expr))


__all__ = [
    "Key",
    "Value",
    "along",
    "dropped",
    "free",
    "laid",
    "leaf",
    "placed",
    "reshaped",
    "sliced",
    "together",
]
