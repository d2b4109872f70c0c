"""Dependence between the axes of a whole array.

The units inside a head may be permuted differently in each head: such an atom *depends* on the
heads' atom. A dependence holds as long as it is unambiguous in every array of the program.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from .algebra import ENUMERATED, Algebra
from .axes import Atom, Axes, Concat, Expr, Factor, Family, Uniform, atoms, once, own


def select(algebra: Algebra, axes: Axes, key: Atom, new: Expr, which: Sequence[int]) -> Axes:
    """The other axes of an array of which only the indices `which` of `key` are kept."""
    if key.size > ENUMERATED:
        # Too many to tell apart: what depends on the key must be the same for all.
        return tuple(_sever(algebra, e, key) for e in axes)
    _enumerate(algebra, axes, key)
    return tuple(_select(algebra, algebra.resolve(e), key, new, which) for e in axes)


def _sever(algebra: Algebra, expr: Expr, key: Atom) -> Expr:
    for atom in atoms(algebra.resolve(expr)):
        algebra.restrict(atom, algebra.outer(atom) - {key})
    return algebra.resolve(expr)


def _select(algebra: Algebra, expr: Expr, key: Atom, new: Expr, which: Sequence[int]) -> Expr:
    out: list[Factor] = []
    for factor in expr:
        if isinstance(factor, Family) and factor.key is key:
            members = [factor.members[i] for i in which]
            if len(members) == 1 or len(new) != 1 or not isinstance(new[0], Atom):
                out.extend(algebra.join_all(members))
            else:
                out.extend(algebra.family(new[0], members))
        elif isinstance(factor, Concat):
            parts = [_select(algebra, p, key, new, which) for p in factor.parts]
            out.extend(algebra.concat(parts))
        else:
            out.append(factor)
    return algebra.resolve(tuple(out))


def _enumerate(algebra: Algebra, axes: Axes, key: Atom) -> None:
    """Bind every atom that depends on `key` to one atom for each index of `key`."""
    todo = [a for e in axes for a in atoms(algebra.resolve(e))]
    members: dict[Atom, tuple[Expr, ...]] = {}
    while todo:
        atom = todo.pop()
        if not atom.fixed and atom not in members and key in algebra.outer(atom):
            members[atom] = tuple(algebra.atom(atom.size) for _ in range(key.size))
            todo.extend(sorted(algebra.outer(atom), key=lambda a: a.index))
    for atom, family in members.items():
        for k, member in enumerate(family):
            over = (members[o][k] if o in members else (o,) for o in algebra.outer(atom) - {key})
            for inner in own(member):
                inner.over = frozenset(f for e in over for f in own(e))
    for atom, family in members.items():
        atom.bound, algebra.changed = (Family(key, family),), True


def break_cycles(algebra: Algebra) -> bool:
    """In every cycle of dependences drop the outer atom's on the inner; False if none.

    Leaf axes start out depending on all others of their leaf, and the parts of an axis on each
    other, so two may depend on each other; atoms are numbered from the outermost axis in.
    """
    found = False
    for atom in algebra.free:
        if atom.bound is None and not atom.fixed:
            for inner in sorted(algebra.outer(atom), key=lambda a: -a.index):
                if inner.index > atom.index and _reaches(algebra, inner, atom):
                    atom.over = algebra.outer(atom) - {inner}
                    found = True
    return found


def _reaches(algebra: Algebra, start: Atom, goal: Atom) -> bool:
    seen, todo = {start}, [] if start.fixed else [start]
    while todo:
        for outer in algebra.outer(todo.pop()):
            if outer is goal:
                return True
            if outer not in seen and not outer.fixed:
                seen.add(outer)
                todo.append(outer)
    return False


def check(algebra: Algebra, axes: Axes, ambient: Expr = ()) -> Axes:
    """Drop every dependence that is not unambiguous in this array's index space.

    A dependee must appear exactly once: among the factors before it on the same axis, else
    in the whole array and the scans around it. Absent or twice, it is no dependee.
    """
    axes = tuple(map(algebra.resolve, axes))
    if all(
        isinstance(f, Uniform) or (isinstance(f, Atom) and (f.fixed or not f.over))
        for e in axes
        for f in e
    ):
        return axes
    counts = Counter(f for e in (*axes, algebra.resolve(ambient)) for f in e if type(f) is Atom)
    return tuple(_check(algebra, e, counts) for e in axes)


def _check(algebra: Algebra, expr: Expr, counts: Counter[Atom], before: Expr = ()) -> Expr:
    alone = frozenset(a for a, n in counts.items() if n == 1)
    out: list[Factor] = []
    for i, factor in enumerate(expr):
        earlier = before + expr[:i]
        allowed = alone | once(earlier)
        if isinstance(factor, Atom):
            if not factor.fixed:
                algebra.restrict(factor, allowed)
            out.append(factor)
        elif isinstance(factor, Concat):
            for part in factor.parts:
                _check(algebra, part, counts, earlier)
            out.extend(algebra.resolve((factor,)))
        elif isinstance(factor, Family):
            members = [_check(algebra, m, counts, earlier) for m in factor.members]
            kept = factor.key in allowed
            out.extend(algebra.family(factor.key, members) if kept else algebra.join_all(members))
        else:
            out.append(factor)
    return algebra.resolve(tuple(out))
