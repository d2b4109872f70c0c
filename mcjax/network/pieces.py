"""Axes taken apart: into an outer and an inner one, or at a seam between positions."""

from __future__ import annotations

import itertools

from .axes import (
    NO_LABELS,
    Atom,
    Concat,
    Expr,
    Factor,
    Family,
    Labels,
    Uniform,
    atoms,
    naming,
    own,
    pick,
    size,
)
from .expressions import ENUMERATED, Expressions

Pair = tuple[Expr, Expr]


class Pieces(Expressions):
    """How axes are split and cut; an atom that is taken apart stays so."""

    # -- products --------------------------------------------------------------------------

    def split_expr(self, expr: Expr, outer: int) -> Pair | None:
        """The product cut after its first factors of total size `outer`."""
        left: list[Factor] = []
        rest = list(self.resolve(expr))
        while outer > 1:
            if not rest:
                return None
            factor = rest.pop(0)
            if outer % factor.size == 0:
                left.append(factor)
                outer //= factor.size
                continue
            pieces = self.split(factor, outer) if factor.size % outer == 0 else None
            if pieces is None:
                return None
            left.extend(pieces[0])
            rest = [*pieces[1], *rest]
            outer = 1
        return self.resolve(tuple(left)), self.resolve(tuple(rest))

    def split(self, factor: Factor, outer: int) -> Pair | None:
        """`factor` as a product (outer, inner) of the given outer size; None if it is none."""
        inner = factor.size // outer
        if outer * inner != factor.size:
            return None
        if isinstance(factor, Uniform):
            return (Uniform(outer),), (Uniform(inner),)
        if isinstance(factor, Atom):
            return self._split_atom(factor, outer, inner)
        if isinstance(factor, Family):
            return self._by_member(factor, [self.split_expr(m, outer) for m in factor.members])
        return self._split_concat(factor, inner)

    def _split_atom(self, atom: Atom, outer: int, inner: int) -> Pair:
        over = self.outer(atom)
        why = atom.why if atom.fixed else None
        left = self.atom(outer, over, why)
        right = self.atom(inner, over | set(own(left)), why)
        for unit in own(left):
            # Should the inner axis be fixed, the units may differ for each of its indices.
            unit.over = over | set(own(right))
        atom.bound, self.changed = left + right, True
        return left, right

    def _by_member(self, family: Family, pieces: list[Pair | None]) -> Pair | None:
        found = [p for p in pieces if p is not None]
        if len(found) < len(pieces):
            return None
        left, right = ([self.resolve(p[side]) for p in found] for side in (0, 1))
        return self.family(family.key, left), self.family(family.key, right)

    def _split_concat(self, concat: Concat, inner: int) -> Pair | None:
        """Parts as blocks of `inner` positions; one that straddles a seam is a concatenation."""
        blocks = self._blocks(concat, inner)
        if blocks is None:
            return None
        outers = [self.resolve(outer) for outer, _, _ in blocks]
        inners = [self.resolve(inner) for _, inner, _ in blocks]
        labels = [label for _, _, label in blocks]
        if all(e == inners[0] for e in inners):
            return self.concat(outers, labels), inners[0]
        if not any(outers) and len(outers) <= ENUMERATED:
            outer = self.fixed(("stack", concat.parts), len(outers), "index of a stack of blocks")
        else:
            outer = self.concat(outers, labels)
        if len(outer) == 1 and isinstance(outer[0], Atom):  # positions: they stay in place
            if outer[0].size > ENUMERATED:
                return outer, self.join_all(inners)
            pairs = zip(inners, map(size, outers), strict=True)
            return outer, self.family(outer[0], [e for e, n in pairs for _ in range(n)])
        for key, which in naming(labels):  # so that others that follow it are the same family
            if len(which) == key.size:
                members = [inners[which.index(i)] for i in range(key.size)]
                return self.concat(outers, labels), self.family(key, members)
        key = self.fixed(("parts", tuple(outers), tuple(inners)), len(blocks), "parts of an axis")
        (part,) = own(key)
        labels = [label | {(part, i)} for i, label in enumerate(labels)]
        return self.concat(outers, labels), self.family(part, inners)

    def _blocks(self, concat: Concat, inner: int) -> list[tuple[Expr, Expr, Labels]] | None:
        """(blocks, positions inside each, labels), part after part."""
        out: list[tuple[Expr, Expr, Labels]] = []
        straddling: list[Expr] = []
        todo = list(zip(concat.parts, concat.labels, strict=True))
        while todo:
            part, label = todo.pop(0)
            part = self.resolve(part)
            if len(part) == 1 and isinstance(part[0], Concat):
                inside = zip(part[0].parts, part[0].labels, strict=True)
                todo[:0] = [(p, label | more) for p, more in inside]
                continue
            filled, n = sum(map(size, straddling)), size(part)
            whole = not filled and n >= inner
            take = n // inner * inner if whole else min(inner - filled, n)
            if take < n:
                pieces = self.cut(part, take)
                if pieces is None:
                    return None
                todo[:0] = [(p, label) for p in pieces]
            elif whole:
                product = self.split_expr(part, n // inner)
                if product is None:
                    return None
                out.append((*product, label))
            else:
                straddling.append(part)
                if filled + n == inner:
                    out.append(((), self.concat(list(map(self.resolve, straddling))), NO_LABELS))
                    straddling = []
        return out

    # -- concatenations --------------------------------------------------------------------

    def cut(self, expr: Expr, at: int) -> Pair | None:
        """The axis cut into its first `at` positions and the others; None where it has no seam."""
        head, *rest = self.resolve(expr)
        tail: Expr = tuple(rest)
        if tail:
            return self._cut_product(head, tail, at)
        factor, n = head, head.size
        if isinstance(factor, Uniform):
            return self.uniform(at), self.uniform(n - at)
        if isinstance(factor, Atom):
            if factor.fixed:
                return self.positions(factor, range(at)), self.positions(factor, range(at, n))
            return self._cut_atom(factor, at)
        if isinstance(factor, Family):
            return self._by_member(factor, [self.cut(m, at) for m in factor.members])
        return self._cut_concat(factor, at)

    def _cut_product(self, head: Factor, tail: Expr, at: int) -> Pair | None:
        index, inside = divmod(at, size(tail))
        if not inside and not (isinstance(head, Atom) and not head.fixed):
            pieces = self.cut((head,), index)
            if pieces is None:
                return None
            return self.resolve(pieces[0] + tail), self.resolve(pieces[1] + tail)
        if isinstance(head, Family):
            return None
        apart = self._isolate(head, tail, index, alone=bool(inside))
        return None if apart is None else self._cut_concat(apart, at)

    def _isolate(self, head: Factor, tail: Expr, index: int, alone: bool) -> Concat | None:
        """The product laid out before, at (if `alone`) and after an index of its first factor."""
        stops = [s for s in {index, index + alone} if 0 < s < head.size]
        if isinstance(head, Atom) and not head.fixed:
            for stop in sorted(stops):  # what depends on the units follows them into the parts
                self.cut(self.resolve((head,)), stop)
            head, *rest = self.resolve((head, *tail))
            if isinstance(head, Concat):
                return head
            tail = tuple(rest)  # single units are positions now
        if isinstance(head, Atom):
            if head.size > ENUMERATED:
                return None
            self.enumerate([tail], head)
            tail = self.resolve(tail)
            parts = [self.resolve(pick(tail, frozenset({(head, k)}))) for k in range(head.size)]
        else:
            bounds = [0, *sorted(stops), head.size]
            lengths = [b - a for a, b in itertools.pairwise(bounds)]
            parts = [self.resolve(self.uniform(n) + tail) for n in lengths]
        whole = self.concat(parts)
        return whole[0] if len(whole) == 1 and isinstance(whole[0], Concat) else None

    def _cut_atom(self, atom: Atom, at: int) -> Pair:
        over = self.outer(atom)
        parts = (self.atom(at, over), self.atom(atom.size - at, over))
        labels: tuple[Labels, Labels] = (NO_LABELS, NO_LABELS)
        followers = self.followers(atom)
        for outer in [f for f in followers if f in over and f.index < atom.index]:
            # Each depends on the other, until proved otherwise: the outer one does not follow.
            self.restrict(outer, self.outer(outer) - {atom})
            followers.remove(outer)
        if followers:
            (key,) = own(self.fixed(("cut", atom), 2, "parts of an axis"))
            labels = (frozenset({(key, 0)}), frozenset({(key, 1)}))
            self.unfold(followers, atom, key, parts)
        atom.bound, self.changed = (Concat(parts, labels),), True
        return self.resolve(parts[0]), self.resolve(parts[1])

    def _cut_concat(self, concat: Concat, at: int) -> Pair | None:
        left, right = self.take(concat, range(at)), self.take(concat, range(at, concat.size))
        if left is None or right is None:
            return None
        return self.lay(left), self.lay(right)

    def take(self, concat: Concat, which: range) -> list[tuple[Expr, Labels]] | None:
        """The parts, cut where need be, and labels of some successive positions."""
        out, offset = [], 0
        for part, label in zip(concat.parts, concat.labels, strict=True):
            n = size(part)
            start, stop = max(which.start - offset, 0), min(which.stop - offset, n)
            offset += n
            if start >= stop:
                continue
            for at, keep in ((stop, 0), (start, 1)):
                if at not in (0, size(self.resolve(part))):
                    pieces = self.cut(part, at)
                    if pieces is None:
                        return None
                    part = pieces[keep]
            out.append((part, label))
        return out

    def lay(self, parts: list[tuple[Expr, Labels]]) -> Expr:
        """Parts with their labels as one axis."""
        return self.resolve(
            self.concat([self.resolve(p) for p, _ in parts], [label for _, label in parts])
        )

    def positions(self, atom: Atom, which: range) -> Expr:
        """Some positions of a fixed atom: a fixed atom with an identity of its own."""
        if which == range(atom.size):
            return (atom,)
        return self.fixed(("positions", atom, which), len(which), atom.why or "positions")

    def enumerate(self, axes: list[Expr], key: Atom) -> None:
        """Bind every atom that depends on a fixed atom to one atom for each of its indices."""
        todo = [a for e in axes for a in atoms(self.resolve(e))]
        found: dict[Atom, None] = {}
        while todo:
            atom = todo.pop()
            if not atom.fixed and atom not in found and key in self.outer(atom):
                found[atom] = None
                todo.extend(sorted(self.outer(atom), key=lambda a: a.index))
        self.unfold(found, key, key, [()] * key.size)
