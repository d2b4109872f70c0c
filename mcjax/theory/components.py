"""How many connected components symmetry groups, their orbits and level sets have."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping

from .. import _check_model
from ..network import Group, Network

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


@dataclasses.dataclass(frozen=True, repr=False)
class OrbitComponents:
    """Upper bounds of the number of connected components of an orbit.

    - `groups`: group name → |π₀(G)| of what acts on its units
    - `unpermuted`: group name → how many of those no permutation of the units joins: the index in
      π₀(G) of the permutations, 1 where every component holds one
    """

    groups: Mapping[str, int]
    unpermuted: Mapping[str, int]

    @property
    def bound(self) -> int:
        """|π₀(G)| = ∏ over the groups: no orbit has more components."""
        return math.prod(self.groups.values())

    @property
    def bound_up_to_permutations(self) -> int:
        """Into how many parts, at most, an orbit falls that permutations do not join."""
        return math.prod(self.unpermuted.values())

    def __repr__(self) -> str:
        up_to = _shown(self.bound_up_to_permutations)
        return f"OrbitComponents(at most {_shown(self.bound)}, up to permutations {up_to})"


def orbit_components(network: Network) -> OrbitComponents:
    """|π₀(G)| of the symmetries of a traced network, which bounds the components of every orbit.

    G is the group of `mcjax.Action`: for each unit group the factors of `group.structure`, for
    each index of its outer axes. Scalings c > 0 are connected. Signs of n units have 2ⁿ components,
    permutations n!. O(n), O(n) ∩ {g 1 = 1} and GL(n) have 2, n ≥ 2, and hold the permutations, odd
    ones in the component of negative determinants. The numbers of independent factors are
    multiplied (zhao2025, Prop. 3.5), and an orbit, a continuous image of G, has no more components
    (Cor. 3.6); nor has a minimum that is one orbit (Cor. 3.7).

    An orbit has fewer where an element outside the component of the identity keeps the parameters:
    two equal units, a dead one, or a linear layer that is wider than what it reads and what reads
    it, whose orbits are connected whatever the 2 here. Level sets are made of many orbits
    (`level_set_components_bound`).

    **Arguments:**
    - `network`: a traced network

    **Returns:** an `OrbitComponents`; its integers are exact, and may have thousands of digits.

        >>> import jax.numpy as jnp, mcjax
        >>> f = lambda w, x: x @ w[0] @ w[1] @ w[2]  # zhao2025, Cor. 4.2: 2^{l − 1}
        >>> network = mcjax.trace(f, [jnp.ones((3, 3))] * 3, jnp.ones((1, 3)))
        >>> orbit_components(network)
        OrbitComponents(at most 4, up to permutations 1)
    """
    _check_model.network(network, "network")
    both = {name: _of_group(group) for name, group in network.groups.items()}
    return OrbitComponents({n: v[0] for n, v in both.items()}, {n: v[1] for n, v in both.items()})


def _of_group(group: Group) -> tuple[int, int]:
    """(|π₀|, the index of the permutations in it) of what acts on a group's units."""
    factors = group.structure.factors
    signs = 2 ** (math.prod(group.shape) * sum(f.kind == "sign" for f in factors))
    outer = math.prod(group.shape[:-1])
    matrices = any(f.matrices for f in factors)  # they hold the permutations
    one = 2 if matrices else math.factorial(group.size)
    return signs * one**outer, signs


def _shown(number: int) -> str:
    """Of thousands of digits Python prints none."""
    return str(number) if number < 10**9 else f"10^{math.log10(number):.1f}"


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


__all__ = ["OrbitComponents", "group_components", "level_set_components_bound", "orbit_components"]
