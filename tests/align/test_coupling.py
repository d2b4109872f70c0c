"""Couplings of networks of different widths: planted copies of units, and linear programs."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linprog

import mcjax
from mcjax.align import couple_incoming, match_incoming
from mcjax.transport import Problem, Sinkhorn, Unbalanced

X = np.random.default_rng(9).normal(size=(20, 4)).astype(np.float32)


def model(p, x):
    h = jax.nn.relu(x @ p["w1"] + p["b1"])
    return jax.nn.relu(h @ p["w2"] + p["b2"]) @ p["w3"]


def draw(seed, n=6, m=5):
    rng = np.random.default_rng(seed)
    shapes = {"w1": (4, n), "b1": (n,), "w2": (n, m), "b2": (m,), "w3": (m, 3)}
    return {k: rng.normal(size=s).astype(np.float32) for k, s in shapes.items()}


def copied(p, seed):
    """The same function with every unit twice, in a random order; outgoing weights halved."""
    rng = np.random.default_rng(seed)
    first, second = (rng.permutation(np.repeat(np.arange(len(p[b])), 2)) for b in ("b1", "b2"))
    return {
        "w1": p["w1"][:, first], "b1": p["b1"][first],
        "w2": p["w2"][first][:, second] / 2, "b2": p["b2"][second], "w3": p["w3"][second] / 2,
    }  # fmt: skip


def trace(p, f=model, x=X):
    return mcjax.trace(f, p, x)


def test_of_equal_widths_it_is_matching():
    a, b = draw(0), draw(1)
    network = trace(a)
    matching = match_incoming(network, a, b)
    found = couple_incoming(network, a, network, b)
    expected = network.permute(matching.permutations, b)
    jax.tree.map(lambda u, v: np.testing.assert_allclose(u, v, rtol=1e-6), found.params, expected)
    assert set(found.statuses.values()) == {"optimal"}
    for name in network.groups:
        assert found.distances[name] == pytest.approx(matching.after[name], rel=1e-5)


def test_copies_of_units_are_put_together():
    a = draw(2)
    b = copied(a, 3)
    found = couple_incoming(trace(a), a, trace(b), b)
    jax.tree.map(lambda u, v: np.testing.assert_allclose(u, v, atol=1e-6), found.params, a)
    assert found.couplings["w1"].shape == (6, 12)
    assert max(found.distances.values()) < 1e-10


def test_a_narrow_network_is_carried_to_copies_of_its_units():
    b = draw(4)
    a = copied(b, 5)
    found = couple_incoming(trace(a), a, trace(b), b)
    assert found.params["w2"].shape == (12, 10)
    np.testing.assert_allclose(model(found.params, X), model(b, X), atol=1e-5)
    middle = mcjax.path.Linear(a, found.params)(0.5)
    np.testing.assert_allclose(model(middle, X), model(b, X), atol=1e-5)


def test_the_first_distance_is_that_of_the_linear_program():
    a, b = draw(6, 5), draw(7, 7)
    found = couple_incoming(trace(a), a, trace(b), b)
    cost = ((a["w1"].T[:, None].astype(float) - b["w1"].T[None]) ** 2).sum(-1)
    rows = np.kron(np.eye(5), np.ones(7)), np.kron(np.ones(5), np.eye(7))
    sums = np.r_[np.full(5, 1 / 5), np.full(7, 1 / 7)]
    expected = linprog(cost.ravel(), A_eq=np.vstack(rows), b_eq=sums).fun
    assert found.distances["w1"] == pytest.approx(expected, rel=1e-6)
    # Barycentric projection of the first layer, by hand.
    projected = b["w1"] @ found.couplings["w1"].T * 5
    np.testing.assert_allclose(found.params["w1"], projected, rtol=1e-4, atol=1e-5)


def test_a_dead_unit_without_weight_is_left_out():
    a = draw(8)
    b = {k: np.array(v) for k, v in a.items()}
    b["w1"] = np.concatenate([b["w1"], np.full((4, 1), 3, np.float32)], 1)
    b["b1"] = np.append(b["b1"], np.float32(-1e3))
    b["w2"] = np.concatenate([b["w2"], np.ones((1, 5), np.float32)])
    weights = {"w1": (np.full(6, 1 / 6), np.r_[np.full(6, 1 / 6), 0])}
    found = couple_incoming(trace(a), a, trace(b), b, weights=weights)
    jax.tree.map(lambda u, v: np.testing.assert_allclose(u, v, atol=1e-5), found.params, a)


def with_a_far_dead_unit(p):
    """The same function with a unit more, which is never active and far from all others."""
    return {
        **p,
        "w1": np.concatenate([p["w1"], np.full((4, 1), 30, np.float32)], 1),
        "b1": np.append(p["b1"], np.float32(-1e4)),
        "w2": np.concatenate([p["w2"], np.full((1, 5), 5, np.float32)]),
    }


def test_unbalanced_transport_is_optimal_by_its_conditions():
    """d/dΠ of the objective, which is strictly convex, vanishes."""
    rng = np.random.default_rng(13)
    cost, a, b = rng.uniform(size=(5, 7)), rng.dirichlet(np.ones(5)), rng.dirichlet(np.ones(7))
    cost -= cost.min()
    for penalty in (0.05, 1.0):
        solver = Unbalanced(penalty, epsilon=0.1, tolerance=1e-6)
        found = solver.couple(Problem(3 * cost, 2 * a, 2 * b))
        plan = found.coupling / 2
        slopes = (
            cost / cost.mean()
            + penalty * np.log(plan.sum(1) / a)[:, None]
            + penalty * np.log(plan.sum(0) / b)
            + 0.1 * np.log(plan / np.outer(a, b))
        )
        np.testing.assert_allclose(slopes, 0, atol=1e-3)
        assert found.status == "entropic"
        assert found.value == pytest.approx(6 * np.vdot(cost, plan))
    assert plan.sum() < 1  # some of it stays behind


def test_a_far_dead_unit_is_left_behind():
    a = draw(8)
    b = with_a_far_dead_unit(a)
    networks = trace(a), trace(b)
    found = couple_incoming(networks[0], a, networks[1], b, solver=Unbalanced(0.1, 0.0001))
    exact = couple_incoming(networks[0], a, networks[1], b)
    assert set(found.statuses.values()) == {"entropic"}
    assert found.couplings["w1"][:, 6].sum() < 0.02 / 7
    away = [np.abs(model(f.params, X) - model(a, X)).max() for f in (found, exact)]
    assert away[0] < 0.2 < 5 < away[1]
    for name in ("w1", "b1", "w2"):
        np.testing.assert_allclose(found.params[name], a[name], atol=0.05)


def test_unbalanced_transport_that_has_not_converged_says_so():
    a, b = draw(10), draw(11, 9, 8)
    with pytest.warns(UserWarning, match=r"after 1 iterations.* or more iterations"):
        found = couple_incoming(
            trace(a), a, trace(b), b, solver=Unbalanced(1.0, 0.001, iterations=1)
        )
    assert "not converged" in found.statuses.values()
    for options in ({"penalty": 0.0}, {"epsilon": np.inf}, {"tolerance": -1.0}):
        with pytest.raises(ValueError, match=f"{next(iter(options))} must be positive and finite"):
            Unbalanced(**options)
    with pytest.raises(ValueError, match="solver must be a mcjax"):
        mcjax.theory.wasserstein([[0.0]], [[1.0]], solver=Unbalanced())  # type: ignore[arg-type]


def test_deviations_of_batch_normalisation_are_averaged():
    """Units that compute σ_j z + µ_j: their mean deviates by the mean of σ."""

    def f(p, x):
        h = (x @ p["w"] - p["mean"]) * jax.lax.rsqrt(p["var"] + 1e-5)
        return jax.nn.relu(h) @ p["v"]

    sigma = np.array([1.0, 3.0, 2.0, 2.0], np.float32)
    column = np.array([[1.0], [0], [0], [0]], np.float32)
    other = np.array([[0.0], [9], [0], [0]], np.float32)
    b = {
        "w": np.concatenate([column * sigma[:2], other * sigma[2:]], 1),
        "mean": sigma, "var": sigma**2, "v": np.ones((4, 2), np.float32),
    }  # fmt: skip
    a = {"w": np.concatenate([2 * column, 2 * other], 1), "mean": np.zeros(2, np.float32),
         "var": np.ones(2, np.float32), "v": np.ones((2, 2), np.float32)}  # fmt: skip
    found = couple_incoming(trace(a, f), a, trace(b, f), b)
    np.testing.assert_allclose(found.params["var"], [4, 4], rtol=1e-6)  # of variances: 5 and 4
    np.testing.assert_allclose(found.params["mean"], [2, 2], rtol=1e-6)
    np.testing.assert_allclose(f(found.params, X), f(b, X), rtol=1e-4, atol=1e-4)


def test_soft_couplings_say_so():
    a, b = draw(10), draw(11, 9, 8)
    found = couple_incoming(trace(a), a, trace(b), b, solver=Sinkhorn(epsilon=0.1))
    assert set(found.statuses.values()) == {"entropic"}
    np.testing.assert_allclose(found.couplings["w1"].sum(1), 1 / 6, atol=1e-3)
    exact = couple_incoming(trace(a), a, trace(b), b)
    assert found.distances["w1"] > exact.distances["w1"]
    assert (found.couplings["w1"] > 1e-6).sum() > (exact.couplings["w1"] > 1e-6).sum()


def test_channels_of_a_convolution():
    def f(p, x):
        h = jax.lax.conv(x, p["k"], (1, 1), "SAME") + p["b"][:, None, None]
        return jax.nn.relu(h).mean((2, 3)) @ p["w"]

    rng = np.random.default_rng(12)
    x = rng.normal(size=(5, 2, 6, 6)).astype(np.float32)
    b = {k: rng.normal(size=s).astype(np.float32)
         for k, s in {"k": (3, 2, 3, 3), "b": (3,), "w": (3, 4)}.items()}  # fmt: skip
    order = rng.permutation(np.repeat(np.arange(3), 2))
    a = {"k": b["k"][order], "b": b["b"][order], "w": b["w"][order] / 2}
    found = couple_incoming(trace(a, f, x), a, trace(b, f, x), b)
    np.testing.assert_allclose(f(found.params, x), f(b, x), atol=1e-5)


def test_mistakes():
    a, b = draw(0), draw(1)
    network = trace(a)
    short = {**b, "w1": b["w1"][:3]}
    of_short = trace(short, x=X[:, :3])
    shallow = {"w1": b["w1"], "w2": b["w3"][:1].repeat(6, 0)}
    of_shallow = trace(shallow, lambda p, x: jnp.tanh(x @ p["w1"]) @ p["w2"])
    with pytest.raises(ValueError, match=r"leaf 'w1' has shape \(3, 6\), where network"):
        couple_incoming(network, a, of_short, short)
    with pytest.raises(ValueError, match="other: not the same model, its leaves differ"):
        couple_incoming(network, a, of_shallow, shallow)
    unknown, unequal = {"no": (None, None)}, {"w1": (np.ones(6), np.full(6, 2.0))}
    with pytest.raises(ValueError, match="weights"):
        couple_incoming(network, a, network, b, weights=unknown)
    with pytest.raises(ValueError, match="different sums"):
        couple_incoming(network, a, network, b, weights=unequal)
    holed = {**b, "b2": np.full(5, np.nan, np.float32)}
    with pytest.raises(ValueError, match="b2"):
        couple_incoming(network, a, network, holed)
