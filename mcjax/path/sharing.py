"""What the points of a family share on a chunk of data.

What does not depend on the coordinates (the layers before those that move) is computed once. What
is linear in the parameters of a family that combines fixed points (a first layer on data above all)
is computed once for each of these; every point then only recombines it. What is linear in a leaf
that a symmetry moves, and leaves alone the axes on which it does, is computed once and moved.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from ..network.linear import Part, Parts, leaves_of, shared_values, work
from ..network.model import Model
from ..network.program import run
from ._base import Combination, Family, count, type_at
from .transformation import Transformation


@dataclasses.dataclass(frozen=True)
class Values:
    """Shared values on a chunk of data.

    - `once`: those that no coordinates change, and what was given: value → array
    - `linear`: of `parts.linear`, each of all fixed points
    - `moved`: of `parts.moved`, of the leaves that are moved
    """

    once: dict[int, Any]
    linear: list[jax.Array]
    moved: list[jax.Array]


@dataclasses.dataclass(frozen=True, eq=False)
class Shared:
    """What is shared on a chunk of data, and what it is at a t.

    `leaves` are those of the family at some coordinates; `stacked` holds, by number, the leaves of
    the points of `combination`, stacked, as far as the linear part reads them.
    """

    model: Model
    leaves: Sequence[Any]
    parts: Parts
    combination: Combination | None
    transformation: Transformation | None
    stacked: Mapping[int, jax.Array]

    def values(self, x: Any, given: Mapping[int, Any] | None = None) -> Values:
        """The shared values on data x, where `given` values replace what is computed."""
        data, once, parts = jax.tree.leaves(x), dict(given or {}), self.parts

        def found(part: Part, replaced: Mapping[int, Any]) -> list[jax.Array]:
            leaves = [replaced.get(i, v) for i, v in enumerate(self.leaves)]
            return run(part.program, [*leaves, *data], given=once)[0]

        if parts.fixed is not None:
            once |= dict(zip(parts.fixed.frontier, found(parts.fixed, {}), strict=True))
        linear, moved = [], []
        if (part := parts.linear) is not None:
            linear = jax.vmap(lambda stacked: found(part, stacked))(self.stacked)
        # What is given is the same at all coordinates, and may be among what would be moved.
        if parts.moved is not None and self.transformation is not None and not given:
            moved = found(parts.moved, self.transformation.leaves)
        return Values(once, linear, moved)

    def at(self, c: Any, values: Values) -> dict[int, Any]:
        """What they are at coordinates c: value → array."""
        out, parts = dict(values.once), self.parts
        if parts.linear is not None and self.combination is not None:
            coefficients = self.combination.coefficients(c)
            which = self.combination.which
            numbers = range(len(coefficients)) if which is None else which(c)
            for name, value in zip(parts.linear.frontier, values.linear, strict=True):
                terms = [
                    jnp.asarray(a, value.dtype) * value[k]
                    for k, a in zip(numbers, coefficients, strict=True)
                ]
                out[name] = sum(terms[1:], terms[0])
        if values.moved and parts.moved is not None and self.transformation is not None:
            for name, value in zip(parts.moved.frontier, values.moved, strict=True):
                of = parts.carried[name]
                out[name] = self.transformation.move(c, of.leaf, value, of.dims)
        return out


def shared_part(family: Family, model: Model, replaced: Collection[int], c: Any) -> Shared:
    """What the points of a family share.

    **Arguments:**
    - `replaced`: numbers of leaves that do not come from the family
    - `c`: coordinates of any of its points
    """
    types = jax.tree.leaves(jax.eval_shape(family.at, c))
    combination, transformation = family.linear(), family.transformed()
    numbers = _combined(model, combination)
    linear, parts = _parts(family, model, replaced, types, numbers)
    # A costly point is not computed for what nobody reads.
    needed = any(p is not None for p in (parts.fixed, parts.linear, parts.moved))
    leaves = jax.tree.leaves(family.at(c)) if needed else types
    stacked = {}
    if parts.linear is not None and combination is not None:
        read = linear.intersection(leaves_of(parts.linear.program, model.n_leaves))
        stacked = {i: combination.stacked(k) for k, i in enumerate(numbers) if i in read}
    return Shared(model, leaves, parts, combination, transformation, stacked)


def saved_work(family: Family, model: Model, replaced: Collection[int], coordinates: Any) -> float:
    """Multiply-adds on a chunk of data that sharing saves the points at some coordinates.

    Of T points T − 1 need not compute what does not depend on the coordinates, or is moved with
    them, and what is linear in K fixed points is computed K times instead of T (which may be more).
    """
    points, combination = count(coordinates), family.linear()
    types = jax.tree.leaves(type_at(family, coordinates))
    _, parts = _parts(family, model, replaced, types, _combined(model, combination))
    fixed = 0 if combination is None else len(combination)
    once = (points - 1) * (work(parts.fixed) + work(parts.moved, parts.fixed))
    return once + (points - fixed) * work(parts.linear, parts.fixed)


def _combined(model: Model, combination: Combination | None) -> Sequence[int]:
    """Numbers of the leaves that combine fixed points."""
    if combination is None:
        return ()
    return range(model.n_leaves) if combination.leaves is None else combination.leaves


def _parts(
    family: Family, model: Model, replaced: Collection[int], types: Sequence[Any],
    numbers: Sequence[int],
) -> tuple[set[int], Parts]:  # fmt: skip
    """(Leaves that combine fixed points, what the points share)."""

    def exact(leaves: Collection[int]) -> set[int]:
        # Products of low precision would round differently from the family's points.
        return {i for i in leaves if i not in replaced and types[i].dtype.itemsize >= 4}

    linear, found = exact(numbers), family.transformed()
    moved = {} if found is None else {i: (found.axes[i], found.costs[i]) for i in exact(found.axes)}
    fixed = family.fixed() - set(replaced)
    return linear, shared_values(model.program, model.n_leaves, linear, fixed, moved)
