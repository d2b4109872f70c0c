"""What an analysis found, as values that never change: atoms without an algebra.

`freeze` turns the atoms of an algebra that has come to rest into `FrozenAtom`s, numbered in the
order in which they were made: those of the parameters first, then those of all other values. Two
traces of one model come to the same numbers. `Thawed` is a fresh algebra that starts from frozen
axes of parameters, for the same model on inputs of another length; what it finds is frozen back
onto the same atoms.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from .algebra import Algebra
from .analysis import Found
from .axes import Atom, Axes, Concat, Expr, Family, FrozenAtom, Uniform, inside, own
from .program import Program

# What an algebra remembers by the axes it was made of; all else by numbers of equations.
_BY_AXES = {"stack", "parts", "cut", "meet", "concat", "positions"}


@dataclasses.dataclass(frozen=True, eq=False)
class Analysis:
    """Axes of every value of a program, and the scans around each value.

    - `unknown`: primitives without a rule that fixed something
    - `given_up`: equations whose rules found more in every sweep
    - `memory`: what was remembered of axes of parameters: (key, size, axis)
    """

    program: Program
    axes: Mapping[int, Axes]
    ambient: Mapping[int, Expr]
    unknown: tuple[str, ...]
    given_up: frozenset[int]
    memory: tuple[tuple[Hashable, int, Expr], ...]
    sweeps: int

    def of(self, value: int) -> Axes:
        return self.axes[value]

    def ambient_of(self, value: int) -> Expr:
        return self.ambient[value]


def freeze(found: Found, leaf_axes: Sequence[Axes]) -> tuple[Analysis, tuple[Axes, ...]]:
    """The analysis and the axes of the parameters, frozen."""
    freezer = _Freezer(found.algebra, {})
    axes = freezer.all_axes(leaf_axes)
    memory = tuple(freezer.memory())  # before other atoms than the parameters' are known
    return _analysis(found, freezer, memory), axes


class Thawed:
    """An algebra that starts from frozen axes of parameters.

    - `leaf_axes`: these axes in terms of its own atoms
    """

    def __init__(self, analysis: Analysis, leaf_axes: Sequence[Axes], program: Program) -> None:
        """`program` is what will be analysed, `analysis` that of the network."""
        self.algebra = Algebra()
        atoms = {a for axes in leaf_axes for e in axes for a in everything(e)}
        atoms |= {o for a in atoms for o in a.over}
        ordered = sorted(atoms, key=lambda a: a.index)
        made = (self.algebra.atom(a.size, (), a.why) for a in ordered)
        self.atoms: dict[Atom, Atom] = dict(
            zip(ordered, itertools.chain(*map(own, made)), strict=True)
        )
        for atom, now in self.atoms.items():
            now.over = frozenset(self.atoms[o] for o in atom.over)
        translate = _Translation(self.atoms)
        self.leaf_axes = [tuple(map(translate.expr, axes)) for axes in leaf_axes]
        alike = _skeleton(program) == _skeleton(analysis.program)
        for key, n, expr in analysis.memory:
            if alike or _by_axes(key):
                self.algebra.know(translate.key(key), n, translate.expr(expr))
        if alike:
            self.algebra.given_up |= analysis.given_up

    def same(self, atom: Atom) -> bool:
        """Whether an atom is still as it was."""
        now = self.atoms[atom]
        over = frozenset(self.atoms[o] for o in atom.over)
        return (
            now.bound is None
            and now.fixed == atom.fixed
            and (now.fixed or self.algebra.outer(now) == over)
        )

    def freeze(self, found: Found) -> Analysis:
        """What was found, in terms of the atoms that it started from."""
        back = {now: atom for atom, now in self.atoms.items() if now.bound is None}
        return _analysis(found, _Freezer(self.algebra, back, len(self.atoms)), ())


def _analysis(found: Found, freezer: _Freezer, memory: Any) -> Analysis:
    algebra = found.algebra
    values = freezer.all_axes([*found.axes.values(), *((e,) for e in found.ambient.values())])
    n = len(found.axes)
    ambient = (e for (e,) in values[n:])
    return Analysis(
        program=found.program,
        axes=MappingProxyType(dict(zip(found.axes, values[:n], strict=True))),
        ambient=MappingProxyType(dict(zip(found.ambient, ambient, strict=True))),
        unknown=tuple(sorted(algebra.unknown)),
        given_up=frozenset(algebra.given_up),
        memory=memory,
        sweeps=found.sweeps,
    )


class _Freezer:
    """Frozen atoms for those of an algebra; `known` are given."""

    def __init__(self, algebra: Algebra, known: Mapping[Atom, Atom], first: int = 0) -> None:
        self.algebra = algebra
        self.known = dict(known)
        self.next = first

    def all_axes(self, axes: Iterable[Axes]) -> tuple[Axes, ...]:
        """Resolved and frozen; new atoms are numbered in the order in which they were made."""
        resolved: dict[Axes, Axes] = {}
        every = list(axes)
        for some in every:
            if some not in resolved:
                resolved[some] = tuple(map(self.algebra.resolve, some))
        self._number(a for some in resolved.values() for e in some for a in everything(e))
        translate = _Translation(self.known)
        done = {some: tuple(map(translate.expr, found)) for some, found in resolved.items()}
        return tuple(done[some] for some in every)

    def _number(self, atoms: Iterable[Atom]) -> None:
        todo, new = list(dict.fromkeys(atoms)), dict[Atom, frozenset[Atom]]()
        while todo:
            atom = todo.pop()
            if atom not in self.known and atom not in new:
                new[atom] = frozenset() if atom.fixed else self.algebra.outer(atom)
                todo += new[atom]
        ordered = sorted(new, key=lambda a: a.index)
        number = {atom: self.next + k for k, atom in enumerate(ordered)}
        self.next += len(ordered)
        open_: set[Atom] = set()  # no cycle is left among free atoms that have come to rest

        def make(atom: Atom) -> Atom:
            if atom not in self.known:
                open_.add(atom)
                over = frozenset(make(o) for o in new[atom] if o not in open_)
                open_.discard(atom)
                self.known[atom] = FrozenAtom(number[atom], atom.size, over, atom.why)
            return self.known[atom]

        for atom in ordered:
            make(atom)

    def memory(self) -> Iterator[tuple[Hashable, int, Expr]]:
        """What is remembered of atoms that are known, and as what."""
        translate = _Translation(self.known)
        for key, n, expr in self.algebra.memory():
            now = self.algebra.resolve(expr)
            if all(a in self.known for a in everything(now)) and _told(key, self.known):
                yield translate.key(key), n, translate.expr(now)


class _Translation:
    """Expressions with other atoms in the place of theirs."""

    def __init__(self, atoms: Mapping[Atom, Atom]) -> None:
        self.atoms = atoms
        self.done: dict[Expr, Expr] = {}

    def expr(self, expr: Expr) -> Expr:
        if expr not in self.done:
            self.done[expr] = tuple(map(self._factor, expr))
        return self.done[expr]

    def _factor(self, factor: Any) -> Any:
        if isinstance(factor, Atom):
            return self.atoms[factor]
        if isinstance(factor, Concat):
            labels = tuple(frozenset((self.atoms[k], i) for k, i in on) for on in factor.labels)
            return Concat(tuple(map(self.expr, factor.parts)), labels)
        if isinstance(factor, Family):
            return Family(self.atoms[factor.key], tuple(map(self.expr, factor.members)))
        return factor

    def key(self, key: Any) -> Any:
        """What something is remembered by: tuples of axes, numbers and words."""
        if isinstance(key, tuple):
            return tuple(map(self.key, key))
        return self._factor(key) if isinstance(key, Atom | Concat | Family) else key


def everything(expr: Expr) -> Iterator[Atom]:
    """Every atom in an expression, those that families follow and labels name included."""
    for factor in expr:
        if isinstance(factor, Atom):
            yield factor
        elif isinstance(factor, Family):
            yield factor.key
        elif isinstance(factor, Concat):
            yield from (key for on in factor.labels for key, _ in on)
        for part in inside(factor):
            yield from everything(part)


def _told(key: Any, known: Mapping[Atom, Atom]) -> bool:
    """Whether what something is remembered by can be told by known atoms alone."""
    if isinstance(key, tuple):
        return all(_told(k, known) for k in key)
    if isinstance(key, Atom | Concat | Family):
        return all(a in known for a in everything((key,)))
    return isinstance(key, int | str | range | Uniform | None)


def _by_axes(key: Any) -> bool:
    return isinstance(key, tuple) and bool(key) and key[0] in _BY_AXES


def _skeleton(program: Program) -> list[tuple[int, str]]:
    """Two programs with the same skeleton number the same equations alike."""
    return [(e.index, e.name) for e in program.all_equations()]


__all__ = ["Analysis", "Thawed", "freeze"]
