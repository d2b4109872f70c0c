"""Uncentred second moments of what a network's layers read."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from .._inputs import length
from .._stream import is_batches
from .._tree import at_least_single
from .._types import Params
from ..network.network import Network
from ..path import Linear
from .form import WeightForm, matrix_form
from .lookups import frequencies, lookup_form
from .moments import Wanted, inputs_of, moments_along, samples_per_example


@dataclasses.dataclass(frozen=True, eq=False)
class LayerMoment:
    """A layer, and Σ = E[x xᵀ] of what it reads.

    - `layer`: its number
    - `form`: how its weight is read as matrices
    - `moment`: (batch, inputs, inputs), float64; positions and examples are samples. Of a look-up,
      whose inputs are one-hot vectors of tokens, Σ is diagonal: (1, inputs), the shares of tokens
    - `samples`: their number, which no rank is above
    - `precision`: the relative spacing of the numbers that products were computed in
    """

    layer: int
    form: WeightForm
    moment: np.ndarray
    samples: int
    precision: float

    @property
    def is_lookup(self) -> bool:
        """Whether the layer looks up rows, so that Σ is held as its diagonal."""
        return self.moment.ndim == 2

    @property
    def blocks(self) -> np.ndarray:
        """Σ as the blocks of a block-diagonal matrix, (batch, inputs, inputs) or (inputs, 1, 1)."""
        return self.moment.reshape(-1, 1, 1) if self.is_lookup else self.moment

    def weights(self, leaf: Any) -> np.ndarray:
        """W, (batch, inputs, outputs), in float64."""
        return np.asarray(leaf, np.float64).reshape(-1)[self.form.index]

    def times(self, weights: np.ndarray) -> np.ndarray:
        """Σ W, (batch, inputs, outputs)."""
        return self.moment[..., None] * weights if self.is_lookup else self.moment @ weights

    def root(self) -> LayerMoment:
        """The same with Σ^½ in the place of Σ; eigenvalues that are rounding of zeros are zeros.

        Their roots would not be small. Of d inputs those below √d · precision of the largest are,
        as errors of d products that are independent add up (on MNIST's pixels and hidden units, and
        on planted ranks, those of zeros are at most 0.5 · precision), and all but as many as there
        are samples.
        """
        if self.is_lookup:
            return dataclasses.replace(self, moment=np.sqrt(self.moment))
        values, vectors = np.linalg.eigh(self.moment)
        size = values.shape[-1]
        values[values <= np.sqrt(size) * self.precision * values[..., -1:]] = 0
        values[..., : max(size - self.samples, 0)] = 0
        root = vectors * np.sqrt(values)[..., None, :] @ vectors.swapaxes(-1, -2)
        return dataclasses.replace(self, moment=root)


def second_moments(
    network: Network, params: Params, x: Any, layers: Sequence[int], chunk: int | None = None
) -> list[LayerMoment]:
    """Σ of layers' inputs over x, in one pass over the data if these fit in 1 GiB.

    Where the model normalises by batches, by the statistics of the chunk. What look-ups read is
    counted in a pass of its own.

    **Arguments:**
    - `x`: inputs batched on axis 0 (memory maps too)
    - `layers`: by number

    **Raises:** `ValueError` for batches of inputs, whose number nobody knows; for layers in loops,
    look-ups of something else than rows and weights with other uses; for what is not finite.
    """
    if is_batches(x):
        raise ValueError("x must be inputs batched on axis 0, got an iterable of batches")
    lookups = [k for k in layers if network.layers[k].kind == "embedding"]
    others = [k for k in layers if k not in lookups]
    found = [*_of_lookups(network, params, x, lookups, chunk),
             *_of_others(network, params, x, others, chunk)]  # fmt: skip
    return sorted(found, key=lambda moment: [*layers].index(moment.layer))


def _of_lookups(
    network: Network, params: Params, x: Any, layers: Sequence[int], chunk: int | None
) -> Iterator[LayerMoment]:
    if not layers:
        return
    forms = [lookup_form(network, network.layers[k]) for k in layers]
    counted = frequencies(network, params, x, layers, chunk)
    for k, form, (shares, tokens) in zip(layers, forms, counted, strict=True):
        yield LayerMoment(k, form, shares[None], tokens, float(np.finfo(np.float64).eps))


def _of_others(
    network: Network, params: Params, x: Any, layers: Sequence[int], chunk: int | None
) -> Iterator[LayerMoment]:
    if not layers:
        return
    program, wanted = network.analysis.program, [Wanted(k, 0) for k in layers]
    found = [matrix_form(program, network.layers[k], network.layers[k].contraction)
             for k in layers]  # fmt: skip
    inputs, examples = inputs_of(network, x, wanted, chunk), length(network.inputs(x))
    (of_layers,) = moments_along(network, Linear(params, params), [0.0], wanted, [params], inputs)
    for k, form, normals in zip(layers, found, of_layers, strict=True):
        layer = network.layers[k]
        samples = round(examples * samples_per_example(network, layer, form))
        moment = np.stack([n.gram for n in normals]) / samples
        if not np.isfinite(moment).all():
            raise ValueError(
                f"x: what layer {layer.name!r} reads is NaN, or too large to be squared"
            )
        read = layer.contraction.input
        assert read is not None  # it is of look-ups alone
        precision = np.finfo(at_least_single(program.aval(read).dtype)).eps
        yield LayerMoment(k, form, moment, samples, float(precision))


__all__ = ["LayerMoment", "second_moments"]
