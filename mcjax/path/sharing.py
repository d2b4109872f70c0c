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

from ..network.linear import Part, leaves_of, shared_values, work
from ..network.model import Model
from ..network.program import run
from ._base import Combination, Family, count, type_at


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
            which = self.combination.which
            numbers = range(len(coefficients)) if which is None else which(c)
            for name, value in zip(self.linear.frontier, linear, strict=True):
                terms = [
                    jnp.asarray(a, value.dtype) * value[k]
                    for k, a in zip(numbers, coefficients, strict=True)
                ]
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
    numbers = _combined(model, combination)
    linear, once, part = _parts(family, model, replaced, types, numbers)
    # A costly point is not computed for what nobody reads.
    leaves = types if once is None and part is None else jax.tree.leaves(family.at(c))
    stacked = {}
    if part is not None and combination is not None:
        read = linear.intersection(leaves_of(part.program, model.n_leaves))
        stacked = {i: combination.stacked(k) for k, i in enumerate(numbers) if i in read}
    return Shared(model, leaves, once, part, combination, stacked)


def saved_work(family: Family, model: Model, replaced: Collection[int], coordinates: Any) -> float:
    """Multiply-adds on a chunk of data that sharing saves the points at some coordinates.

    Of T points T − 1 need not compute what does not depend on the coordinates, and what is linear
    in K fixed points is computed K times instead of T (which may be more).
    """
    points, combination = count(coordinates), family.linear()
    types = jax.tree.leaves(type_at(family, coordinates))
    _, once, part = _parts(family, model, replaced, types, _combined(model, combination))
    fixed = 0 if combination is None else len(combination)
    return (points - 1) * work(once) + (points - fixed) * work(part, once)


def _combined(model: Model, combination: Combination | None) -> Sequence[int]:
    """Numbers of the leaves that combine fixed points."""
    if combination is None:
        return ()
    return range(model.n_leaves) if combination.leaves is None else combination.leaves


def _parts(
    family: Family, model: Model, replaced: Collection[int], types: Sequence[Any],
    numbers: Sequence[int],
) -> tuple[set[int], Part | None, Part | None]:  # fmt: skip
    """(Leaves that combine fixed points, what no coordinates change, what is linear in them)."""
    # Recombined products of low precision would round differently from the family's points.
    linear = {i for i in numbers if i not in replaced and types[i].dtype.itemsize >= 4}
    fixed = family.fixed() - set(replaced)
    return linear, *shared_values(model.program, model.n_leaves, linear, fixed)
