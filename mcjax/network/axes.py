"""Axis expressions: which permutations an axis of an array admits.

An axis is a row-major product of *factors*:

- `Atom`: a set of interchangeable units (free) or of positions with a meaning (fixed);
- `Uniform`: the array is constant along it, so every permutation is admitted;
- `Concat`: parts laid one after the other, each an axis of its own;
- `Family`: a factor that differs for each index of a fixed atom elsewhere in the array.

An atom may *depend* on outer atoms (`over`): its permutation then differs for each of their
indices, as the units inside a head do for each head. An axis of size one is the empty
product `()`.

Nothing stands behind a concatenation on its axis: `(Concat(a, b), c)` is `Concat((a, c), (b, c))`.
Its parts may carry *labels* (key, i): where they stand, a family that follows the fixed atom
`key` is its i-th member. So another axis may hold other units beside each of the parts.

`algebra.py` refines what is known of them; `frozen.py` makes values of them that never change.
"""

from __future__ import annotations

import dataclasses
import math
import threading
import weakref
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar, Self


class Atom:
    """Units that are permuted together. Identity is the object; `bound` refines it."""

    __slots__ = ("bound", "fixed", "index", "over", "size", "why")

    def __init__(self, index: int, size: int, over: frozenset[Atom], why: str | None) -> None:
        self.index = index
        self.size = size
        self.over = over
        self.why = why
        self.fixed = why is not None
        self.bound: Expr | None = None

    def __hash__(self) -> int:
        # By address, sets of atoms had another order in each process, and found other groups.
        return self.index

    def __repr__(self) -> str:
        return f"{'f' if self.fixed else 'u'}{self.index}({self.size})"


class FrozenAtom(Atom):
    """An atom of a network: nothing changes about it any more.

    Those of the same content are one object, whichever network they belong to, so that networks
    and what is compiled for them can be compared by content. (`over` is empty if it is fixed.)
    """

    __slots__ = ("__weakref__",)

    _known: ClassVar[weakref.WeakValueDictionary[Any, FrozenAtom]] = weakref.WeakValueDictionary()
    _lock = threading.Lock()

    def __new__(cls, index: int, size: int, over: frozenset[Atom], why: str | None) -> Self:
        key = (cls, index, size, over, why)
        with cls._lock:
            found = cls._known.get(key)
            if found is None:
                found = super().__new__(cls)
                values = (index, size, over, why, why is not None, None)
                names = ("index", "size", "over", "why", "fixed", "bound")
                for name, value in zip(names, values, strict=True):
                    object.__setattr__(found, name, value)
                cls._known[key] = found
        return found  # type: ignore[return-value]

    def __init__(self, index: int, size: int, over: frozenset[Atom], why: str | None) -> None:
        """Everything is set by `__new__`."""

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{self} belongs to a network and cannot change ({name})")

    __delattr__ = __setattr__  # type: ignore[assignment]

    def __reduce__(self) -> Any:
        return type(self), (self.index, self.size, self.over, self.why)


@dataclasses.dataclass(frozen=True)
class Uniform:
    size: int


Labels = frozenset[tuple[Atom, int]]
NO_LABELS: Labels = frozenset()


@dataclasses.dataclass(frozen=True)
class Concat:
    parts: tuple[Expr, ...]
    labels: tuple[Labels, ...]

    @property
    def size(self) -> int:
        return sum(map(size, self.parts))


@dataclasses.dataclass(frozen=True)
class Family:
    key: Atom
    members: tuple[Expr, ...]

    @property
    def size(self) -> int:
        return size(self.members[0])


Factor = Atom | Uniform | Concat | Family
Expr = tuple[Factor, ...]
Axes = tuple[Expr, ...]


def size(expr: Expr) -> int:
    return math.prod(f.size for f in expr)


def inside(factor: Factor) -> tuple[Expr, ...]:
    """The parts of a concatenation, the members of a family."""
    if isinstance(factor, Concat):
        return factor.parts
    return factor.members if isinstance(factor, Family) else ()


def atoms(expr: Expr) -> Iterable[Atom]:
    """Every atom in a resolved expression, those inside concatenations and families too."""
    for factor in expr:
        if isinstance(factor, Atom):
            yield factor
        else:
            for inner in inside(factor):
                yield from atoms(inner)


def mentioned(expr: Expr) -> Iterable[Atom]:
    """Every atom in a resolved expression, those that families follow included."""
    for factor in expr:
        if isinstance(factor, Atom):
            yield factor
        if isinstance(factor, Family):
            yield factor.key
        for inner in inside(factor):
            yield from mentioned(inner)


def own(factors: Iterable[Factor]) -> Iterable[Atom]:
    """The atoms among the factors of a product, not those inside other factors."""
    return (f for f in factors if isinstance(f, Atom))


def once(factors: Iterable[Factor]) -> frozenset[Atom]:
    """The atoms that appear exactly once among the factors, and not inside others of them."""
    single: set[Atom] = set()
    again: set[Atom] = set()
    for factor in factors:
        if isinstance(factor, Atom):
            (again if factor in single else single).add(factor)
        else:
            for part in inside(factor):
                again.update(atoms(part))
    return frozenset(single - again)


def naming(labels: Sequence[Labels]) -> Iterator[tuple[Atom, list[int]]]:
    """The keys that label each of some parts with another index, and these."""
    for key, _ in sorted(labels[0], key=lambda label: label[0].index):
        found = [[i for k, i in each if k is key] for each in labels]
        which = [i for each in found for i in each]
        if all(len(each) == 1 for each in found) and len(set(which)) == len(which):
            yield key, which


def pick(expr: Expr, labels: Labels) -> Expr:
    """The expression where the families that follow the labels' keys are the members named."""
    chosen = dict(labels)
    out: list[Factor] = []
    for factor in expr:
        if isinstance(factor, Family):
            if factor.key in chosen:
                out.extend(pick(factor.members[chosen[factor.key]], labels))
            else:
                members = tuple(pick(m, labels) for m in factor.members)
                out.append(Family(factor.key, members))
        elif isinstance(factor, Concat):
            out.append(Concat(tuple(pick(p, labels) for p in factor.parts), factor.labels))
        else:
            out.append(factor)
    return tuple(out)
