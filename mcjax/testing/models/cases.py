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
        key, shape = jax.random.key(seed), (n, *self.x.shape[1:])
        if jnp.issubdtype(self.x.dtype, jnp.floating):
            return jax.random.normal(key, shape)
        return jax.random.randint(key, shape, 0, 20)


def linen(module, x, shapes) -> Case:
    params = jax.jit(module.init)(jax.random.key(0), x)
    return Case(module.apply, params, x, Counter(shapes))


def images(n=8, c=3, batch=4):
    return jax.random.normal(jax.random.key(1), (batch, n, n, c))


def vectors(d=6, batch=5):
    return jax.random.normal(jax.random.key(1), (batch, d))


def tokens(length=7, batch=3, vocabulary=20):
    return jax.random.randint(jax.random.key(1), (batch, length), 0, vocabulary)


def sequences(d=5, length=6, batch=3):
    return jax.random.normal(jax.random.key(1), (batch, length, d))


def by_hand(apply_fn, shapes, x, expected) -> Case:
    leaves, treedef = jax.tree.flatten(shapes, is_leaf=lambda s: isinstance(s, tuple))
    keys = jax.random.split(jax.random.key(2), len(leaves))
    values = [jax.random.normal(k, s) / (s[0] ** 0.5) for k, s in zip(keys, leaves, strict=True)]
    return Case(apply_fn, jax.tree.unflatten(treedef, values), x, Counter(expected))
