"""The algebra of axis expressions: what two axes both admit."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

from .axes import (
    Atom,
    Concat,
    Expr,
    Factor,
    Family,
    Labels,
    Uniform,
    inside,
    mentioned,
    naming,
    once,
    own,
    size,
)
from .pieces import Pieces


class Algebra(Pieces):
    """Axis expressions that can be joined: two axes hold the same units."""

    # -- binding ---------------------------------------------------------------------------

    def _bind(self, atom: Atom, expr: Expr) -> Expr:
        """`atom` is `expr` from now on; what is inside inherits fixedness and dependence."""
        if expr == (atom,):
            return expr
        if any(a is atom for a in mentioned(expr)):
            return self.fix((*expr, atom), "an axis tied to a part of itself")[: len(expr)]
        if atom.fixed:
            expr = self.fix(expr, atom.why or "tied to a fixed axis")
            if any(isinstance(f, Concat) and _partly_uniform(f) for f in expr):
                # Positions beside a constant: bound to them, the positions would be others in
                # every sweep. What depends on one side is absent from the other, and dropped.
                return (atom,)
        self.changed = True
        expr = self._materialise(expr, self.outer(atom))
        if atom.fixed:
            expr = self.fix(expr, atom.why or "tied to a fixed axis")
            if len(expr) == 1 and isinstance(expr[0], Atom) and expr[0] is atom:
                return expr
        self._inherit(expr, self.outer(atom))
        self._lead(atom, expr)
        atom.bound = expr
        return self.resolve(expr)

    def _lead(self, atom: Atom, expr: Expr) -> None:
        """What depends on an atom that turns out to have labelled parts follows them."""
        if len(expr) != 1 or not isinstance(expr[0], Concat):
            return
        concat = expr[0]
        for key, which in naming(concat.labels):
            found = dict(zip(which, concat.parts, strict=True))
            parts = [found.get(i, ()) for i in range(key.size)]
            return self.unfold(self.followers(atom), atom, key, parts)

    def _materialise(self, expr: Expr, over: frozenset[Atom]) -> Expr:
        """The expression with atoms for its uniform factors: the other side is not constant."""
        out: list[Factor] = []
        for factor in expr:
            if isinstance(factor, Uniform):
                out.extend(self.atom(factor.size, over | set(own(out))))
            elif isinstance(factor, Concat):
                parts = [self._materialise(p, over | set(own(out))) for p in factor.parts]
                out.extend(self.concat(parts, factor.labels))
            elif isinstance(factor, Family):
                members = [self._materialise(m, over | set(own(out))) for m in factor.members]
                out.extend(self.family(factor.key, members))
            else:
                out.append(factor)
        return tuple(out)

    def _inherit(self, expr: Expr, allowed: frozenset[Atom]) -> None:
        for factor in expr:
            if isinstance(factor, Atom):
                self.restrict(factor, allowed)
                allowed |= {factor}
            elif isinstance(factor, Concat):
                for part in factor.parts:
                    self._inherit(part, allowed)
            elif isinstance(factor, Family):
                for member in factor.members:
                    self._inherit(member, allowed | {factor.key})

    # -- joining ---------------------------------------------------------------------------

    def join(self, left: Expr, right: Expr) -> Expr:
        """The two axes hold the same units: what both admit."""
        left, right = self.resolve(left), self.resolve(right)
        joined = self._join(left, right)
        for side in (left, right):
            self._same_dependees(self.resolve(side), joined)
        return self.resolve(joined)

    def _same_dependees(self, side: Expr, joined: Expr) -> None:
        """Drop what depends on a factor of its own axis in one array and of another axis in
        the other: `[g, (1…1, u)] + [1, (g, u)]` would otherwise confuse two indices of `g`."""
        within: dict[Atom, frozenset[Atom]] = {}
        for atom, before in _units(joined):
            within[atom] = within.get(atom, frozenset()) | before
        for atom, before in list(_units(side)):
            if not atom.fixed and atom.over:
                elsewhere = within.get(atom, frozenset()) - before
                self.restrict(atom, self.outer(atom) - elsewhere)

    def _join(self, left: Expr, right: Expr) -> Expr:
        todo_left, todo_right = list(self.resolve(left)), list(self.resolve(right))
        out: list[Factor] = []
        while todo_left and todo_right:
            p, q = todo_left.pop(0), todo_right.pop(0)
            if p.size != q.size:
                swap = p.size < q.size
                big, small = (q, p) if swap else (p, q)
                pieces = self.split(big, small.size)
                if pieces is None:
                    out.extend(self._fail(*_segment(p, q, todo_left, todo_right)))
                    continue
                inner = todo_right if swap else todo_left
                inner[:0] = pieces[1]
                out.extend(self._join_factors(pieces[0], (small,)))
            else:
                out.extend(self._join_factors((p,), (q,)))
            todo_left = list(self.resolve(tuple(todo_left)))
            todo_right = list(self.resolve(tuple(todo_right)))
        return self.resolve(tuple(out))

    def _fail(self, left: Expr, right: Expr) -> Expr:
        why = "two axes meet that have no common structure"
        left, right = self.fix(left, why), self.fix(right, why)
        return self.fixed(("meet", left, right), size(left), why)

    def _join_factors(self, left: Expr, right: Expr) -> Expr:
        left, right = self.resolve(left), self.resolve(right)
        if left == right:
            return left
        if len(left) != 1 or len(right) != 1:
            if len(left) == 1 and isinstance(left[0], Atom):
                return self._bind(left[0], right)
            if len(right) == 1 and isinstance(right[0], Atom):
                return self._bind(right[0], left)
            return self._join(left, right)
        p, q = left[0], right[0]
        if isinstance(p, Uniform):
            return right
        if isinstance(q, Uniform):
            return left
        if isinstance(p, Atom):
            # The newer to the older one (the free to the fixed one): what is remembered by an
            # atom is then found again in every sweep.
            if isinstance(q, Atom) and (p.fixed, q.index) > (q.fixed, p.index):
                return self._bind(q, left)
            return self._bind(p, right)
        if isinstance(q, Atom):
            return self._bind(q, left)
        if isinstance(p, Family) and isinstance(q, Family) and p.key is q.key:
            pairs = zip(p.members, q.members, strict=True)
            return self.family(p.key, [self.join(a, b) for a, b in pairs])
        if isinstance(p, Family):
            return self.join(self.join_all(p.members), right)
        if isinstance(q, Family):
            return self.join(left, self.join_all(q.members))
        return self._join_concats(p, q)

    def _join_concats(self, p: Concat, q: Concat) -> Expr:
        ends = sorted({*_seams(p), *_seams(q)})
        both: list[list[tuple[Expr, Labels]]] = [[], []]
        for start, stop in zip([0, *ends[:-1]], ends, strict=True):
            for side, concat in zip(both, (p, q), strict=True):
                piece = self.take(concat, range(start, stop))
                if piece is None or len(piece) != 1:
                    return self._fail((p,), (q,))
                side.extend(piece)
        self._same_keys(*([label for _, label in side] for side in both))
        joined = [
            (self.join(a, b), left | right) for (a, left), (b, right) in zip(*both, strict=True)
        ]
        return self.lay(joined)

    def _same_keys(self, left: Sequence[Labels], right: Sequence[Labels]) -> None:
        """Two keys that label the same parts with the same indices are one."""
        for a, _ in sorted(left[0], key=lambda label: label[0].index):
            for b, _ in sorted(right[0], key=lambda label: label[0].index):
                ones = [dict(labels).get(a) for labels in left]
                others = [dict(labels).get(b) for labels in right]
                # (Of keys of which only some indices are here the others may differ.)
                whole = set(range(a.size)) == set(range(b.size)) == set(ones)
                if a is not b and whole and ones == others:
                    self._join_factors((a,), (b,))

    def join_all(self, exprs: Sequence[Expr]) -> Expr:
        joined = exprs[0]
        for expr in exprs[1:]:
            joined = self.join(joined, expr)
        return self.resolve(joined)


def _partly_uniform(factor: Factor) -> bool:
    return isinstance(factor, Uniform) or any(
        _partly_uniform(f) for part in inside(factor) for f in part
    )


def _seams(concat: Concat) -> list[int]:
    """Where each part ends."""
    return list(itertools.accumulate(map(size, concat.parts)))


def _units(expr: Expr, before: frozenset[Atom] = frozenset()) -> Iterator[tuple[Atom, frozenset]]:
    """Every atom of an axis with those that stand once before it."""
    for i, factor in enumerate(expr):
        earlier = before | once(expr[:i])
        if isinstance(factor, Atom):
            yield factor, earlier
        for part in inside(factor):
            yield from _units(part, earlier)


def _segment(p: Factor, q: Factor, left: list[Factor], right: list[Factor]) -> tuple[Expr, Expr]:
    """The shortest runs from p and from q of equal size; taken off the two lists."""
    a, b = [p], [q]
    while size(tuple(a)) != size(tuple(b)):
        if size(tuple(a)) < size(tuple(b)):
            a.append(left.pop(0))
        else:
            b.append(right.pop(0))
    return tuple(a), tuple(b)
