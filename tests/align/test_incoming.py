"""Layers matched by incoming weights, and by covariances: against SciPy's assignments in NumPy."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

import mcjax
from mcjax.align import match_activations, match_incoming
from tests.conftest import traced

SIZES = (5, 6, 7, 3)


def mlp(p, x):
    for k in range(3):
        x = x @ p[f"w{k}"] + p[f"b{k}"]
        x = jax.nn.relu(x) if k < 2 else x
    return x


def drawn(seed):
    rng = np.random.default_rng(seed)
    shapes = {f"w{k}": SIZES[k : k + 2] for k in range(3)} | {
        f"b{k}": SIZES[k + 1 : k + 2] for k in range(3)
    }
    return {n: jnp.asarray(rng.normal(size=s), jnp.float32) for n, s in shapes.items()}


def inputs(n=200):
    rng = np.random.default_rng(9)
    return (rng.normal(size=(n, 5)) @ np.diag([4, 1, 1, 0.1, 0.0]) + 1).astype(np.float32)


def hidden(p, x):
    """What each layer reads, in float64."""
    p, found = {k: np.asarray(v, np.float64) for k, v in p.items()}, [np.asarray(x, np.float64)]
    for k in range(2):
        found.append(np.maximum(found[-1] @ p[f"w{k}"] + p[f"b{k}"], 0))
    return found


@pytest.mark.parametrize("metric", ["weights", "inputs"])
def test_each_layer_is_the_assignment_after_the_one_before(metric):
    a, b, x = drawn(0), drawn(1), inputs()
    network = mcjax.trace(mlp, a, x)
    found = match_incoming(network, a, b, x if metric == "inputs" else None)
    before, rows = np.arange(5), {}
    for k, z in enumerate(hidden(a, x)[:2]):
        sigma = z.T @ z / len(z) if metric == "inputs" else np.eye(z.shape[1])
        w_a, w_b = (np.asarray(p[f"w{k}"], np.float64) for p in (a, b))
        w_b = w_b[before]
        apart = w_a[:, :, None] - w_b[:, None, :]
        cost = np.einsum("iuv,ij,juv->uv", apart, sigma, apart)
        before = linear_sum_assignment(cost)[1]
        name = network.layers[k].groups_out[0]
        rows[name] = (cost.trace() / len(cost), cost[range(len(cost)), before].mean())
        np.testing.assert_array_equal(found.permutations[name], before)
    for name, (start, end) in rows.items():
        assert found.before[name] == pytest.approx(start, rel=1e-4)
        assert found.after[name] == pytest.approx(end, rel=1e-4)
        assert found.statuses[name] == "optimal"
    assert found.status == "local optimum"
    assert found.minimised


def test_the_moments_of_both_networks():
    """Σ = ½ (Σ_A + P Σ_B Pᵀ), in NumPy; exchanging A and B gives the inverse permutations."""
    a, b, x = drawn(0), drawn(1), inputs()
    network = mcjax.trace(mlp, a, x)
    found, other = (
        match_incoming(network, a, b, x, both=True),
        match_incoming(network, b, a, x, both=True),
    )
    before = np.arange(5)
    for k, (z_a, z_b) in enumerate(zip(hidden(a, x)[:2], hidden(b, x)[:2], strict=True)):
        z_b = z_b[:, before]
        sigma = (z_a.T @ z_a + z_b.T @ z_b) / (2 * len(x))
        w_a, w_b = (np.asarray(p[f"w{k}"], np.float64) for p in (a, b))
        apart = w_a[:, :, None] - w_b[before][:, None, :]
        cost = np.einsum("iuv,ij,juv->uv", apart, sigma, apart)
        before = linear_sum_assignment(cost)[1]
        name = network.layers[k].groups_out[0]
        np.testing.assert_array_equal(found.permutations[name], before)
        np.testing.assert_array_equal(other.permutations[name], np.argsort(before))
        assert found.before[name] == pytest.approx(cost.trace() / len(cost), rel=1e-4)
        best = cost[range(len(cost)), before].mean()
        for one in (found, other):
            assert one.after[name] == pytest.approx(best, rel=1e-4)
    with pytest.raises(ValueError, match=r"both: .* x is None"):
        match_incoming(network, a, b, both=True)


@pytest.mark.parametrize("name", ["convnet", "inception"])
@pytest.mark.parametrize("data", [False, True, "both"])
def test_planted_permutations(name, data):
    case, network = traced(name)
    b = network.permute(network.random_permutations(jax.random.key(3)), case.params)
    found = match_incoming(network, case.params, b, case.x if data else None, both=data == "both")
    assert found.after["total"] < 1e-6 * max(found.before["total"], 1e-6)
    aligned = network.permute(found.permutations, b)
    for v, w in zip(jax.tree.leaves(aligned), jax.tree.leaves(case.params), strict=True):
        np.testing.assert_allclose(v, w, atol=1e-6)


def test_what_reads_units_that_are_not_matched_yet_does_not_count():
    """A stream that two layers write is matched by the first of them, the other after it."""

    def f(p, x):
        h = x @ p["in"]
        return (h + jax.nn.relu(h @ p["up"]) @ p["down"]) @ p["out"]

    shapes = {"in": (5, 8), "up": (8, 6), "down": (6, 8), "out": (8, 3)}
    rngs = [np.random.default_rng(seed) for seed in (3, 4)]
    a, b = ({n: r.normal(size=s).astype(np.float32) for n, s in shapes.items()} for r in rngs)
    network = mcjax.trace(f, a, inputs())
    found = match_incoming(network, a, b).permutations
    stream = linear_sum_assignment(a["in"].T @ b["in"], maximize=True)[1]
    hidden = linear_sum_assignment(a["up"].T @ b["up"][stream], maximize=True)[1]
    np.testing.assert_array_equal(found[network.layers[0].groups_out[0]], stream)
    np.testing.assert_array_equal(found[network.layers[1].groups_out[0]], hidden)


def test_the_covariance_of_activations():
    a, b, x = drawn(0), drawn(1), inputs()
    network = mcjax.trace(mlp, a, x)
    found = match_activations(network, a, b, x, "covariance")
    for k in (1, 2):
        z_a, z_b = (hidden(p, x)[k] for p in (a, b))
        profit = (z_a - z_a.mean(0)).T @ (z_b - z_b.mean(0)) / len(x)
        name = network.layers[k - 1].groups_out[0]
        best = linear_sum_assignment(profit, maximize=True)[1]
        np.testing.assert_array_equal(found.permutations[name], best)
        assert found.after[name] == pytest.approx(profit[range(len(best)), best].sum(), rel=1e-4)


def test_mistakes():
    a, x = drawn(0), inputs()
    network = mcjax.trace(mlp, a, x)
    for bad, words in (
        (np.full_like(x, np.nan), "x: what layer 'w0' reads is NaN"),
        (x[:0], "empty|at least one"),
        (iter([x]), "batched on axis 0"),
    ):
        with pytest.raises(ValueError, match=words):
            match_incoming(network, a, a, bad)
    with pytest.raises(ValueError, match="chunk must be a positive integer, got 0"):
        match_incoming(network, a, a, x, chunk=0)
    with pytest.raises(ValueError, match="w1"):
        match_incoming(network, a, {**a, "w1": a["w1"][:, :6]})
    with pytest.raises(ValueError, match=r"b2|w2"):  # of another depth
        match_incoming(network, a, {k: v for k, v in a.items() if k[1] != "2"})


def test_a_second_moment_of_too_few_examples_still_finds_what_it_sees():
    """One example: the metric has rank one, and units tell apart by one number each."""
    a, x = drawn(3), inputs()[:1]
    network = mcjax.trace(mlp, a, inputs())
    orders = {n: np.random.default_rng(4).permutation(g.shape[0])
              for n, g in network.groups.items()}  # fmt: skip
    b = network.permute(orders, a)
    found = match_incoming(network, a, b, x)
    assert found.after["total"] == pytest.approx(0, abs=1e-8)
    moved = network.permute(found.permutations, b)
    np.testing.assert_allclose(mlp(moved, x), mlp(a, x), rtol=1e-5)


def test_one_unit_a_layer():
    a = {"w1": np.ones((3, 1), np.float32), "w2": np.ones((1, 2), np.float32)}
    b = {k: 2 * v for k, v in a.items()}
    network = mcjax.trace(lambda p, x: jax.nn.relu(x @ p["w1"]) @ p["w2"], a, np.eye(3))
    for x in (None, np.eye(3, dtype=np.float32)):
        found = match_incoming(network, a, b, x)
        assert found.after == found.before
        assert {n: p.tolist() for n, p in found.permutations.items()} in ({}, {"w1": [0]})


@pytest.mark.parametrize("data", [False, True, "both"])
def test_counters_flags_and_keys_among_the_parameters(data):
    """As a flax module with dropout holds them."""
    net, x = drawn(0), inputs()
    b = {k: v[:, ::-1] if k == "w0" else v for k, v in net.items()} | {"b0": net["b0"][::-1]}
    b["w1"] = net["w1"][::-1]
    a, b = (
        {"net": p, "steps": jnp.int32(3), "on": jnp.array(True), "rng": jax.random.key(0)}
        for p in (net, b)
    )
    network = mcjax.trace(lambda p, x: mlp(p["net"], x), a, x)
    found = match_incoming(network, a, b, x if data else None, both=data == "both")
    assert found.permutations["net/w0"].tolist() == [5, 4, 3, 2, 1, 0]
    assert found.after["total"] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("both", [False, True])
def test_products_too_large_for_half_precision(both):
    """Of images in 0 to 255: Σ W is held in more bits than the weights."""
    rng = np.random.default_rng(6)
    a, b = (
        {
            k: np.abs(rng.normal(size=s)).astype(np.float16)
            for k, s in (("w1", (9, 6)), ("w2", (6, 2)))
        }
        for _ in range(2)
    )
    x = rng.uniform(0, 255, (40, 9)).astype(np.float16)
    network = mcjax.trace(lambda p, x: jax.nn.relu(x @ p["w1"]) @ p["w2"], a, x)
    wide = x.astype(np.float64)
    apart = a["w1"].astype(float)[:, :, None] - b["w1"].astype(float)[:, None]
    cost = np.einsum("iuv,ij,juv->uv", apart, wide.T @ wide / len(x), apart)
    found = match_incoming(network, a, b, x, both=both)
    np.testing.assert_array_equal(found.permutations["w1"], linear_sum_assignment(cost)[1])
