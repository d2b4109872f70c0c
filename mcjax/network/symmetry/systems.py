"""Unknown exponents, what is required of them, and all that satisfies it.

Dimension analysis: unit i of an atom is scaled by exp(θᵢ), and each value that holds the units by
exp(k θᵢ). The exponents k of the parameters are unknown; every operation says what holds between
those of its operands and its result. The same unknowns have three meanings:

- positive scalings: k is a rational number;
- signs: k is 0 or 1, modulo 2;
- matrices: the value is multiplied by g (0) or by g⁻ᵀ (1). A product of two such values is
  *quadratic*: it must be summed over all units, and is then invariant.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from fractions import Fraction
from typing import Any

from ..axes import Atom

NONE = 0  # the unknown of what does not hold the units: its exponent is zero
ANY = -1  # of a value that is zero: it has any exponent
CONSTANT = "one"  # the unknown that is 1


class System:
    """Equalities, by classes, and linear equations between unknowns, over ℚ or modulo 2."""

    def __init__(self, modulus: int = 0) -> None:
        self.modulus = modulus
        self.parent = [NONE]
        self.rows: list[dict[Hashable, Any]] = []

    def find(self, a: int) -> int:
        parent = self.parent
        while parent[a] != a:
            parent[a] = parent[parent[a]]
            a = parent[a]
        return a

    def unite(self, a: int, b: int) -> None:
        a, b = self.find(a), self.find(b)
        if a != b:
            self.parent[max(a, b)] = min(a, b)  # NONE stands for its class

    def require(self, terms: Iterable[tuple[Hashable, Any]]) -> None:
        """Σ coefficient · unknown = 0."""
        self.rows.append(_sum(terms, self.modulus))

    def classes(self, row: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """A row in terms of the classes, what is zero left out."""
        found = _sum(
            ((self.find(v) if isinstance(v, int) else v, k) for v, k in row.items()), self.modulus
        )
        found.pop(NONE, None)
        return found


def _sum(terms: Iterable[tuple[Hashable, Any]], modulus: int) -> dict[Hashable, Any]:
    out: dict[Hashable, Any] = {}
    for v, k in terms:
        k = out.get(v, 0) + k
        out[v] = k % modulus if modulus else k
    return {v: k for v, k in out.items() if k}


class Solution:
    """Every assignment that satisfies some rows, by elimination in exact arithmetic."""

    def __init__(
        self, rows: Iterable[Mapping[Hashable, Any]], rank: Callable[[Any], Any], modulus: int
    ) -> None:
        """Unknowns of low `rank` are expressed by those of higher rank."""
        self.rank, self.modulus = rank, modulus
        self.pivots: dict[Hashable, dict[Hashable, Any]] = {}
        for row in rows:
            self.add(dict(row))

    def add(self, row: dict[Hashable, Any]) -> bool:
        """Whether a row requires something new."""
        while row:
            lead = min(row, key=self.rank)
            if lead not in self.pivots:
                k = row[lead]
                if not self.modulus:
                    row = {v: Fraction(c) / k for v, c in row.items()}
                self.pivots[lead] = row
                return True
            k = row[lead]
            other = ((v, -k * c) for v, c in self.pivots[lead].items())
            row = _sum((*row.items(), *other), self.modulus)
        return False

    def extend(self, chosen: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """All unknowns from those that are not expressed by others (0 if not chosen)."""
        values = dict(chosen)
        for lead in sorted(self.pivots, key=self.rank, reverse=True):
            row = self.pivots[lead]
            total = -sum(c * values.get(v, 0) for v, c in row.items() if v != lead)
            total = total % self.modulus if self.modulus else total
            if total:
                values[lead] = total
        return values

    def basis(self, unknowns: Iterable[Hashable]) -> list[dict[Hashable, Any]]:
        """Independent assignments that all others are sums of."""
        free = [v for v in unknowns if v not in self.pivots]
        return [self.extend({v: 1}) for v in free]


class Constraints:
    """The three systems over the same unknowns, and where they were cut down.

    - `owner`: of each unknown, its atom; `quadratic`: the operation that made it a product of
      two vectors, if one did
    - `killed`: atom → the operation that admits no matrices; `ones`: that admits only those that
      keep the constant vector
    - `zeroed`: (system, atom) → the first operation that required an exponent to be zero
    """

    def __init__(self) -> None:
        self.positive, self.sign, self.matrix = System(), System(2), System(2)
        self.owner: list[Atom | None] = [None]
        self.quadratic = [""]
        self.killed: dict[Atom, str] = {}
        self.ones: dict[Atom, str] = {}
        self.zeroed: dict[tuple[str, Atom], str] = {}
        self.made: dict[Hashable, int] = {}
        self.where = ""

    def fresh(self, atom: Atom, quadratic: bool = False) -> int:
        number = len(self.owner)
        self.owner.append(atom)
        self.quadratic.append(self.where if quadratic else "")
        for system in (self.positive, self.sign, self.matrix):
            system.parent.append(number)
        return number

    def atom(self, a: int) -> Atom:
        atom = self.owner[a]
        assert atom is not None
        return atom

    # -- what operations require ----------------------------------------------------------------

    def same(self, a: int, b: int) -> None:
        """Two values are added: they transform alike."""
        self.positive.unite(a, b)
        self.sign.unite(a, b)
        if bool(self.quadratic[a]) != bool(self.quadratic[b]):
            self.kill(a)
        self.matrix.unite(a, b)

    def no_scaling(self, a: int) -> None:
        self._zero("positive", a)

    def no_sign(self, a: int) -> None:
        self._zero("sign", a)

    def kill(self, a: int) -> None:
        """No matrix passes."""
        self.killed.setdefault(self.atom(a), self.quadratic[a] or self.where)

    def beside_constant(self, a: int) -> None:
        """Something that is the same for all units is added, or their sum is taken."""
        self.no_scaling(a)
        self.no_sign(a)
        if self.quadratic[a]:
            self.kill(a)
        else:
            self.ones.setdefault(self.atom(a), self.where)

    def nothing(self, a: int) -> None:
        """The operation keeps permutations only."""
        self.no_scaling(a)
        self.no_sign(a)
        self.kill(a)

    def summed(self, a: int) -> None:
        """The sum over all units does not change."""
        if not self.quadratic[a]:
            return self.beside_constant(a)
        self.no_scaling(a)
        self.no_sign(a)
        self.matrix.require([(a, 1), (CONSTANT, 1)])
        return None

    def product(self, a: int, b: int) -> int:
        """The unknown of an element-wise product of two values that hold the units."""
        key = ("product", min(a, b), max(a, b))
        if key not in self.made:
            vectors = not self.quadratic[a] and not self.quadratic[b]
            c = self.made[key] = self.fresh(self.atom(a), vectors)
            for system in (self.positive, self.sign, self.matrix):
                system.require([(a, 1), (b, 1), (c, -1)])
            if not vectors:
                self.kill(a if self.quadratic[a] else b)
        return self.made[key]

    def power(self, a: int, k: Any, sign: int | None) -> int:
        """The unknown of a power: `sign` is 0 for even, 1 for odd, None for no sign passes."""
        if sign is None:
            self.no_sign(a)
        if k != 2:
            self.kill(a)
        key = ("power", a, k, sign)
        if key not in self.made:
            c = self.made[key] = self.fresh(self.atom(a), True)
            self.positive.require([(a, k), (c, -1)])
            self.sign.require([(a, sign or 0), (c, -1)])
            self.matrix.require([(a, 2), (c, -1)])
            if self.quadratic[a]:
                self.kill(a)
        return self.made[key]

    def quotient(self, a: int, b: int) -> int:
        """The unknown of a / b, where b holds the units."""
        return self.inverse(b) if a == NONE else self.product(a, self.inverse(b))

    def inverse(self, a: int) -> int:
        return self.power(a, -1, 1)

    def _zero(self, name: str, a: int) -> None:
        system: System = getattr(self, name)
        if system.find(a) != NONE:
            self.zeroed.setdefault((name, self.atom(a)), self.where)
            system.unite(a, NONE)


__all__ = ["ANY", "CONSTANT", "NONE", "Constraints", "Solution", "System"]
