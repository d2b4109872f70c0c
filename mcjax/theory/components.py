"""How many connected components symmetry groups, their orbits and level sets have."""

from __future__ import annotations

import math
from collections.abc import Iterable

_OF_UNITS = {
    "permutation": lambda n: math.factorial(n),
    "signed permutation": lambda n: 2**n * math.factorial(n),
    "positive monomial": lambda n: math.factorial(n),
    "monomial": lambda n: 2**n * math.factorial(n),
    "orthogonal": lambda n: 2,
    "general linear": lambda n: 2,
}


def group_components(symmetry: str, n: int) -> int:
    """|π₀(G)| of a group that acts on n ≥ 1 units.

    n! of permutations and positive monomial matrices, 2ⁿ n! of those with signs, 2 (the signs of
    the determinant) of O(n) and GL(n).

    **Raises:** `ValueError` for an unknown group, or n < 1.

        >>> group_components("general linear", 5), group_components("signed permutation", 3)
        (2, 48)
    """
    if symmetry not in _OF_UNITS:
        raise ValueError(f"symmetry must be one of {', '.join(_OF_UNITS)}, got {symmetry!r}")
    if n < 1:
        raise ValueError(f"n must be a positive number of units, got {n}")
    return _OF_UNITS[symmetry](n)


def orbit_components_bound(factors: Iterable[int]) -> int:
    """An upper bound of the components of an orbit: |π₀(G₁ × … × G_n)| = ∏ |π₀(G_i)|.

    An orbit is a continuous image of the group, so it has no more components than it; a minimum
    that is one orbit has no more either (zhao2025, Prop. 3.5, Cor. 3.6, 3.7).

    **Arguments:**
    - `factors`: numbers of components of the factors of the group

        >>> orbit_components_bound([2, 2, 6])
        24
    """
    return math.prod(_positive(factors, "factors"))


def level_set_components_bound(orbits: Iterable[int]) -> int:
    """An upper bound of the components of a level set: |π₀(X)| ≤ Σ |π₀(O_i)| over its orbits.

    It is no equality, and there is no bound from below (zhao2025, Prop. 3.8, A.8): R² \\ {0} is
    connected, and each of its orbits under R \\ {0} (in print R, with which 0 would leave the set)
    has two components.

    **Arguments:**
    - `orbits`: numbers of components of finitely many orbits that make up the level set

        >>> level_set_components_bound([2, 1, 1])
        4
    """
    return sum(_positive(orbits, "orbits"))


def _positive(numbers: Iterable[int], name: str) -> list[int]:
    numbers = list(numbers)
    for i, value in enumerate(numbers):
        if value < 1:
            raise ValueError(f"{name}[{i}] must be a positive number of components, got {value}")
    return numbers


__all__ = ["group_components", "level_set_components_bound", "orbit_components_bound"]
