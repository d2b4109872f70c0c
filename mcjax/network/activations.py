"""Activations of the unit groups, compared between two networks in one pass over the data.

*Post-activations* are what a group's consumers read, *pre-activations* what its producers write,
batch normalisation applied (tatro2020, Sec. 2.2). Nothing is returned but moments: means,
variances and cross moments of the units, accumulated chunk by chunk on the device.
"""

from __future__ import annotations

import dataclasses
import math
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._inputs import length, type_of
from .._types import Params
from . import chunks
from .analysis import Analysis, analyse
from .axes import Atom, Axes, atoms
from .blocks import Block, blocks
from .layers import Contraction, contractions
from .network import Network
from .program import run, trace_program

# Units of one array that are matched jointly; beyond, their cross moments would not fit.
MAX_JOINT = 8192


@dataclasses.dataclass(frozen=True, eq=False)
class Moments:
    """Moments of the units of one activation in two networks, `a` and `b`.

    - `units`: the free atoms of the unit axes, in order; `fixed`: outer fixed axes they follow
    - `mean_a`, `mean_b`: (fixed…, units…); `var_a`, `var_b` alike
    - `cross`: covariance, (fixed…, units of a…, units of b…)
    """

    fixed: tuple[Atom, ...]
    units: tuple[Atom, ...]
    mean_a: np.ndarray
    mean_b: np.ndarray
    var_a: np.ndarray
    var_b: np.ndarray
    cross: np.ndarray


def analysis_for(network: Network, x_types: Any) -> tuple[Analysis, list[Contraction]]:
    """The traced program for inputs of another batch length, on the network's own groups."""
    key = tuple((v.shape, v.dtype) for v in jax.tree.leaves(x_types))
    cache = network.__dict__.setdefault("_analyses", {})
    if key not in cache:
        program, _ = trace_program(network.apply_fn, network.treedef, network.leaf_types, x_types)
        algebra = network.analysis.algebra
        inputs = [
            tuple(algebra.fixed(("input", key, i, d), n, "input") for d, n in enumerate(v.shape))
            for i, v in enumerate(jax.tree.leaves(x_types))
        ]
        analysis = analyse(algebra, program, network.leaf_axes, inputs)
        if any(g.atom.bound is not None or g.atom.fixed for g in network.groups.values()):
            raise RuntimeError(
                "the model's program for this batch length has other symmetries than the traced "
                "one: it depends on the batch length"
            )
        leaves = {v: i for i, v in enumerate(program.inputs[: len(network.leaf_types)])}
        cache[key] = analysis, contractions(program, leaves)
    return cache[key]


def taps(network: Network, analysis: Analysis, found: list[Contraction], tap: str) -> list[int]:
    """The values to compare: every group is on at least one, if a layer touches it."""
    post = [c.input for c in found if c.input is not None]
    pre = [c.preactivation for c in found]

    def groups_on(values: list[int]) -> set[Atom]:
        return {a for v in values for e in analysis.of(v) for a in atoms(e)}

    first, second = (post, pre) if tap == "post" else (pre, post)
    chosen = [v for v in dict.fromkeys(first) if _useful(network, analysis, v)]
    seen = groups_on(chosen)
    # Queries and keys have no consumer with a weight: they are compared where they are written.
    for value in dict.fromkeys(second):
        new = groups_on([value]).intersection(network.by_atom) - seen
        if new:
            chosen.append(value)
            seen |= new
    return chosen


def _useful(network: Network, analysis: Analysis, value: int) -> bool:
    return any(a in network.by_atom for e in analysis.of(value) for a in atoms(e))


def _observed(
    network: Network, analysis: Analysis, params: Params, x: Any, values: list[int]
) -> dict[int, Any]:
    """The given values of the program on x."""
    leaves = [*network.flatten(params, "params"), *jax.tree.leaves(x)]
    observe = {v: (lambda array: array) for v in values}
    return run(analysis.program, list(map(jnp.asarray, leaves)), observe=observe)[1]


def _types(x: Any) -> Any:
    return jax.tree.map(type_of, x)


def group_activations(
    network: Network, params: Params, x: Any, tap: str
) -> dict[str, tuple[Any, ...]]:
    """See `Network.activations`."""
    return dict(zip(network.groups, _group_arrays(network, params, x, tap), strict=True))


@partial(jax.jit, static_argnames=("network", "tap"))
def _group_arrays(network: Network, params: Params, x: Any, tap: str) -> list[tuple[Any, ...]]:
    """For each group its arrays; a list, as jit would sort a dictionary."""
    analysis, found = analysis_for(network, _types(x))
    values = taps(network, analysis, found, tap)
    seen = _observed(network, analysis, params, x, values)
    out: dict[str, list[Any]] = {name: [] for name in network.groups}
    for value in values:
        for block, dims in blocks(seen[value], _axes(analysis, value)):
            here = [network.group_of(d) for d in dims if d.factor in network.by_atom]
            for group in dict.fromkeys(here):
                wanted = [*group.outer, group.atom]
                at = [next(i for i, d in enumerate(dims) if d.factor is a) for a in wanted]
                samples = [i for i in range(len(dims)) if i not in at]
                moved = jnp.transpose(block, [*samples, *at])
                out[group.name].append(moved.reshape(-1, *(dims[i].size for i in at)))
    return [tuple(arrays) for arrays in out.values()]


def layer_values(network: Network, params: Params, x: Any, which: str) -> dict[str, Any]:
    """See `Network.layer_inputs` and `Network.layer_outputs`."""
    values = _layer_arrays(network, params, x, which)
    named = zip(network.layers, values, strict=True)
    return {layer.name: value for layer, value in named if value is not None}


@partial(jax.jit, static_argnames=("network", "which"))
def _layer_arrays(network: Network, params: Params, x: Any, which: str) -> list[Any]:
    """For each layer its value, None where it has none."""
    analysis, found = analysis_for(network, _types(x))
    values = [getattr(c, which) for c in found]
    seen = _observed(network, analysis, params, x, [v for v in values if v is not None])
    return [None if v is None else seen[v] for v in values]


def cross_moments(
    network: Network, a: Params, b: Params, x: Any, tap: str, chunk: int, settled: tuple[str, ...]
) -> list[Moments]:
    """Moments of every tapped block of activations over all of x, in one pass.

    **Arguments:**
    - `settled`: groups already matched in b; their units count as samples. Blocks with more
      than `MAX_JOINT` other units are left out.
    """
    sums = _moments(network, tap, chunk, settled, a, b, x)
    analysis, found = analysis_for(network, chunks.types(x, chunk))
    layouts = _layouts(network, analysis, found, tap, settled)
    used = [layout for group in layouts.values() for layout in group if layout is not None]
    out = []
    for layout, s in zip(used, sums, strict=True):
        n, mean_a, mean_b, var_a, var_b, cross = (np.asarray(v, np.float64) for v in s)
        dims = layout.dims
        shape_f = tuple(dims[i].size for i in layout.fixed)
        shape_u = tuple(dims[i].size for i in layout.units)
        out.append(
            Moments(
                fixed=tuple(dims[i].factor for i in layout.fixed),  # type: ignore[misc]
                units=tuple(network.group_of(dims[i]).atom for i in layout.units),
                mean_a=mean_a.reshape(shape_f + shape_u),
                mean_b=mean_b.reshape(shape_f + shape_u),
                var_a=(var_a / n).reshape(shape_f + shape_u),
                var_b=(var_b / n).reshape(shape_f + shape_u),
                cross=(cross / n).reshape(shape_f + shape_u + shape_u),
            )
        )
    return out


@dataclasses.dataclass(frozen=True)
class _Layout:
    """A block's dimensions: those of the units compared, and the fixed axes they follow."""

    dims: Block
    fixed: tuple[int, ...]
    units: tuple[int, ...]


def _layouts(
    network: Network,
    analysis: Analysis,
    found: list[Contraction],
    tap: str,
    settled: tuple[str, ...],
) -> dict[int, list[_Layout | None]]:
    """For every tapped value a layout for each of its blocks, None where nothing is compared."""
    out = {}
    for value in taps(network, analysis, found, tap):
        axes = _axes(analysis, value)
        shape = [math.prod(f.size for f in e) for e in axes]
        dummy = np.broadcast_to(np.zeros(()), shape)
        out[value] = [_layout(network, dims, settled) for _, dims in blocks(dummy, axes)]
    return out


def _layout(network: Network, dims: Block, settled: tuple[str, ...]) -> _Layout | None:
    units = tuple(
        i
        for i, d in enumerate(dims)
        if d.factor in network.by_atom and network.group_of(d).name not in settled
    )
    if not units or math.prod(dims[i].size for i in units) > MAX_JOINT:
        return None
    needed = {o for i in units for o in network.group_of(dims[i]).outer}
    fixed = tuple(
        i for i, d in enumerate(dims) if d.factor in needed and i not in units and d.only is None
    )
    return _Layout(dims, fixed, units)


def _axes(analysis: Analysis, value: int) -> Axes:
    """The axes of an observed value: inside a scan, the scan's axis comes first."""
    ambient = analysis.ambient_of(value)
    return (ambient, *analysis.of(value)) if ambient else analysis.of(value)


@partial(jax.jit, static_argnames=("network", "tap", "chunk", "settled"))
def _moments(
    network: Network, tap: str, chunk: int, settled: tuple[str, ...], a: Params, b: Params, x: Any
):
    n = length(x)
    analysis, found = analysis_for(network, chunks.types(x, chunk))
    layouts = _layouts(network, analysis, found, tap, settled)
    observe = {v: (lambda array: array) for v in layouts if any(layouts[v])}

    def activations(params, cx):
        inputs = [*jax.tree.leaves(params), *jax.tree.leaves(cx)]
        return run(analysis.program, inputs, observe=observe)[1]

    def of_chunk(first):
        cx = chunks.take(x, first, chunk)
        seen_a, seen_b = activations(a, cx), activations(b, cx)
        return [
            _block_moments(block_a, block_b, layout)
            for v in observe
            for (block_a, _), (block_b, _), layout in zip(
                blocks(seen_a[v], _axes(analysis, v)),
                blocks(seen_b[v], _axes(analysis, v)),
                layouts[v],
                strict=True,
            )
            if layout is not None
        ]

    def step(total, i):
        pairs = zip(total, of_chunk(i * chunk), strict=True)
        return [_merge(s, t) for s, t in pairs], None

    # What does not fill a chunk at the end is left out.
    return jax.lax.scan(step, of_chunk(0), jnp.arange(1, n // chunk))[0]


def _block_moments(x_a, x_b, layout: _Layout):
    """(count, means, centred squares, centred products) of a block's units over its samples."""
    dims, fixed, units = layout.dims, layout.fixed, layout.units
    samples = [i for i in range(len(dims)) if i not in fixed and i not in units]
    n_fixed, n_units = (math.prod(dims[i].size for i in group) for group in (fixed, units))

    def matrix(array):
        moved = jnp.transpose(array, [*fixed, *samples, *units])
        return moved.reshape(n_fixed, -1, n_units).astype(
            jnp.promote_types(array.dtype, jnp.float32)
        )

    m_a, m_b = matrix(x_a), matrix(x_b)
    mean_a, mean_b = m_a.mean(1), m_b.mean(1)
    c_a, c_b = m_a - mean_a[:, None], m_b - mean_b[:, None]
    cross = jnp.einsum("fsu,fsv->fuv", c_a, c_b)
    count = jnp.float32(m_a.shape[1])
    return count, mean_a, mean_b, jnp.sum(c_a**2, 1), jnp.sum(c_b**2, 1), cross


def _merge(s, t):
    """Moments of two sets of samples together (Chan, Golub & LeVeque 1983)."""
    n, m = s[0], t[0]
    d_a, d_b, w = t[1] - s[1], t[2] - s[2], n * m / (n + m)
    return (
        n + m,
        s[1] + d_a * (m / (n + m)),
        s[2] + d_b * (m / (n + m)),
        s[3] + t[3] + d_a**2 * w,
        s[4] + t[4] + d_b**2 * w,
        s[5] + t[5] + w * d_a[:, :, None] * d_b[:, None, :],
    )
