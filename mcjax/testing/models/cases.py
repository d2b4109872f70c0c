"""What a model of the catalogue is, and the inputs they take."""

from __future__ import annotations

import dataclasses
import functools
from collections import Counter
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


@dataclasses.dataclass
class Case:
    apply_fn: Callable
    params: Any
    x: Any
    shapes: Counter

    @functools.cached_property
    def run(self) -> Callable:
        """`apply_fn`, compiled."""
        return jax.jit(self.apply_fn)

    def another(self, seed: int) -> Any:
        """Parameters of the same model that are generic: no zeros, no ties, no dead units."""
        rng = np.random.default_rng(seed)

        def generic(path, leaf):
            if not jnp.issubdtype(leaf.dtype, jnp.floating):
                return leaf
            leaf = np.asarray(leaf)
            scale = float(np.sqrt(np.mean(leaf**2))) or 0.1
            values = leaf * rng.uniform(0.7, 1.3, leaf.shape)
            values = values + 0.3 * scale * rng.normal(size=leaf.shape)
            if leaf.ndim == 1 and leaf.size and leaf.min() >= 1:  # scales and variances
                values = np.abs(values) + 0.1
            elif "bias" in jax.tree_util.keystr(path):
                values = values + 0.5
            return jnp.asarray(values, leaf.dtype)

        return jax.tree_util.tree_map_with_path(generic, self.params)

    def inputs(self, n: int, seed: int = 3) -> Any:
        """n inputs of the model's kind."""
        return drawn((n, *self.x.shape[1:]), seed, self.x.dtype)


def drawn(shape, seed: int = 1, dtype: Any = np.float32, vocabulary: int = 20) -> jax.Array:
    """Normal values, or tokens; by NumPy, since JAX compiles a program for each shape."""
    rng = np.random.default_rng(seed)
    if jnp.issubdtype(dtype, jnp.floating):
        return jnp.asarray(rng.normal(size=shape), dtype)
    return jnp.asarray(rng.integers(0, vocabulary, shape), dtype)


def linen(module, x, shapes) -> Case:
    """A case of a Flax module. Only its parameters' shapes are Flax's: `init` takes seconds."""
    rng = np.random.default_rng(0)

    def value(path, leaf):
        kind = path[-1].key
        if kind in ("bias", "mean"):
            return jnp.zeros(leaf.shape, leaf.dtype)
        if kind in ("scale", "var"):
            return jnp.ones(leaf.shape, leaf.dtype)
        fan_in = leaf.shape[-1] if kind == "embedding" else np.prod(leaf.shape[:-1])
        return jnp.asarray(rng.normal(size=leaf.shape) / fan_in**0.5, leaf.dtype)

    leaves = jax.eval_shape(module.init, jax.random.key(0), x)
    params = jax.tree_util.tree_map_with_path(value, leaves)
    return Case(module.apply, params, x, Counter(shapes))


def images(n=8, c=3, batch=4):
    return drawn((batch, n, n, c))


def vectors(d=6, batch=5):
    return drawn((batch, d))


def tokens(length=7, batch=3, vocabulary=20):
    return drawn((batch, length), dtype=np.int32, vocabulary=vocabulary)


def sequences(d=5, length=6, batch=3):
    return drawn((batch, length, d))


def by_hand(apply_fn, shapes, x, expected) -> Case:
    leaves, treedef = jax.tree.flatten(shapes, is_leaf=lambda s: isinstance(s, tuple))
    rng = np.random.default_rng(2)
    values = [jnp.asarray(rng.normal(size=s) / s[0] ** 0.5, np.float32) for s in leaves]
    return Case(apply_fn, jax.tree.unflatten(treedef, values), x, Counter(expected))
