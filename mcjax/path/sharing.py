"""What the points of a family share on a chunk of data.

What does not depend on the coordinates (the layers before those that move) is computed once. What
is linear in the parameters of a family that combines fixed points (a first layer on data above all)
is computed once for each of these; every point then only recombines it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from ..network.linear import Part, leaves_of, shared_values
from ..network.model import Model
from ..network.program import run
from ._base import Combination, Family


@dataclasses.dataclass(frozen=True, eq=False)
class Shared:
    """Shared values on a chunk of data, and what they are at a t.

    `leaves` are those of the family at some coordinates; `stacked` holds, by number, the leaves of
    the points of `combination`, stacked, as far as `linear` reads them.
    """

    model: Model
    leaves: Sequence[Any]
    fixed: Part | None
    linear: Part | None
    combination: Combination | None
    stacked: Mapping[int, jax.Array]

    def values(
        self, x: Any, given: Mapping[int, Any] | None = None
    ) -> tuple[dict[int, Any], list[jax.Array]]:
        """The shared values on data x, where `given` values replace what is computed."""
        data, once = jax.tree.leaves(x), dict(given or {})
        if self.fixed is not None:
            found = run(self.fixed.program, [*self.leaves, *data], given=once)[0]
            once |= dict(zip(self.fixed.frontier, found, strict=True))
        if self.linear is None:
            return once, []
        program = self.linear.program

        def at_point(stacked):
            leaves = [stacked.get(i, v) for i, v in enumerate(self.leaves)]
            return run(program, [*leaves, *data], given=once)[0]

        return once, jax.vmap(at_point)(self.stacked)

    def at(self, c: Any, values: tuple[dict[int, Any], list[jax.Array]]) -> dict[int, Any]:
        """What they are at coordinates c: value → array."""
        once, linear = values
        out = dict(once)
        if self.linear is not None and self.combination is not None:
            coefficients = self.combination.coefficients(c)
            for name, value in zip(self.linear.frontier, linear, strict=True):
                terms = [jnp.asarray(a, value.dtype) * value[k] for k, a in enumerate(coefficients)]
                out[name] = sum(terms[1:], terms[0])
        return out


def shared_part(family: Family, model: Model, replaced: Collection[int], c: Any) -> Shared:
    """What the points of a family share.

    **Arguments:**
    - `replaced`: numbers of leaves that do not come from the family
    - `c`: coordinates of any of its points
    """
    types = jax.tree.leaves(jax.eval_shape(family.at, c))
    combination = family.linear()
    numbers: Sequence[int] = ()
    if combination is not None:
        whole = combination.leaves is None
        numbers = range(model.n_leaves) if whole else combination.leaves  # type: ignore[assignment]
    # Recombined products of low precision would round differently from the family's points.
    linear = {i for i in numbers if i not in replaced and types[i].dtype.itemsize >= 4}
    fixed = family.fixed() - set(replaced)
    once, part = shared_values(model.program, model.n_leaves, linear, fixed)
    # A costly point is not computed for what nobody reads.
    leaves = types if once is None and part is None else jax.tree.leaves(family.at(c))
    stacked = {}
    if part is not None and combination is not None:
        points = [dict(zip(numbers, jax.tree.leaves(p), strict=True)) for p in combination.points]
        read = linear.intersection(leaves_of(part.program, model.n_leaves))
        stacked = {i: jnp.stack([p[i] for p in points]) for i in sorted(read)}
    return Shared(model, leaves, once, part, combination, stacked)
