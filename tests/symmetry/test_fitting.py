"""Scales and matrices that balance or fit: SciPy from many starts, grids and laws as oracles."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.optimize

from mcjax.symmetry.balancing import balancing_matrix, balancing_scale
from mcjax.symmetry.fitting import nearest_invertible, nearest_scale

POWERS = [(1, -1), (1, -2), (2, -1, 1), (1, -1, -3), (-1, 1, -2), (1,), (-1, -2)]


def inverse_transpose(g):
    return np.linalg.inv(g).swapaxes(-1, -2)


@pytest.mark.parametrize("powers", [p for p in POWERS if min(p) < 0 < max(p)])
def test_balancing_scale_is_the_least_point(powers):
    rng = np.random.default_rng(0)
    s = {k: rng.gamma(1, size=5) * 10.0 ** rng.integers(-4, 4) for k in powers}
    c = balancing_scale(s)
    for i in range(5):

        def log_of_sum(t, i=i):
            return np.logaddexp.reduce([2 * k * t + np.log(s[k][i]) for k in powers])

        best = scipy.optimize.minimize_scalar(log_of_sum, bracket=(-1, 1))
        assert np.log(c[i]) == pytest.approx(best.x, abs=1e-6)


def test_balancing_scale_without_a_least_point():
    c = balancing_scale({1: [0.0, 4.0, 0.0], -1: [9.0, 0.0, 0.0]})
    np.testing.assert_allclose(c, [3, 0.5, 1])  # what there is gets length 1
    c = balancing_scale({1: np.array([2.0]), 2: np.array([3.0])})
    assert 2 * c[0] ** 2 + 6 * c[0] ** 4 == pytest.approx(1)


def test_balancing_matrix_makes_grams_equal():
    rng = np.random.default_rng(1)
    w, r = rng.normal(size=(3, 4, 6)), rng.normal(size=(3, 4, 5))
    g = balancing_matrix(w @ w.swapaxes(1, 2), r @ r.swapaxes(1, 2))
    w, r = g @ w, inverse_transpose(g) @ r
    np.testing.assert_allclose(w @ w.swapaxes(1, 2), r @ r.swapaxes(1, 2), atol=1e-10)
    assert (np.linalg.eigvalsh(g) > 0).all()


def test_balancing_matrices_of_lower_rank():
    """Both Grams become diagonal in one basis, as long as the others are where one is 0; in any
    basis alike, and in any unit of length."""
    rng = np.random.default_rng(5)
    w, r = np.diag([4.0, 9, 2, 0, 0]), np.diag([1.0, 4, 0, 3, 0])
    h = rng.normal(size=(5, 5))
    back = np.linalg.inv(h)
    for one, other in ((w, r), (h @ w @ h.T, back.T @ r @ back)):
        g = balancing_matrix(one, other)
        back = np.linalg.inv(g)
        one, other = g @ one @ g.T, back.T @ other @ back
        np.testing.assert_allclose(one @ other, other @ one, atol=1e-8)
        sizes, turn = np.linalg.eigh(one + 2 * other)
        mean = np.sqrt(2.0 * 6)
        np.testing.assert_allclose(sizes, [0, mean, 6, 2 * mean, 18], atol=1e-8)
        np.testing.assert_allclose(np.diag(turn.T @ one @ turn), [0, mean, 2, 0, 6], atol=1e-8)
    for unit in (1e-60, 1e60):
        np.testing.assert_allclose(
            balancing_matrix(unit * w, unit * r), balancing_matrix(w, r), rtol=1e-9
        )


@pytest.mark.parametrize("powers", POWERS)
def test_nearest_scale_is_the_best_of_a_grid(powers):
    rng = np.random.default_rng(2)
    p = {k: rng.normal(size=6) for k in powers}
    s = {k: rng.gamma(1, size=6) + 0.1 for k in powers}
    c, value = nearest_scale(s, p)
    t = np.linspace(-8, 8, 40001)
    for i in range(6):
        at = sum(s[k][i] * np.exp(2 * k * t) - 2 * p[k][i] * np.exp(k * t) for k in powers)
        own = sum(s[k][i] * c[i] ** (2 * k) - 2 * p[k][i] * c[i] ** k for k in powers)
        assert value[i] == pytest.approx(own)
        # Where all products are negative and exponents of one sign, c = 0 would be best.
        attained = at.argmin() not in (0, len(t) - 1)
        assert value[i] <= at.min() + 1e-9 or not attained


def test_nearest_scale_far_away():
    c, value = nearest_scale({1: [1e-8], -1: [1e8]}, {1: [1.0], -1: [1.0]})
    assert c[0] == pytest.approx(1e8)
    assert value[0] == pytest.approx(-2 * 1e8 + 1e8 - 1e-8, rel=1e-6)
    assert nearest_scale({1: [0.0]}, {1: [0.0]})[0].tolist() == [1]


def test_nearest_invertible_finds_a_planted_matrix_and_scipys_minimum():
    rng = np.random.default_rng(3)
    w, r = rng.normal(size=(4, 6)), rng.normal(size=(4, 5))
    g = np.eye(4) + 0.5 * rng.normal(size=(4, 4))
    found = nearest_invertible(g @ w, w, inverse_transpose(g) @ r, r)
    np.testing.assert_allclose(found, g, atol=1e-9)
    aw, ar = g @ w + 0.3 * rng.normal(size=w.shape), inverse_transpose(g) @ r

    def distance(flat):
        h = flat.reshape(4, 4)
        return np.sum((aw - h @ w) ** 2) + np.sum((ar - inverse_transpose(h) @ r) ** 2)

    found = nearest_invertible(aw, w, ar, r)
    best = min(
        scipy.optimize.minimize(distance, (np.eye(4) + 0.3 * rng.normal(size=(4, 4))).ravel()).fun
        for _ in range(4)
    )
    assert distance(found.ravel()) <= best * (1 + 1e-6)
