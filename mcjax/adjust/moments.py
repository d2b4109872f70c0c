"""Second moments of layers' inputs along a path, streamed over the data.

Products are taken in the arrays' precision chunk by chunk and added up with Kahan's compensation,
which is float64 for sums of this length and needs no float64 on the device.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import _check
from .._compiled import compiled_for
from .._inputs import length, per_example
from .._stream import Inputs, is_batches
from .._types import Params
from ..network import chunks
from ..network.activations import analysis_for
from ..network.batch_norm import batch_statistics, normalisations_of
from ..network.model import Model, replace_leaves
from ..network.network import Layer, Network
from ..network.program import Program, run
from ..path import Path
from ..path.sharing import shared_part
from .form import MatrixForm, matrix_form
from .gram import wide
from .solve import Normal

_CHUNK = 4000
_SAMPLE_BYTES = 128 << 20  # of a layer's samples at a time
# Of moments at a time, for which what does not depend on t is done once.
_MOMENT_BYTES = 1 << 30


@dataclasses.dataclass(frozen=True)
class Wanted:
    """A layer (by number) and the network whose outputs there it should reproduce."""

    layer: int
    like: int


def moments_along(
    network: Network,
    path: Path,
    ts: Sequence[float],
    wanted: Sequence[Wanted],
    references: Sequence[Params],
    x: Inputs,
    *,
    forced: Sequence[Wanted] = (),
) -> Iterator[list[list[Normal]]]:
    """Normal equations of layers of the networks along a path, one t after the other.

    The inputs of a layer are those at t; the outputs it should have are those of a reference
    network. Where layers are solved at once, each is given the inputs that it has if those
    before it succeed: their outputs are *forced* to be the wanted ones.

    **Arguments:**
    - `wanted`: layers to solve for; all of them are forced
    - `references`: the networks whose outputs are wanted
    - `x`: gone through once for as many t as their moments fit in memory (`inputs_of`)
    - `forced`: layers whose outputs are forced besides

    **Yields:** for each t a list over the wanted layers of lists over the layer's batch.
    """
    wanted, forced = tuple(wanted), (*wanted, *forced)
    at_once = _even_up(len(ts), max(1, _MOMENT_BYTES // _moment_bytes(network, wanted)))
    points = np.asarray(ts, jnp.result_type(float))
    layers = _traced_forms(network, wanted)

    def at_some(first):  # a function, as its sums are let go before the next are made
        some = np.resize(points[first : first + at_once], (at_once,))  # one shape: one compilation
        exact: Any = None
        for part, size in parts(x):
            given = network, wanted, forced, size, path, some, tuple(references), part
            total, lost = jax.device_get(_sums(*given))
            new = jax.tree.map(lambda a, b: np.float64(a) - np.float64(b), total, lost)
            exact = new if exact is None else jax.tree.map(np.add, exact, new)
        for t in range(min(at_once, len(ts) - first)):
            yield _normals(exact, layers, t)

    for first in range(0, len(ts), at_once):
        yield from at_some(first)


def inputs_of(
    network: Network, x: Any, wanted: Sequence[Wanted], chunk: int | None = None
) -> Inputs:
    """Inputs in chunks whose samples at every wanted layer fit in memory.

    A length that is known is divided evenly where it can be: chunks of one size have one program.
    """
    most = _chunk_size(network, wanted) if chunk is None else _check.positive(chunk, "chunk")
    if not is_batches(x):
        n = _check.batched(network.inputs(x), "x")
        most = min(n, most)
        most = next((k for k in range(most, most // 2, -1) if n % k == 0), most)

    def mark(batch: Any) -> Any:
        batch = network.inputs(batch)
        _check.finite(batch, "x")
        return batch

    return Inputs(x, most, mark=mark if is_batches(x) else network.inputs)


def parts(x: Inputs) -> Iterator[tuple[Any, int]]:
    """(Examples, size of their chunks): each example once, in chunks of at most two sizes a block.

    The sizes differ by one, so that no batch normalisation goes by a few examples that are left.
    """
    for block in x.blocks():
        first = 0
        for size, number in chunks.sizes(length(block), x.chunk):
            last = first + size * number
            part = per_example(lambda v, i=first, j=last: v[i:j], block)
            yield jax.device_put(part), size
            first = last


def _normals(exact: Any, layers: Sequence[MatrixForm], t: int) -> list[list[Normal]]:
    """The normal equations at point number t of layers of these forms."""
    tiles, crosses, energies = jax.tree.map(lambda v: v[t], exact)
    grams = {f.key: f for f in layers}
    grams = {key: f.whole(v) for (key, f), v in zip(grams.items(), tiles, strict=True)}
    return [
        [Normal(g, c, float(e)) for g, c, e in zip(grams[f.key], cross, energy, strict=True)]
        for f, cross, energy in zip(layers, crosses, energies, strict=True)
    ]


def forms(network: Network, x_types: Any, wanted: Sequence[Wanted]) -> list[MatrixForm]:
    """The forms of layers for inputs of given types."""
    analysis, found = analysis_for(network, x_types)
    return [matrix_form(analysis.program, network.layers[w.layer], found[w.layer]) for w in wanted]


@compiled_for("network", "wanted", "forced", "chunk")
def _sums(
    network: Network,
    wanted: tuple[Wanted, ...],
    forced: tuple[Wanted, ...],
    chunk: int,
    path: Path,
    ts: jax.Array,
    references: tuple[Params, ...],
    x: Any,
) -> tuple[Any, Any]:
    """(sums, what Kahan's compensation takes off them), t on axis 0: the Gram tiles of every
    distinct input, and the cross moments and energy of every wanted layer."""
    analysis, found = analysis_for(network, chunks.types(x, chunk))
    program, n_leaves = analysis.program, len(network.leaf_types)
    model = Model(program, None, network.treedef, n_leaves)
    layers = forms(network, chunks.types(x, chunk), wanted)
    readers: dict[Any, tuple[MatrixForm, Any]] = {
        f.key: (f, found[w.layer].input) for f, w in zip(layers, wanted, strict=True)
    }
    normalised = normalisations_of(model, network.template)
    shared = shared_part(path, model, normalised.leaves, ts[0])

    def one_chunk(sums, i):
        cx = chunks.take(x, i * chunk, chunk)
        given = _outputs(program, [found[w.layer].output for w in forced], forced, references, cx)
        targets = [wide(f.outputs(given[found[w.layer].output])) for f, w in
                   zip(layers, wanted, strict=True)]  # fmt: skip
        values = shared.values(cx, given)

        def at(t):
            known = shared.at(t, values)
            params = path.at(t)
            if normalised.found:
                statistics = batch_statistics(model, params, cx, known, normalised)
                params = replace_leaves(params, statistics)
            leaves = [*jax.tree.leaves(params), *jax.tree.leaves(cx)]
            observe = {v: (lambda array: array) for _, v in readers.values()}
            seen = run(program, leaves, given=known, observe=observe)[1]
            grams, crosses = [], {}
            for key, (form, v) in readers.items():
                mine = [n for n, f in enumerate(layers) if f.key == key]
                tiles, products = form.moments(seen[v], [targets[n] for n in mine])
                grams.append(tiles)
                crosses |= zip(mine, products, strict=True)
            return grams, [crosses[n] for n in range(len(layers))]

        grams, crosses = jax.lax.map(at, ts)
        energies = [jnp.sum(jnp.square(y), (1, 2)) for y in targets]
        energies = [jnp.broadcast_to(e, (len(ts), *e.shape)) for e in energies]
        return _add(sums, (grams, crosses, energies)), None

    n_chunks = length(x) // chunk
    zero = jax.eval_shape(lambda: one_chunk(None, 0)[0])
    zero = jax.tree.map(lambda v: jnp.zeros(v.shape, v.dtype), zero)
    return jax.lax.scan(one_chunk, zero, jnp.arange(n_chunks))[0]


def _outputs(
    program: Program,
    values: Sequence[int],
    wanted: Sequence[Wanted],
    references: Sequence[Params],
    x: Any,
) -> dict[int, jax.Array]:
    """What the reference networks compute at the layers' outputs."""
    out = {}
    for number in dict.fromkeys(w.like for w in wanted):
        mine = [v for v, w in zip(values, wanted, strict=True) if w.like == number]
        leaves = [*jax.tree.leaves(references[number]), *jax.tree.leaves(x)]
        out |= run(program, leaves, observe={v: (lambda array: array) for v in mine})[1]
    return out


def _add(sums: Any, new: Any) -> Any:
    """Kahan's sum: (total, lost) with total − lost the sum to twice the precision."""
    if sums is None:  # the structure only
        return new, new
    total, lost = sums
    corrected = jax.tree.map(jnp.subtract, new, lost)
    after = jax.tree.map(jnp.add, total, corrected)
    lost = jax.tree.map(lambda a, t, c: (a - t) - c, after, total, corrected)
    return after, lost


def _even_up(n: int, most: int) -> int:
    return -(-n // -(-n // most))


def _chunk_size(network: Network, wanted: Sequence[Wanted]) -> int:
    """Examples whose samples at every wanted layer fit in memory."""
    layers = [network.layers[w.layer] for w in wanted]
    each = (
        4 * samples_per_example(network, layer, form) * form.index.shape[0] * form.index.shape[1]
        for layer, form in zip(layers, _traced_forms(network, wanted), strict=True)
    )
    most = max(each, default=1)
    return int(np.clip(_SAMPLE_BYTES // most, 1, _CHUNK))


def samples_per_example(network: Network, layer: Layer, form: MatrixForm) -> float:
    """Rows of X for each example: positions of a convolution, tokens."""
    outputs = math.prod(network.analysis.program.shape(layer.contraction.output))
    examples = length(network.input_types)
    return outputs / (form.index.shape[0] * form.index.shape[2] * examples)


def _moment_bytes(network: Network, wanted: Sequence[Wanted]) -> int:
    shapes = {f.key: f.index.shape for f in _traced_forms(network, wanted)}
    return sum(8 * batch * inputs**2 for batch, inputs, _ in shapes.values())


def _traced_forms(network: Network, wanted: Sequence[Wanted]) -> list[MatrixForm]:
    program = network.analysis.program
    layers = [network.layers[w.layer] for w in wanted]
    return [matrix_form(program, layer, layer.contraction) for layer in layers]
