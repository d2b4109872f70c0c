"""Paths that combine fixed points linearly: segment, arc, Bézier curve, polygonal chain."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar, Self

import jax
import jax.numpy as jnp
import numpy as np

from .. import _check
from .._static import pack
from .._tree import is_inexact, named_leaves
from .._types import Params
from ._base import Combination, Path, time


class Linear(Path):
    """The segment θ(t) = (1 − t) θ_A + t θ_B (anokhin2020, Eq. 5).

    **Arguments:**
    - `a`, `b`: parameters of the same structure, shapes and dtypes, all finite

    **Raises:** `ValueError` naming the leaf that differs or is not finite.

        >>> import jax.numpy as jnp, mcjax
        >>> mcjax.path.Linear({"w": jnp.zeros(2)}, {"w": jnp.ones(2)})(0.25)["w"].tolist()
        [0.25, 0.25]
    """

    a: Params
    b: Params

    def __init__(self, a: Params, b: Params) -> None:
        self._set(a=a, b=b)
        _check_points((a, b), ("a", "b"))

    def linear(self) -> Combination:
        return Combination((self.a, self.b), lambda t: (1 - time(t), time(t)))


class Arc(Path):
    """θ(t) = µ + cos(π/2 t) (θ_A − µ) + sin(π/2 t) (θ_B − µ) (anokhin2020, Eq. 6, Prop. 1).

    It keeps the covariance of neurons that are independent and Gaussian around µ, where the
    segment shrinks it.

    **Arguments:**
    - `a`, `b`: end points
    - `mean`: µ, a pytree whose leaves broadcast to those of `a`, or None for µ = 0.
      `mcjax.methods.Arc()` takes the mean over the neurons of both networks, as the paper.

    **Raises:** `ValueError` naming the leaf that differs, is not finite or does not broadcast.

        >>> import jax.numpy as jnp, mcjax
        >>> arc = mcjax.path.Arc({"w": jnp.array([1., 0.])}, {"w": jnp.array([0., 1.])})
        >>> bool(jnp.allclose(jnp.linalg.norm(arc(0.5)["w"]), 1.0))
        True
    """

    a: Params
    b: Params
    mean: Params | None

    def __init__(self, a: Params, b: Params, mean: Params | None = None) -> None:
        self._set(a=a, b=b, mean=mean)
        _check_points((a, b), ("a", "b"))
        if mean is not None:
            mean, a = pack(mean, "mean"), pack(a, "a")
            if jax.tree.structure(mean) != jax.tree.structure(a):
                raise ValueError("mean has a different structure than a")
            _check.finite(mean, "mean")
            for (name, x), m in zip(named_leaves(a), jax.tree.leaves(mean), strict=True):
                if np.broadcast_shapes(np.shape(x), np.shape(m)) != np.shape(x):
                    raise ValueError(
                        f"mean: leaf {name!r} of shape {np.shape(m)} does not broadcast to "
                        f"{np.shape(x)}"
                    )

    def linear(self) -> Combination:
        if self.mean is None:
            return Combination((self.a, self.b), _cosine_and_sine)
        full = jax.tree.map(
            lambda m, x: jnp.broadcast_to(jnp.asarray(m, x.dtype), x.shape) if is_inexact(x) else x,
            self.mean,
            self.a,
        )

        def coefficients(t: Any) -> tuple[jax.Array, ...]:
            cosine, sine = _cosine_and_sine(t)
            return cosine, sine, 1 - cosine - sine

        return Combination((self.a, self.b, full), coefficients)


def _cosine_and_sine(t: Any) -> tuple[jax.Array, jax.Array]:
    # cos(π/2 t) = sin(π/2 (1 − t)) is exactly 0 at t = 1, so the end is exactly B.
    t = time(t)
    return jnp.sin(jnp.pi / 2 * (1 - t)), jnp.sin(jnp.pi / 2 * t)


class _Curve(Path, abstract=True):
    """A curve given by its points, of which the inner ones are free."""

    points: tuple[Params, ...]
    least: ClassVar[int] = 2

    def __init__(self, points: Sequence[Params]) -> None:
        points = tuple(points)
        if len(points) < self.least:
            raise ValueError(
                f"points: a {type(self).__name__} needs at least {self.least} points, "
                f"got {len(points)}"
            )
        self._set(points=points)
        _check_points(points, tuple(f"points[{i}]" for i in range(len(points))))

    def linear(self) -> Combination:
        return Combination(self.points, self._coefficients)

    def _coefficients(self, t: Any) -> tuple[jax.Array, ...]:
        """The weight of each point at t."""
        raise NotImplementedError

    def free(self) -> tuple[Params, ...]:
        """The inner points, with None for leaves that are not floating-point."""
        if len(self.points) < 3:
            raise ValueError(f"a {type(self).__name__} of two points has no free points to fit")
        return jax.tree.map(lambda v: v if is_inexact(v) else None, self.points[1:-1])

    def with_free(self, free: Any) -> Self:
        inner = jax.tree.map(
            lambda new, old: old if new is None else new,
            free, self.points[1:-1], is_leaf=lambda v: v is None,
        )  # fmt: skip
        return self._with(points=(self.points[0], *inner, self.points[-1]))

    @classmethod
    def between(cls, a: Params, b: Params, bends: int = 1) -> Self:
        """A curve from a to b whose `bends` free points stand evenly on the segment."""
        if bends < 1:
            raise ValueError(f"bends must be at least 1, got {bends}")
        line = Linear(a, b)
        return cls([line.at(i / (bends + 1)) for i in range(bends + 2)])


class Bezier(_Curve):
    """θ(t) = Σ_k C(n, k) (1 − t)^(n−k) t^k θ_k (tatro2020, App. B; Garipov et al. 2018).

    **Arguments:**
    - `points`: n + 1 ≥ 2 parameter trees; the first and the last are the end points

    **Raises:** `ValueError` naming the point and leaf that differ.

        >>> import jax.numpy as jnp, mcjax
        >>> a, c, b = ({"w": jnp.array(v)} for v in (0., 1., 0.))
        >>> float(mcjax.path.Bezier([a, c, b])(0.5)["w"])
        0.5
    """

    def _coefficients(self, t: Any) -> tuple[jax.Array, ...]:
        t, n = time(t), len(self.points) - 1
        return tuple(math.comb(n, k) * (1 - t) ** (n - k) * t**k for k in range(n + 1))


class PolygonalChain(_Curve):
    """Straight legs through the points, each of the same length in t (Garipov et al. 2018).

    θ(t) = Σ_k max(0, 1 − |n t − k|) θ_k with n legs; anokhin2020's "Garipov (3)" and "(5)" count
    the points. For a traced t beyond [0, 1], which cannot be refused, the weights go to zero.

    **Arguments:**
    - `points`: n + 1 ≥ 2 parameter trees

    **Raises:** `ValueError` naming the point and leaf that differ.

        >>> import jax.numpy as jnp, mcjax
        >>> a, c, b = ({"w": jnp.array(v)} for v in (0., 1., 0.))
        >>> float(mcjax.path.PolygonalChain([a, c, b])(0.75)["w"])
        0.5
    """

    def _coefficients(self, t: Any) -> tuple[jax.Array, ...]:
        t, n = time(t), len(self.points) - 1
        return tuple(jnp.maximum(0, 1 - jnp.abs(n * t - k)) for k in range(n + 1))


def _check_points(points: Sequence[Params], names: Sequence[str]) -> None:
    for point, name in zip(points, names, strict=True):
        _check.parameters(point, name)
        _check.same_structure(points[0], point, names=(names[0], name))
