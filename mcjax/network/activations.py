"""Activations of a network: of its unit groups, of its layers.

*Post-activations* are what a group's consumers read, *pre-activations* what its producers write,
batch normalisation applied (tatro2020, Sec. 2.2).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp

from .._compiled import compiled_for
from .._inputs import type_of
from .._types import Params
from .analysis import analyse
from .axes import Axes
from .blocks import Block, blocks
from .coarse import coarse
from .frozen import Analysis, Thawed
from .groups import Group
from .layers import Contraction, contractions
from .program import run, trace_program
from .structure import Structure
from .taps import taps

# Programs for other batch lengths that are kept, those of all networks together.
_ANALYSES = 32


def analysis_for(network: Structure, x_types: Any) -> tuple[Analysis, tuple[Contraction, ...]]:
    """The program for inputs of another batch length, on the network's own groups."""
    leaves, treedef = jax.tree.flatten(x_types)
    if _same_types(leaves, jax.tree.leaves(network.input_types)):
        return network.analysis, tuple(layer.contraction for layer in network.layers)
    return _analysis(network, treedef, tuple(leaves))


def _same_types(some: Sequence[Any], others: Sequence[Any]) -> bool:
    return [(v.shape, v.dtype) for v in some] == [(v.shape, v.dtype) for v in others]


@lru_cache(maxsize=_ANALYSES)
def _analysis(
    network: Structure, treedef: Any, types: tuple[Any, ...]
) -> tuple[Analysis, tuple[Contraction, ...]]:
    x_types = jax.tree.unflatten(treedef, types)
    program, _ = trace_program(network.apply_fn, network.treedef, network.leaf_types, x_types)
    thawed = Thawed(network.analysis, network.leaf_axes, program)
    inputs = [tuple(thawed.algebra.atom(n, why="input") for n in v.shape) for v in types]
    found = analyse(thawed.algebra, program, thawed.leaf_axes, inputs)
    groups = network.groups.values()
    if not all(map(thawed.same, {a for g in groups for a in (g.atom, *g.outer)})):
        raise RuntimeError(
            "the model's program for this batch length has other symmetries than the traced "
            "one: it depends on the batch length"
        )
    leaves = {v: i for i, v in enumerate(program.inputs[: len(network.leaf_types)])}
    return thawed.freeze(found), tuple(contractions(program, leaves))


def tapped(
    network: Structure, analysis: Analysis, found: Sequence[Contraction], tap: str
) -> list[int]:
    """The values of a program to compare, see `taps`."""
    groups = {g.atom: g.outer for g in network.groups.values()}
    return taps(analysis, found, groups, len(network.leaf_types), tap)


def _observed(
    network: Structure, analysis: Analysis, params: Params, x: Any, values: list[int]
) -> dict[int, Any]:
    """The given values of the program on x."""
    leaves = [*network.flatten(params, "params"), *jax.tree.leaves(x)]
    observe = {v: (lambda array: array) for v in values}
    return run(analysis.program, list(map(jnp.asarray, leaves)), observe=observe)[1]


def _types(x: Any) -> Any:
    return jax.tree.map(type_of, x)


def group_activations(
    network: Structure, params: Params, x: Any, tap: str
) -> dict[str, tuple[Any, ...]]:
    """See `Network.activations`."""
    return dict(zip(network.groups, _group_arrays(network, params, x, tap), strict=True))


@compiled_for("network", "tap")
def _group_arrays(network: Structure, params: Params, x: Any, tap: str) -> list[tuple[Any, ...]]:
    """For each group its arrays; a list, as jit would sort a dictionary."""
    analysis, found = analysis_for(network, _types(x))
    values = tapped(network, analysis, found, tap)
    seen = _observed(network, analysis, params, x, values)
    keep = {a for g in network.groups.values() for a in (g.atom, *g.outer)}
    out: dict[str, list[Any]] = {name: [] for name in network.groups}
    for value in values:
        here: dict[str, list[tuple[Any, Block]]] = {}
        for block, dims in blocks(seen[value], coarse(axes_of(analysis, value), keep)):
            for name in {
                network.group_of(d).name: None for d in dims if d.factor in network.by_atom
            }:
                here.setdefault(name, []).append((block, dims))
        for name, found_here in here.items():
            out[name].extend(_pooled(network.groups[name], found_here))
    return [tuple(arrays) for arrays in out.values()]


def _pooled(group: Group, found: list[tuple[Any, Block]]) -> list[Any]:
    """The blocks of a value that hold a group as an array (samples, *group.shape).

    Blocks that hold one index each of an axis that the group follows are put side by side; an
    empty list, if some of these indices are not in the value.
    """
    wanted = (*group.outer, group.atom)
    apart: dict[tuple[int, ...], list[Any]] = {}
    axes: list[int] = []
    for block, dims in found:
        at = [next(i for i, d in enumerate(dims) if d.factor is a) for a in wanted]
        axes = [k for k, i in enumerate(at) if dims[i].only is not None]
        rest = [i for k, i in enumerate(at) if k not in axes]
        samples = [i for i in range(len(dims)) if i not in rest]
        moved = jnp.transpose(block, [*samples, *rest]).reshape(-1, *(dims[i].size for i in rest))
        apart.setdefault(tuple(dims[at[k]].only or 0 for k in axes), []).append(moved)
    sizes = [wanted[k].size for k in axes]
    pooled = [jnp.concatenate(apart[index]) for index in sorted(apart)]
    if len(pooled) < math.prod(sizes) or len({v.shape for v in pooled}) > 1:
        return []
    stacked = jnp.stack(pooled).reshape(*sizes, *pooled[0].shape)
    return [jnp.moveaxis(stacked, range(len(axes)), [1 + k for k in axes])]


def layer_values(network: Structure, params: Params, x: Any, which: str) -> dict[str, Any]:
    """See `Network.layer_inputs` and `Network.layer_outputs`."""
    values = _layer_arrays(network, params, x, which)
    named = zip(network.layers, values, strict=True)
    return {layer.name: value for layer, value in named if value is not None}


@compiled_for("network", "which")
def _layer_arrays(network: Structure, params: Params, x: Any, which: str) -> list[Any]:
    """For each layer its value, None where it has none."""
    analysis, found = analysis_for(network, _types(x))
    values = [getattr(c, which) for c in found]
    seen = _observed(network, analysis, params, x, [v for v in values if v is not None])
    return [None if v is None else seen[v] for v in values]


def axes_of(analysis: Analysis, value: int) -> Axes:
    """The axes of an observed value: inside a scan, the scan's axis comes first."""
    ambient = analysis.ambient_of(value)
    return (ambient, *analysis.of(value)) if ambient else analysis.of(value)
