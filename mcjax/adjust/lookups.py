"""Look-ups as linear layers of one-hot vectors: how often each row of an embedding is read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._compiled import compiled_for
from .._inputs import length
from .._types import Params
from ..network import chunks
from ..network.activations import analysis_for
from ..network.layers import Contraction
from ..network.network import Layer, Network
from ..network.program import Constant, Program, run
from .form import WeightForm, leaf_index
from .moments import inputs_of, parts


def lookup_form(network: Network, layer: Layer) -> WeightForm:
    """The rows of an embedding (1, rows, outputs): W in Y = X W, X the one-hot vectors of tokens.

    **Raises:** `ValueError` for a look-up of anything but whole rows along one axis, one inside a
    loop, and for weights with other uses.
    """
    program, c = network.analysis.program, layer.contraction
    index, (axis, *_) = leaf_index(program, layer, c), _rows(program, layer, c)
    rows = index.shape[axis]
    return WeightForm(np.moveaxis(index, axis, 0).reshape(1, rows, -1))


def frequencies(
    network: Network, params: Params, x: Any, layers: Sequence[int], chunk: int | None = None
) -> list[tuple[np.ndarray, int]]:
    """For each of these look-ups (f, number of tokens): f_i, the share of tokens that read row i.

    Where tokens outside the table read no row, the shares do not sum to one.
    """
    counts: Any = None
    for part, size in parts(inputs_of(network, x, (), chunk)):
        some = jax.device_get(_counts(network, tuple(layers), size, params, part))
        wide = [(np.int64(rows), np.int64(tokens)) for rows, tokens in some]
        counts = wide if counts is None else jax.tree.map(np.add, counts, wide)
    return [(rows / max(tokens, 1), int(tokens)) for rows, tokens in counts]


@compiled_for("network", "layers", "chunk")
def _counts(
    network: Network, layers: tuple[int, ...], chunk: int, params: Params, x: Any
) -> list[tuple[Any, Any]]:
    """For each look-up (how often each row is read, by how many tokens)."""
    analysis, found = analysis_for(network, chunks.types(x, chunk))
    program, here = analysis.program, [found[k] for k in layers]
    tables = [_rows(program, network.layers[k], c) for k, c in zip(layers, here, strict=True)]

    def one_chunk(sums: Any, i: Any) -> Any:
        leaves = [*jax.tree.leaves(params), *jax.tree.leaves(chunks.take(x, i * chunk, chunk))]
        operands = [c.equation.inputs[1] for c in here]
        values = {v: (lambda array: array) for v in operands if isinstance(v, int)}
        seen = run(program, leaves, observe=values)[1]
        read = [v.value if isinstance(v, Constant) else seen[v] for v in operands]
        new = [_count(v, rows, clip) for v, (_, rows, clip) in zip(read, tables, strict=True)]
        return jax.tree.map(jnp.add, sums, new), None

    n_chunks = length(x) // chunk
    zero = [(jnp.zeros(rows, jnp.int32), jnp.int32(0)) for _, rows, _ in tables]
    return jax.lax.scan(one_chunk, zero, jnp.arange(n_chunks))[0]


def _count(tokens: Any, rows: int, clip: bool) -> tuple[Any, Any]:
    tokens = jnp.ravel(jnp.asarray(tokens))
    if tokens.dtype.itemsize >= 4:  # what int32 does not hold is outside of the table, too
        tokens = jnp.clip(tokens, max(-1, jnp.iinfo(tokens.dtype).min), rows)
    tokens = tokens.astype(jnp.int32)
    at = jnp.clip(tokens, 0, rows - 1) if clip else jnp.where(tokens < 0, rows, tokens)
    return jnp.zeros(rows, jnp.int32).at[at].add(1, mode="drop"), jnp.int32(len(tokens))


def _rows(program: Program, layer: Layer, c: Contraction) -> tuple[int, int, bool]:
    """(Axis, rows along it, whether tokens outside of it read the nearest row) of a look-up."""
    params, shape = c.equation.params, program.shape(c.equation.inputs[0])
    numbers, sizes = params["dimension_numbers"], tuple(params["slice_sizes"])
    axes = tuple(numbers.start_index_map)
    whole = len(axes) == 1 and sizes == tuple(1 if d in axes else n for d, n in enumerate(shape))
    if not whole or tuple(numbers.collapsed_slice_dims) != axes:
        raise ValueError(f"layer {layer.name!r} looks up something else than rows along one axis")
    return axes[0], shape[axes[0]], params["mode"] == jax.lax.GatherScatterMode.CLIP


__all__ = ["frequencies", "lookup_form"]
