"""All segments between many networks, as one family."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np

from .. import _check
from .._tree import stack, unstack
from .._types import Params
from ._base import Combination, Family, count, time


class Segments(Family):
    """The segments between N networks: coordinates (i, j, t) ↦ (1 − t) θ_i + t θ_j.

    What is linear in the parameters (a first layer on data) is computed N times, whatever the
    number of pairs and of t.

    **Arguments:**
    - `networks`: their stack, a pytree whose leaves have a leading axis of N; `Segments.between`
      makes it

    **Raises:** `ValueError` for leaves of different lengths.

        >>> import jax.numpy as jnp, mcjax
        >>> segments = mcjax.path.Segments.between([{"w": jnp.array(v)} for v in (0., 1., 4.)])
        >>> float(segments((0, 2, 0.25))["w"])
        1.0
    """

    networks: Params

    def __post_init__(self) -> None:
        super().__post_init__()
        _check.rows(self.networks, "networks")

    @classmethod
    def between(cls, networks: Sequence[Params]) -> Self:
        """The segments between these networks.

        **Raises:** `ValueError` for fewer than two networks, and naming the network and the leaf
        that differs from the first's or is not finite.
        """
        return cls._unflatten((), [stack(checked_networks(networks))])

    def linear(self) -> Combination:
        return Combination(
            self.networks,
            lambda c: (1 - time(c[2]), time(c[2])),
            which=lambda c: [jnp.asarray(v).astype(int) for v in c[:2]],
        )

    def mixture(self, coordinates: Any) -> tuple[Sequence[Params], np.ndarray]:
        """Of the two networks, (1 − t) and t."""
        t = np.asarray(coordinates[2])
        i, j = (np.asarray(v).astype(int) for v in coordinates[:2])
        rows, weights = np.arange(len(t)), np.zeros((len(t), len(self)))
        np.add.at(weights, (rows, i), 1 - t.astype(np.float64))
        np.add.at(weights, (rows, j), t)
        return unstack(self.networks, len(self)), weights

    def __len__(self) -> int:
        return count(self.networks)


def checked_networks(networks: Sequence[Params]) -> list[Params]:
    """At least two networks of one structure, packed."""
    if isinstance(networks, dict) or not isinstance(networks, Sequence):
        raise ValueError(
            f"networks must be a sequence of parameter trees, got a {type(networks).__name__}"
        )
    if len(networks) < 2:
        raise ValueError(f"networks: at least two are needed, got {len(networks)}")
    packed = [_check.parameters(p, f"networks[{i}]") for i, p in enumerate(networks)]
    for i, tree in enumerate(packed[1:], 1):
        _check.same_structure(packed[0], tree, names=("networks[0]", f"networks[{i}]"))
    return [jax.tree.map(jnp.asarray, tree) for tree in packed]


__all__ = ["Segments", "checked_networks"]
