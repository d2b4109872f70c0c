"""Effective dimensions against eigenvalues in NumPy."""

from __future__ import annotations

import jax
import numpy as np
import pytest

import mcjax
from mcjax import theory
from tests.align.test_incoming import drawn, hidden, inputs, mlp


def by_eigenvalues(s):
    values = np.linalg.eigvalsh(s)
    return values.sum() ** 2 / np.square(values).sum()


def test_known_matrices():
    rng = np.random.default_rng(0)
    v = rng.normal(size=4)
    assert theory.effective_dimension(np.outer(v, v)) == pytest.approx(1)
    assert theory.effective_dimension(1e-200 * np.eye(6)) == pytest.approx(6)
    assert np.isnan(theory.effective_dimension(np.zeros((2, 2))))
    blocks = np.stack([np.eye(2), 2 * np.eye(2)])
    assert theory.effective_dimension(blocks) == pytest.approx(
        by_eigenvalues(np.diag([1, 1, 2, 2]))
    )
    for bad, words in (
        (np.ones((2, 3)), "expected"),
        (np.full((2, 2), np.nan), "holds 4 NaN"),
        (np.array([[1, 2], [0, 1]]), "symmetric"),
    ):
        with pytest.raises(ValueError, match=words):
            theory.effective_dimension(bad)


@pytest.mark.parametrize("n", [200, 2])  # two examples: a singular second moment
def test_layers_of_a_network(n):
    params, x = drawn(0), inputs(n)
    network = mcjax.trace(mlp, params, x)
    found = theory.layer_dimensions(network, params, x)
    for k, (layer, z) in enumerate(zip(found, hidden(params, x), strict=True)):
        w = np.asarray(params[f"w{k}"], np.float64)
        sigma = z.T @ z / n
        assert layer.weights == pytest.approx(by_eigenvalues(w.T @ w), rel=1e-4)
        assert layer.incoming == pytest.approx(by_eigenvalues(w.T @ sigma @ w), rel=1e-4)
        assert layer.inputs == pytest.approx(by_eigenvalues(sigma), rel=1e-4)
        assert layer.inputs <= n * (1 + 1e-6)


def test_no_permutation_changes_them():
    params, x = drawn(0), inputs()
    network = mcjax.trace(mlp, params, x)
    moved = network.permute(network.random_permutations(jax.random.key(0)), params)
    for one, other in zip(*(theory.layer_dimensions(network, p, x) for p in (params, moved)),
                          strict=True):  # fmt: skip
        for name in ("weights", "incoming", "inputs"):
            assert getattr(one, name) == pytest.approx(getattr(other, name), rel=1e-4)
