"""The contract of methods."""

from __future__ import annotations

import copy
from typing import Any

import jax
import numpy as np

from .. import methods
from .._static import pack
from .._types import Params
from ..methods import Connection
from ..network import Network
from ..tasks import CLASSIFICATION, Task
from ._require import require, require_equal, require_same, require_value

_INSIDE = (0.137, 0.713)


def check_method(
    method: Any,
    network: Network,
    a: Params,
    b: Params,
    *,
    x: Any = None,
    y: Any = None,
    key: jax.Array | None = None,
    task: Task = CLASSIFICATION,
) -> None:
    """Raise `AssertionError` unless a method keeps the contract of `mcjax.methods.Method`.

    - a value: nothing can be set, a copy looks alike, is equal (unless its class compares by
      identity) and hashes alike; connecting leaves it as it is, and `a` and `b` too
    - `mcjax.connect` takes it, with no more than it says it needs: x if `needs_inputs`, y if
      `needs_labels`
    - the path begins at A and ends at B, to the bit: at `connection.action(b)` if `moves_end`,
      else at b itself; structure, shapes and dtypes are theirs everywhere
    - the same key gives the same path, order of units and status

    The path's own contract is `check_path(connection.path, a, connection.action(b))`.

    **Arguments:** those of `mcjax.connect`; both networks, x and y can be small, a method is
    asked twice.

        >>> import dataclasses, jax, jax.numpy as jnp, mcjax
        >>> @dataclasses.dataclass(frozen=True)
        ... class Detour:
        ...     scale: float = 0.0
        ...
        ...     def connect(self, problem):
        ...         middle = jax.tree.map(lambda v: self.scale * v, problem.a)
        ...         points = [problem.a, middle, problem.b]
        ...         return mcjax.methods.Connection(mcjax.path.PolygonalChain(points))
        >>> f = lambda p, x: jax.nn.relu(x @ p["w1"]) @ p["w2"]
        >>> a, b = ({"w1": s * jnp.eye(3), "w2": jnp.ones((3, 2))} for s in (1., 2.))
        >>> network = mcjax.trace(f, a, jnp.ones((2, 3)))
        >>> mcjax.testing.check_method(Detour(0.5), network, a, b)
    """
    traits = methods.traits_of(method)
    before, ends = copy.copy(method), jax.tree.map(np.array, pack((a, b)))
    require_value(method, before, "method")
    given: dict[str, Any] = {"x": x} if traits.needs_inputs != "no" else {}
    given |= {"y": y} if traits.needs_labels else {}

    def connect() -> Connection:
        return methods.connect(network, a, b, method, key=key, task=task, **given)

    made, again = connect(), connect()
    require_same(jax.tree.map(np.asarray, pack((a, b))), ends, "a and b after connecting")
    require_equal(method, before, "the method after connecting")
    named = made.permutations or made.elements
    require(traits.moves_end or not named, "moves_end is False, and the result moves units of B")
    end = made.action(b) if named else b
    for t, point in ((0.0, a), (1.0, end)):
        require_same(made.path(t), point, f"the path at t = {t:g}")
    require(isinstance(made.status, str) and made.status, "the status must be a word or more")
    for t in _INSIDE:
        point = made.path(t)
        types = [jax.tree.map(lambda v: (v.shape, v.dtype), pack(p)) for p in (point, made.path(0))]
        require(types[0] == types[1], f"the path at t = {t:g} differs in type from its beginning")
        require_same(again.path(t), point, f"the same key, the path at t = {t:g}")
    for name in ("permutations", "elements"):
        first, second = ({**getattr(c, name)} for c in (made, again))
        require_same(second, first, f"the same key, {name}")
    require(again.status == made.status, f"the same key: {made.status!r}, then {again.status!r}")
