"""The algebra of axis expressions: making them, refining them, joining them.

The algebra only ever *refines*: atoms are bound to products or concatenations, fixed, or lose
dependence. Every rule is applied again until nothing changes any more.
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterable, Sequence

from .axes import (
    Atom,
    Axes,
    Concat,
    Expr,
    Factor,
    Family,
    Uniform,
    atoms,
    mentioned,
    once,
    own,
    size,
)
from .program import Constant

# Fixed axes up to this length are enumerated, so that what depends on them may differ
# index by index; a longer one severs the dependence (conservative).
ENUMERATED = 128


class Algebra:
    """Atoms and what has been found out about them; `changed` tells whether a sweep found more."""

    def __init__(self) -> None:
        self.changed = False
        self._indices = itertools.count()
        self._memo: dict[Hashable, Expr] = {}
        self.free: list[Atom] = []  # every atom made free, in order of making
        self.carries: dict[int, list[Axes]] = {}  # loops: what their carry is known to be
        self.constants: dict[Constant, tuple[bool, ...]] = {}  # known arrays: where they vary
        self.unknown: set[str] = set()  # primitives without a rule that fixed something
        self.given_up: set[int] = set()  # equations whose rules found more in every sweep

    # -- making and reading expressions ----------------------------------------------------

    def atom(self, n: int, over: Iterable[Atom] = (), why: str | None = None) -> Expr:
        if n == 1:
            return ()
        atom = Atom(next(self._indices), int(n), frozenset(over), why)
        if why is None:
            self.free.append(atom)
        return (atom,)

    def uniform(self, n: int) -> Expr:
        return () if n == 1 else (Uniform(n),)

    def remembered(
        self, key: Hashable, n: int, over: Iterable[Atom] = (), why: str | None = None
    ) -> Expr:
        """An atom, the same object for the same key in every sweep."""
        key = (key, n)
        if key not in self._memo:
            self._memo[key] = self.atom(n, over, why)
        return self.resolve(self._memo[key])

    def fixed(self, key: Hashable, n: int, why: str) -> Expr:
        return self.remembered(key, n, why=why)

    def resolve(self, expr: Expr) -> Expr:
        """The expression in terms of unbound atoms, in canonical form."""
        if all(isinstance(f, Atom) and f.bound is None for f in expr):
            return expr
        out: list[Factor] = []
        for factor in expr:
            if isinstance(factor, Atom):
                if factor.bound is None:
                    out.append(factor)
                else:
                    factor.bound = self.resolve(factor.bound)
                    out.extend(factor.bound)
            elif isinstance(factor, Concat):
                out.extend(self.concat([self.resolve(p) for p in factor.parts]))
            elif isinstance(factor, Family):
                out.extend(self.family(factor.key, [self.resolve(m) for m in factor.members]))
            elif factor.size != 1:
                out.append(factor)
        merged: list[Factor] = []
        for factor in out:
            if merged and isinstance(factor, Uniform) and isinstance(merged[-1], Uniform):
                merged[-1] = Uniform(merged[-1].size * factor.size)
            else:
                merged.append(factor)
        return tuple(merged)

    def concat(self, parts: Sequence[Expr]) -> Expr:
        flat: list[Expr] = []
        for part in parts:
            if len(part) == 1 and isinstance(part[0], Concat):
                flat.extend(part[0].parts)
            elif size(part):
                flat.append(part)
        if len(flat) == 1:
            return flat[0]
        if all(isinstance(f, Atom) and f.fixed for p in flat for f in p):
            # Positions only (an axis of size one is one too): nothing can move. Constants beside
            # them stay apart: an initial carry of zeros will be units.
            return self.fixed(("concat", tuple(flat)), sum(map(size, flat)), "concatenation")
        return (Concat(tuple(flat)),)

    def family(self, key: Atom, members: Sequence[Expr]) -> Expr:
        if all(m == members[0] for m in members):
            return members[0]
        root = self.resolve((key,))
        if len(root) == 1 and isinstance(root[0], Atom) and root[0].size == len(members):
            return (Family(root[0], tuple(members)),)
        return self.join_all(members)  # the key is no single axis any more

    def outer(self, atom: Atom) -> frozenset[Atom]:
        """The unbound atoms that `atom` depends on."""
        if not atom.over:
            return atom.over
        found: set[Atom] = set()
        for dependee in sorted(atom.over, key=lambda a: a.index):
            if dependee.bound is None:
                found.add(dependee)
                continue
            factors = self.resolve((dependee,))
            if all(isinstance(f, Atom) for f in factors):
                found.update(f for f in factors if isinstance(f, Atom))
        found.discard(atom)
        atom.over = frozenset(found)
        return atom.over

    # -- refining --------------------------------------------------------------------------

    def fix(self, expr: Expr, why: str) -> Expr:
        for atom in atoms(self.resolve(expr)):
            if not atom.fixed:
                atom.fixed, atom.why, self.changed = True, why, True
        return self.resolve(expr)

    def restrict(self, atom: Atom, allowed: frozenset[Atom]) -> None:
        """`atom` depends on nothing but `allowed`."""
        current = self.outer(atom)
        if not current <= allowed:
            atom.over, self.changed = current & allowed, True

    def _bind(self, atom: Atom, expr: Expr) -> Expr:
        """`atom` is `expr` from now on; what is inside inherits fixedness and dependence."""
        if expr == (atom,):
            return expr
        if any(a is atom for a in mentioned(expr)):
            return self.fix((*expr, atom), "an axis tied to a part of itself")[: len(expr)]
        self.changed = True
        expr = self._materialise(expr, self.outer(atom))
        if atom.fixed:
            expr = self.fix(expr, atom.why or "tied to a fixed axis")
            if len(expr) == 1 and isinstance(expr[0], Atom) and expr[0] is atom:
                return expr
        self._inherit(expr, self.outer(atom))
        atom.bound = expr
        return self.resolve(expr)

    def _materialise(self, expr: Expr, over: frozenset[Atom]) -> Expr:
        """The expression with atoms for its uniform factors: the other side is not constant."""
        out: list[Factor] = []
        for factor in expr:
            if isinstance(factor, Uniform):
                out.extend(self.atom(factor.size, over | set(own(out))))
            elif isinstance(factor, Concat):
                parts = [self._materialise(p, over | set(own(out))) for p in factor.parts]
                out.extend(self.concat(parts))
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

    def split(self, factor: Factor, outer: int) -> tuple[Expr, Expr] | None:
        """`factor` as a product (outer, inner) of the given outer size; None if it is none."""
        inner = factor.size // outer
        if outer * inner != factor.size:
            return None
        if isinstance(factor, Uniform):
            return (Uniform(outer),), (Uniform(inner),)
        if isinstance(factor, Atom):
            over = self.outer(factor)
            why = factor.why if factor.fixed else None
            left = self.atom(outer, over, why)
            right = self.atom(inner, over | set(left), why)  # type: ignore[arg-type]
            for atom in own(left):
                # Should the inner axis be fixed, the units may differ for each of its indices.
                atom.over = over | set(own(right))
            factor.bound, self.changed = left + right, True
            return left, right
        if isinstance(factor, Family):
            pieces = [self.split_expr(m, outer) for m in factor.members]
            if any(p is None for p in pieces):
                return None
            return (
                self.family(factor.key, [p[0] for p in pieces]),  # type: ignore[index]
                self.family(factor.key, [p[1] for p in pieces]),  # type: ignore[index]
            )
        return self._split_concat(factor, inner)

    def _split_concat(self, factor: Concat, inner: int) -> tuple[Expr, Expr] | None:
        if any(size(p) % inner for p in factor.parts):
            # Cut the parts so that each piece is one index of the outer axis.
            return None
        if all(size(p) == inner for p in factor.parts):
            count = len(factor.parts)
            key = self.fixed(("stack", factor.parts), count, "index of a stack of blocks")
            if len(key) != 1 or not isinstance(key[0], Atom) or count > ENUMERATED:
                return None
            return key, self.family(key[0], factor.parts)
        pieces = [self.split_expr(p, size(p) // inner) for p in factor.parts]
        if any(p is None for p in pieces):
            return None
        return (
            self.concat([p[0] for p in pieces]),  # type: ignore[index]
            self.join_all([p[1] for p in pieces]),  # type: ignore[index]
        )

    def split_expr(self, expr: Expr, outer: int) -> tuple[Expr, Expr] | None:
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

    def cut(self, expr: Expr, at: int) -> tuple[Expr, Expr] | None:
        """The axis cut into its first `at` positions and the others; None where it has no seam."""
        head, *rest = self.resolve(expr)
        tail: Expr = tuple(rest)
        if tail:
            inner = size(tail)
            pieces = self.cut((head,), at // inner) if at % inner == 0 else None
            if pieces is None:
                return None
            tail = self.resolve(tail)
            return self.resolve(pieces[0] + tail), self.resolve(pieces[1] + tail)
        factor, n = head, head.size
        if isinstance(factor, Uniform):
            return self.resolve((Uniform(at),)), self.resolve((Uniform(n - at),))
        if isinstance(factor, Atom):
            if factor.fixed:
                return self.positions(factor, range(at)), self.positions(factor, range(at, n))
            over = self.outer(factor)
            parts = (self.atom(at, over), self.atom(n - at, over))
            factor.bound, self.changed = (Concat(parts),), True
            return self.resolve(parts[0]), self.resolve(parts[1])
        if isinstance(factor, Family):
            pairs = [self.cut(m, at) for m in factor.members]
            if any(p is None for p in pairs):
                return None
            return (
                self.family(factor.key, [p[0] for p in pairs]),  # type: ignore[index]
                self.family(factor.key, [p[1] for p in pairs]),  # type: ignore[index]
            )
        return self._cut_concat(factor, at)

    def _cut_concat(self, factor: Concat, at: int) -> tuple[Expr, Expr] | None:
        left: list[Expr] = []
        right = list(factor.parts)
        while at:
            part = right.pop(0)
            n = size(part)
            if n > at:
                pieces = self.cut(part, at)
                if pieces is None:
                    return None
                part, n = pieces[0], at
                right.insert(0, pieces[1])
            left.append(part)
            at -= n
        return self.concat(list(map(self.resolve, left))), self.concat(
            list(map(self.resolve, right))
        )

    def positions(self, atom: Atom, which: range) -> Expr:
        """Some positions of a fixed atom: a fixed atom with an identity of its own."""
        if which == range(atom.size):
            return (atom,)
        return self.fixed(("positions", atom, which), len(which), atom.why or "positions")

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
        within = {f: once(joined[:i]) for i, f in enumerate(joined) if isinstance(f, Atom)}
        for i, factor in enumerate(side):
            if isinstance(factor, Atom) and not factor.fixed and factor.over:
                elsewhere = within.get(factor, frozenset()) - once(side[:i])
                self.restrict(factor, self.outer(factor) - elsewhere)

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
        left, right, out = list(p.parts), list(q.parts), []
        while left and right:
            a, b = left.pop(0), right.pop(0)
            if size(a) != size(b):
                big, small, rest = (a, b, left) if size(a) > size(b) else (b, a, right)
                pieces = self.cut(big, size(small))
                if pieces is None:
                    return self._fail((p,), (q,))
                rest.insert(0, pieces[1])
                a, b = pieces[0], small
            out.append(self.join(a, b))
            left, right = list(map(self.resolve, left)), list(map(self.resolve, right))
            if [size(x) for x in left] and sum(map(size, left)) != sum(map(size, right)):
                return self._fail((p,), (q,))
        return self.concat(list(map(self.resolve, out)))

    def join_all(self, exprs: Sequence[Expr]) -> Expr:
        joined = exprs[0]
        for expr in exprs[1:]:
            joined = self.join(joined, expr)
        return self.resolve(joined)


def _segment(p: Factor, q: Factor, left: list[Factor], right: list[Factor]) -> tuple[Expr, Expr]:
    """The shortest runs from p and from q of equal size; taken off the two lists."""
    a, b = [p], [q]
    while size(tuple(a)) != size(tuple(b)):
        if size(tuple(a)) < size(tuple(b)):
            a.append(left.pop(0))
        else:
            b.append(right.pop(0))
    return tuple(a), tuple(b)
