"""Every path there is, for the contract tests: add a new one here and it inherits them all."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np

from mcjax.path import Arc, Bezier, Linear, Path, PolygonalChain


def tree(seed: int, dtype=jnp.float32):
    rng = np.random.default_rng(seed)
    return {
        "layer": {"w": jnp.asarray(rng.normal(size=(3, 4)), dtype), "b": jnp.asarray(
            rng.normal(size=4), dtype)},
        "list": [jnp.asarray(rng.normal(size=()), dtype), jnp.asarray(7, jnp.int32)],
    }  # fmt: skip


def mean(dtype=jnp.float32):
    """Broadcasts to the leaves of `tree`."""
    return {
        "layer": {"w": jnp.full((3, 1), 0.5, dtype), "b": jnp.asarray(0.25, dtype)},
        "list": [jnp.asarray(0.1, dtype), jnp.asarray(7, jnp.int32)],
    }


# name → (dtype → path whose ends are tree(0) and tree(1))
PATHS: dict[str, Callable[..., Path]] = {
    "linear": lambda d=jnp.float32: Linear(tree(0, d), tree(1, d)),
    "arc": lambda d=jnp.float32: Arc(tree(0, d), tree(1, d)),
    "arc-mean": lambda d=jnp.float32: Arc(tree(0, d), tree(1, d), mean=mean(d)),
    "bezier-2": lambda d=jnp.float32: Bezier([tree(0, d), tree(1, d)]),
    "bezier-3": lambda d=jnp.float32: Bezier([tree(0, d), tree(2, d), tree(1, d)]),
    "bezier-5": lambda d=jnp.float32: Bezier([tree(k, d) for k in (0, 2, 3, 4, 1)]),
    "chain-2": lambda d=jnp.float32: PolygonalChain([tree(0, d), tree(1, d)]),
    "chain-3": lambda d=jnp.float32: PolygonalChain([tree(0, d), tree(2, d), tree(1, d)]),
    "chain-5": lambda d=jnp.float32: PolygonalChain([tree(k, d) for k in (0, 2, 3, 4, 1)]),
}
