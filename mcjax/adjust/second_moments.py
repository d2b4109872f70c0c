"""Uncentred second moments of what a network's layers read."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from .._inputs import length
from .._stream import is_batches
from .._types import Params
from ..network.network import Network
from ..path import Linear
from .form import MatrixForm, matrix_form
from .moments import Wanted, inputs_of, moments_along, samples_per_example


@dataclasses.dataclass(frozen=True, eq=False)
class LayerMoment:
    """A layer, and Σ = E[x xᵀ] of what it reads.

    - `layer`: its number
    - `form`: how its weight is read as matrices
    - `moment`: (batch, inputs, inputs), float64; positions and examples are samples
    """

    layer: int
    form: MatrixForm
    moment: np.ndarray

    def weights(self, leaf: Any) -> np.ndarray:
        """W, (batch, inputs, outputs), in float64."""
        return np.asarray(leaf, np.float64).reshape(-1)[self.form.index]


def second_moments(
    network: Network, params: Params, x: Any, layers: Sequence[int], chunk: int | None = None
) -> list[LayerMoment]:
    """Σ of layers' inputs over x, in one pass over the data if these fit in 1 GiB.

    Where the model normalises by batches, by the statistics of the chunk.

    **Arguments:**
    - `x`: inputs batched on axis 0 (memory maps too)
    - `layers`: by number

    **Raises:** `ValueError` for batches of inputs, whose number nobody knows; for layers that are
    look-ups or in loops, and for weights with other uses; for what is not finite.
    """
    if is_batches(x):
        raise ValueError("x must be inputs batched on axis 0, got an iterable of batches")
    wanted = [Wanted(k, 0) for k in layers]
    found = [matrix_form(network.analysis.program, network.layers[k],
                         network.layers[k].contraction) for k in layers]  # fmt: skip
    inputs, examples = inputs_of(network, x, wanted, chunk), length(network.inputs(x))
    (of_layers,) = moments_along(network, Linear(params, params), [0.0], wanted, [params], inputs)
    out = []
    for k, form, normals in zip(layers, found, of_layers, strict=True):
        samples = examples * samples_per_example(network, network.layers[k], form)
        moment = np.stack([n.gram for n in normals]) / samples
        if not np.isfinite(moment).all():
            name = network.layers[k].name
            raise ValueError(f"x: what layer {name!r} reads is NaN, or too large to be squared")
        out.append(LayerMoment(k, form, moment))
    return out


__all__ = ["LayerMoment", "second_moments"]
