"""Arguments and data checked: errors name what came, where, and what was expected."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import jax
import jax.core
import jax.numpy as jnp
import numpy as np

from ._inputs import batched_leaves, is_shared
from ._static import Static, is_array, pack, static_leaves
from ._tree import at_least_single, is_inexact, named_leaves
from ._types import Params

_BLOCK = 1 << 15  # numbers that are looked at together: they stay in the processor's cache
_F = TypeVar("_F", bound=Callable[..., Any])


def on_host(function: _F) -> _F:
    """A function that works on the host, with a sentence for whoever calls it under `jit`.

    Transfer guards watch over loops, not over what is done once: inside all transfers are allowed.
    """

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        leaves = jax.tree.leaves((args, kwargs), is_leaf=lambda v: isinstance(v, Iterator))
        if not all(map(is_concrete, leaves)):
            raise ValueError(
                f"{function.__name__} works on the host, and its arguments are being traced (jit, "
                "vmap or grad): call it outside. What can be traced: paths, actions, "
                "network.permute and mix, mcjax.evaluation.metrics_at, mcjax.transport.sinkhorn"
            )
        with jax.transfer_guard("allow"):
            return function(*args, **kwargs)

    return call  # type: ignore[return-value]


def once(function: _F) -> _F:
    """A function that is called once, under `jit` or not: inside all transfers are allowed."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        with jax.transfer_guard("allow"):
            return function(*args, **kwargs)

    return call  # type: ignore[return-value]


def is_concrete(value: Any) -> bool:
    """Whether a value is at hand on the host (not a tracer)."""
    return not isinstance(value, jax.core.Tracer)


def _nested(a: dict[str, Any], b: dict[str, Any], names: tuple[str, str]) -> str:
    """What is to be said where one tree is a part of the other, under one key."""
    for inner, outer, whole, part in ((a, b, names[1], names[0]), (b, a, names[0], names[1])):
        for key in dict.fromkeys(str(n).split("/")[0] for n in outer):
            if all(f"{key}/{n}" in outer for n in inner):
                return f": {part} is what {whole} has under {key!r}"
    return ""


def same_structure(a: Params, b: Params, *, names: tuple[str, str] = ("a", "b")) -> None:
    """Raise unless two parameter trees have the same structure, shapes, dtypes and what is no
    array in them."""
    a, b = pack(a, names[0]), pack(b, names[1])
    _same_static(static_leaves(a), static_leaves(b), names)
    leaves_a, leaves_b = dict(named_leaves(a)), dict(named_leaves(b))
    for missing, here, there in ((leaves_a, names[0], names[1]), (leaves_b, names[1], names[0])):
        other = leaves_b if missing is leaves_a else leaves_a
        only = [n for n in missing if n not in other]
        if only:
            raise ValueError(
                f"{names[0]} and {names[1]} have different structures: leaf {only[0]!r} is in "
                f"{here} but not in {there} ({len(only)} such leaves)"
                f"{_nested(leaves_a, leaves_b, names)}"
            )
    for name, x in leaves_a.items():
        y = leaves_b[name]
        if np.shape(x) != np.shape(y):
            raise ValueError(
                f"leaf {name!r}: {names[1]} has shape {np.shape(y)}, expected {np.shape(x)} "
                f"as in {names[0]}"
            )
        if jnp.result_type(x) != jnp.result_type(y):
            raise ValueError(
                f"leaf {name!r}: {names[1]} has dtype {jnp.result_type(y)}, expected "
                f"{jnp.result_type(x)} as in {names[0]}"
            )
    if jax.tree.structure(a) != jax.tree.structure(b):
        here, there = _first_difference(jax.tree.structure(a), jax.tree.structure(b))
        raise ValueError(
            f"{names[0]} and {names[1]} have the same leaves in different containers: {here} in "
            f"{names[0]}, {there} in {names[1]}"
        )


def _same_static(a: dict[str, Any], b: dict[str, Any], names: tuple[str, str]) -> None:
    for name in [*a, *(n for n in b if n not in a)]:
        if name in a and name in b and Static(a[name]) == Static(b[name]):
            continue
        values = [f"{v[name]!r}" if name in v else "no such leaf" for v in (a, b)]
        number = any(isinstance(v.get(name), int | float | complex) for v in (a, b))
        raise ValueError(
            f"leaf {name!r} is no array and must be the same in {names[0]} and {names[1]}: it is "
            f"{values[0]} and {values[1]}. "
            + (
                "A Python number is part of the model; what is learnt must be an array "
                "(jnp.asarray)"
                if number
                else "Build both networks with the same object"
            )
        )


def _first_difference(a: Any, b: Any) -> tuple[str, str]:
    """The first nodes of two structures that differ."""
    if a.node_data() == b.node_data() and len(a.children()) == len(b.children()):
        for x, y in zip(a.children(), b.children()):
            if x != y:
                return _first_difference(x, y)
    return _node(a), _node(b)


def _node(structure: Any) -> str:
    data = structure.node_data()
    if data is None:
        return str(structure)
    return data[0].__name__ if data[1] is None else f"{data[0].__name__} with {data[1]}"


def has_values(tree: Params, name: str) -> None:
    """Raise if a leaf is a type only (`jax.ShapeDtypeStruct`)."""
    for path, leaf in named_leaves(tree):
        if isinstance(leaf, jax.ShapeDtypeStruct):
            raise ValueError(
                f"{name}: leaf {path!r} is a jax.ShapeDtypeStruct, a type without values. Types "
                "are enough for mcjax.trace; here arrays are needed (the trained parameters)"
            )


def finite(tree: Params, name: str) -> None:
    """Raise if a floating-point leaf holds NaN or infinity (not while tracing, nor in types)."""
    leaves = [
        (path, leaf)
        for path, leaf in named_leaves(tree)
        if not isinstance(leaf, jax.ShapeDtypeStruct) and is_inexact(leaf) and is_concrete(leaf)
    ]
    counts = count_not_finite([leaf for _, leaf in leaves])
    for (path, leaf), bad in zip(leaves, counts, strict=True):
        if bad:
            raise ValueError(
                f"{name}: leaf {path!r} holds {bad} NaN or infinite values of {np.size(leaf)}"
            )


def count_not_finite(leaves: Sequence[Any]) -> list[int]:
    """How many values of each of some concrete arrays are NaN or infinite: the device is waited
    for once."""

    def count(leaf: Any) -> Any:
        if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
            return 0  # spread over hosts: nobody here can look at all of it
        # On a CPU NumPy looks without compiling; elsewhere only the count leaves the device.
        if jax.default_backend() == "cpu" or isinstance(leaf, np.ndarray):
            return _not_finite(np.asarray(leaf))
        return leaf.size - jnp.isfinite(leaf).sum()

    return [int(n) for n in jax.device_get([count(leaf) for leaf in leaves])]


def _not_finite(array: np.ndarray) -> int:
    """How many values are NaN or infinite; block by block, as NumPy is slow at types of 16 bits."""
    flat, single = array.ravel(order="K"), at_least_single(array.dtype)
    starts = range(0, flat.size, _BLOCK)
    blocks = (flat[i : i + _BLOCK].astype(single, copy=False) for i in starts)
    return flat.size - sum(int(np.isfinite(block).sum()) for block in blocks)


def no_nan(tree: Any, name: str) -> None:
    """Raise if a leaf holds NaN (infinity may be meant: a mask)."""
    for path, leaf in named_leaves(tree):
        if is_inexact(leaf) and is_concrete(leaf):
            bad = int(np.isnan(np.asarray(jax.device_get(leaf))).sum())
            if bad:
                where = f"{name}: leaf {path!r}" if path else name
                raise ValueError(f"{where} holds {bad} NaN of {np.size(leaf)} values")


def finite_inputs(x: Any, name: str = "x") -> None:
    """Raise if inputs hold NaN, or infinite values where they are no additive mask.

    A mask holds nothing but 0 and −∞, or is marked `mcjax.Shared`.
    """
    for path, leaf in batched_leaves(x):
        if not is_inexact(leaf) or not is_concrete(leaf):
            continue
        values = np.asarray(jax.device_get(leaf))
        if np.isfinite(values).all() or (np.isneginf(values) | (values == 0)).all():
            continue
        where = f"{name}: leaf {path!r}" if path else name
        bad, kind = int(np.isnan(values).sum()), "NaN"
        if not bad:
            bad, kind = int(np.isinf(values).sum()), "infinite values"
        raise ValueError(f"{where} holds {bad} {kind} of {values.size} values")
    shared = [v for v in jax.tree.leaves(x, is_leaf=is_shared) if is_shared(v) or not np.shape(v)]
    no_nan(shared, name)


def parameters(tree: Params, name: str, *, types: bool = False) -> Params:
    """The parameters, packed; raise unless they hold a floating-point leaf and all are finite.

    **Arguments:**
    - `types`: whether `jax.ShapeDtypeStruct`s will do
    """
    if jax.tree_util.all_leaves([tree]) and not is_array(tree):
        if hasattr(tree, "params"):  # a result, as of `canonicalize`
            raise ValueError(f"{name} is a {type(tree).__name__}, pass its .params")
        raise ValueError(
            f"{name} is a {type(tree).__name__}, which JAX does not know as a pytree; parameters "
            "must be arrays in dicts, lists or registered classes "
            "(jax.tree_util.register_dataclass)"
        )
    packed = pack(tree, name)
    leaves = jax.tree.leaves(packed)
    if not any(is_inexact(leaf) for leaf in leaves):
        kinds = {str(getattr(v, "dtype", type(v).__name__)) for v in jax.tree.leaves(tree)}
        raise ValueError(
            f"{name} has no floating-point leaf (found {', '.join(sorted(kinds)) or 'no leaves'}); "
            "parameters must be a pytree of float arrays (Python numbers are part of the model)"
        )
    if not types:
        has_values(packed, name)
    finite(packed, name)
    return packed


def interval(t: Any, name: str = "t") -> None:
    """Raise unless every concrete t lies in [0, 1]."""
    if is_concrete(t):
        values = np.asarray(t)
        outside = values[~((values >= 0) & (values <= 1))]
        if outside.size:
            raise ValueError(f"{name} must lie in [0, 1], got {outside.ravel()[0]}")


def one_of(value: Any, allowed: tuple[str, ...], name: str) -> None:
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, allowed))}, got {value!r}")


def rows(tree: Any, name: str) -> int:
    """The common length of the leading axes of all leaves; raise if there is none."""
    for leaf, value in named_leaves(tree):
        if not np.shape(value):
            raise ValueError(f"{name}: leaf {leaf or name!r} is a scalar, expected a leading axis")
    return _length(named_leaves(tree), name, "")


def batched(x: Any, name: str) -> int:
    """The number of examples; raise on an empty batch or unequal lengths.

    Scalars (typed random keys among them) and what is marked `Shared` are not batched.
    """
    for leaf, value in named_leaves(x):
        if not is_array(value) and not isinstance(value, bool | int | float | complex):
            raise ValueError(
                f"{name}: leaf {leaf or name!r} is a {type(value).__name__}; inputs must be arrays "
                "(what is not, apply_fn can close over)"
            )
    found = batched_leaves(x)
    if not found and jax.tree.leaves(x):
        kind = "a list of numbers is a pytree of scalars, pass np.asarray(…)"
        shared = any(map(is_shared, jax.tree.leaves(x, is_leaf=is_shared)))
        raise ValueError(
            f"{name}: no leaf holds a batch of examples on axis 0; "
            + ("one at least must not be marked Shared" if shared else kind)
        )
    return _length(found, name, "; mark what all examples share: mcjax.Shared(…)")


def labelled(data: Any, name: str = "data") -> tuple[tuple[Any, Any], int]:
    """((x, y), number of examples); raise unless both are batched alike."""
    if not isinstance(data, tuple | list) or len(data) != 2:
        of = f" of {len(data)}" if isinstance(data, tuple | list | dict) else ""
        raise ValueError(f"{name} must be (x, y), got a {type(data).__name__}{of}")
    x, y = data
    n, m = batched(x, "x"), batched(y, "y")
    if n != m:
        raise ValueError(f"x and y have different lengths: {n} and {m}")
    return (x, y), n


def _length(leaves: list[tuple[str, Any]], name: str, cure: str) -> int:
    if not leaves:
        raise ValueError(f"{name} holds no arrays")
    first, n = leaves[0][0], np.shape(leaves[0][1])[0]
    for other, value in leaves:
        if np.shape(value)[0] != n:
            raise ValueError(
                f"{name}: leaves have different batch lengths: {first!r} has {n} and {other!r} has "
                f"{np.shape(value)[0]} on axis 0{cure}"
            )
    if n == 0:
        raise ValueError(f"{name} is an empty batch")
    return n


def positive(value: int, name: str) -> int:
    """`value` if it is a positive integer."""
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name} must be a positive integer, got {value!r}")
    return int(value)


def real(value: Any, name: str, low: float = -math.inf, high: float = math.inf) -> float:
    """`value` if it is a finite number from `low` to `high`."""
    number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(
        value, bool
    )
    if not number or not math.isfinite(value) or not low <= value <= high:
        where = "" if low == -math.inf else f" from {low:g} to {high:g}"
        raise ValueError(f"{name} must be a finite number{where}, got {value!r}")
    return float(value)


def share(value: float, name: str) -> float:
    """`value` if it is above 0 and at most 1."""
    if not real(value, name, 0.0, 1.0):
        raise ValueError(f"{name} must be above 0, got {value!r}")
    return float(value)


def random_key(value: Any, name: str = "key") -> Any:
    """`value` if it is one random key, typed or old-style."""
    if isinstance(value, jax.Array | np.ndarray):
        typed = jnp.issubdtype(value.dtype, jax.dtypes.prng_key)
        old = value.dtype == np.uint32 and value.shape in ((2,), (4,))
        if (typed and not value.shape) or old:
            return value
        got = f"an array of {value.dtype} of shape {value.shape}"
    else:
        number = isinstance(value, bool | int | float | str)
        got = repr(value) if number else f"a {type(value).__name__}"
    raise ValueError(f"{name} must be a random key, as jax.random.key(0), got {got}")


def key_data(key: Any) -> Any:
    """The numbers that make up a random key."""
    typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    return jax.random.key_data(key) if typed else key
