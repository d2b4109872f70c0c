"""jraph's graph networks, their functions by Haiku; a batch of graphs of one size."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .row import Groups, Model, Row

FRAMEWORK = "jraph"
NODES, EDGES, FEATURES = 6, 10, 8


def graphs(count: int = 3) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "nodes": rng.normal(size=(count, NODES, FEATURES)).astype("f4"),
        "edges": rng.normal(size=(count, EDGES, 4)).astype("f4"),
        "globals": rng.normal(size=(count, 4)).astype("f4"),
        "senders": rng.integers(0, NODES, (count, EDGES)).astype("i4"),
        "receivers": rng.integers(0, NODES, (count, EDGES)).astype("i4"),
    }


def row(name: str, layers: Callable[[Any, Any], list], groups: Groups | None, **more: Any) -> Row:
    """`layers(jraph, hk)`: functions of graphs, one after the other; nodes are summed and read."""

    def build() -> Model:
        import haiku as hk
        import jraph

        def forward(x: Any) -> Any:
            graph = jraph.GraphsTuple(
                x["nodes"], x["edges"], x["receivers"], x["senders"],
                x["globals"][None], jnp.array([NODES]), jnp.array([EDGES]),
            )  # fmt: skip
            for layer in layers(jraph, hk):
                graph = layer(graph)
            return hk.Linear(5)(jax.nn.relu(graph.nodes).sum(0))

        f = hk.without_apply_rng(hk.transform(forward))
        x = graphs()
        params = jax.jit(f.init)(jax.random.key(0), jax.tree.map(lambda v: v[0], x))
        return lambda p, x: jax.vmap(f.apply, (None, 0))(p, x), params, x

    return Row(name, FRAMEWORK, build, groups, **more)


def convolution(jraph: Any, hk: Any) -> list:
    def relu(graph: Any) -> Any:
        return graph._replace(nodes=jax.nn.relu(graph.nodes))

    def layer(n: int) -> Any:
        return jraph.GraphConvolution(hk.Linear(n), add_self_edges=True)

    return [layer(24), relu, layer(16)]


def attention(jraph: Any, hk: Any) -> list:
    def logits(s: Any, r: Any, e: Any) -> Any:
        return hk.Linear(1)(jax.nn.leaky_relu(jnp.concatenate([s, r], -1)))

    def layer(n: int) -> Any:
        return jraph.GAT(hk.Linear(n), logits, jax.nn.elu)

    return [layer(24), layer(16)]


def interaction(jraph: Any, hk: Any) -> list:
    def edge(e: Any, s: Any, r: Any) -> Any:
        return hk.nets.MLP((20, 12))(jnp.concatenate([e, s, r], -1))

    def node(n: Any, r: Any) -> Any:
        return hk.nets.MLP((24, 16))(jnp.concatenate([n, r], -1))

    return [jraph.InteractionNetwork(edge, node)]


def network(jraph: Any, hk: Any) -> list:
    def edge(e: Any, s: Any, r: Any, g: Any) -> Any:
        return hk.nets.MLP((20, 12))(jnp.concatenate([e, s, r, g], -1))

    def node(n: Any, sent: Any, received: Any, g: Any) -> Any:
        return hk.nets.MLP((24, 16))(jnp.concatenate([n, sent, received, g], -1))

    def whole(n: Any, e: Any, g: Any) -> Any:
        return hk.nets.MLP((18, 10))(jnp.concatenate([n, e, g], -1))

    return [jraph.GraphNetwork(edge, node, whole), jraph.GraphNetwork(edge, node, None)]


ROWS = [
    row("GraphConvolution", convolution, {(24,): 1, (16,): 1}),
    row("GAT", attention, {(24,): 1, (16,): 1}),
    row("InteractionNetwork", interaction, {(20,): 1, (12,): 1, (24,): 1, (16,): 1}),
    row("GraphNetwork", network, {(20,): 2, (12,): 2, (24,): 2, (16,): 2, (18,): 1, (10,): 1}),
]
