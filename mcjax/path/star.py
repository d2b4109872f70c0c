"""The segments from one network to several others, as one closed path."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np

from .. import _check
from .._static import unpack
from .._tree import is_inexact, linear_combination, stack, unstack
from .._types import Params
from ._base import Combination, Path, count, time
from .combination import Linear
from .segments import checked_networks


class Star(Path):
    """θ_1 → θ* → θ_2 → θ* → … → θ_N → θ* → θ_1, straight from point to point.

    Every network stands at the end of two of the 2N legs, which are as long in t: for t ~ U[0, 1]
    the point is (1 − s) θ* + s θ_i with i uniform on 1, …, N and s on [0, 1], so the mean loss
    along this path is that of the segments from θ* to all networks (Sonthalia et al. 2024). θ* is
    its free point: `mcjax.training.train_curve` trains it.

    **Arguments:**
    - `center`: θ*
    - `networks`: the stack of θ_1, …, θ_N, a pytree whose leaves have a leading axis of N;
      `Star.around` makes it

    **Raises:** `ValueError` for leaves of different lengths.

        >>> import jax.numpy as jnp, mcjax
        >>> center, *others = ({"w": jnp.array(v)} for v in (0.0, 1.0, 4.0))
        >>> star = mcjax.path.Star.around(center, others)
        >>> [float(star(t)["w"]) for t in (0, 0.25, 0.375, 0.5, 1)]
        [1.0, 0.0, 2.0, 4.0, 1.0]
    """

    center: Params
    networks: Params

    def __post_init__(self) -> None:
        super().__post_init__()
        _check.rows(self.networks, "networks")

    @classmethod
    def around(cls, center: Params, networks: Sequence[Params]) -> Self:
        """The star of θ* and these networks.

        **Raises:** `ValueError` for no networks, and naming the network and the leaf that differs
        from θ*'s or is not finite.
        """
        center, *others = checked_networks([center, *networks])
        return cls._unflatten((), [center, stack(others)])

    def __len__(self) -> int:
        """How many networks there are, θ* not counted."""
        return count(self.networks)

    def linear(self) -> Combination:
        points = jax.tree.map(
            lambda c, v: jnp.concatenate([jnp.asarray(c)[None], v]), self.center, self.networks
        )

        def which(t: Any) -> list[Any]:
            number, _ = self._place(t)
            return [jnp.zeros_like(number), 1 + number]

        def coefficients(t: Any) -> tuple[Any, Any]:
            _, weight = self._place(t)
            return 1 - weight, weight

        return Combination(points, coefficients, which=which)

    def at(self, t: Any) -> Params:
        number, weight = self._place(t)
        network = jax.tree.map(lambda v: jnp.asarray(v)[number], self.networks)
        return linear_combination((1 - weight, weight), (self.center, network))

    def _place(self, t: Any) -> tuple[Any, Any]:
        """(which network, how much of it) at t."""
        n, s = len(self), time(t) * 2 * len(self)
        leg = jnp.clip(jnp.floor(s), 0, 2 * n - 1)
        part, leg = s - leg, leg.astype(int)
        return (leg + 1) // 2 % n, jnp.where(leg % 2 == 0, 1 - part, part)

    def mixture(self, coordinates: Any) -> tuple[Sequence[Params], np.ndarray]:
        """Of θ* and the network on whose segment a point is."""
        number, weight = jax.vmap(self._place)(jnp.asarray(coordinates))
        rows, weight = np.arange(len(weight)), np.asarray(weight, np.float64)
        weights = np.zeros((len(rows), 1 + len(self)))
        weights[:, 0] = 1 - weight
        weights[rows, 1 + np.asarray(number)] = weight
        return [self.center, *unstack(self.networks, len(self))], weights

    def grid(self, steps: int) -> np.ndarray:
        """The t with `steps` even steps on each leg."""
        return np.linspace(0, 1, _check.positive(steps, "steps") * 2 * len(self) + 1)

    @property
    def spokes(self) -> list[Linear]:
        """The segment from θ* to each network."""
        return [Linear(unpack(self.center), unpack(v)) for v in unstack(self.networks, len(self))]

    def with_networks(self, networks: Sequence[Params]) -> Self:
        """The same θ*, with others around it."""
        return self._with(networks=stack(networks))

    def free(self) -> Params:
        """θ*, with None for leaves that are not floating-point."""
        return jax.tree.map(lambda v: v if is_inexact(v) else None, self.center)

    def with_free(self, free: Any) -> Self:
        center = jax.tree.map(
            lambda new, old: old if new is None else new, free, self.center,
            is_leaf=lambda v: v is None,
        )  # fmt: skip
        return self._with(center=center)


__all__ = ["Star"]
