"""Every path there is, for the contract tests: add a new one here and it inherits them all."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

import mcjax
from mcjax.path import (
    Arc,
    Bezier,
    Knots,
    Legs,
    Linear,
    Partial,
    Path,
    PolygonalChain,
    Swaps,
    Transported,
)


def tree(seed: int, dtype=jnp.float32):
    rng = np.random.default_rng(seed)
    return {
        "layer": {"w": jnp.asarray(rng.normal(size=(3, 4)), dtype), "b": jnp.asarray(
            rng.normal(size=4), dtype)},
        "list": [jnp.asarray(rng.normal(size=()), dtype), jnp.asarray(7, jnp.int32)],
    }  # fmt: skip


def mean(dtype=jnp.float32):
    """Broadcasts to the leaves of `tree`."""
    return {
        "layer": {"w": jnp.full((3, 1), 0.5, dtype), "b": jnp.asarray(0.25, dtype)},
        "list": [jnp.asarray(0.1, dtype), jnp.asarray(7, jnp.int32)],
    }


def partial(dtype=jnp.float32) -> Path:
    """Every leaf that differs moves, in two parts."""
    a, b = (jax.tree.leaves(tree(k, dtype)) for k in (0, 1))
    return Partial(
        tree(0, dtype),
        [((1, 0), Arc([a[1], a[0]], [b[1], b[0]])), ((2,), Knots([jnp.stack([a[2], b[2]])]))],
    )


def network_of(params, dtype):
    """A network with four hidden units whose parameters are a `tree`."""

    def apply_fn(p, x):
        hidden = jnp.tanh(x @ p["layer"]["w"] + p["layer"]["b"])
        return jnp.sum(hidden, -1) * p["list"][0]

    return mcjax.trace(apply_fn, params, jnp.ones((2, 3), dtype))


def swaps(dtype=jnp.float32) -> Path:
    """A segment to the end with its units rotated, then swap by swap to the end."""
    a, b = tree(0, dtype), tree(1, dtype)
    network = network_of(b, dtype)
    (name,) = network.groups
    rotation = {name: np.array([1, 2, 3, 0])}
    return Legs([Linear(a, network.permute(rotation, b)), Swaps(network, b, rotation)])


def transported(dtype=jnp.float32) -> Path:
    """A bent curve whose end is mixed by the identity."""
    a, b = tree(0, dtype), tree(1, dtype)
    network = network_of(b, dtype)
    return Transported(
        network, a, b, mcjax.Action.identity(network).matrices(), bump=tree(2, dtype)
    )


# name → (dtype → path whose ends are tree(0) and tree(1))
def stacked(trees):
    """Points as one tree, with a leading axis."""
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


PATHS: dict[str, Callable[..., Path]] = {
    "linear": lambda d=jnp.float32: Linear(tree(0, d), tree(1, d)),
    "arc": lambda d=jnp.float32: Arc(tree(0, d), tree(1, d)),
    "arc-mean": lambda d=jnp.float32: Arc(tree(0, d), tree(1, d), mean=mean(d)),
    "bezier-2": lambda d=jnp.float32: Bezier([tree(0, d), tree(1, d)]),
    "bezier-3": lambda d=jnp.float32: Bezier([tree(0, d), tree(2, d), tree(1, d)]),
    "bezier-5": lambda d=jnp.float32: Bezier([tree(k, d) for k in (0, 2, 3, 4, 1)]),
    "chain-2": lambda d=jnp.float32: PolygonalChain([tree(0, d), tree(1, d)]),
    "chain-3": lambda d=jnp.float32: PolygonalChain([tree(0, d), tree(2, d), tree(1, d)]),
    "knots": lambda d=jnp.float32: Knots(stacked([tree(k, d) for k in (0, 2, 3, 1)])),
    "knots-of": lambda d=jnp.float32: Knots.of(
        Bezier([tree(k, d) for k in (0, 2, 1)]), [0, 0.45, 1]
    ),
    "partial": partial,
    "legs": lambda d=jnp.float32: Legs(
        [Linear(tree(0, d), tree(2, d)), Bezier([tree(k, d) for k in (2, 3, 1)])]
    ),
    "swaps": swaps,
    "transported": transported,
    "chain-5": lambda d=jnp.float32: PolygonalChain([tree(k, d) for k in (0, 2, 3, 4, 1)]),
}


def repaired() -> Path:
    a, b = tree(0), tree(1)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(40, 3)), jnp.float32)
    return mcjax.evaluation.Repaired(Linear(a, b), network_of(a, jnp.float32), x)


def straight_through() -> Path:
    """Matched to its end, where it stays."""
    a, b = tree(0), tree(1)
    return mcjax.align.StraightThroughPath(network_of(a, jnp.float32), a, b, b, tree(2))


def action() -> Path:
    """To the end by the identity."""
    a, b = tree(0), tree(1)
    return mcjax.align.ActionPath(network_of(a, jnp.float32), a, b, tree(2))


def flow() -> Path:
    """A flow that was never trained."""
    from mcjax.flows.architecture import arrays_of, build
    from mcjax.flows.rows import Rows

    a, b = tree(0), tree(1)
    rows, architecture = Rows.of(network_of(a, jnp.float32)), mcjax.flows.Architecture("iaf", 1, 8)
    arrays = {
        group: arrays_of(build(architecture, dim, jax.random.key(0)))
        for group, dim in rows.dims.items()
    }
    return mcjax.flows.FlowPath(a, b, arrays, architecture, rows)


# name → a path from tree(0) to tree(1) that computes more than it holds: in float32 only
COMPUTED: dict[str, Callable[[], Path]] = {
    "repaired": repaired,
    "straight-through": straight_through,
    "action": action,
    "flow": flow,
}


def orbit() -> Path:
    """A ReLU network and the same with its units scaled."""
    params = dict(zip("vu", two_matrices(), strict=True))
    network = mcjax.trace(lambda p, x: jax.nn.relu(x @ p["v"]) @ p["u"], params, jnp.ones((2, 3)))
    (name,) = network.groups
    scaling = {name: {"positive": np.array([0.5, 2.0, 3.0, 1.0], np.float32)}}
    return mcjax.path.Orbit(mcjax.Action.of(network, elements=scaling), params)


def two_matrices() -> tuple[jax.Array, jax.Array]:
    rng = np.random.default_rng(0)
    return tuple(jnp.asarray(rng.normal(size=s), jnp.float32) for s in ((3, 4), (4, 2)))  # type: ignore[return-value]


def rotation(n: int) -> mcjax.symmetry.Logarithm:
    q, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(n, n)))
    q[0] *= np.sign(np.linalg.det(q))
    return mcjax.symmetry.log(q.astype(np.float32))


def group_curve() -> Path:
    u, v = two_matrices()
    return mcjax.theory.GroupCurve((v, u), rotation(4), mcjax.theory.act_between)


def approximate_curve() -> Path:
    u, v = two_matrices()
    x = jnp.asarray(np.random.default_rng(2).normal(size=(2, 2)), jnp.float32)
    return mcjax.theory.ApproximateCurve((v, u), rotation(4), x, jax.nn.sigmoid)


def linear_minimum() -> Path:
    w, g = np.eye(3, dtype=np.float32), np.diag([2.0, 3.0, 1.5]).astype(np.float32)
    return mcjax.theory.connect_minima((w, w), (g @ w, w @ np.linalg.inv(g)))


def star() -> Path:
    return mcjax.path.Star.around(tree(0), [tree(k) for k in (1, 2, 3)])


# name → a path between ends of its own: in float32 only
OWN: dict[str, Callable[[], Path]] = {
    "orbit": orbit,
    "group curve": group_curve,
    "approximate curve": approximate_curve,
    "linear minimum": linear_minimum,
    "star": star,
}
