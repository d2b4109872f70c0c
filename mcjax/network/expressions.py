"""Axis expressions in canonical form, and what becomes known of their atoms.

What is known is only ever *refined*: atoms are bound to products or concatenations, fixed, or
lose dependence. Every rule is applied again until nothing changes any more.
"""

from __future__ import annotations

import itertools
from collections.abc import Hashable, Iterable, Sequence

from .axes import (
    NO_LABELS,
    Atom,
    Axes,
    Concat,
    Expr,
    Factor,
    Family,
    Labels,
    Uniform,
    atoms,
    own,
    pick,
    size,
)
from .program import Constant

# Fixed axes up to this length are enumerated, so that what depends on them may differ
# index by index; a longer one severs the dependence (conservative).
ENUMERATED = 128


class Expressions:
    """Atoms and what has been found out about them; `changed` tells whether a sweep found more."""

    def __init__(self) -> None:
        self.changed = False
        self._indices = itertools.count()
        self._memo: dict[tuple[Hashable, int], Expr] = {}
        self.free: list[Atom] = []  # every atom made free, in order of making
        self.carries: dict[int, list[Axes]] = {}  # loops: what their carry is known to be
        self.constants: dict[Constant, tuple[bool, ...]] = {}  # known arrays: where they vary
        self.unknown: set[str] = set()  # primitives without a rule that fixed something
        self.given_up: set[int] = set()  # equations whose rules found more in every sweep

    def join_all(self, exprs: Sequence[Expr]) -> Expr:
        """What all of these axes admit."""
        raise NotImplementedError

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
        if (key, n) not in self._memo:
            self._memo[key, n] = self.atom(n, over, why)
        return self.resolve(self._memo[key, n])

    def memory(self) -> list[tuple[Hashable, int, Expr]]:
        """(key, size, axis) of everything that is remembered."""
        return [(key, n, expr) for (key, n), expr in self._memo.items()]

    def know(self, key: Hashable, n: int, expr: Expr) -> None:
        """Remember an axis."""
        self._memo[key, n] = expr

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
                    out.extend(self._root(factor))
            elif isinstance(factor, Concat):
                out.extend(self.concat([self.resolve(p) for p in factor.parts], factor.labels))
            elif isinstance(factor, Family):
                out.extend(self.family(factor.key, [self.resolve(m) for m in factor.members]))
            elif factor.size != 1:
                out.append(factor)
        merged: list[Factor] = []
        for i, factor in enumerate(out):
            if isinstance(factor, Concat) and i + 1 < len(out):
                return (*merged, *self._distribute(factor, tuple(out[i + 1 :])))
            if merged and isinstance(factor, Uniform) and isinstance(merged[-1], Uniform):
                merged[-1] = Uniform(merged[-1].size * factor.size)
            else:
                merged.append(factor)
        return tuple(merged)

    def _root(self, atom: Atom) -> Expr:
        """What a bound atom is; itself, if its parts are remembered to be laid out as that atom."""
        bound, atom.bound = atom.bound, None
        found = self.resolve(bound or ())
        if atom.bound is not None:
            found = self.join_all([found, atom.bound])
        atom.bound = None if found == (atom,) else found
        return found

    def _distribute(self, concat: Concat, tail: Expr) -> Expr:
        """What stands behind a concatenation goes into its parts."""
        pairs = zip(concat.parts, concat.labels, strict=True)
        return self.concat([self.resolve(p + pick(tail, on)) for p, on in pairs], concat.labels)

    def concat(self, parts: Sequence[Expr], labels: Sequence[Labels] | None = None) -> Expr:
        """Resolved parts, one after the other."""
        flat: list[tuple[Expr, Labels]] = []
        for part, label in zip(parts, labels or [NO_LABELS] * len(parts), strict=True):
            label = self._resolve_labels(label)
            if len(part) == 1 and isinstance(part[0], Concat):
                inner = zip(part[0].parts, part[0].labels, strict=True)
                flat.extend((p, label | more) for p, more in inner)
            elif size(part):
                flat.append((part, label))
        if len(flat) == 1:
            return flat[0][0]
        if not any(label for _, label in flat) and all(
            isinstance(f, Atom) and f.fixed for p, _ in flat for f in p
        ):
            # Positions only (an axis of size one is one too): nothing can move. Constants beside
            # them stay apart: an initial carry of zeros will be units.
            key = ("concat", tuple(p for p, _ in flat))
            return self.fixed(key, sum(size(p) for p, _ in flat), "concatenation")
        return (Concat(tuple(p for p, _ in flat), tuple(label for _, label in flat)),)

    def _resolve_labels(self, labels: Labels) -> Labels:
        if all(key.bound is None for key, _ in labels):
            return labels
        roots = ((self.resolve((key,)), key.size, i) for key, i in labels)
        return frozenset((r[0], i) for r, n, i in roots if _is_atom(r, n))  # type: ignore[misc]

    def family(self, key: Atom, members: Sequence[Expr]) -> Expr:
        """A factor with a (resolved) member for each index of a fixed atom."""
        if all(m == members[0] for m in members):
            return members[0]
        root = self.resolve((key,))
        if not _is_atom(root, len(members)):
            return self.join_all(members)  # the key is no single axis any more
        (atom,) = own(root)
        # A family inside that follows the same atom is at the same index of it.
        inside = [self.resolve(pick(m, frozenset({(atom, i)}))) for i, m in enumerate(members)]
        return inside[0] if all(m == inside[0] for m in inside) else (Family(atom, tuple(inside)),)

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

    def followers(self, atom: Atom) -> list[Atom]:
        """Every free atom that depends on `atom`."""
        return [a for a in self.free if a.bound is None and not a.fixed and atom in self.outer(a)]

    def unfold(
        self, followers: Iterable[Atom], leader: Atom, key: Atom, parts: Sequence[Expr]
    ) -> None:
        """Bind every atom that depends on `leader` to one atom for each of its parts.

        **Arguments:**
        - `key`: which part; each follower becomes a family that follows it
        - `parts`: for each index of `key` what of the leader is left to depend on
        """
        members = {a: tuple(self.atom(a.size) for _ in parts) for a in followers}
        for atom, family in members.items():
            rest = self.outer(atom) - {leader}
            for k, member in enumerate(family):
                over = [members[o][k] if o in members else (o,) for o in rest]
                for inner in own(member):
                    inner.over = frozenset(f for e in (*over, parts[k]) for f in own(e))
        for atom, family in members.items():
            atom.bound, self.changed = (Family(key, family),), True


def _is_atom(expr: Expr, n: int) -> bool:
    return len(expr) == 1 and isinstance(expr[0], Atom) and expr[0].size == n


__all__ = ["ENUMERATED", "Expressions"]
