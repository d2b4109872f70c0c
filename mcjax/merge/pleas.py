"""Two networks merged in part, the weights by least squares (PLeaS: Nasery et al. 2025)."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import _check, _check_model
from .._compiled import compiled_for
from .._inputs import length
from .._readonly import make_read_only
from .._static import unpack
from .._stream import Inputs
from .._tree import at_least_single
from .._types import ApplyFn, Params
from ..adjust.adjustment import LayerStatus, warn_of_few_samples
from ..adjust.form import MatrixForm, matrix_form
from ..adjust.solve import Normal, solve
from ..align.activations import checked_inputs, match_activations
from ..network import chunks
from ..network.activations import analysis_for, axes_of
from ..network.coupled import check_alike
from ..network.network import Network
from ..network.program import run
from ..transport.partial import partial_assignment
from .blend import Pairing, blend, width
from .correlations import correlations, in_chunks
from .problem import Method, Problem

Two = tuple[Network, Network]
Pairings = Mapping[str, Pairing]


@dataclasses.dataclass(frozen=True)
class Merged:
    """One network made of two.

    - `params`: its parameters; `network`: its trace, at its own widths
    - `pairs`: group → (pairs, 2), the units of A and of B that have become one. They come first in
      the merged network, in A's order; then A's that are in no pair, then B's
    - `permutations`: of B's units in groups inside others (heads), which are merged whole
    - `layers`: how the least squares of each layer came out
    """

    params: Params = dataclasses.field(repr=False)
    network: Network
    pairs: Mapping[str, np.ndarray]
    permutations: Mapping[str, np.ndarray]
    layers: Mapping[str, LayerStatus]

    def __post_init__(self) -> None:
        make_read_only(self, "pairs", "permutations", "layers")

    def summary(self) -> str:
        """A line a group, then a line a layer."""
        names = [*self.pairs, *self.layers]
        n = max(map(len, names), default=0)
        lines = [
            f"{name:<{n}}  {self.network.groups[name].size} units, {len(p)} of them pairs"
            for name, p in self.pairs.items()
        ]
        return "\n".join([*lines, *(f"{k:<{n}}  {s.describe()}" for k, s in self.layers.items())])


@_check.on_host
def pleas(
    network: Network,
    a: Params,
    b: Params,
    x: Any,
    *,
    ratio: float | Mapping[str, float] = 1.0,
    other: Network | None = None,
    merged: ApplyFn | None = None,
    chunk: int = 500,
) -> Merged:
    """Two networks as one: similar units become one, and every layer's weight is fitted to both.

    Of n and m units of a group the k = ratio · min(n, m) pairs of greatest Σ corr(z_i^A, z_j^B)
    are merged, all others kept: n + m − k units, z* = ½ (z_i^A + z_j^B) of a pair, z^A or z^B of
    those alone. The weight of a layer from z* to y*, these means of what it reads and writes, is

    W = argmin ‖W Z* − Y*‖²,

    all of A's and B's own activations on x, so layers do not depend on each other; outputs that are
    in no group are averaged. Biases, scales, statistics of BatchNorm and embeddings are means of
    pairs, too. Groups inside others and those around them (heads) are matched by
    `mcjax.align.match_activations` and merged whole. With ratio 0, and no such groups, the merged
    network is both beside each other, with the mean of their outputs; with ratio 1 and one
    architecture it is as large as each of them.

    **Arguments:**
    - `a`, `b`: parameters
    - `x`: inputs batched on axis 0, more examples than layers have units. Gone through twice, for
      heads once more
    - `ratio`: of units that are merged, in [0, 1]; or for each group (1 where absent)
    - `other`: the trace of b's network, the same model with other widths; default: `network`
    - `merged`: the model at the merged widths, where `network.apply_fn` is of A's alone (a flax
      module with its features)
    - `chunk`: examples at a time

    **Returns:** a `Merged`. Estimate statistics of batch normalisation again before use
    (`mcjax.evaluate` does).

    **Raises:** `ValueError` for networks that are not the same but for widths, groups inside others
    between different widths, layers that cannot be solved for (in loops, tied), ratios outside
    [0, 1], parameters and inputs that do not fit. Fewer samples than a layer has units warn.

    *Nasery et al. 2025 (PLeaS), Sec. 3. They match all units and merge the most similar pairs of
    that matching; here the pairs are the best ones of their number.*

        >>> import jax, jax.numpy as jnp, numpy as np, mcjax
        >>> f = lambda p, x: jax.nn.relu(x @ p["w1"]) @ p["w2"]
        >>> draw = lambda *shape: jnp.asarray(np.random.default_rng(sum(shape)).normal(size=shape))
        >>> a = {"w1": draw(4, 5), "w2": draw(5, 2)}
        >>> b = {"w1": draw(4, 3), "w2": draw(3, 2)}  # another width
        >>> x = draw(100, 4)
        >>> of_a, of_b = (mcjax.trace(f, p, x) for p in (a, b))
        >>> made = mcjax.merge.pleas(of_a, a, b, x, other=of_b, ratio=0)
        >>> made.network.groups["w1"].size
        8
        >>> bool(jnp.allclose(f(made.params, x), (f(a, x) + f(b, x)) / 2, atol=1e-3))
        True
    """
    both = network, network if other is None else other
    for name, one in zip(("network", "other"), both, strict=True):
        _check_model.network(one, name)
    check_alike(*both)
    (a,), (b,) = network.check_parameters(a=a), both[1].check_parameters(b=b)
    inputs = checked_inputs(network, x, chunk)
    inputs.passes(2, "pleas")
    whole = merged_whole(*both)
    counts = _counts(both, ratio, whole)
    sizes = {n: (network.groups[n].size, both[1].groups[n].size) for n in counts}
    made = _network(network, {n: sum(sizes[n]) - k for n, k in counts.items()}, merged)
    layers = [k for k, layer in enumerate(made.layers) if layer.contraction.input is not None]
    forms = [matrix_form(made.analysis.program, made.layers[k], made.layers[k].contraction)
             for k in layers]  # fmt: skip
    permutations = {}
    if whole:
        found = match_activations(network, a, b, x, chunk=chunk)
        permutations = {n: np.asarray(found.permutations[n]) for n in whole}
        b = network.permute(permutations, b)
    similar = correlations(both, (a, b), inputs, [*counts])
    pairs = {n: partial_assignment(similar[n], k) for n, k in counts.items()}
    pairings = {n: Pairing.of(p, *sizes[n]) for n, p in pairs.items()}
    normals = _normals(both, made, dict(zip(layers, forms, strict=True)), (a, b), pairings, inputs)
    leaves, status = _blended(both, made, layers, (a, b), pairings), {}
    for k, form, normal in zip(layers, forms, normals, strict=True):
        layer, solutions = made.layers[k], [solve(one) for one in normal.each]
        number = layer.contraction.weight
        weights = np.stack([s.weights for s in solutions])
        leaves[number] = jnp.asarray(form.place(leaves[number], weights), leaves[number].dtype)
        status[layer.name] = LayerStatus(
            form.index.shape[1], normal.samples,
            min(s.rank for s in solutions), max(s.residual for s in solutions),
        )  # fmt: skip
    warn_of_few_samples(status)
    params = unpack(jax.tree.unflatten(made.treedef, leaves))
    return Merged(params, made, pairs, permutations, status)


# -- what is merged ------------------------------------------------------------------------


def merged_whole(network: Network, other: Network) -> list[str]:
    """The groups inside others, and those around them."""
    groups = network.groups.values()
    nested = [g for g in groups if g.outer or any(g.atom in h.outer for h in groups)]
    if nested and other != network:
        raise ValueError(
            f"other: the units of group {nested[-1].name!r} {nested[-1].shape} are inside others, "
            "or around them, and such groups can be merged between networks of one trace alone"
        )
    return [g.name for g in nested]


def _counts(both: Two, ratio: float | Mapping[str, float], whole: Sequence[str]) -> dict[str, int]:
    """Group → how many pairs, of those that are not merged whole."""
    alone = [n for n in both[0].groups if n not in whole]
    given = ratio if isinstance(ratio, Mapping) else dict.fromkeys(alone, ratio)
    for name, value in given.items():
        both[0].group(name, "ratio")
        if name in whole and value != 1:
            raise ValueError(
                f"ratio of group {name!r} must be 1, got {value!r}: it is merged whole"
            )
        if not 0 <= value <= 1:
            raise ValueError(f"ratio must lie between 0 and 1, got {value!r} for {name!r}")
    sizes = {n: min(net.groups[n].size for net in both) for n in alone}
    return {n: round(given.get(n, 1.0) * k) for n, k in sizes.items()}


def _network(network: Network, sizes: Mapping[str, int], merged: ApplyFn | None) -> Network:
    """The trace of the model at the merged widths."""
    widths = {network.groups[n].atom: size for n, size in sizes.items()}
    shapes = [tuple(width(e, widths) for e in axes) for axes in network.leaf_axes]
    if merged is None and shapes == [t.shape for t in network.leaf_types]:
        return network
    pairs = zip(shapes, network.leaf_types, strict=True)
    types = [jax.ShapeDtypeStruct(shape, t.dtype) for shape, t in pairs]
    apply_fn = network.apply_fn if merged is None else merged
    assert network.retrace is not None  # it was traced
    try:
        made = network.retrace(
            apply_fn, jax.tree.unflatten(network.treedef, types), network.input_types
        )
    except Exception as error:
        error.add_note("mcjax.merge.pleas: `merged` must be the model at the merged widths")
        raise
    found = {n: g.size for n, g in made.groups.items() if n in sizes}
    if found != sizes:
        raise ValueError(f"merged: its groups are {found}, not those of the merged widths")
    return made


# -- the data ------------------------------------------------------------------------------


@dataclasses.dataclass
class _Sums:
    """Normal equations of a layer, one for each index of its batch."""

    gram: Any = 0.0
    cross: Any = 0.0
    energy: Any = 0.0
    samples: int = 0

    def add(self, gram: Any, cross: Any, energy: Any, samples: int) -> None:
        self.gram = self.gram + np.asarray(gram, np.float64)
        self.cross = self.cross + np.asarray(cross, np.float64)
        self.energy = self.energy + np.asarray(energy, np.float64)
        self.samples += samples

    @property
    def each(self) -> list[Normal]:
        return [Normal(g, c, float(e))
                for g, c, e in zip(self.gram, self.cross, self.energy, strict=True)]  # fmt: skip


def _normals(
    both: Two,
    made: Network,
    layers: Mapping[int, MatrixForm],
    params: tuple[Params, Params],
    pairings: Pairings,
    inputs: Inputs,
) -> list[_Sums]:
    totals = [_Sums() for _ in layers]
    for x in in_chunks(inputs):
        found = jax.device_get(_products(*both, made, tuple(layers), params, pairings, x))
        of_layers = zip(totals, layers.values(), found, strict=True)
        for total, form, (tiles, cross, energy, samples) in of_layers:
            total.add(form.whole(tiles), cross, energy, int(samples))
    return totals


@compiled_for("first", "second", "made", "layers")
def _products(
    first: Network,
    second: Network,
    made: Network,
    layers: tuple[int, ...],
    params: tuple[Params, Params],
    pairings: Pairings,
    x: Any,
) -> list[tuple[Any, Any, Any, Any]]:
    """Of each layer Z* Z*ᵀ, Z* Y*ᵀ, ‖Y*‖² and the number of samples, on one chunk."""
    types = chunks.types(x, length(x))
    nets = first, second, made
    known = [analysis_for(n, types) for n in nets]
    seen = []
    for (analysis, found), leaves in zip(known, params, strict=False):
        wanted: Any = {v for k in layers for v in (found[k].input, found[k].output)}
        observe = dict.fromkeys(wanted, lambda array: array)
        given = [*jax.tree.leaves(leaves), *jax.tree.leaves(x)]
        seen.append(run(analysis.program, given, observe=observe)[1])
    by_atom = {first.groups[n].atom: p for n, p in pairings.items()}

    def at(k: int, end: str) -> Any:
        values = [getattr(found[k], end) for _, found in known]
        axes = tuple(axes_of(a, v) for (a, _), v in zip(known, values, strict=True))
        arrays = seen[0][values[0]], seen[1][values[1]]
        shape = known[2][0].program.shape(values[2])
        what = f"what layer {made.layers[k].name!r} {'reads' if end == 'input' else 'writes'}"
        array = blend(arrays, axes, shape, by_atom, what)  # type: ignore[arg-type]
        return array.astype(at_least_single(array.dtype))

    out = []
    for k in layers:
        form = matrix_form(known[2][0].program, made.layers[k], known[2][1][k])
        y = form.outputs(at(k, "output"))
        tiles, (cross,) = form.moments(at(k, "input"), [y])
        out.append((tiles, cross, jnp.sum(jnp.square(y), (1, 2)), y.shape[1]))
    return out


def _blended(
    both: Two,
    made: Network,
    layers: Sequence[int],
    params: tuple[Params, Params],
    pairings: Pairings,
) -> list[Any]:
    """The merged network's leaves, zeros for the weights that are solved for."""
    by_atom = {both[0].groups[n].atom: p for n, p in pairings.items()}
    solved = {made.layers[k].contraction.weight for k in layers}
    out = []
    for i, (a, b) in enumerate(zip(*map(jax.tree.leaves, params), strict=True)):
        type_ = made.leaf_types[i]
        if i in solved:
            out.append(jnp.zeros(type_.shape, type_.dtype))
        elif not jnp.issubdtype(type_.dtype, jnp.inexact):
            out.append(a)
        else:
            axes = tuple(n.leaf_axes[i] for n in (*both, made))
            name = f"leaf {made.leaf_names[i]!r}"
            value = blend((jnp.asarray(a), jnp.asarray(b)), axes, type_.shape, by_atom, name)  # type: ignore[arg-type]
            out.append(value.astype(type_.dtype))
    return out


@dataclasses.dataclass(frozen=True)
class Pleas(Method):
    """Two networks merged by `pleas` with all units in pairs, into one as large as each of them.

    It pairs units by what they compute, whatever order they are in.
    """

    label = "PLeaS"
    source = "Nasery et al. 2025, Sec. 3"
    needs_inputs = True
    pairs_only = True

    def __call__(self, problem: Problem) -> Params:
        if problem.weights != (0.5, 0.5):
            raise ValueError(f"weights: PLeaS takes both networks alike, got {problem.weights}")
        a, b = problem.networks
        return pleas(problem.network, a, b, problem.x).params


__all__ = ["Merged", "Pleas", "pleas"]
