"""What the points of a path share on a chunk of data.

What does not depend on t (the layers before those that move) is computed once. What is linear in
the parameters of a path that combines fixed points (a first layer on data above all) is computed
once for each point; every t then only recombines it.
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
from ._base import Combination, Path
from .legs import Partial


@dataclasses.dataclass(frozen=True, eq=False)
class Shared:
    """Shared values on a chunk of data, and what they are at a t.

    `leaves` are those of the path at any t; `stacked` holds, by number, the leaves of the points
    of `combination`, stacked, as far as `linear` reads them.
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

    def at(self, t: Any, values: tuple[dict[int, Any], list[jax.Array]]) -> dict[int, Any]:
        """What they are at t: value → array."""
        once, linear = values
        out = dict(once)
        if self.linear is not None and self.combination is not None:
            coefficients = self.combination.coefficients(t)
            for name, value in zip(self.linear.frontier, linear, strict=True):
                terms = [c.astype(value.dtype) * value[k] for k, c in enumerate(coefficients)]
                out[name] = sum(terms[1:], terms[0])
        return out


def shared_part(path: Path, model: Model, replaced: Collection[int]) -> Shared:
    """What the points of a path share.

    **Arguments:**
    - `replaced`: numbers of leaves that do not come from the path
    """
    leaves = jax.tree.leaves(path.at(0.0))
    numbers: Sequence[int] = ()
    combination, fixed = None, set()
    if isinstance(path, Combination):
        combination, numbers = path, range(model.n_leaves)
    elif isinstance(path, Partial):
        fixed = set(range(model.n_leaves)).difference(*path.moved)
        if path.parts and isinstance(path.parts[0], Combination):
            combination, numbers = path.parts[0], path.moved[0]
    # Recombined products of low precision would round differently from the path's points.
    linear = {i for i in numbers if i not in replaced and leaves[i].dtype.itemsize >= 4}
    once, part = shared_values(model.program, model.n_leaves, linear, fixed - set(replaced))
    stacked = {}
    if part is not None and combination is not None:
        points = [dict(zip(numbers, jax.tree.leaves(p), strict=True)) for p in combination.basis()]
        read = linear.intersection(leaves_of(part.program, model.n_leaves))
        stacked = {i: jnp.stack([p[i] for p in points]) for i in sorted(read)}
    return Shared(model, leaves, once, part, combination, stacked)
