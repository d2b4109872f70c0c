"""Trained polygonal chains, the baseline of anokhin2020 (Garipov et al. 2018)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import jax
import numpy as np

from .._types import ApplyFn, Params
from ..fitting import fit
from ..network.batch_norm import in_training_mode
from ..path import PolygonalChain
from ..protocol import Protocol, cross_entropy_of


def train_chain(
    apply_fn: ApplyFn,
    a: Params,
    b: Params,
    bends: int,
    data: tuple[Any, Any],
    protocol: Protocol,
    key: jax.Array,
) -> PolygonalChain:
    """A chain whose free bends minimise the mean loss over uniformly drawn t.

    anokhin2020's "Garipov (3)" has one bend, "Garipov (5)" three; batch normalisation uses the
    statistics of the batch.
    """
    x, y = (np.asarray(v) for v in data)
    steps = len(x) // protocol.batch
    if not steps:
        raise ValueError(f"x: {len(x)} examples are fewer than one batch of {protocol.batch}")
    order = np.random.default_rng(np.asarray(jax.random.key_data(key)).tolist())

    def batches() -> Iterator[Any]:
        for _ in range(protocol.epochs):
            shuffled = order.permutation(len(x))[: steps * protocol.batch]
            for indices in shuffled.reshape(steps, protocol.batch):
                yield x[indices], y[indices]

    optimizer = protocol.optimizer(steps * protocol.epochs)
    path = PolygonalChain.between(a, b, bends)
    return fit(path, _loss(apply_fn), batches(), optimizer, key=key).path  # type: ignore[return-value]


@lru_cache(maxsize=16)
def _loss(apply_fn: ApplyFn):
    """The same object for the same model, so that nothing is compiled twice."""
    return cross_entropy_of(in_training_mode(apply_fn))
