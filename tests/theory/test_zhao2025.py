"""zhao2025 against oracles, and where the print is wrong."""

from __future__ import annotations

import itertools
import math
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mcjax
from mcjax import theory
from mcjax.symmetry import log


def product(weights):
    out = np.eye(len(weights[0]))
    for w in weights:
        out = np.asarray(w) @ out
    return out


def minima(seed, layers, h):
    """Two minima of one linear network, of any labels."""
    rng = np.random.default_rng(seed)
    a = [rng.normal(size=(h, h)) for _ in range(layers)]
    target = product(a)
    b = [rng.normal(size=(h, h)) for _ in range(layers - 1)]
    return a, [*b, target @ np.linalg.inv(product(b))]


@pytest.mark.parametrize(("layers", "h"), [(2, 2), (4, 5)])
def test_every_two_minima_are_joined_after_permutations_of_the_right_parity(layers, h):
    with jax.enable_x64(True):
        for seed in range(4):
            a, b = minima(seed, layers, h)
            permutations = theory.connecting_permutations(a, b)
            moved = theory.permute_linear(permutations, a)
            np.testing.assert_allclose(product(moved), product(a), atol=1e-12)
            path = theory.connect_minima(moved, b)
            for t in (0.0, 0.3, 0.7, 1.0):
                point = path(t)
                np.testing.assert_allclose(product(point), product(a), rtol=1e-8, atol=1e-8)
                assert [np.sign(np.linalg.det(w)) for w in point[:-1]] == list(
                    theory.component_label(b)
                )
            if h < 5:  # rounding grows with the condition of the weights
                ends = (tuple(map(jnp.asarray, w)) for w in (moved, b))
                mcjax.testing.check_path(path, *ends)


def test_labels_are_counted_and_x_changes_them_for_all_alike():
    flips = itertools.product((1.0, -1.0), repeat=3)
    labels = {theory.component_label([*(np.diag([f, 1.0]) for f in fs), np.eye(2)]) for fs in flips}
    assert len(labels) == theory.component_count(4) == 8
    a, b = minima(0, 3, 2)
    x = np.diag([-2.0, 1.0])
    for w in (a, b):
        assert theory.component_label(w, x)[0] == -theory.component_label(w)[0]


def test_the_printed_action_does_not_keep_the_loss():
    a, _ = minima(1, 3, 3)
    p = np.eye(3)[[1, 0, 2]]
    printed = [a[0] @ p, p.T @ a[1] @ p, p @ a[2]]  # (W₁P₁, P₁⁻¹W₂P₂, P₂W₃)
    assert np.abs(product(printed) - product(a)).max() > 0.1


def test_minima_that_are_none_or_apart_are_refused():
    eye, flip = np.eye(2), np.diag([-1.0, 1.0])
    with pytest.raises(ValueError, match="different components"):
        theory.connect_minima([eye, eye], [flip, flip])
    with pytest.raises(ValueError, match="products differ"):
        theory.connect_minima([eye, eye], [eye, 2 * eye])
    with pytest.raises(ValueError, match=r"a\[1\] is singular"):
        theory.connect_minima([eye, 0 * eye], [eye, eye])
    with pytest.raises(ValueError, match=r"weights\[1\]: expected shape \(2, 2\)"):
        theory.component_label([eye, np.eye(3)])
    with pytest.raises(ValueError, match="no odd permutation"):
        theory.connecting_permutations([eye[:1, :1], eye[:1, :1]], [-eye[:1, :1], -eye[:1, :1]])


@pytest.mark.parametrize("epsilon", [1.0, -0.7, 0.0])
def test_residual_components_are_those_of_a_flood_fill(epsilon):
    from scipy.ndimage import label

    grid = np.linspace(-3, 3, 602)  # even: neither axis is on it
    w1, w2 = np.meshgrid(grid, grid, indexing="ij")
    # Two marked sides: cells between them belong to none.
    sides = [s * (w1 * w2 + epsilon) > 0.02 for s in (1, -1)]
    found = theory.residual_component(w1, w2, epsilon)
    parts = [(filled == i + 1) for side in sides for filled, n in [label(side)] for i in range(n)]
    assert len(parts) == theory.residual_component_count(epsilon)
    labels = [np.unique(found[part]) for part in parts]
    assert all(len(v) == 1 for v in labels)
    assert len({int(v[0]) for v in labels}) == len(parts)


def test_residual_minima_are_minima():
    with pytest.raises(ValueError, match="no minima"):
        theory.residual_component(1.0, -1.0, 1.0)


@settings(deadline=None)
@given(st.floats(-3, 3), st.sampled_from([0.5, 1.0, 2.0, 3.0]))
def test_the_worst_alpha_is_the_worst_on_a_grid(log_m, k):
    with jax.enable_x64(True):
        m = math.exp(log_m)
        alphas = np.linspace(0, 1, 20_001)
        losses = ((1 - alphas + alphas * m**-k) * (1 - alphas + alphas * m) ** k - 1) ** 2
        highest = losses.max()
        assert float(theory.barrier_height(m, k)) == pytest.approx(highest, rel=1e-5, abs=1e-12)
        if abs(log_m) > 0.05:
            assert float(theory.worst_alpha(m, k)) == pytest.approx(
                alphas[losses.argmax()], abs=1e-3
            )


@pytest.mark.parametrize("k", [0.5, 1.0, 2.0, 3.0])
def test_the_worst_alpha_is_smooth_at_one(k):
    with jax.enable_x64(True):
        inside, outside = (theory.worst_alpha(np.exp(s), k) for s in (0.9999e-4, 1.0001e-4))
        assert float(inside) == pytest.approx(float(outside), abs=1e-8)


def network_loss(w, z, m, k, order, alpha):
    """The loss at alpha by running the network, permutation matrices and all."""
    p = np.eye(len(z))[list(order)]
    hidden = np.maximum((1 - alpha) * z + alpha * m * p @ z, 0) ** k
    last = (1 - alpha) * w + alpha * m**-k * w @ p.T
    return np.square(w @ np.maximum(z, 0) ** k - last @ hidden).sum()


@pytest.mark.parametrize("k", [1, 2])
def test_heights_are_those_of_a_network_and_the_print_is_wrong(k):
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        w, z = rng.normal(size=(3, 4)), rng.normal(size=(4, 6))
        norm = np.linalg.norm(w @ np.maximum(z, 0) ** k)
        alpha = float(theory.worst_alpha(5.0, k))
        assert network_loss(w, z, 5.0, k, range(4), alpha) == pytest.approx(
            float(theory.barrier_height(5.0, k)) * norm**2
        )
        m = float(theory.scale_for_barrier(7.0, norm, k))
        assert network_loss(w, z, m, k, range(4), 0.5) > 7


def test_the_printed_exponent_gives_too_low_a_barrier():
    """Prop. 5.3 for k = ½, b = ‖Y‖² = 1: the loss at the middle is 0.003 with m's exponent k."""
    k, base = 0.5, 2**1.5 * 2 - 1
    losses = [(theory.segment_gain(0.5, base**e, k) - 1) ** 2 for e in (k, -1 / k)]
    assert losses[0] < 0.01
    assert losses[1] > 1


@pytest.mark.parametrize("k", [1.0, 2.0])
def test_bounded_orbits_have_bounded_barriers(k):
    with jax.enable_x64(True):
        last, before, c, norm = 1.5, 0.7, 4.0, 2.0
        bound = theory.bounded_barrier(last, before, c, norm, k)
        inside = np.geomspace((last / c) ** (1 / k), c / before, 500)
        heights = norm**2 * np.asarray(theory.barrier_height(inside, k))
        assert bound == pytest.approx(heights.max(), rel=1e-9)
    with pytest.raises(ValueError, match="no m has both norms"):
        theory.bounded_barrier(10.0, 10.0, 1.0, 1.0)


def relu(z):
    return np.maximum(z, 0)


def test_the_least_barrier_over_permutations():
    rng = np.random.default_rng(3)
    w, z = rng.normal(size=(2, 5)), rng.normal(size=(5, 4))
    found = theory.permuted_barrier(w, z, relu, 30.0, alpha=0.4)
    every = {p: network_loss(w, z, 30.0, 1, p, 0.4) for p in itertools.permutations(range(5))}
    assert found.status == "optimal"
    assert found.lower == found.upper == pytest.approx(min(every.values()))
    assert tuple(found.permutation) == min(every, key=every.get)
    larger = theory.permuted_barrier(w, z, relu, 300.0, alpha=0.4)
    assert larger.lower > 10 * found.lower  # unbounded in m


def test_bounds_beyond_enumeration(monkeypatch):
    for seed in range(3):
        rng = np.random.default_rng(seed)
        w, z = rng.normal(size=(2, 6)), rng.normal(size=(6, 5))
        exact = theory.permuted_barrier(w, z, relu, 20.0)
        module = sys.modules["mcjax.theory.permuted_barrier"]
        monkeypatch.setattr(module, "ENUMERATED", 2)
        bounded = theory.permuted_barrier(w, z, relu, 20.0)
        monkeypatch.undo()
        assert bounded.status == "bounded"
        assert 0 <= bounded.lower <= exact.lower + 1e-9
        assert bounded.upper >= exact.lower - 1e-9
        assert network_loss(w, z, 20.0, 1, bounded.permutation, 0.5) == pytest.approx(bounded.upper)


@pytest.mark.parametrize("c", [1.0, 1.3, 1.9, 2.5, 10.0])
def test_distance_to_a_hyperbola(c):
    g = np.concatenate([np.geomspace(1e-3, 1e3, 400_001)])
    brute = np.sqrt(((c - 1 / g) ** 2 + (c - g) ** 2).min())
    assert theory.distance_to_hyperbola(c) == pytest.approx(brute, abs=1e-4)
    one = np.ones((1, 1))
    found = theory.distance_to_orbit((c * one, c * one), (one, one))
    assert found.distance == pytest.approx(brute, abs=1e-4)
    assert found.status == "stationary"


def test_distance_to_the_orbit_of_a_head():
    rng = np.random.default_rng(0)
    q, k = rng.normal(size=(6, 3)), rng.normal(size=(3, 6))
    g = rng.normal(size=(3, 3))
    found = theory.distance_to_orbit((q @ np.linalg.inv(g), g @ k), (q, k))
    assert found.distance < 1e-4
    np.testing.assert_allclose(found.element, g, atol=1e-3)
    other = theory.distance_to_orbit((rng.normal(size=(6, 3)), k), (q, k))
    moved = np.linalg.inv(other.element), other.element
    assert other.distance > 0.1
    assert np.isfinite(moved[0]).all()
    with pytest.raises(ValueError, match="orbit: expected shapes"):
        theory.distance_to_orbit((q, k), (q[:4], k))


def sigmoid(z):
    return 1 / (1 + jnp.exp(-z))


def two_layers(seed, h, n, m, examples):
    rng = np.random.default_rng(seed)
    sizes = (h, n), (m, h), (n, examples), (h, h)
    return [rng.normal(size=s) for s in sizes]


def test_the_approximate_map_changes_outputs_by_a_projection():
    with jax.enable_x64(True):
        for seed, (h, examples) in enumerate([(5, 12), (5, 4), (3, 20)]):
            v, u, x, g = two_layers(seed, h, 7, 4, examples)
            v2, u2 = theory.approximate_action(g, (v, u), x, sigmoid, cutoff=1e-10)
            old = u @ np.asarray(sigmoid(v @ x))
            change = np.linalg.norm(old - u2 @ sigmoid(v2 @ x))
            assert change <= np.linalg.norm(old) * (1 + 1e-9)
            hidden = np.asarray(sigmoid(g @ v @ x))
            assert (change < 1e-6) == (np.linalg.matrix_rank(hidden) == examples)
            # The identity moves U exactly where there are fewer examples than units.
            _, same = theory.approximate_action(np.eye(h), (v, u), x, sigmoid, cutoff=1e-10)
            assert np.allclose(same, u, atol=1e-6) == (examples >= h)


def test_curves_of_groups_keep_what_the_group_keeps():
    with jax.enable_x64(True):
        v, u, _, g = two_layers(4, 5, 7, 4, 3)
        g[0] *= np.sign(np.linalg.det(g))
        path = theory.GroupCurve((v, u), log(g), theory.act_between)
        mcjax.testing.check_path(path, path.at(0.0), path.at(1.0))
        np.testing.assert_allclose(path(1.0)[0], g @ v, atol=1e-9)
        for t in (0.2, 0.6):
            np.testing.assert_allclose(path(t)[1] @ path(t)[0], u @ v, atol=1e-9)


class Circle(mcjax.path.Path):
    """An arc of a circle in a plane of a space of dimension 3, at a speed that changes."""

    radius: jax.Array
    angle: jax.Array

    def at(self, t):
        s = self.angle * (t + t**2) / 2
        return {"w": self.radius * jnp.stack([jnp.cos(s), jnp.sin(s), 0 * s])}


def test_curvature_of_a_circle_and_where_the_theorem_is_false():
    radius = 2.5
    for angle, status in ((2.0, "theorem"), (6.0, "longer than π/κ")):
        arc = Circle(jnp.asarray(radius), jnp.asarray(angle))
        ts = np.linspace(0.05, 0.95, 7)
        kappa, speed = theory.curvature(arc, ts)
        np.testing.assert_allclose(kappa, 1 / radius, rtol=1e-6)
        np.testing.assert_allclose(speed, radius * angle * (1 + 2 * ts) / 2, rtol=1e-6)
        chord = 2 * radius * math.sin(angle / 2)
        bound = theory.chord_bound(1 / radius, chord, radius * angle)
        assert bound.status == status
        s = np.linspace(0, angle, 4001)
        curve = radius * np.stack([np.cos(s), np.sin(s)], -1)
        line = curve[0] + np.linspace(0, 1, 101)[:, None] * (curve[-1] - curve[0])
        apart = np.linalg.norm(line[:, None] - curve[None], axis=-1).min(1).max()
        assert apart <= bound.distance + 1e-4
        assert (apart <= bound.formula + 1e-4) == (status == "theorem")
        assert bound.loss(3.0) == 3 * bound.distance


def test_bounds_of_chords():
    assert theory.chord_bound(0.0, 2.0, 2.0).distance == 0
    undefined = theory.chord_bound(3.0, 2.0, 2.5)
    assert (undefined.status, undefined.distance) == ("root undefined", 1.0)
    assert math.isnan(undefined.formula)
    small = theory.chord_bound(1e-9, 1.0, 1.0)
    assert small.formula == pytest.approx(1e-9 / 8)  # no cancellation
    with pytest.raises(ValueError, match="not shorter than its chord"):
        theory.chord_bound(1.0, 2.0, 1.0)
    with pytest.raises(ValueError, match="curvature must be"):
        theory.chord_bound(math.nan, 1.0, 1.0)
