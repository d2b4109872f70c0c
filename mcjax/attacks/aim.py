"""What an attack is given: the network in units of the images, and where it should be led."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from .._tree import at_least_single
from ..tasks import Task


@dataclasses.dataclass(frozen=True)
class Aim:
    """What an attack is after, in the units of its bounds.

    - `outputs`: images → what the network returns
    - `images`: (n, …) those that are attacked, in floats of 32 bits at least
    - `labels`: of the images; or, of a targeted attack, those that the network should give
    - `targeted`: which of the two
    - `bounds`: least and greatest value of an image
    - `task`: whose loss it is
    """

    outputs: Callable[[Any], Any]
    images: jax.Array
    labels: Any
    targeted: bool
    bounds: tuple[float, float]
    task: Task

    def losses(self, images: jax.Array) -> jax.Array:
        """(n,): what the attack raises: the loss of the labels, or minus that of the targets."""
        losses = self.task.losses(self.outputs(images), self.labels)
        return -losses if self.targeted else losses

    def logits(self, images: jax.Array) -> jax.Array:
        """(n, classes), in floats of 32 bits at least."""
        logits = self.task.outputs(self.outputs(images))
        return logits.astype(at_least_single(logits.dtype))

    def margins(self, logits: jax.Array) -> jax.Array:
        """(n,): below 0 where the attack succeeds: z_y − max z_j over other classes j.

        For a target y the same with the opposite sign.
        """
        own = jnp.take_along_axis(logits, self.labels[:, None], 1)[:, 0]
        is_own = jnp.arange(logits.shape[1])[None] == self.labels[:, None]
        others = jnp.max(jnp.where(is_own, -jnp.inf, logits), 1)
        return others - own if self.targeted else own - others


def norm(rows: jax.Array) -> jax.Array:
    """(n,): the Euclidean norm of each row of (n, …)."""
    return jnp.sqrt(jnp.sum(rows.reshape(len(rows), -1) ** 2, 1))


def column(values: jax.Array, like: jax.Array) -> jax.Array:
    """(n,) values as (n, 1, …), to be multiplied with rows."""
    return values.reshape(-1, *[1] * (like.ndim - 1))


__all__ = ["Aim", "column", "norm"]
