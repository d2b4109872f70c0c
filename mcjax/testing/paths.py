"""The contract of families and paths."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._static import pack
from .._tree import is_inexact
from ..path import Family, Path
from ._require import require, require_error, require_same

# Away from the corners that paths tend to have, and its ends.
_INSIDE = (0.137, 0.317, 0.713)
_LONG = 2000  # characters of a repr


def check_path(path: Path, a: Any = None, b: Any = None, *, velocity: bool = True) -> None:
    """Raise `AssertionError` unless a path keeps the contract of `mcjax.path.Path`.

    - exact at its ends, with their structure, shapes and dtypes everywhere
    - the same under `jit`, `vmap` and in a stack of paths, and as a pytree taken apart
    - a t outside [0, 1] or of several numbers is a `ValueError`; nothing can be set or deleted
    - what it tells the evaluator (`linear`, `transformed`, `fixed`, `pieces`, `grid`) is true
    - `velocity(t)` is the derivative, by finite differences

    **Arguments:**
    - `a`, `b`: the parameters where it should start and end; None: not compared
    - `velocity`: whether the path has one (those that search at every t have none)

        >>> import jax.numpy as jnp, mcjax
        >>> a, b = {"w": jnp.zeros(2)}, {"w": jnp.ones(2)}
        >>> mcjax.testing.check_path(mcjax.path.Linear(a, b), a, b)
    """
    require(isinstance(path, Path), f"a path must be a mcjax.path.Path, got {type(path).__name__}")
    for t, end in ((0.0, a), (1.0, b)):
        if end is not None:
            require_same(path(t), end, f"{type(path).__name__} at t = {t:g}")
        require_same(path(int(t)), path(t), f"t = {t:g} as an integer")
    for t in (-0.001, 1.001, float("nan"), np.array([0.2, 0.4]), [0.0, 1.0], "half"):
        require_error(lambda t=t: path(t), ValueError, f"t = {t!r}")
    grid = path.grid(3)
    rises = grid[0] == 0 and grid[-1] == 1 and (np.diff(grid) > 0).all()
    require(rises, f"grid(3) must rise from 0 to 1, got {grid}")
    check_family(path, np.array([0.0, *_INSIDE, 1.0]))
    if velocity:
        _check_velocity(path)


def check_family(family: Family, coordinates: Any) -> None:
    """Raise `AssertionError` unless a family keeps the contract of `mcjax.path.Family`.

    **Arguments:**
    - `coordinates`: of two points or more, on the leading axis

        >>> import jax.numpy as jnp, mcjax
        >>> points = mcjax.path.Points({"w": jnp.arange(6.0).reshape(3, 2)})
        >>> mcjax.testing.check_family(points, jnp.arange(3))
    """
    coordinates = jax.tree.map(jnp.asarray, coordinates)
    each = [jax.tree.map(lambda v, i=i: v[i], coordinates)
            for i in range(len(jax.tree.leaves(coordinates)[0]))]  # fmt: skip
    points = [family(c) for c in each]
    for point in points[1:]:
        types = [jax.tree.map(lambda v: (v.shape, v.dtype), pack(p)) for p in (points[0], point)]
        require(types[0] == types[1], f"points differ in type: {types[0]} and {types[1]}")
    close = _tolerance(points[0])
    many = jax.vmap(family.at)(coordinates)
    compiled = jax.jit(lambda f, c: f.at(c))
    again = jax.tree.unflatten(jax.tree.structure(family), jax.tree.leaves(family))
    require(type(again) is type(family), "as a pytree it must come back as what it was")
    stack = jax.tree.map(lambda v: jnp.stack([jnp.asarray(v)] * 2), family)
    stacked = jax.vmap(lambda f, c: f.at(c), (0, None))(stack, each[0])
    for i, (c, point) in enumerate(zip(each, points, strict=True)):
        require_same(jax.tree.map(lambda v, i=i: v[i], many), pack(point), "vmap", close)
        require_same(compiled(family, c), pack(point), "jit", close)
        require_same(again(c), point, "taken apart and put together", close)
    first = jax.tree.map(lambda v: v[1], stacked)
    require_same(first, pack(points[0]), "a stack of two, vmapped", close)
    _check_immutable(family)
    _check_what_it_tells(family, coordinates, points, close)


def _check_immutable(family: Family) -> None:
    for name in (*family.fields, *family.static, "something_new"):
        require_error(lambda n=name: setattr(family, n, 1), AttributeError, f"setting {name!r}")
        require_error(lambda n=name: delattr(family, n), AttributeError, f"deleting {name!r}")
    hash(jax.tree.structure(family))
    text = repr(family)
    require(len(text) <= _LONG, f"its repr has {len(text)} characters: shapes will do")


def _check_what_it_tells(family: Family, coordinates: Any, points: list[Any], close: float) -> None:
    """`linear`, `transformed`, `fixed` and `pieces` against the points themselves."""
    leaves = [jax.tree.leaves(pack(p)) for p in points]
    for i in family.fixed():
        same = all(np.array_equal(v[i], leaves[0][i]) for v in leaves)
        require(same, f"leaf {i} is fixed(), and moves")
    found = family.linear()
    if found is not None:
        for k, point in enumerate(leaves):
            c = jax.tree.map(lambda v, k=k: v[k], coordinates)
            made = jax.tree.leaves(found.at(c))
            numbers = range(len(point)) if found.leaves is None else found.leaves
            require_same(made, [point[i] for i in numbers], "linear()", close)
    changed = family.transformed()
    for k, point in enumerate(leaves if changed is not None else ()):
        assert changed is not None
        c = jax.tree.map(lambda v, k=k: v[k], coordinates)
        for i, v in changed.leaves.items():
            made = changed.move(c, i, jnp.asarray(v), changed.axes[i])
            # To the rounding of products of matrices: two of them, and their inverses.
            require_same(made, point[i], f"transformed(): leaf {i}", 10 * close)
    seen: list[int] = []
    for which, piece, where in family.pieces(jax.tree.map(np.asarray, coordinates)):
        seen += map(int, which)
        for k, i in enumerate(which):
            c = jax.tree.map(lambda v, k=k: jnp.asarray(v[k]), where)
            require_same(piece(c), points[i], f"pieces(): point {i}", close)
    require(sorted(seen) == list(range(len(points))), "pieces() must hold each point once")


def _check_velocity(path: Path) -> None:
    """By central differences, in float64 as far as the path computes in it."""
    with jax.enable_x64(True):
        path = jax.tree.map(
            lambda v: jnp.asarray(v, jnp.float64) if is_inexact(v) and v.dtype.kind == "f" else v,
            path,
        )
        step = 1e-3
        for t in _INSIDE:
            before, after = (jax.tree.leaves(pack(path(t + s))) for s in (-step, step))
            found = jax.tree.leaves(pack(path.velocity(t)))
            for x, y, v in zip(before, after, found, strict=True):
                if not is_inexact(x):
                    require(not np.any(v), "an integer leaf moves")
                    continue
                expected = (np.asarray(y) - np.asarray(x)) / (2 * step)
                scale = max(1.0, float(np.abs(expected).max(initial=0)))
                off = float(np.abs(expected - v).max(initial=0)) / scale
                require(off < 1e-3, f"velocity({t}) is off by {off:.3g} of its size")


def _tolerance(params: Any) -> float:
    """Ten roundings of the least precise leaf."""
    kinds = [v.dtype for v in jax.tree.leaves(pack(params)) if is_inexact(v)]
    return max((10 * float(jnp.finfo(k).eps) for k in kinds), default=1e-6)
