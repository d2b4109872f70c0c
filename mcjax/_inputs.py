"""Inputs of a model: which leaves hold one row for each example, and which all examples share."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jax.sharding import AxisType, Mesh, NamedSharding

from ._tree import named_leaves


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Shared:
    """An input that all examples share: an attention mask, positions, an old-style random key.

    Every function of mcjax that takes inputs gives all of `value` to `apply_fn` (which sees it
    without this mark) wherever it takes some of the examples. Scalars, typed random keys among
    them, are shared without it. `mcjax.trace` remembers the mark: what is given a `Network`
    needs it no more.

    - `value`: an array, or a pytree of them

        >>> import jax.numpy as jnp, mcjax
        >>> f = lambda p, x: jnp.where(x["keep"], x["image"], 0) @ p["w"]
        >>> x = {"image": jnp.ones((4, 3)), "keep": mcjax.Shared(jnp.array([True, True, False]))}
        >>> path = mcjax.path.Linear({"w": jnp.eye(3)}, {"w": -jnp.eye(3)})
        >>> mcjax.evaluate(path, f, (x, jnp.zeros(4, int)), t=3).loss.round(2).tolist()
        [0.86, 1.1, 1.55]
    """

    value: Any


def is_shared(v: Any) -> bool:
    return isinstance(v, Shared)


def unmark(x: Any) -> Any:
    """The inputs as `apply_fn` takes them."""
    if not any(map(is_shared, jax.tree.leaves(x, is_leaf=is_shared))):
        return x
    return jax.tree.map(lambda v: v.value if is_shared(v) else v, x, is_leaf=is_shared)


def mark_like(x: Any, like: Any) -> Any:
    """Inputs without marks, marked where `like` is, if they have its structure."""
    if unmark(x) is not x or jax.tree.structure(x) != jax.tree.structure(unmark(like)):
        return x
    return jax.tree.unflatten(jax.tree.structure(like), jax.tree.leaves(x))


def on_auto_axes(x: Any) -> Any:
    """Arrays on explicit axes of a mesh, their sharding left to the compiler.

    There it is part of the type, and whoever takes rows or sums must say what it becomes.
    """

    def move(v: Any) -> Any:
        where = None if isinstance(v, Tracer) else getattr(v, "sharding", None)
        if not isinstance(where, NamedSharding) or AxisType.Explicit not in where.mesh.axis_types:
            return v
        devices, names = where.mesh.devices, where.mesh.axis_names
        assert devices is not None  # of an array that is there
        mesh = Mesh(devices, names, axis_types=(AxisType.Auto,) * len(names))
        return jax.device_put(v, NamedSharding(mesh, where.spec))

    return jax.tree.map(move, x)


def per_example(function: Callable[[Any], Any], x: Any) -> Any:
    """`function` of every leaf that is batched; the others as they are."""

    def apply(v: Any) -> Any:
        return v if is_shared(v) or not np.shape(v) else function(v)

    return jax.tree.map(apply, x, is_leaf=is_shared)


def batched_leaves(x: Any) -> list[tuple[str, Any]]:
    """(path name, leaf) of what holds one row for each example."""
    return [(n, v) for n, v in named_leaves(x, is_shared) if not is_shared(v) and np.shape(v)]


def length(x: Any) -> int:
    """The number of examples, of inputs that have been checked."""
    return np.shape(batched_leaves(x)[0][1])[0]


def type_of(v: Any) -> jax.ShapeDtypeStruct:
    """The type of an array; that of a Python number gives way to others, as in JAX."""
    weak = getattr(v, "weak_type", type(v) in (int, float, complex))
    return jax.ShapeDtypeStruct(np.shape(v), jnp.result_type(v), weak_type=bool(weak))
