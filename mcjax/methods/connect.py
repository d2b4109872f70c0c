"""Methods by name."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from .. import _check
from .._inputs import per_example
from .._types import Params
from ..align import Matching, match_activations, match_butterflies, match_weights
from ..network.network import Network
from ..path import Arc, Bezier, Legs, Linear, Path, PolygonalChain, Swaps
from ..training.curves import train_curve
from ..training.protocol import Protocol, tatro2020
from ..transport import Exact, Solver
from .arc import neuron_mean
from .layerwise import Layerwise, Leg

if TYPE_CHECKING:  # flowjax takes a while to import
    from ..flows import ConnectionModel


@dataclasses.dataclass(frozen=True)
class Problem:
    """Two networks to connect, and what a method may need for it; see `connect`."""

    network: Network
    a: Params
    b: Params
    x: Any
    key: jax.Array
    points: int
    solver: Solver
    y: Any
    protocol: Protocol | None
    model: ConnectionModel | None


@dataclasses.dataclass(frozen=True)
class Connection:
    """A path and how it came about.

    - `path`: from A to B, or to B with its units in another order
    - `permutations`: group name → index array; the path ends at
      `network.permute(permutations, b)` (empty: at B)
    - `legs`: rank and residual of every weight adjustment
    """

    path: Path
    permutations: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    legs: tuple[Leg, ...] = ()


@dataclasses.dataclass(frozen=True)
class Method:
    """A way to connect two networks.

    - `label`: the name a table shows
    - `build`: `Problem` → `Connection`
    - `inputs`: whether it looks at inputs: `"no"`, `"sample"` (some thousands are enough) or
      `"all"` (as many as there are)
    - `moves_end`: whether the path ends at B with its units permuted (the same function as B)
    - `source`: paper and section
    - `needs`: what else it needs: `"labels"` (it trains) or a connection `"model"`
    """

    label: str
    build: Callable[[Problem], Connection]
    source: str
    inputs: str = "no"
    moves_end: bool = False
    needs: str = ""


def _linear(problem: Problem) -> Connection:
    return Connection(Linear(problem.a, problem.b))


def _arc(problem: Problem) -> Connection:
    network, a, b = problem.network, problem.a, problem.b
    return Connection(Arc(a, b, mean=neuron_mean(network, a, b)))


def _aligned(match: Callable[[Problem], Any]) -> Callable[[Problem], Connection]:
    """The segment to B aligned by a matching."""

    def build(problem: Problem) -> Connection:
        permutations = match(problem).permutations
        moved = problem.network.permute(permutations, problem.b)
        return Connection(Linear(problem.a, moved), permutations)

    return build


def _layerwise(motion: str, adjusting: bool) -> Callable[[Problem], Connection]:
    def build(problem: Problem) -> Connection:
        p = problem
        steps = Layerwise(p.network, p.a, p.b, p.x, motion, adjusting, p.points, p.solver)
        path = steps.path()
        return Connection(path, steps.permutations, tuple(steps.status))

    return build


def _flow(name: str) -> Callable[[Problem], Connection]:
    def build(problem: Problem) -> Connection:
        model = problem.model
        if model is None or model.method != name:
            given = "none was given" if model is None else f"model is for {model.method!r}"
            raise ValueError(
                f"method {name!r} needs a connection model trained for it, and {given}: train one "
                "with mcjax.flows and pass it as model=…"
            )
        return Connection(model.connect(problem.network, problem.a, problem.b))

    return build


def _trained(
    curve: type[Bezier] | type[PolygonalChain], bends: int, default: Protocol, align: bool = False
) -> Callable[[Problem], Connection]:
    """A curve with free points, trained from the segment (to B aligned by activations)."""

    def build(problem: Problem) -> Connection:
        p = problem
        if p.y is None:
            raise ValueError("a trained curve needs labels: pass them as y=…")
        permutations = _by_activations(p).permutations if align else {}
        moved = p.network.permute(permutations, p.b)
        protocol = default if p.protocol is None else p.protocol
        start = curve.between(p.a, moved, bends)
        fitted = train_curve(start, p.network.apply_fn, (p.x, p.y), protocol, key=p.key)
        return Connection(fitted.path, permutations)

    return build


def _by_activations(problem: Problem) -> Matching:
    # tatro2020 aligns on the first 10,000 training images.
    sample = per_example(lambda v: v[:10_000], problem.x)
    return match_activations(problem.network, problem.a, problem.b, sample)


METHODS: dict[str, Method] = {
    "linear": Method("Linear", _linear, "anokhin2020, Eq. 5"),
    "arc": Method("Arc", _arc, "anokhin2020, Eq. 6"),
    "ot": Method(
        "OT",
        _aligned(lambda p: match_butterflies(p.network, p.a, p.b, solver=p.solver)),
        "anokhin2020, Sec. 3.4",
        moves_end=True,
    ),
    **{
        f"{motion}+{how}": Method(
            f"{label} + {suffix}",
            _layerwise(motion, how == "wa"),
            f"anokhin2020, {section}",
            inputs="all",
            moves_end=motion == "ot",
        )
        for how, suffix, section in (("butterfly", "B-fly", "Sec. 4.1"), ("wa", "WA", "Sec. 3.5"))
        for motion, label in (("linear", "Linear"), ("arc", "Arc"), ("ot", "OT"))
    },
    **{
        f"garipov-{bends + 2}": Method(
            f"Garipov ({bends + 2})",
            _trained(PolygonalChain, bends, Protocol(epochs=60)),
            "Garipov et al. 2018",
            inputs="all",
            needs="labels",
        )
        for bends in (1, 3)
    },
    **{
        name: Method(
            label,
            _trained(Bezier, 1, tatro2020(learning_rate=0.01), aligned),
            "tatro2020, Alg. 2",
            inputs="all",
            moves_end=aligned,
            needs="labels",
        )
        for name, label, aligned in (
            ("bezier", "Bézier", False),
            ("bezier+alignment", "Bézier, aligned", True),
        )
    },
    **{
        name: Method(label, _flow(name), "anokhin2020, Sec. 3.3", needs="model")
        for name, label in (
            ("iaf-flow", "IAF flow"),
            ("realnvp-flow", "RealNVP flow"),
            ("realnvp-bijection", "RealNVP bijection"),
        )
    },
    "weight-matching": Method(
        "Weight matching",
        _aligned(lambda p: match_weights(p.network, p.a, p.b, key=p.key)),
        "Ainsworth et al. 2023, Alg. 1",
        moves_end=True,
    ),
    "activation-matching": Method(
        "Activation matching",
        _aligned(_by_activations),
        "tatro2020, Alg. 1",
        inputs="sample",
        moves_end=True,
    ),
}


def connect(
    method: str,
    network: Network,
    a: Params,
    b: Params,
    *,
    x: Any = None,
    y: Any = None,
    key: jax.Array | None = None,
    points: int = 11,
    solver: Solver = Exact(),
    swaps: bool = False,
    protocol: Protocol | None = None,
    model: ConnectionModel | None = None,
) -> Path:
    """Join two trained networks by a path, with a method of the literature.

    - `"linear"`: the segment (anokhin2020, Eq. 5)
    - `"arc"`: the arc around the mean neuron (Eq. 6)
    - `"ot"`: the segment to B with its neurons transported to A's (Sec. 3.4)
    - `"linear+wa"`, `"arc+wa"`, `"ot+wa"`: layer by layer; what is written into a layer moves by
      the first method, what reads it is adjusted by least squares (Sec. 3.5 and 4)
    - `"linear+butterfly"`, `"arc+butterfly"`, `"ot+butterfly"`: layer by layer, both move by the
      first method (Sec. 4.1); for one hidden layer the same as the method without
    - `"garipov-3"`, `"garipov-5"`: chains with one and three trained bends (Garipov et al. 2018)
    - `"bezier"`, `"bezier+alignment"`: trained quadratic Bézier curves, to B or to B aligned by
      activations (tatro2020, Alg. 2)
    - `"iaf-flow"`, `"realnvp-flow"`, `"realnvp-bijection"`: by a connection model of
      `mcjax.flows` (Sec. 3.3)
    - `"weight-matching"`: the segment to B aligned by its weights (Git Re-Basin)
    - `"activation-matching"`: the segment to B aligned by activations (tatro2020, Alg. 1)

    With `"ot…"` and the matchings the path ends at B with its units in another order, the same
    function as B, unless `swaps` brings them back.

    **Arguments:**
    - `method`: a name in `mcjax.methods.METHODS`
    - `network`: `mcjax.trace(apply_fn, a, x)`
    - `a`, `b`: the two parameter trees
    - `x`: inputs, for methods that look at activations; for weight adjustment the training
      inputs, more of them than a layer has units
    - `y`: labels of x, for methods that train
    - `key`: for methods with random choices
    - `points`: number of t of a leg at which weights are adjusted
    - `solver`: of transport, `mcjax.transport.Exact()` or `mcjax.transport.Sinkhorn(epsilon=…)`
    - `swaps`: end exactly at B, by the swap stage `mcjax.path.Swaps` as the last leg
    - `protocol`: of methods that train; default: the paper's (chains 60 epochs of anokhin2020's
      SGD, Bézier curves 250 of tatro2020's)
    - `model`: for methods that need a connection model

    **Returns:** a `Path`; evaluate it with `mcjax.evaluate`. `mcjax.methods.construct` returns
    the permutations and the state of each weight adjustment besides.

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
    return construct(
        method, network, a, b, x=x, y=y, key=key, points=points, solver=solver, swaps=swaps,
        protocol=protocol, model=model,
    ).path  # fmt: skip


def construct(
    method: str,
    network: Network,
    a: Params,
    b: Params,
    *,
    x: Any = None,
    y: Any = None,
    key: jax.Array | None = None,
    points: int = 11,
    solver: Solver = Exact(),
    swaps: bool = False,
    protocol: Protocol | None = None,
    model: ConnectionModel | None = None,
) -> Connection:
    """`connect`, with how the path came about: see there for the arguments.

    **Returns:** a `Connection`.

        >>> import jax, jax.numpy as jnp, mcjax
        >>> f = lambda p, x: jax.nn.relu(x @ p["w1"]) @ p["w2"]
        >>> a, b = ({"w1": s * jnp.eye(3), "w2": jnp.ones((3, 2))} for s in (1., 2.))
        >>> network = mcjax.trace(f, a, jnp.ones((2, 3)))
        >>> made = mcjax.methods.construct("linear+wa", network, a, b, x=jnp.eye(3), points=3)
        >>> [s.rank for s in made.legs[0].layers["w2"]]
        [3, 3, 3]
    """
    _check.one_of(method, tuple(METHODS), "method")
    a, b = network.check_parameters(a=a, b=b)
    _check.same_structure(a, b)
    recipe = METHODS[method]
    if recipe.inputs != "no":
        if x is None:
            raise ValueError(f"method {method!r} looks at activations: pass inputs as x=…")
        x = network.inputs(x)
        _check.batched(x, "x")
        _check.finite(x, "x")
    if _check.positive(points, "points") < 2:
        raise ValueError("points must be at least 2: both ends of a leg")
    key = jax.random.key(0) if key is None else key
    made = recipe.build(Problem(network, a, b, x, key, points, solver, y, protocol, model))
    moved = any((p != np.arange(p.shape[-1])).any() for p in made.permutations.values())
    if not (swaps and moved):
        return made
    stage = Swaps(network, b, made.permutations)
    return dataclasses.replace(made, path=Legs([made.path, stage]), permutations={})
