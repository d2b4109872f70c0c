"""`mcjax.connect`: one call for every method."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import jax
import numpy as np

from .. import _check, _check_model
from .._inputs import length
from .._static import unpack
from .._types import Params
from .._version import versions
from ..network.network import Network
from ..path import Path
from ..tasks import CLASSIFICATION, Task, require
from .named import method_of
from .problem import Connection, Problem, Traits, traits_of


@_check.on_host
def connect(
    network: Network,
    a: Params,
    b: Params,
    method: Any,
    *,
    x: Any = None,
    y: Any = None,
    key: jax.Array | None = None,
    task: Task = CLASSIFICATION,
) -> Connection:
    """Join two trained networks by a path, with a method of the literature or one of your own.

    Methods are objects of `mcjax.methods`, with their options; `mcjax.methods.PRESETS` has the
    papers' under short names:

    - `"linear"`, `Linear()`: the segment (anokhin2020, Eq. 5)
    - `"arc"`, `Arc()`: the arc around the mean neuron (Eq. 6)
    - `"ot"`, `OT(solver=Exact())`: the segment to B with its neurons transported to A's (Sec. 3.4)
    - `"linear+wa"`, `"arc+wa"`, `"ot+wa"`, `LayerByLayer(OT(), WeightAdjustment(points=11))`:
      layer by layer; what is written into a layer moves by the first method, what reads it is
      adjusted by least squares (Sec. 3.5 and 4)
    - `"linear+butterfly"`, `"arc+butterfly"`, `"ot+butterfly"`, `LayerByLayer(OT(), Butterfly())`:
      layer by layer, both move by the first method (Sec. 4.1)
    - `"garipov-3"`, `"garipov-5"`, `TrainedCurve(PolygonalChain, bends=3, protocol=…)`: chains
      with trained bends (Garipov et al. 2018)
    - `"bezier"`, `"bezier+alignment"`, `TrainedCurve(Bezier, align=ActivationMatching())`:
      trained quadratic Bézier curves, to B or to B aligned by activations (tatro2020, Alg. 2)
    - `"pam"`, `"pam+alignment"`, `Pam(…)`: permutation and curve in turn (tatro2020, App. E)
    - `"weight-matching"`, `WeightMatching(restarts=…)`: the segment to B aligned by its weights
      (Git Re-Basin)
    - `"weights-full"`, `WeightMatching(symmetry="full")`: by permutations, scales, signs and
      matrices, whatever the groups of the network are
    - `"activation-matching"`, `ActivationMatching(statistic=…)`: the segment to B aligned by
      activations (tatro2020, Alg. 1)
    - `"activations-full"`, `ActivationMatching(symmetry="full")`: by all that activations show of
      the groups
    - `"learned-full"`, `ActionLearning(align=…)`: the segment to B moved by an element of the whole
      group that the loss has taught, from `"weights-full"` on
    - `Flow(model)`: by a connection model of `mcjax.flows` (anokhin2020, Sec. 3.3)
    - `WithSwaps(method)`: the path of a method that permutes B's units, led back to B itself
    - any object with `connect(problem) -> Connection`: see `mcjax.methods.Method`

    **Arguments:**
    - `network`: `mcjax.trace(apply_fn, a, x)`
    - `a`, `b`: the two parameter trees
    - `method`: an object, or the name of a preset
    - `x`: inputs, for methods that look at activations; for weight adjustment the training
      inputs, more of them than a layer has units
    - `y`: labels of x, for methods that train
    - `key`: for random choices (default `jax.random.key(0)`)
    - `task`: what methods that train minimise

    **Returns:** a `Connection`: its `.path` is evaluated with `mcjax.evaluate`.

    **Raises:** `ValueError` for an unknown method, parameters that do not fit the network, NaN,
    inputs or labels that are missing.

        >>> import jax, jax.numpy as jnp, mcjax
        >>> f = lambda p, x: jax.nn.relu(x @ p["w1"]) @ p["w2"]
        >>> a = {"w1": jnp.eye(3), "w2": jnp.eye(3)}
        >>> b = {"w1": jnp.eye(3)[:, ::-1], "w2": jnp.eye(3)[::-1]}
        >>> network = mcjax.trace(f, a, jnp.ones((2, 3)))
        >>> made = mcjax.connect(network, a, b, "ot")
        >>> made.permutations["w1"].tolist(), bool(jnp.allclose(made.path(0.5)["w1"], a["w1"]))
        ([2, 1, 0], True)
        >>> from mcjax.methods import LayerByLayer, Linear, WeightAdjustment
        >>> method = LayerByLayer(Linear(), WeightAdjustment(points=3))
        >>> made = mcjax.connect(network, a, b, method, x=jnp.eye(3))
        >>> [state.rank for state in made.legs[0].layers["w2"]]
        [3, 2, 3]
    """
    _check_network(network, a, b, method)
    chosen = method_of(method)
    traits = traits_of(chosen)
    a, b = network.check_parameters(a=a, b=b)
    _check.same_structure(a, b)
    x = _inputs(network, traits, x, y)
    draws: jax.Array = _check.random_key(jax.random.key(0) if key is None else key)
    problem = Problem(network, unpack(a), unpack(b), x, y, draws, require(task))
    start = time.perf_counter()
    made = chosen.connect(problem)
    if not isinstance(made, Connection) or not isinstance(made.path, Path):
        got = made.path if isinstance(made, Connection) else made
        raise ValueError(
            f"{traits.label}: connect must return a mcjax.methods.Connection of a mcjax Path, got "
            f"a {type(got).__name__}; return Connection(path)"
        )
    return dataclasses.replace(
        made,
        method=chosen,
        network=network,
        metadata={
            **made.metadata,
            "label": traits.label,
            "method": repr(chosen),
            "source": traits.source,
            "form": network.form,
            "task": None if y is None else task.name,  # without labels nobody has asked it
            "examples": None if x is None else length(x),
            "key": np.asarray(_check.key_data(draws)).ravel().tolist(),
            "seconds": time.perf_counter() - start,
            **versions(),
        },
    )


def _check_network(network: Any, a: Any, b: Any, method: Any) -> None:
    order = "the order is mcjax.connect(network, a, b, method)"
    if not isinstance(network, Network) and any(isinstance(v, Network) for v in (a, b, method)):
        raise ValueError(f"network is a {type(network).__name__}; {order}")
    _check_model.network(network, "network")
    for name, tree in (("a", a), ("b", b)):
        if isinstance(tree, str | Network):
            raise ValueError(
                f"{name} must be a tree of parameters, got a {type(tree).__name__}; {order}"
            )


def _inputs(network: Network, traits: Traits, x: Any, y: Any) -> Any:
    """The inputs without marks; raise if the method needs what is not there."""
    if x is None:
        if traits.needs_inputs != "no":
            does = "trains" if traits.needs_labels else "looks at activations"
            raise ValueError(f"{traits.label} {does}: pass inputs as x=…")
    else:
        x = network.inputs(x)
        _check.batched(x, "x")
        if traits.needs_inputs != "no":
            _check.finite(x, "x")
    if traits.needs_labels:
        if y is None:
            raise ValueError(f"{traits.label} trains and needs labels: pass them as y=…")
        _check.labelled((x, y))
    return x


__all__ = ["connect"]
