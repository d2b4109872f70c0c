"""Correlation signatures against NumPy."""

from __future__ import annotations

import numpy as np
import pytest

import mcjax
from mcjax.align import correlation_signature, match_activations

from ..conftest import traced
from .test_matching import inputs, mlp, random_mlp


def test_against_numpy():
    a, b = random_mlp((6, 7, 5, 3), 0), random_mlp((6, 7, 5, 3), 1)
    x = inputs(300, 6)
    network = mcjax.trace(mlp, a, x)
    found = correlation_signature(network, a, b, x, chunk=100)
    expected, ha, hb = [], x, x
    for la, lb in zip(a[:-1], b[:-1], strict=True):
        ha = np.maximum(ha @ np.asarray(la["w"]) + np.asarray(la["b"]), 0)
        hb = np.maximum(hb @ np.asarray(lb["w"]) + np.asarray(lb["b"]), 0)
        expected.append(
            np.mean([np.corrcoef(ha[:, i], hb[:, i])[0, 1] for i in range(ha.shape[1])])
        )
    np.testing.assert_allclose(list(found.values()), expected, atol=1e-4)


@pytest.mark.parametrize("name", ["convnet", "layernorm", "scan", "attention-grouped-query"])
def test_alignment_raises_the_signature(name):
    case, network = traced(name)
    a, b = case.another(1), case.another(2)
    x = case.inputs(64)
    matching = match_activations(network, a, b, x)
    before = correlation_signature(network, a, b, x)
    after = correlation_signature(network, a, network.permute(matching.permutations, b), x)
    assert list(before) == list(after)
    assert sum(after.values()) >= sum(before.values()) - 1e-6


def test_unknown_tap():
    a = random_mlp((3, 4, 2), 0)
    network = mcjax.trace(mlp, a, inputs(2, 3))
    with pytest.raises(ValueError, match="tap must be one of"):
        correlation_signature(network, a, a, inputs(5, 3), "middle")
