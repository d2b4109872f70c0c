"""The contract of a path."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import GetAttrKey

from .. import _check
from .._static import pack, unpack
from .._tree import linear_combination
from .._types import Params


def time(t: Any) -> jax.Array:
    """t as a float array of the default precision (a float64 t stays one)."""
    dtype = jnp.promote_types(jnp.result_type(t), jnp.result_type(float))
    if isinstance(t, jax.Array):
        return t.astype(dtype)
    return jax.device_put(np.asarray(t, dtype))  # a transfer that is meant


class Path(abc.ABC):
    """t in [0, 1] ↦ parameters.

    - `path(t)` has the structure, shapes and dtypes of the end points, and equals them exactly
      at t = 0 and t = 1;
    - it works under `jit`, `vmap` and `grad`, in t and in the path's own arrays: a path is a
      pytree whose children are the attributes named in `fields` (those in `static` are hashable
      and belong to its structure). Leaves of parameters that are no arrays (functions) belong to
      the structure too (`mcjax/_static.py`);
    - a concrete t outside [0, 1] raises `ValueError`.

    A new path sets `fields` and writes `at(t)`, or, where it is a linear combination of fixed
    points, derives from `Combination`. Adding it to `tests/paths.py` gives it every contract
    test.
    """

    fields: ClassVar[tuple[str, ...]] = ()
    static: ClassVar[tuple[str, ...]] = ()
    # Whether a point costs so much that a sweep computes each once and keeps it.
    costly: ClassVar[bool] = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if not getattr(cls.at, "__isabstractmethod__", False):
            jax.tree_util.register_pytree_with_keys(cls, cls._flatten_with_keys, cls._unflatten)

    @abc.abstractmethod
    def at(self, t: Any) -> Params:
        """Parameters at t, which is not checked; what is no array in them is packed."""

    def __call__(self, t: Any) -> Params:
        """Parameters at t in [0, 1]."""
        _check.interval(t)
        return unpack(_at(self, time(t)))

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable: cannot set {name!r}")

    def _set(self, **values: Any) -> Self:
        for name, value in values.items():
            packed = pack(value, name) if name in self.fields else value
            object.__setattr__(self, name, packed)
        return self

    def _flatten_with_keys(self):
        children = [(GetAttrKey(f), getattr(self, f)) for f in self.fields]
        return children, tuple(getattr(self, f) for f in self.static)

    @classmethod
    def _unflatten(cls, static: tuple[Any, ...], children: Any) -> Self:
        # No checks here: under a transformation the children are tracers or placeholders.
        path = object.__new__(cls)
        names, values = (*cls.fields, *cls.static), (*children, *static)
        for name, value in zip(names, values, strict=True):
            object.__setattr__(path, name, value)
        return path

    def mixture(self, ts: np.ndarray) -> tuple[Sequence[Params], np.ndarray] | None:
        """(networks, (T, networks) weights): whose own BatchNorm statistics the points have.

        Default: the end points', (1 − t) A + t B, whatever the path: weights are never negative,
        so no variance is. None where the points of the path hold statistics that were made for
        them.
        """
        return (_at(self, time(0.0)), _at(self, time(1.0))), np.stack([1 - ts, ts], -1)

    # -- training --------------------------------------------------------------------------

    def free(self) -> Any:
        """The pytree that `mcjax.fit` trains; the end points are never part of it."""
        raise ValueError(f"a {type(self).__name__} path has no free points to fit")

    def with_free(self, free: Any) -> Self:
        """The same path with other free points."""
        raise ValueError(f"a {type(self).__name__} path has no free points to fit")


@jax.jit  # one program instead of one for each operation and shape
def _at(path: Path, t: Any) -> Params:
    return path.at(t)


class Combination(Path):
    """A path that is a linear combination of fixed points: θ(t) = Σ_k c_k(t) θ_k.

    The evaluator uses this: what is linear in the parameters (a first layer on data) is computed
    once for each point instead of once for each t.
    """

    @abc.abstractmethod
    def basis(self) -> tuple[Params, ...]:
        """The points θ_k, all of the full shapes."""

    @abc.abstractmethod
    def coefficients(self, t: Any) -> tuple[jax.Array, ...]:
        """The c_k at a scalar t."""

    def at(self, t: Any) -> Params:
        return linear_combination(self.coefficients(t), self.basis())
