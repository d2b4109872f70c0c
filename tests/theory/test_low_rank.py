"""Rank and noise: planted, simulated, and against scikit-learn's probabilistic PCA."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import quad
from sklearn.decomposition import PCA

from mcjax import theory
from mcjax.theory.low_rank import _marchenko_pastur


def planted(rng, n, d, k, noise):
    """A subspace of k dimensions, of variance 1 in each coordinate of it, and noise."""
    basis = np.linalg.qr(rng.normal(size=(d, k)))[0]
    return rng.normal(size=(n, k)) @ basis.T + noise * rng.normal(size=(n, d))


@pytest.mark.parametrize(("n", "d", "k"), [(400, 20, 0), (400, 20, 3), (60, 300, 5), (100, 100, 1),
                                           (200, 12, 5), (2000, 4, 1)])  # fmt: skip
@pytest.mark.parametrize("noise", [0.05, 0.2])
def test_a_planted_subspace(n, d, k, noise):
    found = theory.low_rank_noise(planted(np.random.default_rng(0), n, d, k, noise))
    assert found.rank == k
    assert found.noise == pytest.approx(noise, rel=0.06)
    assert found.misfit < 0.3
    for size in (1e-180, 1e180):
        other = theory.low_rank_noise(size * planted(np.random.default_rng(0), n, d, k, noise))
        assert (other.rank, other.noise) == (k, pytest.approx(size * found.noise))


def test_noise_alone_has_no_rank_but_in_one_case_of_a_hundred():
    rng = np.random.default_rng(1)
    found = [theory.low_rank_noise(rng.normal(size=(80, 30))) for _ in range(400)]
    assert sum(f.rank > 0 for f in found) <= 13  # P < 0.1 % where 1 % is true
    assert np.mean([f.noise for f in found]) == pytest.approx(1, rel=0.01)


def test_what_probabilistic_pca_finds():
    """Minka's choice of k in scikit-learn, σ² the mean of the other eigenvalues."""
    x = planted(np.random.default_rng(2), 1000, 16, 4, 0.1)
    found, pca = theory.low_rank_noise(x), PCA(n_components="mle").fit(x)
    assert found.rank == pca.n_components_ == 4
    assert found.noise**2 == pytest.approx(pca.noise_variance_, rel=0.05)


def test_the_law_of_the_noise():
    for ratio in (0.01, 0.3, 1.0):
        x, distribution = _marchenko_pastur(ratio)
        low, high = (1 - ratio**0.5) ** 2, (1 + ratio**0.5) ** 2
        density = lambda v, r=ratio, a=low, b=high: np.sqrt((b - v) * (v - a)) / (2 * np.pi * r * v)
        for at in (0.2, 0.5, 0.9):
            end = low + at * (high - low)
            below = quad(density, low, end)[0]
            assert np.interp(end, x, distribution) == pytest.approx(below, abs=1e-4)


def test_what_is_no_low_rank_and_noise_is_seen():
    rng = np.random.default_rng(3)
    x = rng.normal(size=(300, 100)) * np.geomspace(1, 1e-3, 100)
    assert theory.low_rank_noise(x).misfit > 0.25
    assert theory.low_rank_noise(rng.normal(size=(300, 100))).misfit < 0.1


def test_edges():
    zeros = theory.low_rank_noise(np.zeros((3, 2)))
    assert (zeros.rank, zeros.noise) == (0, 0)
    assert np.isnan(zeros.misfit)
    rng = np.random.default_rng(4)
    exact = theory.low_rank_noise(planted(rng, 40, 30, 3, 0))  # without noise
    assert (exact.rank, exact.noise) == (3, 0)
    for shape in ((1, 50), (50, 1)):  # one unit, one dimension: their length
        x = rng.normal(size=shape)
        found = theory.low_rank_noise(x)
        assert found.rank == 0
        assert found.noise == pytest.approx(np.sqrt(np.mean(x**2)), rel=0.05)
    for bad, words in (
        (np.ones((0, 2)), r"cloud must be points \(m, d\)"),
        (np.ones(3), r"cloud must be points \(m, d\)"),
        (np.full((3, 2), np.nan), "cloud holds 6 NaN"),
    ):
        with pytest.raises(ValueError, match=words):
            theory.low_rank_noise(bad)
