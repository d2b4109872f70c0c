"""Leaves that are no arrays: functions, strings, Python's numbers, as in equinox modules.

Everything inside mcjax works on *packed* parameters, whose leaves are all arrays: what is no
array has become a node without leaves (`Static`) and so part of the tree's structure, which
`jit` compares and `jax.tree.map` carries along. Whoever is handed parameters packs them, whoever
hands them out, to `apply_fn` or to the user, unpacks them.
"""

from __future__ import annotations

import dataclasses
import functools
import types
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ._tree import named_leaves, path_name
from ._types import Params

_ARRAYS = (jax.Array, np.ndarray, np.generic, jax.ShapeDtypeStruct)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True, eq=False)
class Static:
    """What is no array, in the place of a leaf."""

    value: Any

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Static) and _identity(self.value) == _identity(other.value)

    def __hash__(self) -> int:
        return hash(_identity(self.value))


def _identity(value: Any) -> Any:
    """What two values have in common if one can stand for the other.

    Functions are the same if they are made by the same line of code of the same things: the
    `lambda` in a user's constructor is a new object for each network.
    """
    if isinstance(value, types.FunctionType):
        try:
            cells = tuple(c.cell_contents for c in value.__closure__ or ())
            named = tuple(sorted((value.__kwdefaults__ or {}).items()))
            made_of = (value.__code__, id(value.__globals__), value.__defaults__, named, cells)
            hash(made_of)
        except (TypeError, ValueError):  # it holds what cannot be compared: an array, say
            return id(value)
        return made_of
    if isinstance(value, functools.partial):
        return type(value), _identity(value.func), value.args, tuple(sorted(value.keywords.items()))
    return type(value), value


def is_array(leaf: Any) -> bool:
    """Whether a leaf is an array, or stands for one (`jax.ShapeDtypeStruct`)."""
    return isinstance(leaf, _ARRAYS)


def pack(params: Params, name: str = "params", *, native: bool = True) -> Params:
    """The parameters with arrays for leaves; the same object if they are so already.

    - `native`: whether JAX has to take them, which reads no numbers in another order of bytes

    **Raises:** `ValueError` for a leaf that is neither an array nor can be compared.
    """

    def is_held(leaf):
        return _is_numbers(leaf) and (not native or _is_native(leaf))

    if all(map(is_held, jax.tree.leaves(params))):
        return params

    def packed(path, leaf):
        if is_held(leaf):
            return leaf
        where = path_name(path)
        leaf_is = f"{name}: leaf {where!r} is a" if where else f"{name} is a"
        kind = f"{type(leaf).__module__}.{type(leaf).__qualname__}".removeprefix("builtins.")
        if _is_numbers(leaf):
            raise ValueError(
                f"{leaf_is} {kind} of dtype {leaf.dtype}, whose bytes are in another order than "
                "this machine's; convert it with v.astype(v.dtype.newbyteorder())"
            )
        if hasattr(leaf, "dtype") and hasattr(leaf, "shape"):
            raise ValueError(
                f"{leaf_is} {kind} of dtype {leaf.dtype}, which is no array of JAX's or of numbers "
                "of NumPy's; convert it with np.asarray(…)"
            )
        static = Static(leaf)
        try:
            hash(static)
        except TypeError:
            raise ValueError(
                f"{leaf_is} {kind}, which is no array, no pytree and cannot be hashed; register "
                "the type with jax.tree_util.register_dataclass, or leave it out"
            ) from None
        return static

    return jax.tree_util.tree_map_with_path(packed, params)


def _is_numbers(leaf: Any) -> bool:
    """Whether a leaf is an array of what JAX computes with (NumPy has strings and objects)."""
    if isinstance(leaf, jax.Array):
        return True
    kinds = (np.number, np.bool_, jax.dtypes.extended)
    return is_array(leaf) and any(jnp.issubdtype(leaf.dtype, k) for k in kinds)


def _is_native(leaf: Any) -> bool:
    """Whether the bytes of a number are in this machine's order: JAX takes no others."""
    return getattr(leaf.dtype, "isnative", True)


def unpack(params: Params) -> Params:
    """The parameters as they were before `pack`."""
    if all(not isinstance(v, Static) for v in jax.tree.leaves(params, is_leaf=_is_static)):
        return params
    return jax.tree.map(lambda v: v.value if _is_static(v) else v, params, is_leaf=_is_static)


def static_leaves(params: Params) -> dict[str, Any]:
    """Path name → value of what is no array in packed parameters."""
    return {
        name: leaf.value
        for name, leaf in named_leaves(params, is_leaf=_is_static)
        if _is_static(leaf)
    }


def _is_static(v: Any) -> bool:
    return isinstance(v, Static)
