"""Methods by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax

from .. import _check
from .._types import Params
from ..align import match_activations, match_butterflies, match_weights
from ..network.network import Network
from ..path import Arc, Linear, Path
from .arc import neuron_mean


@dataclasses.dataclass(frozen=True)
class Method:
    """A way to connect two networks.

    - `label`: the name a table shows
    - `build`: (network, a, b, x, key) → path
    - `needs_data`: whether it looks at inputs
    - `moves_end`: whether the path ends at B with its units permuted (the same function as B)
    - `source`: paper and section
    """

    label: str
    build: Callable[[Network, Params, Params, Any, jax.Array], Path]
    needs_data: bool
    moves_end: bool
    source: str


def _linear(network: Network, a: Params, b: Params, x: Any, key: jax.Array) -> Path:
    return Linear(a, b)


def _arc(network: Network, a: Params, b: Params, x: Any, key: jax.Array) -> Path:
    return Arc(a, b, mean=neuron_mean(network, a, b))


def _transport(network: Network, a: Params, b: Params, x: Any, key: jax.Array) -> Path:
    return Linear(a, network.permute(match_butterflies(network, a, b).permutations, b))


def _weights(network: Network, a: Params, b: Params, x: Any, key: jax.Array) -> Path:
    return Linear(a, network.permute(match_weights(network, a, b, key=key).permutations, b))


def _activations(network: Network, a: Params, b: Params, x: Any, key: jax.Array) -> Path:
    return Linear(a, network.permute(match_activations(network, a, b, x).permutations, b))


METHODS: dict[str, Method] = {
    "linear": Method("Linear", _linear, False, False, "anokhin2020, Eq. 5"),
    "arc": Method("Arc", _arc, False, False, "anokhin2020, Eq. 6"),
    "ot": Method("OT", _transport, False, True, "anokhin2020, Sec. 3.4"),
    "weight-matching": Method(
        "Weight matching", _weights, False, True, "Ainsworth et al. 2023, Alg. 1"
    ),
    "activation-matching": Method(
        "Activation matching", _activations, True, True, "tatro2020, Alg. 1"
    ),
}


def connect(
    method: str,
    network: Network,
    a: Params,
    b: Params,
    *,
    x: Any = None,
    key: jax.Array | None = None,
) -> Path:
    """Join two trained networks by a path, with a method of the literature.

    - `"linear"`: the segment (anokhin2020, Eq. 5)
    - `"arc"`: the arc around the mean neuron (Eq. 6)
    - `"ot"`: the segment to B with its neurons transported to A's (Sec. 3.4, first stage)
    - `"weight-matching"`: the segment to B aligned by its weights (Git Re-Basin)
    - `"activation-matching"`: the segment to B aligned by activations (tatro2020, Alg. 1)

    The last three end at `path(1.0)`, which is B with its units in another order: the same
    function as B.

    **Arguments:**
    - `method`: a name in `mcjax.recipes.METHODS`
    - `network`: `mcjax.trace(apply_fn, a, x)`
    - `a`, `b`: the two parameter trees
    - `x`: inputs, for methods that look at activations
    - `key`: for methods with random choices

    **Returns:** a `Path`; evaluate it with `mcjax.evaluate`.

    **Raises:** `ValueError` for an unknown method, parameters that do not fit the network, NaN,
    or inputs that are missing.

        >>> import jax, jax.numpy as jnp, mcjax
        >>> f = lambda p, x: jax.nn.relu(x @ p["w1"]) @ p["w2"]
        >>> a = {"w1": jnp.eye(3), "w2": jnp.eye(3)}
        >>> b = {"w1": jnp.eye(3)[:, ::-1], "w2": jnp.eye(3)[::-1]}
        >>> path = mcjax.connect("ot", mcjax.trace(f, a, jnp.ones((2, 3))), a, b)
        >>> bool(jnp.allclose(path(0.5)["w1"], a["w1"]))
        True
    """
    _check.one_of(method, tuple(METHODS), "method")
    network.check_parameters(a=a, b=b)
    _check.same_structure(a, b)
    recipe = METHODS[method]
    if recipe.needs_data and x is None:
        raise ValueError(f"method {method!r} looks at activations: pass inputs as x=…")
    return recipe.build(network, a, b, x, jax.random.key(0) if key is None else key)
