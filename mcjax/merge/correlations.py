"""Correlations of two networks' units, over data that is streamed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np

from .._inputs import length
from .._stream import Inputs
from .._tree import at_least_single
from .._types import Params
from ..adjust.moments import parts
from ..align.activations import inverse_deviation
from ..network import chunks
from ..network.network import Network


def in_chunks(inputs: Inputs) -> Iterator[Any]:
    """All examples, a chunk at a time."""
    for part, size in parts(inputs):
        for first in range(0, length(part), size):
            yield chunks.take(part, first, size)


def correlations(
    both: tuple[Network, Network],
    params: tuple[Params, Params],
    inputs: Inputs,
    names: Sequence[str],
) -> dict[str, Any]:
    """Group → correlations of A's units with B's, summed over the values that hold them.

    Of complex units the real part: that of their real and imaginary parts taken as samples.
    """
    pivots: dict[tuple[str, int], Any] = {}
    sums: dict[tuple[str, int], list[Any]] = {}
    for x in in_chunks(inputs):
        seen = [n.activations(p, x) for n, p in zip(both, params, strict=True)]
        for name in names:
            for tap, (z, w) in enumerate(zip(seen[0][name], seen[1][name], strict=True)):
                key = name, tap
                z, w = (v.astype(at_least_single(v.dtype)) for v in (z, w))
                z0, w0 = pivots.setdefault(key, (z.mean(0), w.mean(0)))  # no digits cancel
                z, w = z - z0[None], w - w0[None]
                squares = [(v * v.conj()).real.sum(0) for v in (z, w)]
                new = [len(z), z.sum(0), w.sum(0), *squares, z.T @ w.conj()]
                new = [np.asarray(v, np.result_type(v, np.float64)) for v in jax.device_get(new)]
                sums[key] = [s + v for s, v in zip(sums.get(key, [0.0] * 6), new, strict=True)]
    shape = {n: tuple(net.groups[n].size for net in both) for n in names}
    found = {n: np.zeros(s) for n, s in shape.items()}
    for (name, tap), (n, z, w, zz, ww, zw) in sums.items():
        z0, w0 = pivots[name, tap]
        scale = inverse_deviation(zz / n - np.abs(z / n) ** 2, np.asarray(z0 + z / n))
        other = inverse_deviation(ww / n - np.abs(w / n) ** 2, np.asarray(w0 + w / n))
        found[name] += np.real(zw / n - np.outer(z, w.conj()) / n**2) * np.outer(scale, other)
    return found


__all__ = ["correlations", "in_chunks"]
