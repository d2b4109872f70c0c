"""The plane through three networks: loss and accuracy on it, and paths drawn on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from .. import _check
from .._static import pack
from .._tree import inner_product, linear_combination
from .._types import ApplyFn, Params
from ..network.batch_norm import without
from ..network.network import Network
from ..path import Combination, Family, Path, static
from ..tasks import CLASSIFICATION, Task
from .along import Settings, evaluated
from .surface import Surface

# Sine of the smallest angle between the sides of the triangle that counts as a plane.
_COLLINEAR = 1e-4


class Plane(Family):
    """The plane through three networks, with an orthonormal frame (tatro2020, Fig. 3).

    A family: coordinates (x, y) ↦ parameters, at origin + x · first + y · second.

    Made by `Plane.through(a, b, c)`: the origin is at a, the first axis points to b, the second
    is what Gram–Schmidt leaves of c − a.

    - `origin`, `first`, `second`: parameter trees
    - `corners`: (3, 2) coordinates of a, b and c
    - `statistics`: numbers of leaves that are carried along, but do not count as coordinates
    """

    origin: Params
    first: Params
    second: Params
    corners: np.ndarray
    statistics: frozenset[int] = static(default=frozenset())

    def linear(self) -> Combination:
        points = self.origin, self.first, self.second
        return Combination(points, lambda c: (jnp.ones_like(c[0]), c[0], c[1]))

    def mixture(self, coordinates: Any) -> tuple[Sequence[Params], np.ndarray]:
        """Of the three networks; outside their triangle as at its rim, so no weight is negative."""
        corners = np.asarray(self.corners, np.float64)
        sides = [np.vstack([v.T, np.ones(len(v))]) for v in (corners, np.asarray(coordinates))]
        weights = np.maximum(np.linalg.solve(*sides).T, 0)
        points = self.origin, self.first, self.second
        networks = [linear_combination((1.0, x, y), points) for x, y in corners]
        return networks, weights / weights.sum(-1, keepdims=True)

    @classmethod
    @_check.on_host
    def through(cls, a: Params, b: Params, c: Params, *, network: Network | None = None) -> Plane:
        """The plane through a, b and c.

        **Arguments:**
        - `network`: traced; its statistics of batch normalisation are carried along, but do not
          count as coordinates. Default: every leaf counts

        **Raises:** `ValueError` if the trees differ in structure, or the points are collinear.

            >>> import jax.numpy as jnp
            >>> from mcjax.evaluation import Plane
            >>> a, b, c = ({"w": jnp.array(v)} for v in ([0.0, 0], [2.0, 0], [1.0, 3]))
            >>> Plane.through(a, b, c).corners.tolist()
            [[0.0, 0.0], [2.0, 0.0], [1.0, 3.0]]
        """
        a, b, c = (_check.parameters(tree, name) for tree, name in zip((a, b, c), "abc"))
        for tree, name in ((b, "b"), (c, "c")):
            _check.same_structure(a, tree, names=("a", name))
        statistics = frozenset() if network is None else network.normalisations.leaves
        to_b, to_c = (linear_combination((1.0, -1.0), (p, a)) for p in (b, c))
        width, side = (_norm(p, statistics) for p in (to_b, to_c))
        if width == 0 or side == 0:
            raise ValueError("the plane needs three different points: b or c equals a")
        first = linear_combination((1 / width,), (to_b,))
        along = _dot(to_c, first, statistics)
        rest = linear_combination((1.0, -along), (to_c, first))
        # Once more: what rounding has left along the first axis.
        rest = linear_combination((1.0, -_dot(rest, first, statistics)), (rest, first))
        height = _norm(rest, statistics)
        if height < _COLLINEAR * side:
            raise ValueError("a, b and c lie on one line: there is no plane through them")
        second = linear_combination((1 / height,), (rest,))
        corners = np.array([[0, 0], [width, 0], [along, height]])
        return cls(a, first, second, corners, statistics)

    def point(self, x: float, y: float) -> Params:
        """The parameters at coordinates (x, y)."""
        return self(np.array([x, y]))

    def coordinates(self, params: Params) -> np.ndarray:
        """(x, y) of the foot of the perpendicular from a network onto the plane."""
        _check.same_structure(self.origin, params, names=("the plane's networks", "params"))
        offset = linear_combination((1.0, -1.0), (pack(params), self.origin))
        return np.array([_dot(offset, v, self.statistics) for v in (self.first, self.second)])

    def coordinates_along(self, path: Path, points: int = 61) -> np.ndarray:
        """(points, 2) coordinates of a path, to draw it."""
        return np.array([self.coordinates(path(t)) for t in np.linspace(0, 1, points)])


def _dot(a: Params, b: Params, statistics: frozenset[int]) -> float:
    return float(inner_product(without(statistics, a), without(statistics, b)))


def _norm(a: Params, statistics: frozenset[int]) -> float:
    return float(np.sqrt(_dot(a, a, statistics)))


@_check.on_host
def evaluate_plane(
    plane: Plane,
    model: ApplyFn | Network,
    data: Any,
    size: int = 17,
    *,
    margin: float = 0.2,
    task: Task = CLASSIFICATION,
    statistics: Any = None,
    mesh: Mesh | None = None,
    chunk: int = 500,
) -> Surface:
    """Metrics of the networks on a grid of a plane, each over the whole data set.

    As `mcjax.evaluate` along a path: batched, sharded over a mesh, and what is linear in the
    parameters computed three times in all. Statistics of batch normalisation are by default the
    three networks' own, mixed by barycentric coordinates (outside the triangle as at its rim).

    **Arguments:**
    - `size`: points a side, at least 2
    - `margin`: how far the grid reaches beyond the triangle, in parts of its longer side
    - others as in `mcjax.evaluate`

    **Returns:** a `Surface`.

    **Raises:** `ValueError` for a size below 2, and as `mcjax.evaluate`.

        >>> import jax.numpy as jnp
        >>> from mcjax.evaluation import Plane, evaluate_plane
        >>> f = lambda p, x: x @ p["w"]
        >>> a, b, c = ({"w": m} for m in (jnp.eye(2), -jnp.eye(2), jnp.ones((2, 2))))
        >>> surface = evaluate_plane(
        ...     Plane.through(a, b, c), f, (jnp.eye(2), jnp.array([0, 1])), size=2, margin=0.0)
        >>> surface.values["accuracy"][0].tolist()
        [1.0, 0.0]
    """
    if not isinstance(plane, Plane):
        raise ValueError(
            f"plane must be a mcjax.evaluation.Plane, as Plane.through(a, b, c); got a "
            f"{type(plane).__name__}"
        )
    if _check.positive(size, "size") < 2:
        raise ValueError("size must be at least 2")
    low, high = plane.corners.min(0), plane.corners.max(0)
    around = margin * (high - low).max()
    low, high = low - around, high + around
    x, y = (np.linspace(low[i], high[i], size) for i in (0, 1))
    places = np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)
    found, metadata = evaluated(
        plane, model, data, places.astype(jnp.result_type(float)),
        Settings(task, statistics, mesh=mesh, chunk=chunk),
        where=lambda i: f"(x, y) = {places[i]}",
    )  # fmt: skip
    values = {k: v.reshape(size, size) for k, v in found.values.items()}
    return Surface(x, y, values, plane.corners, task, metadata)
