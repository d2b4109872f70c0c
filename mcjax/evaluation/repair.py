"""REPAIR: give the units of an interpolated network back their statistics (Jordan et al. 2023).

Averaging two networks shrinks the variance of hidden units, more so with every layer. REPAIR
rescales every hidden layer so that mean and standard deviation of each unit are the interpolation
of the end points'.
"""

from __future__ import annotations

import dataclasses
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from .. import _check
from .._inputs import length
from .._types import Params
from ..network import chunks
from ..network.activations import analysis_for
from ..network.batch_norm import OnDemand, normalisations_of
from ..network.layers import Contraction
from ..network.model import Model, replace_leaves
from ..network.network import Network
from ..network.normalisation import normalisations
from ..path import Path, static, time

# A unit that varies less than this part of what it should is left as it is.
_EPSILON = 1e-6


@dataclasses.dataclass(frozen=True)
class _Layer:
    """A layer to repair: leaves and pre-activation by number, the axes of its units."""

    weight: int
    bias: int
    value: int
    unit_axis: int  # of the pre-activation
    weight_axis: int


class Repaired(Path):
    """A path whose inner points are repaired: θ'(t) = REPAIR(θ(t)).

    Every hidden layer with a bias of its own is rescaled, W' = W σ*/σ, b' = (b − µ) σ*/σ + µ*,
    where µ, σ are the mean and standard deviation of a unit's pre-activation in θ(t) (with all
    layers before it repaired) and µ*, σ* = (1 − t) (µ, σ)(θ(0)) + t (µ, σ)(θ(1)). Layers that
    batch normalisation follows are repaired by its statistics, estimated in the same pass. The end
    points stay as they are. What is left out: layers inside scans, weights and biases used twice,
    and layers whose units share an axis with others.

    Align the end points first: REPAIR mends what is left after alignment.

    **Arguments:**
    - `path`: any path between two networks
    - `network`: traced
    - `x`: inputs to estimate statistics from
    - `chunk`: examples at a time; statistics are averaged over them

    **Raises:** `ValueError` for an empty batch or a network without a layer to repair.

        >>> import jax, jax.numpy as jnp, mcjax
        >>> f = lambda p, x: jax.nn.relu(x @ p["w1"] + p["b1"]) @ p["w2"]
        >>> a, b = ({"w1": s * jnp.eye(3), "b1": jnp.zeros(3), "w2": jnp.ones((3, 1))}
        ...         for s in (1.0, -1.0))
        >>> x = jax.random.normal(jax.random.key(0), (50, 3))
        >>> network = mcjax.trace(f, a, x)
        >>> path = mcjax.evaluation.Repaired(mcjax.path.Linear(a, b), network, x)
        >>> hidden = x @ path(0.75)["w1"] + path(0.75)["b1"]
        >>> bool(jnp.allclose(hidden.std(0), x.std(0), rtol=1e-3))  # the segment's is half of it
        True
    """

    costly = True
    path: Path
    x: Any
    start: Any
    end: Any
    network: Network = static()
    chunk: int = static()

    def __init__(self, path: Path, network: Network, x: Any, *, chunk: int = 500) -> None:
        x = network.inputs(x)
        n = _check.batched(x, "x")
        chunk = min(_check.positive(chunk, "chunk"), n)
        x = jax.tree.map(jnp.asarray, x)
        if not _layers(network, chunks.types(x, chunk)) and not network.normalisations.found:
            raise ValueError("the network has no hidden layer with a bias that could be repaired")
        ends = [_statistics(network, chunk, path(t), x) for t in (0.0, 1.0)]
        self._set(path=path, x=x, start=ends[0], end=ends[1], network=network, chunk=chunk)

    def at(self, t: Any) -> Params:
        t = time(t)
        params = self.path.at(t)
        targets = jax.tree.map(lambda a, b: (1 - t) * a + t * b, self.start, self.end)
        repaired = _repair(self.network, self.chunk, params, self.x, targets)
        inside = (t > 0) & (t < 1)
        return jax.tree.map(lambda new, old: jnp.where(inside, new, old), repaired, params)

    def mixture(self, coordinates: Any) -> None:
        """None: statistics of batch normalisation are estimated at every point."""


def _layers(network: Network, x_types: Any) -> list[_Layer]:
    """The layers that can be repaired, in topological order."""
    analysis, found = analysis_for(network, x_types)
    top = {o for e in analysis.program.equations for o in e.outputs}
    leaves = [v for c in found for v in (c.weight, c.bias)]
    normalised = normalisations(analysis.program, len(network.leaf_types))
    followed = {n.input for n in normalised.found}
    out = []
    for c in found:
        own = c.bias is not None and leaves.count(c.weight) == leaves.count(c.bias) == 1
        if own and c.biased in top and c.biased not in followed:
            layer = _layer_of(network, analysis.of(c.biased), c)
            if layer is not None:
                out.append(layer)
    return out


def _layer_of(network: Network, axes: Any, c: Contraction) -> _Layer | None:
    """The layer with the axis of its units, if one axis of it and its bias holds only a group."""
    bias_axes, weight_axes = network.leaf_axes[c.bias], network.leaf_axes[c.weight]  # type: ignore[index]
    if len(bias_axes) != 1 or len(bias_axes[0]) != 1 or bias_axes[0][0] not in network.by_atom:
        return None
    unit = bias_axes[0]
    of_value = [i for i, e in enumerate(axes) if e == unit]
    of_weight = [i for i, e in enumerate(weight_axes) if e == unit]
    if len(of_value) != 1 or len(of_weight) != 1:
        return None
    assert c.bias is not None
    return _Layer(c.weight, c.bias, c.biased, of_value[0], of_weight[0])


def _moments(h: jax.Array, axis: int) -> tuple[jax.Array, jax.Array]:
    others = tuple(i for i in range(h.ndim) if i != axis)
    return jnp.mean(h, others), jnp.std(h, others)


def _scale(goal: jax.Array, deviation: jax.Array) -> jax.Array:
    """σ*/σ, 1 for units that do not vary."""
    alive = deviation > _EPSILON * goal
    return jnp.where(alive, goal / jnp.where(alive, deviation, 1), 1)


def _over_chunks(network: Network, chunk: int, params: Params, x: Any, targets: Any) -> Any:
    """Statistics of every layer, each after the correction of those before it, averaged."""
    types = chunks.types(x, chunk)
    analysis, _ = analysis_for(network, types)
    layers = _layers(network, types)
    model = Model(analysis.program, None, network.treedef, len(network.leaf_types))
    normalised = normalisations_of(model, network.template)

    def of_chunk(i):
        seen: dict[int, Any] = {}

        def correct(k: int, layer: _Layer):
            def change(h):
                seen[k] = _moments(h, layer.unit_axis)
                if targets is None:
                    return h
                mean, deviation = targets[k]
                shape = [-1 if i == layer.unit_axis else 1 for i in range(h.ndim)]
                scale = _scale(deviation, seen[k][1])
                return (h - seen[k][0].reshape(shape)) * scale.reshape(shape) + mean.reshape(shape)

            return change

        replace = {layer.value: correct(k, layer) for k, layer in enumerate(layers)}
        batch = chunks.take(x, i * chunk, chunk)
        run = OnDemand.of(model, params, batch, {}, normalised, replace)
        run.estimate()
        for layer in layers:
            run.value(layer.value)
        return [seen[k] for k in range(len(layers))], run.found

    n = length(x) // chunk
    return jax.tree.map(lambda v: jnp.mean(v, 0), jax.lax.map(of_chunk, jnp.arange(n)))


@partial(jax.jit, static_argnames=("network", "chunk"))
def _statistics(network: Network, chunk: int, params: Params, x: Any) -> Any:
    """(µ, σ) of every layer of an end point."""
    return _over_chunks(network, chunk, params, x, None)[0]


def _repair(network: Network, chunk: int, params: Params, x: Any, targets: Any) -> Params:
    found, statistics = _over_chunks(network, chunk, params, x, targets)
    leaves = jax.tree.leaves(params)
    changed: dict[int, Any] = dict(statistics)
    layers = _layers(network, chunks.types(x, chunk))
    for layer, (mean, deviation), (goal_mean, goal) in zip(layers, found, targets, strict=True):
        scale = _scale(goal, deviation)
        weight = leaves[layer.weight]
        shape = [-1 if i == layer.weight_axis else 1 for i in range(weight.ndim)]
        changed[layer.weight] = weight * scale.reshape(shape)
        changed[layer.bias] = (leaves[layer.bias] - mean) * scale + goal_mean
    return replace_leaves(params, changed)
