"""Dependence between the axes of a whole array.

The units inside a head may be permuted differently in each head: such an atom *depends* on the
heads' atom. A dependence holds as long as it is unambiguous in every array of the program.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .algebra import Algebra
from .axes import Atom, Axes, Concat, Expr, Factor, Family, Labels, Uniform, atoms, once, pick
from .expressions import ENUMERATED


def select(algebra: Algebra, axes: Axes, key: Atom, new: Expr, which: Sequence[int]) -> Axes:
    """The other axes of an array of which only the indices `which` of `key` are kept."""
    if key.size > ENUMERATED:
        # Too many to tell apart: what depends on the key must be the same for all.
        return tuple(_sever(algebra, e, key) for e in axes)
    algebra.enumerate(list(axes), key)
    return tuple(_select(algebra, algebra.resolve(e), key, new, which) for e in axes)


def keep_parts(algebra: Algebra, axes: Axes, kept: Sequence[Labels]) -> Axes:
    """The axes of an array of which only the parts with these labels are kept."""
    alone = frozenset(label for label in kept[0] if all(label in labels for labels in kept))
    return tuple(algebra.resolve(pick(algebra.resolve(e), alone)) for e in axes)


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
        elif isinstance(factor, Family):
            members = [_select(algebra, m, key, new, which) for m in factor.members]
            out.extend(algebra.family(factor.key, members))
        elif isinstance(factor, Concat):
            parts = [_select(algebra, p, key, new, which) for p in factor.parts]
            out.extend(algebra.concat(parts, factor.labels))
        else:
            out.append(factor)
    return algebra.resolve(tuple(out))


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
    in the whole array and the scans around it. Absent or twice, it is no dependee. In a
    concatenation it must appear in each part, as far as the parts can stand together.
    """
    axes = tuple(map(algebra.resolve, axes))
    if all(
        isinstance(f, Uniform) or (isinstance(f, Atom) and (f.fixed or not f.over))
        for e in axes
        for f in e
    ):
        return axes
    space = [*axes, algebra.resolve(ambient)]
    out = []
    for i, expr in enumerate(axes):
        others = [*space[:i], *space[i + 1 :]]
        out.append(_check(algebra, expr, (), (), others, {}))
    return tuple(map(algebra.resolve, out))


# Which part of a concatenation, or index of a key, an index of the array stands in.
_Where = Mapping[Atom, int]


def _check(
    algebra: Algebra, expr: Expr, before: Expr, after: Expr, others: list[Expr], where: _Where
) -> Expr:
    """One axis: `before` and `after` are what stands around `expr` on it."""
    out: list[Factor] = []
    for i, factor in enumerate(expr):
        earlier, later = before + expr[:i], expr[i + 1 :] + after
        if isinstance(factor, Uniform):
            out.append(factor)
            continue
        if isinstance(factor, Atom):
            if not factor.fixed and factor.over:
                here = [*others, earlier, (factor, *later)]
                own = once(earlier)
                allowed = {
                    a for a in algebra.outer(factor) if a in own or _count(a, here, where) == 1
                }
                algebra.restrict(factor, frozenset(allowed))
            out.append(factor)
        elif isinstance(factor, Concat):
            parts = [
                _check(algebra, p, earlier, later, others, {**where, **dict(labels)})
                for p, labels in zip(factor.parts, factor.labels, strict=True)
            ]
            out.extend(algebra.concat(list(map(algebra.resolve, parts)), factor.labels))
        else:
            members = [
                _check(algebra, m, earlier, later, others, {**where, factor.key: k})
                for k, m in enumerate(factor.members)
            ]
            members = list(map(algebra.resolve, members))
            here = [*others, earlier, later]
            kept = factor.key in once(earlier) or _count(factor.key, here, where) == 1
            out.extend(algebra.family(factor.key, members) if kept else algebra.join_all(members))
    return algebra.resolve(tuple(out))


def _count(atom: Atom, exprs: Sequence[Expr], where: _Where) -> int:
    """How often an atom, or a label of its, appears along these axes; 2 if it depends."""
    return sum(_count_in(atom, e, where) for e in exprs)


def _count_in(atom: Atom, expr: Expr, where: _Where) -> int:
    total = 0
    for factor in expr:
        if isinstance(factor, Atom):
            total += factor is atom
        elif isinstance(factor, Concat):
            found = {
                _count_in(atom, p, where) + any(key is atom for key, _ in labels)
                for p, labels in zip(factor.parts, factor.labels, strict=True)
                if all(where.get(key, i) == i for key, i in labels)
            }
            total += found.pop() if len(found) == 1 else 2 * bool(found)
        elif isinstance(factor, Family):
            index = where.get(factor.key)
            members = factor.members if index is None else (factor.members[index],)
            found = {_count_in(atom, m, where) for m in members}
            total += found.pop() if len(found) == 1 else 2
    return total
