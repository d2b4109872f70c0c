"""Points whose leaves a linear map makes of fixed ones, as a symmetry does."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any


@dataclasses.dataclass(frozen=True, eq=False)
class Transformation:
    """Leaves of a family that are linear maps of fixed ones, θ_i(c) = ρ_i(c) θ_i.

    What the evaluator uses: what is linear in such a leaf, and leaves alone the axes on which ρ_i
    acts, is computed once, for θ_i; the map does to it what it does to the leaf. So of a first
    layer (x W) g(c) takes the place of x (W g(c)).

    - `leaves`: number of a leaf, in the order of `jax.tree.leaves` → θ_i
    - `axes`: number → the axes of θ_i on which ρ_i acts; it does the same along all others
    - `costs`: number → multiply-adds of ρ_i for each entry
    - `move`: (c, number, value, dimensions) → ρ_i(c) on a value whose dimensions these axes are
    """

    leaves: Mapping[int, Any]
    axes: Mapping[int, Sequence[int]]
    costs: Mapping[int, float]
    move: Callable[[Any, int, Any, Sequence[int]], Any]


__all__ = ["Transformation"]
