"""Aligners against planted permutations and independent oracles."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

import mcjax
from mcjax import _stream
from mcjax.align import match_activations, match_butterflies, match_weights

from .. import streams
from ..conftest import COVERING, models, traced
from ..streams import KINDS


def mlp(p, x):
    for layer in p[:-1]:
        x = jax.nn.relu(x @ layer["w"] + layer["b"])
    return x @ p[-1]["w"] + p[-1]["b"]


def random_mlp(sizes, seed):
    rng = np.random.default_rng(seed)
    return [
        {"w": jnp.asarray(rng.normal(size=(m, n)) / m**0.5, jnp.float32),
         "b": jnp.asarray(rng.normal(size=n) * 0.3, jnp.float32)}
        for m, n in itertools.pairwise(sizes)
    ]  # fmt: skip


def inputs(n, d, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def planted(case, network):
    a = case.another(1)
    p = network.random_permutations(jax.random.key(5))
    return a, network.permute(p, a), mcjax.Action.of(network, p).inverse().permutations


def test_weights_recover_a_planted_permutation(model):
    case, network = model
    a, b, inverse = planted(case, network)
    matching = match_weights(network, a, b)
    for name in network.groups:
        np.testing.assert_array_equal(matching.permutations[name], inverse[name])
    assert matching.after["total"] > matching.before["total"]


def test_butterflies_recover_a_planted_permutation(model):
    case, network = model
    a, b, inverse = planted(case, network)
    matching = match_butterflies(network, a, b)
    for name in network.groups:
        np.testing.assert_array_equal(matching.permutations[name], inverse[name])
    assert matching.after["total"] == pytest.approx(0, abs=1e-4 * matching.before["total"])


@pytest.mark.parametrize("model", models(COVERING), indirect=True)
def test_activations_recover_a_planted_permutation(model):
    activations_recover_a_planted_permutation(*model, "correlation", "post")


@pytest.mark.parametrize(("statistic", "tap"), [("l2", "pre"), ("inner", "post")])
@pytest.mark.parametrize("name", ["convnet", "densenet", "transformer", "lstm", "experts"])
def test_other_statistics_recover_it_too(name, statistic, tap):
    activations_recover_a_planted_permutation(*traced(name), statistic, tap)


def activations_recover_a_planted_permutation(case, network, statistic, tap):
    a, b, inverse = planted(case, network)
    matching = match_activations(network, a, b, case.inputs(128), statistic, tap)
    for name in network.groups:
        wrong = int(np.sum(matching.permutations[name] != np.asarray(inverse[name])))
        assert wrong <= matching.dead.get(name, 0), name  # dead units cannot be told apart


# -- oracles -------------------------------------------------------------------------------


@pytest.mark.parametrize("statistic", ["correlation", "l2", "inner"])
@pytest.mark.parametrize("tap", ["post", "pre"])
def test_objective_against_numpy(statistic, tap):
    """Moments streamed in chunks give NumPy's float64 matrices and SciPy's optimum."""
    sizes = (6, 7, 5, 3)
    a, b = random_mlp(sizes, 0), random_mlp(sizes, 1)
    x = inputs(96, 6) + 3
    network = mcjax.trace(mlp, a, x)
    matching = match_activations(network, a, b, x, statistic, tap, chunk=32)

    def units(p):
        h, out = x.astype(np.float64), []
        for layer in p[:-1]:
            z = h @ np.asarray(layer["w"], np.float64) + np.asarray(layer["b"], np.float64)
            h = np.maximum(z, 0)
            out.append(h if tap == "post" else z)
        return out

    for name, u, v in zip(network.groups, units(a), units(b), strict=True):
        if statistic == "correlation":
            alive = (u.std(0) > 0)[:, None] & (v.std(0) > 0)[None]
            with np.errstate(all="ignore"):
                full = np.corrcoef(u.T, v.T)[: u.shape[1], u.shape[1] :]
            profit = np.where(alive, full, 0)
        elif statistic == "inner":
            profit = u.T @ v / len(u)
        else:
            profit = -((u[:, :, None] - v[:, None]) ** 2).mean(0)
        rows, columns = linear_sum_assignment(profit, maximize=True)
        sign = -1 if statistic == "l2" else 1
        assert matching.after[name] == pytest.approx(sign * profit[rows, columns].sum(), rel=1e-3)
        assert matching.before[name] == pytest.approx(sign * np.trace(profit), rel=1e-3, abs=1e-3)
        chosen = profit[rows, matching.permutations[name]].sum()
        assert chosen == pytest.approx(profit[rows, columns].sum(), rel=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_inputs_in_blocks_match_as_those_at_hand(kind, tmp_path, monkeypatch):
    """Profits in float64, of 53 examples in blocks that they do not fill."""
    a, b, x = random_mlp((6, 5, 3), 0), random_mlp((6, 5, 3), 1), inputs(53, 6)
    network = mcjax.trace(mlp, a, x[:2])
    whole = match_activations(network, a, b, x, "inner", "pre")
    monkeypatch.setattr(_stream, "BLOCK_BYTES", 16 * 6 * x.itemsize)
    sent, put = [], jnp.asarray
    monkeypatch.setattr(
        jnp, "asarray", lambda v, *r, **k: (sent.append(np.shape(v)), put(v, *r, **k))[1]
    )
    given = streams.inputs(kind, x, tmp_path)
    sent.clear()
    found = match_activations(network, a, b, given, "inner", "pre", chunk=8)
    assert kind == "array" or max(s[0] for s in sent if s[1:] == (6,)) <= 24
    for name, p in whole.permutations.items():
        np.testing.assert_array_equal(found.permutations[name], p)
    assert found.after["total"] == pytest.approx(whole.after["total"], rel=1e-5)
    assert found.metadata["examples"] == 53
    bad = streams.inputs(kind, np.where(np.arange(53)[:, None] == 20, np.nan, x), tmp_path)
    with pytest.raises(ValueError, match="holds 6 NaN"):
        match_activations(network, a, b, bad, "inner", "pre")


def test_no_group_alone_can_be_matched_better():
    """Where weight matching ends each layer is assigned optimally, the others held (in float64)."""
    a, b = (random_mlp((6, *6 * [30], 4), seed) for seed in (0, 1))
    network = mcjax.trace(mlp, a, inputs(2, 6))
    moved = network.permute(match_weights(network, a, b).permutations, b)
    a, moved = (jax.tree.map(np.float64, p) for p in (a, moved))
    for (u, after_u), (v, after_v) in zip(*map(itertools.pairwise, (a, moved)), strict=True):
        profit = u["w"].T @ v["w"] + np.outer(u["b"], v["b"]) + after_u["w"] @ after_v["w"].T
        best = profit[linear_sum_assignment(profit, maximize=True)].sum()
        assert np.trace(profit) == pytest.approx(best, rel=1e-4)


def test_one_hidden_layer_is_matched_optimally():
    """Brute force over all 120 permutations of five neurons."""
    a, b = random_mlp((4, 5, 3), 0), random_mlp((4, 5, 3), 1)
    network = mcjax.trace(mlp, a, inputs(2, 4))
    rows = [np.concatenate([p[0]["w"], p[0]["b"][None], np.asarray(p[1]["w"]).T]) for p in (a, b)]
    best = min(
        np.sum((rows[0] - rows[1][:, list(p)]) ** 2) for p in itertools.permutations(range(5))
    )
    rest = np.sum((np.asarray(a[1]["b"]) - np.asarray(b[1]["b"])) ** 2)
    transport = match_butterflies(network, a, b)
    assert transport.after["total"] == pytest.approx(best + rest, rel=1e-5)
    assert transport.status == "optimal"
    weights = match_weights(network, a, b)
    np.testing.assert_array_equal(weights.permutations["0"], transport.permutations["0"])


def test_heads_are_matched_jointly_with_their_units():
    """Two heads of three units: brute force over 2!·(3!)² permutations."""

    def model(p, x):
        h = jnp.tanh(jnp.einsum("bd,dhu->bhu", x, p["a"]))
        return jnp.einsum("bhu,huo->bo", h / (1 + h.sum(-1, keepdims=True) ** 2), p["b"])

    rng = np.random.default_rng(3)
    make = lambda: {"a": rng.normal(size=(4, 2, 3)), "b": rng.normal(size=(2, 3, 2))}
    a, b = (jax.tree.map(lambda v: jnp.asarray(v, jnp.float32), make()) for _ in range(2))
    network = mcjax.trace(model, a, inputs(2, 4))
    assert sorted(g.shape for g in network.groups.values()) == [(2,), (2, 3)]
    best = -np.inf
    for heads in itertools.permutations(range(2)):
        value = 0.0
        for i, j in enumerate(heads):
            value += max(
                np.sum(np.asarray(a["a"])[:, i] * np.asarray(b["a"])[:, j][:, list(u)])
                + np.sum(np.asarray(a["b"])[i] * np.asarray(b["b"])[j][list(u)])
                for u in itertools.permutations(range(3))
            )
        best = max(best, value)
    assert match_weights(network, a, b).after["total"] == pytest.approx(best, rel=1e-5)


# -- properties ----------------------------------------------------------------------------


def test_matching_is_equivariant():
    """Aligning a permuted b gives the same aligned network."""
    sizes = (6, 8, 8, 3)
    a, b = random_mlp(sizes, 0), random_mlp(sizes, 1)
    x = inputs(200, 6)
    network = mcjax.trace(mlp, a, x)
    moved = network.permute(network.random_permutations(jax.random.key(1)), b)
    first = network.permute(match_activations(network, a, b, x).permutations, b)
    second = network.permute(match_activations(network, a, moved, x).permutations, moved)
    jax.tree.map(np.testing.assert_array_equal, first, second)


def test_weight_matching_is_reproducible_and_restarts_help():
    sizes = (6, 16, 16, 16, 3)
    a, b = random_mlp(sizes, 0), random_mlp(sizes, 1)
    network = mcjax.trace(mlp, a, inputs(2, 6))
    key = jax.random.key(7)
    once, twice = (match_weights(network, a, b, key=key, restarts=3) for _ in range(2))
    for name in network.groups:
        np.testing.assert_array_equal(once.permutations[name], twice.permutations[name])
    assert once.after["total"] >= match_weights(network, a, b, key=key).after["total"]
    old_style = match_weights(network, a, b, key=jax.random.key_data(key), restarts=3)
    assert old_style.after == once.after
    aligned = network.permute(once.permutations, b)
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(aligned), strict=True)
    inner = sum(float(np.vdot(x, y)) for x, y in pairs)
    assert once.after["total"] == pytest.approx(inner, rel=1e-5)


def test_dead_units_have_correlation_zero():
    a, b = random_mlp((6, 5, 3), 0), random_mlp((6, 5, 3), 1)
    a[0]["b"] = a[0]["b"].at[2].set(-100.0)  # never fires
    x = inputs(64, 6)
    network = mcjax.trace(mlp, a, x)
    matching = match_activations(network, a, b, x)
    assert matching.dead == {"0": 1}
    assert np.isfinite(matching.after["total"])
    assert sorted(matching.permutations["0"]) == list(range(5))


def test_all_units_dead():
    a = random_mlp((6, 5, 3), 0)
    a[0]["b"] = a[0]["b"] - 1000
    x = inputs(64, 6)
    network = mcjax.trace(mlp, a, x)
    matching = match_activations(network, a, a, x)
    assert matching.dead == {"0": 5}
    np.testing.assert_array_equal(matching.permutations["0"], np.arange(5))
    assert matching.status == "incomplete"
    assert "none of its units varies" in matching.unmatched["0"]


def test_nan_inputs_are_refused():
    """XLA's compiled maximum may take NaN for zero: the activations would look well."""
    a = random_mlp((6, 5, 3), 0)
    x = inputs(64, 6)
    network = mcjax.trace(mlp, a, x)
    with pytest.raises(ValueError, match="x holds 1 NaN of 384 values"):
        match_activations(network, a, a, jnp.asarray(x).at[3, 2].set(jnp.nan))


def test_a_large_mean_does_not_drown_the_correlation():
    """Streaming moments are centred: a mean of 1e4 leaves the permutation recoverable."""
    a = random_mlp((6, 5, 3), 0)
    a[0]["b"] = a[0]["b"] + 1e4
    x = inputs(512, 6)
    network = mcjax.trace(mlp, a, x)
    p = {"0": np.array([3, 1, 4, 0, 2])}
    b = network.permute(p, a)
    matching = match_activations(network, a, b, x, chunk=64)
    np.testing.assert_array_equal(matching.permutations["0"], np.argsort(p["0"]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"statistic": "cosine"},
            "statistic must be one of 'correlation', 'covariance', 'l2', 'inner'",
        ),
        ({"tap": "middle"}, "tap must be one of 'post', 'pre', got 'middle'"),
        ({"x": np.zeros((0, 6), np.float32)}, "x is an empty batch"),
        ({"chunk": 0}, "chunk must be a positive integer, got 0"),
    ],
)
def test_bad_arguments(change, message):
    a = random_mlp((6, 5, 3), 0)
    network = mcjax.trace(mlp, a, inputs(2, 6))
    arguments = {"x": inputs(8, 6)} | change
    with pytest.raises(ValueError, match=message):
        match_activations(network, a, a, **arguments)


@pytest.mark.parametrize("aligner", [match_weights, match_butterflies])
def test_bad_parameters(aligner):
    a = random_mlp((6, 5, 3), 0)
    network = mcjax.trace(mlp, a, inputs(2, 6))
    with pytest.raises(ValueError, match=r"b: leaf '0/b' has shape \(6,\), expected \(5,\)"):
        aligner(network, a, random_mlp((6, 6, 3), 0))
    bad = random_mlp((6, 5, 3), 0)
    bad[1]["b"] = bad[1]["b"].at[0].set(jnp.inf)
    with pytest.raises(ValueError, match="b: leaf '1/b' holds 1 NaN or infinite"):
        aligner(network, a, bad)


def test_a_matching_is_no_permutation():
    a = random_mlp((6, 5, 3), 0)
    network = mcjax.trace(mlp, a, inputs(64, 6))
    matching = match_activations(network, a, a, inputs(64, 6))
    with pytest.raises(ValueError, match=r"got a Matching; pass its \.permutations"):
        network.permute(matching, a)


def test_a_matching_is_an_action():
    a, b = random_mlp((6, 5, 4, 3), 0), random_mlp((6, 5, 4, 3), 1)
    network = mcjax.trace(mlp, a, inputs(2, 6))
    matching = match_weights(network, a, b)
    moved = matching.action(network)(b)
    jax.tree.map(np.testing.assert_array_equal, moved, network.permute(matching.permutations, b))
    back = matching.action(network).inverse()(moved)
    jax.tree.map(np.testing.assert_array_equal, back, b)
