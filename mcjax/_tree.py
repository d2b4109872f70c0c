"""Arithmetic on parameter pytrees and the names of their leaves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ._types import Params


def path_name(path: Sequence[Any]) -> str:
    """A leaf's path as a person writes it: `params/Dense_0/kernel`."""
    return "/".join(path_keys(path))


def path_keys(path: Sequence[Any]) -> tuple[str, ...]:
    """The keys of a leaf's path, one by one: a key may hold a `/` of its own."""
    return tuple(_key(k) for k in path)


def _key(key: Any) -> str:
    for attribute in ("key", "name", "idx"):
        if hasattr(key, attribute):
            return str(getattr(key, attribute))
    return str(key)


def named_leaves(
    tree: Params, is_leaf: Callable[[Any], bool] | None = None
) -> list[tuple[str, Any]]:
    """(path name, leaf) in the order of `jax.tree.leaves`."""
    found = jax.tree_util.tree_flatten_with_path(tree, is_leaf=is_leaf)[0]
    return [(path_name(p), v) for p, v in found]


def is_inexact(leaf: Any) -> bool:
    """Whether a leaf is a floating-point or complex array: what a path can interpolate."""
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.inexact)


def is_held(dtype: Any) -> bool:
    """Whether JAX holds numbers of this type as they are: without x64 it rounds 64 bits."""
    return jax.dtypes.canonicalize_dtype(dtype) == dtype


def at_least_single(dtype: Any) -> np.dtype:
    """The type, or float32 if it is of fewer bits or of integers; in JAX's strict promotion too."""
    wide = jnp.issubdtype(dtype, jnp.inexact)
    return np.promote_types(dtype, np.float32) if wide else np.dtype(np.float32)


def linear_combination(coefficients: Sequence[Any], trees: Sequence[Params]) -> Params:
    """Σ_k c_k θ_k leaf by leaf, in each leaf's dtype (at least float32 inside).

    Leaves that are not floating-point (counters, keys) are taken from the first tree.
    """

    def combine(*leaves):
        if not is_inexact(leaves[0]):
            return leaves[0]
        dtype = at_least_single(leaves[0].dtype)
        terms = [jnp.asarray(c, dtype) * x.astype(dtype) for c, x in zip(coefficients, leaves)]
        return sum(terms[1:], terms[0]).astype(leaves[0].dtype)

    return jax.tree.map(combine, *trees)


def stack(trees: Sequence[Params]) -> Params:
    """The trees stacked along a new leading axis of every leaf."""
    return jax.tree.map(lambda *leaves: jnp.stack([jnp.asarray(v) for v in leaves]), *trees)


def unstack(tree: Params, n: int) -> list[Params]:
    """The n trees of which `tree` is the stack."""
    return [jax.tree.map(lambda v, i=i: v[i], tree) for i in range(n)]


def squared_norm(tree: Params) -> jax.Array:
    """‖θ‖² over all floating-point leaves."""
    return inner_product(tree, tree)


def inner_product(a: Params, b: Params) -> jax.Array:
    """⟨a, b⟩ (its real part) over all floating-point leaves, in float32 at least."""
    terms = [
        jnp.sum((_wide(x) * jnp.conj(_wide(y))).real)
        for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
        if is_inexact(x)
    ]
    return sum(terms, jnp.zeros(()))


def squared_distance(a: Params, b: Params) -> jax.Array:
    """‖a − b‖² over all floating-point leaves."""
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    return squared_norm([_wide(x) - _wide(y) for x, y in pairs if is_inexact(x)])


def _wide(leaf: Any) -> jax.Array:
    return jnp.asarray(leaf, at_least_single(leaf.dtype))
