"""The contract of families of points, and of paths."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Self, dataclass_transform

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import GetAttrKey

from .. import _check
from .._compiled import compiled
from .._static import Static, pack, unpack
from .._tree import linear_combination
from .._types import Params
from .transformation import Transformation

_REAL = (jnp.floating, jnp.integer, jnp.bool_)
# Arrays of a tree that a repr still names one by one.
_NAMED_ARRAYS = 4


def static(**options: Any) -> Any:
    """A field of a family that is part of its structure, not data: hashable, never traced.

    As `dataclasses.field`, whose other arguments it takes.

        >>> import jax, mcjax
        >>> class Stay(mcjax.path.Path):
        ...     point: dict
        ...     name: str = mcjax.path.static(default="stay")
        ...     def at(self, t):
        ...         return self.point
        >>> path = Stay({"w": jax.numpy.ones(2)}, "here")
        >>> len(jax.tree.leaves(path)), path
        (1, Stay(point={w: float32[2]}, name='here'))
    """
    return dataclasses.field(metadata={"static": True}, **options)


def time(t: Any) -> jax.Array:
    """t as a float array of the default precision (a float64 t stays one)."""
    found = jnp.result_type(t)  # no promotion, which JAX's strict mode refuses
    dtype = found if found == jnp.float64 else jnp.result_type(float)
    if isinstance(t, jax.Array):
        return t.astype(dtype)
    return jax.device_put(np.asarray(t, dtype))  # a transfer that is meant


@dataclasses.dataclass(frozen=True, eq=False)
class Combination:
    """Points of a family that combine fixed points linearly: θ(c) = Σ_k a_k(c) θ_k.

    What the evaluator uses: what is linear in the parameters (a first layer on data) is computed
    once for each θ_k instead of once for each c.

    - `points`: the θ_k
    - `coefficients`: c → (a_0(c), a_1(c), …), scalars
    - `leaves`: numbers, in the order of `jax.tree.leaves`, of the leaves that are combined so, of
      which the θ_k are then lists; None: all, and the θ_k are parameter trees
    - `which`: c → numbers of the few θ_k that `coefficients(c)` are of, where there are many:
      `points` is then their stack, one tree with a leading axis; None: all, in order
    """

    points: Sequence[Params] | Params
    coefficients: Callable[[Any], Sequence[jax.Array]]
    leaves: tuple[int, ...] | None = None
    which: Callable[[Any], Sequence[jax.Array]] | None = None

    def __len__(self) -> int:
        """How many θ_k there are."""
        return len(self.points) if self.which is None else count(self.points)

    def at(self, c: Any) -> Params:
        """Σ_k a_k(c) θ_k."""
        if self.which is None:
            return linear_combination(self.coefficients(c), self.points)
        few = [jax.tree.map(lambda v, k=k: v[k], self.points) for k in self.which(c)]
        return linear_combination(self.coefficients(c), few)

    def stacked(self, k: int) -> jax.Array:
        """The k-th leaf of all θ_k."""
        if self.which is not None:
            return jax.tree.leaves(self.points)[k]
        return jnp.stack([jax.tree.leaves(p)[k] for p in self.points])


@dataclass_transform(frozen_default=True, eq_default=False, field_specifiers=(static,))
class Family:
    """Coordinates ↦ parameters: what can be evaluated.

    A family is an immutable pytree. Its fields are the annotated attributes of its class, as in a
    dataclass: parameters and arrays are data, those marked `mcjax.path.static()` belong to its
    structure and must be hashable. Without an `__init__` of its own a class gets the one of a
    dataclass. Leaves of parameters that are no arrays (functions) belong to the structure too.

    A class says where its points are by one of two methods:

    - `at(c)`: the parameters at coordinates c
    - `linear()`: how they combine fixed points, where they do

    and may tell the evaluator more: `transformed()`, `fixed()`, `costly`, `pieces()`.
    """

    # Whether a point costs so much that a sweep should compute each once and keep it: a bool, or a
    # property.
    costly: ClassVar[Any] = False
    # Names of the fields that are data, and of those that belong to the structure.
    fields: ClassVar[tuple[str, ...]] = ()
    static: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls, *, abstract: bool = False, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "fields" in cls.__dict__ or isinstance(cls.__dict__.get("static"), tuple):
            raise TypeError(f"{cls.__name__}: fields are annotated, static ones = path.static()")
        if not abstract and cls.at is Family.at and cls.linear is Family.linear:
            raise TypeError(f"{cls.__name__} must define at(c), or linear()")
        own = [a for a in inspect.get_annotations(cls).values() if "ClassVar" not in str(a)]
        makes_init = bool(own) or cls.__init__ is object.__init__
        dataclasses.dataclass(cls, frozen=True, eq=False, repr=False, init=makes_init)  # type: ignore[call-overload]
        marked = {f.name: bool(f.metadata.get("static")) for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
        cls.fields = tuple(n for n, is_static in marked.items() if not is_static)
        cls.static = tuple(n for n, is_static in marked.items() if is_static)
        jax.tree_util.register_pytree_with_keys(cls, cls._flatten_with_keys, cls._unflatten)

    def __post_init__(self) -> None:
        """Packs the fields; a class that checks its own calls this first."""
        self._set(**{n: getattr(self, n) for n in (*self.fields, *self.static)})

    # -- what a family is ------------------------------------------------------------------

    def at(self, c: Any) -> Params:
        """Parameters at coordinates c, which are not checked; what is no array is packed."""
        made = self.linear()
        assert made is not None
        return made.at(c)

    def __call__(self, c: Any) -> Params:
        """Parameters at coordinates c."""
        return unpack(_compiled_at(self)(self, jax.tree.map(jnp.asarray, c)))

    # -- what the evaluator may use --------------------------------------------------------

    def all_at(self, coordinates: Any) -> Params:
        """The parameters at all of T coordinates, (T, …), each computed once."""
        return compiled(_all, of=jax.tree.structure(self))(self, coordinates)

    def linear(self) -> Combination | None:
        """How the points combine fixed ones linearly, or None."""
        return None

    def transformed(self) -> Transformation | None:
        """Which leaves are linear maps of fixed ones, and which, or None."""
        return None

    def fixed(self) -> frozenset[int]:
        """Numbers of leaves that are the same at all coordinates."""
        return frozenset()

    def mixture(self, coordinates: Any) -> tuple[Sequence[Params], np.ndarray] | None:
        """(networks, (T, networks) weights): whose own BatchNorm statistics the points have.

        None where they have those that the points hold.
        """
        return None

    def pieces(self, coordinates: Any) -> list[tuple[np.ndarray, Family, Any]]:
        """(which of the coordinates, family, where on it): what is swept one after the other."""
        return [(np.arange(count(coordinates)), self, coordinates)]

    def _type_at(self, coordinates: Any) -> Params:
        """What `type_at` finds; a family that cannot be traced asks one like it."""
        return jax.eval_shape(compiled(_first, of=jax.tree.structure(self)), self, coordinates)

    # -- a pytree --------------------------------------------------------------------------

    def _set(self, **values: Any) -> Self:
        """Set fields while the family is being made."""
        for name, value in values.items():
            if name in self.fields:
                number = isinstance(value, int | float | complex) and not isinstance(value, bool)
                value = jnp.asarray(value) if number else pack(value, name)
            else:
                _require_hashable(value, f"{type(self).__name__}.{name}")
            object.__setattr__(self, name, value)
        return self

    def _flatten_with_keys(self):
        children = [(GetAttrKey(f), getattr(self, f)) for f in self.fields]
        return children, tuple(getattr(self, f) for f in self.static)

    @classmethod
    def _unflatten(cls, static: tuple[Any, ...], children: Any) -> Self:
        # No checks here: under a transformation the children are tracers or placeholders.
        made = object.__new__(cls)
        names, values = (*cls.fields, *cls.static), (*children, *static)
        for name, value in zip(names, values, strict=True):
            object.__setattr__(made, name, value)
        return made

    def _with(self, **changes: Any) -> Self:
        """The same with some data changed, which is not checked."""
        children = [changes.get(f, getattr(self, f)) for f in self.fields]
        return self._unflatten(tuple(getattr(self, f) for f in self.static), children)

    def __repr__(self) -> str:
        data = [f"{f}={describe(getattr(self, f))}" for f in self.fields]
        return f"{type(self).__name__}({', '.join(data + self._static_parts())})"

    def _static_parts(self) -> list[str]:
        return [f"{f}={_short(getattr(self, f))}" for f in self.static]


class Path(Family, abstract=True):
    """t in [0, 1] ↦ parameters: a family over one coordinate.

    - `path(t)` has the structure, shapes and dtypes of the end points, and equals them exactly
      at t = 0 and t = 1;
    - it works under `jit`, `vmap` and `grad`, in t and in the path's own arrays;
    - a concrete t outside [0, 1], or one that is no scalar, raises `ValueError`; for many t there
      is `jax.vmap(path)(ts)`. A t that is traced cannot be looked at: outside [0, 1] the formula of
      the path is followed as far as it goes, and nothing says so.

    A path of one's own is a class with annotated fields and `at(t)`, or, where it is a linear
    combination of fixed points, `linear()`. `mcjax.testing.check_path` checks it.

        >>> import jax.numpy as jnp, mcjax
        >>> class Detour(mcjax.path.Path):
        ...     a: dict
        ...     b: dict
        ...     by: dict
        ...
        ...     def linear(self):
        ...         return mcjax.path.Combination(
        ...             (self.a, self.b, self.by), lambda t: (1 - t, t, t * (1 - t)))
        >>> a, b, by = ({"w": jnp.array(v)} for v in (0.0, 1.0, 4.0))
        >>> path = Detour(a, b, by)
        >>> float(path(0.5)["w"]), float(path.velocity(0.0)["w"])
        (1.5, 5.0)
        >>> mcjax.testing.check_path(path, a, b)

    Paths of one structure that are stacked, `jax.tree.map(lambda *v: jnp.stack(v), *paths)`, are
    a path of stacks under `vmap`.
    """

    def __call__(self, t: Any) -> Params:
        """Parameters at a scalar t in [0, 1]."""
        return unpack(_compiled_at(self)(self, checked_time(t)))

    def velocity(self, t: Any) -> Params:
        """dθ/dt at a scalar t in [0, 1]; zero for leaves that are not floating-point."""
        return unpack(compiled(_velocity, of=jax.tree.structure(self))(self, checked_time(t)))

    def mixture(self, coordinates: Any) -> tuple[Sequence[Params], np.ndarray] | None:
        """The end points', (1 − t) A + t B, whatever the path.

        Weights are never negative, so no variance is. A path whose points hold statistics that
        were made for them returns None.
        """
        ts, at = np.asarray(coordinates, np.float64), _compiled_at(self)
        return (at(self, time(0.0)), at(self, time(1.0))), np.stack([1 - ts, ts], -1)

    def grid(self, steps: int) -> np.ndarray:
        """The t with `steps` even steps on each section."""
        return np.linspace(0, 1, _check.positive(steps, "steps") * len(self.sections()) + 1)

    def sections(self) -> tuple[Path, ...]:
        """The paths that this one consists of, one after the other, each as long in t."""
        return (self,)

    # -- training --------------------------------------------------------------------------

    def free(self) -> Any:
        """The pytree that `mcjax.fit` trains; the end points are never part of it."""
        raise ValueError(f"a {type(self).__name__} path has no free points to fit")

    def with_free(self, free: Any) -> Self:
        """The same path with other free points."""
        raise ValueError(f"a {type(self).__name__} path has no free points to fit")


def ended(t: Any, start: Params, point: Params, end: Params) -> Params:
    """A point that is computed to rounding, and exactly the ends at t = 0 and t = 1."""
    return jax.tree.map(
        lambda a, p, b: jnp.where(t == 0, a, jnp.where(t == 1, b, p)).astype(a.dtype),
        start, point, end,
    )  # fmt: skip


def checked_time(t: Any) -> jax.Array:
    """A t that a path may be asked for.

    **Raises:** `ValueError` for what is no scalar, or lies outside [0, 1].
    """
    if isinstance(t, list | tuple) or np.ndim(t):
        shape = f"a {type(t).__name__}" if isinstance(t, list | tuple) else f"shape {np.shape(t)}"
        raise ValueError(
            f"t must be a scalar, got {shape}; for many points there is jax.vmap(path)(ts), with "
            "ts an array"
        )
    real = isinstance(t, int | float | np.generic | np.ndarray | jax.Array)
    if not real or not any(jnp.issubdtype(jnp.result_type(t), k) for k in _REAL):
        raise ValueError(f"t must be a number in [0, 1], got {t!r}")
    _check.interval(t)
    return time(t)


def count(coordinates: Any) -> int:
    """How many points coordinates are of."""
    return np.shape(jax.tree.leaves(coordinates)[0])[0]


def first_of(coordinates: Any) -> Any:
    """The first of some coordinates."""
    return jax.tree.map(lambda v: v[0], coordinates)


def type_at(family: Family, coordinates: Any) -> Params:
    """The types of the parameters at coordinates: nothing is computed."""
    return family._type_at(coordinates)


def _compiled_at(family: Family) -> Callable:
    """One program instead of one for each operation; it goes with the family's structure."""
    return compiled(_at, of=jax.tree.structure(family))


def _at(family: Family, c: Any) -> Params:
    return family.at(c)


def _first(family: Family, coordinates: Any) -> Params:
    return family.at(first_of(coordinates))


def _all(family: Family, coordinates: Any) -> Params:
    return jax.lax.map(family.at, coordinates)


def _velocity(path: Path, t: Any) -> Params:
    point, tangent = jax.jvp(path.at, (t,), (jnp.ones_like(t),))
    return jax.tree.map(
        lambda v, d: jnp.zeros_like(v) if d.dtype == jax.dtypes.float0 else d, point, tangent
    )


def _require_hashable(value: Any, name: str) -> None:
    try:
        hash(value)
    except TypeError:
        raise ValueError(
            f"{name} is a static field and must be hashable, got a {type(value).__name__}"
        ) from None


def describe(tree: Any) -> str:
    """A tree in a few words: structure and shapes of a small one, sizes of a large one."""
    leaves = jax.tree.leaves(tree)
    if len(leaves) <= _NAMED_ARRAYS:
        return _outline(tree)
    numbers = sum(int(np.size(v)) for v in leaves)
    return f"<{type(tree).__name__} of {len(leaves)} arrays, {numbers:,} numbers>"


def _outline(tree: Any) -> str:
    if isinstance(tree, Static):
        return _short(tree.value)
    if isinstance(tree, dict):
        return "{" + ", ".join(f"{k}: {_outline(v)}" for k, v in tree.items()) + "}"
    if isinstance(tree, list | tuple):
        inside = ", ".join(map(_outline, tree))
        return f"[{inside}]" if isinstance(tree, list) else f"({inside})"
    if hasattr(tree, "dtype") and hasattr(tree, "shape"):
        return f"{tree.dtype}[{','.join(map(str, tree.shape))}]"
    return _short(tree)


def _short(value: Any) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 60 else f"<{type(value).__name__}>"


__all__ = ["Combination", "Family", "Path", "checked_time", "count", "describe", "static", "time"]
