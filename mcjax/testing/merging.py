"""The contract of merging methods."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from .. import merge
from .._static import pack
from .._types import Params
from ..network import Network
from ..tasks import CLASSIFICATION, Task
from ._require import require, require_equal, require_same, require_value


def check_merging(
    method: Any,
    network: Network,
    networks: Sequence[Params],
    *,
    base: Params | None = None,
    x: Any = None,
    y: Any = None,
    key: jax.Array | None = None,
    task: Task = CLASSIFICATION,
) -> None:
    """Raise `AssertionError` unless a method keeps the contract of `mcjax.merge.Method`.

    - a value: nothing can be set, a copy looks alike, is equal (unless its class compares by
      identity) and hashes alike; merging leaves it as it is, and the networks and the base too
    - `mcjax.merge.merge` takes it, with no more than it says it needs: the base if `needs_base`, x
      if `needs_inputs`, y if `needs_labels`, two networks if `pairs_only`
    - structure, shapes and dtypes of the result are the networks'; nothing in it is NaN
    - the same key gives the same network

    **Arguments:** those of `mcjax.merge.merge`; networks, x and y can be small, a method is asked
    twice.

        >>> import jax, jax.numpy as jnp, mcjax
        >>> def largest(problem):
        ...     return problem.leafwise(lambda number, theta, base: theta.max(0))
        >>> f = lambda p, x: jax.nn.relu(x @ p["w1"]) @ p["w2"]
        >>> a, b = ({"w1": s * jnp.eye(3), "w2": jnp.ones((3, 2))} for s in (1., 2.))
        >>> network = mcjax.trace(f, a, jnp.ones((2, 3)))
        >>> mcjax.testing.check_merging(largest, network, [a, b])
    """
    traits = merge.traits_of(method)
    networks = list(networks)[: 2 if traits.pairs_only else None]
    before, given = copy.copy(method), jax.tree.map(np.array, pack((networks, base)))
    require_value(method, before, "method")
    asked: dict[str, Any] = {"base": base} if traits.needs_base else {}
    asked |= {"x": x} if traits.needs_inputs else {}
    asked |= {"x": x, "y": y} if traits.needs_labels else {}
    made, again = (
        merge.merge(network, networks, method, key=key, task=task, **asked) for _ in range(2)
    )
    after = jax.tree.map(np.array, pack((networks, base)))
    require_same(after, given, "networks and base after merging")
    require_equal(method, before, "the method after merging")
    types = [jax.tree.map(lambda v: (v.shape, v.dtype), pack(p))
             for p in (made.params, networks[0])]  # fmt: skip
    require(types[0] == types[1], f"the merged network is of types {types[0]}, not {types[1]}")
    require_same(again.params, made.params, "the same key, the merged network")


__all__ = ["check_merging"]
