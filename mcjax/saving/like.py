"""What stands in for what a file does not hold: `like` of `mcjax.load`."""

from __future__ import annotations

import collections
import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._static import Static, is_array
from .._tree import path_keys
from ..network.network import Network
from ..tasks import Task
from .classes import fields_of, is_family, is_namedtuple


class Stand:
    """What `like` holds: networks, tasks and parameter trees, by themselves or inside values."""

    def __init__(self, like: Any) -> None:
        self.networks: list[Network] = []
        self.tasks: list[Task] = []
        self.trees: list[Any] = []
        if like is not None:
            self._add(like)

    def _add(self, like: Any) -> None:
        if isinstance(like, Network):
            self.networks.append(like)
            self.trees.append(jax.tree.unflatten(like.treedef, like.leaf_types))
        elif isinstance(like, Task):
            self.tasks.append(like)
        elif isinstance(like, Static) or is_array(like):
            self.trees.append(like)
        elif is_family(type(like)) or (
            dataclasses.is_dataclass(like) and not isinstance(like, type) and fields_of(like)
        ):
            for name in fields_of(like) or ():
                self._add(getattr(like, name))
        elif isinstance(like, list | tuple | dict) and not is_namedtuple(type(like)):
            inside = list(like.values() if isinstance(like, dict) else like)
            if any(isinstance(v, Network | Task) or is_family(type(v)) for v in inside):
                for v in inside:
                    self._add(v)
            else:
                self.trees.append(like)
        elif not isinstance(like, str | int | float | bool | None):
            self.trees.append(like)

    def tree(self, at: list[str]) -> Any:
        """The subtree whose place in a parameter tree is the end of `at`, the deepest there is."""
        found = [
            (len(keys), node)
            for tree in self.trees
            for keys, node in _foreign(tree)
            if tuple(at[len(at) - len(keys) :]) == keys
        ]
        return max(found, key=lambda f: f[0])[1] if found else None

    def static(self, at: list[str]) -> Any:
        """The leaf that is no array, and whose path is the end of `at`, the longest there is."""
        found = []
        for tree in self.trees:
            for path, leaf in jax.tree_util.tree_flatten_with_path(tree, is_leaf=_is_static)[0]:
                keys = path_keys(path)
                if not is_array(leaf) and tuple(at[len(at) - len(keys) :]) == keys:
                    found.append((len(keys), leaf.value if _is_static(leaf) else leaf))
        return max(found, key=lambda f: f[0])[1] if found else None


def _is_static(value: Any) -> bool:
    return isinstance(value, Static)


def _foreign(tree: Any, at: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    """(keys, node) of the nodes of a tree that are no plain containers, from the root down."""
    if type(tree) in (dict, collections.OrderedDict):
        return [f for k, v in tree.items() for f in _foreign(v, (*at, str(k)))]
    if type(tree) in (list, tuple) or is_namedtuple(type(tree)):
        names = getattr(type(tree), "_fields", range(len(tree)))
        return [f for k, v in zip(names, tree) for f in _foreign(v, (*at, str(k)))]
    return [] if jax.tree_util.all_leaves([tree]) else [(at, tree)]


def check_like(value: Any, like: Any, name: str) -> None:
    """Raise unless an array has the shape and the dtype (as JAX takes it) of another."""
    if not is_array(like):
        return
    if np.shape(value) != np.shape(like) or _type(value) != _type(like):
        raise ValueError(
            f"{name} is {value.dtype} of shape {np.shape(value)}, expected {like.dtype} of shape "
            f"{np.shape(like)} as in like"
        )


def _type(value: Any) -> Any:
    is_key = jnp.issubdtype(value.dtype, jax.dtypes.prng_key)
    native = value.dtype if is_key else value.dtype.newbyteorder("=")
    return native if is_key else jax.dtypes.canonicalize_dtype(native)
