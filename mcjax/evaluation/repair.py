"""REPAIR: give the units of an interpolated network back their statistics (Jordan et al. 2023).

Averaging two networks shrinks the variance of hidden units, more so with every layer. REPAIR
rescales every hidden layer so that mean and standard deviation of each unit are the interpolation
of the end points'.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import _check_model
from .._compiled import compiled_for
from .._inputs import length, per_example
from .._static import pack, unpack
from .._stream import Inputs, is_batches
from .._types import Params
from ..network import chunks
from ..network.activations import analysis_for
from ..network.batch_norm import OnDemand, normalisations_of, statistic_leaves
from ..network.layers import Contraction
from ..network.model import Model, replace_leaves
from ..network.network import Network
from ..network.normalisation import Normalisations, normalisations
from ..network.sides import Origins, contraction_dims, weight_position
from ..network.units import choose, partition
from ..path import Path, static, time
from ..path._base import checked_time, type_at
from .batch_norm import in_batches, inputs_of, running_mean

# A unit that varies less than this part of what it should is left as it is.
_EPSILON = 1e-6


@dataclasses.dataclass(frozen=True)
class _Layer:
    """A layer to repair: leaves and pre-activation by number, the axes of its channels in each.

    A channel is an entry of the bias: the pre-activation of one unit, on whatever axes units
    stand, inside heads or beside others.
    """

    weight: int
    bias: int
    value: int
    channels: tuple[int, ...]  # axes of the pre-activation, in the order of the bias's own
    weight_axes: tuple[int, ...]

    def over(self, axes: Sequence[int], channels: jax.Array, rank: int) -> jax.Array:
        """Something for each channel, to broadcast along these axes of an array of this rank."""
        order = sorted(range(len(axes)), key=axes.__getitem__)
        channels = jnp.transpose(channels, order)
        return jnp.expand_dims(channels, [d for d in range(rank) if d not in axes])


class Repaired(Path):
    """A path whose inner points are repaired: θ'(t) = REPAIR(θ(t)).

    Every hidden layer with a bias of its own is rescaled, W' = W σ*/σ, b' = (b − µ) σ*/σ + µ*,
    where µ, σ are the mean and standard deviation of a unit's pre-activation in θ(t) (with all
    layers before it repaired) and µ*, σ* = (1 − t) (µ, σ)(θ(0)) + t (µ, σ)(θ(1)). Layers that
    batch normalisation follows are repaired by its statistics, estimated in the same pass. The end
    points stay as they are. Units inside heads and beside others on one axis are repaired like
    any. What is left out: layers inside scans, weights and biases used twice, and weights that
    are sliced or computed from others.

    Align the end points first: REPAIR mends what is left after alignment.

    **Arguments:**
    - `path`: any path between two networks
    - `network`: traced
    - `x`: inputs to estimate statistics from, or an iterable of batches of them of any lengths
      (no list, which is a tree)
    - `chunk`: examples at a time; statistics are averaged over them, each batch by its size

    Of inputs on the host, memory maps too, a device holds at most 64 MiB at a time. Where they are
    more, or come in batches, the points that are asked for (`path(t)`, `path.all_at(ts)`, those of
    `mcjax.evaluate`) are computed by a loop on the host, in one pass over the inputs, and not under
    `jit`.

    Statistics of a normaliser of the raw inputs that are the same in both networks are no batch
    normalisation and stay.

    **Raises:** `ValueError` for an empty batch, an iterator, whose batches come only once, or a
    network without a layer to repair.

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
    kept: dict[int, jax.Array]
    network: Network = static()
    chunk: int = static()
    batches: Any = static()

    def __init__(self, path: Path, network: Network, x: Any, *, chunk: int = 500) -> None:
        _check_model.network(network)
        inputs = inputs_of(network, x, chunk)
        inputs.passes(2, "REPAIR")
        first = inputs.first()
        types = chunks.types(first, min(chunk, length(first)))
        if not _layers(network, types) and not network.normalisations.found:
            raise ValueError("the network has no hidden layer with a bias that could be repaired")
        networks = [pack(path(t)) for t in (0.0, 1.0)]
        kept = _kept(network, networks, types)
        ends = jax.tree.map(lambda *v: jnp.stack(v), *networks)
        found, _ = _streamed(network, frozenset(kept), inputs, ends, None)
        batches = x if is_batches(x) else None
        whole = None if batches is not None else network.inputs(x)
        if batches is None and inputs.n == length(first):  # at hand for good: programs may hold it
            whole = jax.tree.map(jnp.asarray, first)
        self._set(
            path=path, x=whole, start=jax.tree.map(lambda v: v[0], found),
            end=jax.tree.map(lambda v: v[1], found), kept=kept, network=network,
            chunk=min(chunk, length(first)), batches=batches,
        )  # fmt: skip

    def at(self, t: Any) -> Params:
        if self._streams:
            raise ValueError(
                "x: inputs that are streamed from the host cannot be part of a program (jit, vmap "
                "or grad): ask path(t) or path.all_at(ts) outside, or repair with fewer inputs"
            )
        t, kept = time(t), frozenset(self.kept)
        params, targets = _before(self.path, t, self.start, self.end, self.kept)
        found = _over_batches(self.network, self.chunk, kept, params, self.x, targets)
        layers = _layers(self.network, chunks.types(self.x, self.chunk))
        return _after(self.network, layers, t, params, targets, found)

    def __call__(self, t: Any) -> Params:
        if not self._streams:
            return super().__call__(t)
        points = self.all_at(checked_time(t)[None])
        return unpack(jax.tree.map(lambda v: v[0], points))

    def all_at(self, coordinates: Any) -> Params:
        if not self._streams:
            return super().all_at(coordinates)
        ts, source = time(coordinates), self.x if self.batches is None else self.batches
        inputs = inputs_of(self.network, source, self.chunk)
        params, targets = _all_before(self.path, ts, self.start, self.end, self.kept)
        found = _streamed(self.network, frozenset(self.kept), inputs, params, targets)
        layers = _layers(self.network, chunks.types(inputs.first(), self.chunk))
        return _all_after(self.network, layers, ts, params, targets, found)

    @property
    def _streams(self) -> bool:
        """Whether inputs come from the host, block by block."""
        leaves = jax.tree.leaves(self.x)
        return self.batches is not None or not all(isinstance(v, jax.Array) for v in leaves)

    def _type_at(self, coordinates: Any) -> Params:
        return type_at(self.path, coordinates)

    def mixture(self, coordinates: Any) -> None:
        """None: statistics of batch normalisation are estimated at every point."""


def _kept(network: Network, ends: Sequence[Params], x_types: Any) -> dict[int, jax.Array]:
    """Statistics of the raw inputs that are the same in both end points: part of the model."""
    roles = statistic_leaves(network.apply_fn, ends[0], x_types)
    first, last = (jax.tree.leaves(n) for n in ends)
    same = [p for p in roles.of_inputs if all(np.array_equal(first[i], last[i]) for i in p)]
    return {i: jnp.asarray(first[i]) for pair in same for i in pair}


def _layers(network: Network, x_types: Any) -> tuple[_Layer, ...]:
    """The layers that can be repaired, in topological order."""
    analysis, found = analysis_for(network, x_types)
    program = analysis.program
    top = {o for e in program.equations for o in e.outputs}
    leaves = [v for c in found for v in (c.weight, c.bias)]
    normalised = normalisations(program, len(network.leaf_types))
    followed = {n.input for n in normalised.found}
    hidden = frozenset[int]().union(*(u.leaves() for u in partition(network)))
    origins = Origins(program)
    out = []
    for c in found:
        own = c.bias in hidden and leaves.count(c.weight) == leaves.count(c.bias) == 1
        if own and c.biased in top and c.biased not in followed:
            layer = _layer_of(origins, c)
            if layer is not None:
                out.append(layer)
    return tuple(out)


def _layer_of(origins: Origins, c: Contraction) -> _Layer | None:
    """The layer, if each of its channels has axes of its own in weight, bias and output."""
    assert c.bias is not None
    program, position = origins.program, weight_position(c)
    dims = contraction_dims(program, c.equation, position)
    total = origins.producers[c.biased]
    weight = origins.of(c.equation.inputs[position])
    results = [origins.back(o, (c.output,)) for o in total.inputs]
    result = next((r for r in results if r is not None), None)
    added = next((b for b in map(origins.of, total.inputs) if b is not None), None)
    if dims is None or weight is None or result is None or added is None:
        return None  # something is computed, or comes between
    shapes = [program.shape(program.inputs[leaf]) for leaf in (c.weight, c.bias)]
    channels: dict[int, tuple[int, int]] = {}  # axis of the bias → of the value, of the weight
    for d, axes in enumerate(added[1]):
        if not axes:
            continue  # the bias is the same along it
        output, of_bias = _only(result[1][d]), _only(axes)
        operand = None if output is None else dims[0].get(output)
        of_weight = None if operand is None else _only(weight[1][operand])
        if of_weight is None or of_bias is None:
            return None
        if not shapes[0][of_weight] == shapes[1][of_bias] == program.shape(c.biased)[d]:
            return None
        channels[of_bias] = (d, of_weight)
    # No part of the leaves is something else.
    covered = math.prod(shapes[1][axis] for axis in channels)
    operand_shape = program.shape(c.equation.inputs[position])
    if covered != math.prod(shapes[1]) or math.prod(operand_shape) != math.prod(shapes[0]):
        return None
    ordered = [channels[axis] for axis in sorted(channels)]
    return _Layer(
        c.weight, c.bias, c.biased, tuple(d for d, _ in ordered), tuple(a for _, a in ordered)
    )


def _only(axes: Sequence[int]) -> int | None:
    return axes[0] if len(axes) == 1 else None


def _moments(h: jax.Array, channels: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
    """(mean, deviation) of each channel."""
    others = tuple(i for i in range(h.ndim) if i not in channels)
    order = [sorted(channels).index(i) for i in channels]
    return jnp.transpose(jnp.mean(h, others), order), jnp.transpose(jnp.std(h, others), order)


def _correction(network: Network, layer: _Layer, seen: Any, goal: Any) -> Any:
    """(scale, shift): h · scale + shift has the mean and deviation that it should.

    The scale is 1 for units that do not vary; channels that are no units stay.
    """
    (mean, deviation), (goal_mean, goal_deviation) = seen, goal
    alive = deviation > _EPSILON * goal_deviation
    scale = jnp.where(alive, goal_deviation / jnp.where(alive, deviation, 1), 1)
    shape = network.leaf_types[layer.bias].shape
    pairs = ((scale, jnp.ones_like(scale)), (goal_mean - mean * scale, jnp.zeros_like(scale)))
    return [
        choose(network, layer.bias, network.groups, *(v.reshape(shape) for v in pair)).reshape(
            scale.shape
        )
        for pair in pairs
    ]


def _over_batches(
    network: Network, chunk: int, kept: frozenset[int], params: Params, x: Any, targets: Any
) -> Any:
    """Statistics of every layer, each after the correction of those before it, averaged.

    Every batch of `chunk` examples has its own, and so has a last one that is not full; each
    counts by its size.
    """
    n = length(x)
    whole = n - n % chunk
    if whole == n:
        return _over_chunks(network, chunk, kept, params, x, targets)
    parts = [(0, whole, chunk)] if whole else []
    parts.append((whole, n, n - whole))
    total = None
    for begin, end, size in parts:
        some = per_example(lambda v, i=begin, j=end: v[i:j], x)
        found = _over_chunks(network, size, kept, params, some, targets)
        found = jax.tree.map(lambda v, k=(end - begin) / n: k * v, found)
        total = found if total is None else jax.tree.map(jnp.add, total, found)
    return total


def _over_chunks(
    network: Network, chunk: int, kept: frozenset[int], params: Params, x: Any, targets: Any
) -> Any:
    """The means over the chunks of x, all of them full."""
    types = chunks.types(x, chunk)
    analysis, _ = analysis_for(network, types)
    layers = _layers(network, types)
    model = Model(analysis.program, None, network.treedef, len(network.leaf_types))
    found = normalisations_of(model, network.template).found
    normalised = Normalisations(tuple(n for n in found if n.mean.leaf not in kept))

    def of_chunk(i):
        seen: dict[int, Any] = {}

        def correct(k: int, layer: _Layer):
            def change(h):
                seen[k] = _moments(h, layer.channels)
                if targets is None:
                    return h
                scale, shift = _correction(network, layer, seen[k], targets[k])
                scale, shift = (layer.over(layer.channels, v, h.ndim) for v in (scale, shift))
                return h * scale + shift

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


def _streamed(
    network: Network, kept: frozenset[int], x: Inputs, params: Params, targets: Any
) -> Any:
    """What `_over_batches` finds, of a stack of points, in one pass over streamed inputs."""
    mean, done = None, 0
    for some, size in in_batches(x):
        block = jax.tree.map(jnp.asarray, some)
        new = _of_block(network, size, kept, params, block, targets)
        done += length(some)
        mean = new if mean is None else running_mean(mean, new, length(some) / done)
    return mean


@compiled_for("network", "chunk", "kept")
def _of_block(
    network: Network, chunk: int, kept: frozenset[int], params: Params, x: Any, targets: Any
) -> Any:
    def of(point: tuple[Params, Any]) -> Any:
        return _over_chunks(network, chunk, kept, point[0], x, point[1])

    return jax.lax.map(of, (params, targets))


def _before(path: Path, t: Any, start: Any, end: Any, kept: dict[int, Any]) -> tuple[Params, Any]:
    """(A point, the statistics that its layers should have)."""
    targets = jax.tree.map(lambda a, b: (1 - t) * a + t * b, start, end)
    return replace_leaves(path.at(t), kept), targets


@compiled_for()
def _all_before(path: Path, ts: Any, start: Any, end: Any, kept: dict[int, Any]) -> Any:
    return jax.lax.map(lambda t: _before(path, t, start, end, kept), ts)


def _after(
    network: Network, layers: Sequence[_Layer], t: Any, params: Params, targets: Any, found: Any
) -> Params:
    """The point repaired, by the statistics that it was found to have; the end points stay."""
    seen, statistics = found
    leaves = jax.tree.leaves(params)
    changed: dict[int, Any] = dict(statistics)
    for layer, own, goal in zip(layers, seen, targets, strict=True):
        scale, shift = _correction(network, layer, own, goal)
        weight, bias = leaves[layer.weight], leaves[layer.bias]
        changed[layer.weight] = weight * layer.over(layer.weight_axes, scale, weight.ndim)
        changed[layer.bias] = bias * scale.reshape(bias.shape) + shift.reshape(bias.shape)
    inside, repaired = (t > 0) & (t < 1), replace_leaves(params, changed)
    return jax.tree.map(lambda new, old: jnp.where(inside, new, old), repaired, params)


@compiled_for("network", "layers")
def _all_after(
    network: Network, layers: Sequence[_Layer], ts: Any, params: Params, targets: Any, found: Any
) -> Params:
    return jax.lax.map(lambda each: _after(network, layers, *each), (ts, params, targets, found))
