"""Merging methods that look at data, against gradients and least squares by hand, in float64."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mcjax
from mcjax.align.activations import checked_inputs
from mcjax.merge import Each, RegMean, fisher_diagonal, merge
from mcjax.merge.correlations import correlations
from mcjax.tasks import CLASSIFICATION, NEXT_TOKEN, REGRESSION
from tests.conftest import traced

from .cases import NAMES, NETWORK, TUNED, X, Y, close, draw, merged, mlp, wide


def probabilities(p, x):
    z = np.asarray(mlp(p, x), np.float64)
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def backward(p, x, delta):
    """Gradients of one example by hand: those of x → outputs, with ∂/∂outputs = δ."""
    p, x = wide(p), np.asarray(x, np.float64)
    h = x @ p["w1"] + p["b1"]
    a = np.maximum(h, 0)
    dh = (p["w2"] @ delta) * (h > 0)
    return {"w1": np.outer(x, dh), "b1": dh, "w2": np.outer(a, delta), "b2": delta}


def fisher_in_numpy(p, x, kind, y=None):
    out = {n: np.zeros(v.shape) for n, v in p.items()}
    for i, one in enumerate(x):
        q = probabilities(p, one)
        if kind == "classes":
            scores = [(q[c], np.eye(3)[c] - q) for c in range(3)]
        elif kind == "numbers":
            scores = [(1.0, np.eye(3)[c]) for c in range(3)]
        else:
            scores = [(1.0, np.eye(3)[y[i]] - q)]
        for share, delta in scores:
            for n, g in backward(p, one, delta).items():
                out[n] += share * g**2 / len(x)
    return out


def diagonal(task, labels="model", x=X, y=None):
    found = fisher_diagonal(
        NETWORK, TUNED[0], x, y, task=task, labels=labels, key=jax.random.key(0)
    )
    return {n: found[i] for i, n in enumerate(sorted(NAMES))}


def test_fisher_information_by_hand(monkeypatch):
    monkeypatch.setattr("mcjax.merge.fisher._BYTES", 7 * 4 * 3 * 51)  # chunks of 7, not of 60
    close(diagonal(CLASSIFICATION), fisher_in_numpy(TUNED[0], X, "classes"), 1e-4)
    close(diagonal(REGRESSION), fisher_in_numpy(TUNED[0], X, "numbers"), 1e-4)
    given = fisher_in_numpy(TUNED[0], X, "given", Y)
    close(diagonal(CLASSIFICATION, "given", y=Y), given, 1e-4)


def test_fisher_of_tokens_is_right_in_expectation():
    """A drawn token's gradient: the mean over keys is the sum over the vocabulary, by hand."""
    f = lambda p, x: jnp.cumsum(x @ p["w"], 1)  # (examples, positions, vocabulary)
    rng = np.random.default_rng(0)
    w = {"w": jnp.asarray(rng.normal(size=(3, 4)) / 2, jnp.float32)}
    x = jnp.asarray(rng.normal(size=(5, 2, 3)), jnp.float32)
    network, y = mcjax.trace(f, w, x), np.array([[1, 0], [2, -100], [3, 1], [-100, 2], [0, 0]])
    keys = range(400)
    for labels in (None, y):
        found = [fisher_diagonal(network, w, x, labels, task=NEXT_TOKEN, key=jax.random.key(k))[0]
                 for k in keys]  # fmt: skip
        wanted = np.zeros((3, 4))
        for i in range(5):
            for s in range(2):
                if labels is not None and y[i, s] < 0:
                    continue
                z = np.asarray(f(w, x)[i, s], np.float64)
                q = np.exp(z) / np.exp(z).sum()
                read = np.asarray(x[i, : s + 1], np.float64).sum(0)
                for v in range(4):
                    wanted += q[v] * np.outer(read, np.eye(4)[v] - q) ** 2 / 5
        error = np.std(found, 0) / np.sqrt(len(keys))
        assert (np.abs(np.mean(found, 0) - wanted) < 6 * error + 1e-6).all()


def test_fisher_weighs_entries():
    own = [X[:20], X[20:50], X[30:]]
    w = (0.5, 0.2, 0.3)
    f = [fisher_in_numpy(p, x, "classes") for p, x in zip(TUNED, own)]
    tuned, wanted = [wide(p) for p in TUNED], {}
    for n in NAMES:
        total = sum(a * v[n] for a, v in zip(w, f))
        top = sum(a * v[n] * p[n] for a, v, p in zip(w, f, tuned))
        mean = sum(a * p[n] for a, p in zip(w, tuned))
        wanted[n] = np.where(total > 0, top / np.where(total > 0, total, 1), mean)
    close(merged("fisher", x=Each(own), y=None, weights=w), wanted, 1e-4)
    with_dead = [dict(p, b1=p["b1"].at[2].set(-99.0)) for p in TUNED]  # the unit never fires
    made = merged("fisher", with_dead, y=None)
    np.testing.assert_allclose(made["w1"][:, 2], np.mean([p["w1"][:, 2] for p in TUNED], 0), 1e-5)


@pytest.mark.parametrize("alpha", [0.0, 0.9, 1.0])
def test_regmean(alpha):
    own = [X[:40], X[20:], X[10:50]]
    w = (0.5, 0.2, 0.3)
    tuned, wanted = [wide(p) for p in TUNED], {}
    for n in ("b1", "b2"):
        wanted[n] = sum(a * p[n] for a, p in zip(w, tuned))
    read = [[np.asarray(x, np.float64) for x in own],
            [np.maximum(np.asarray(x, np.float64) @ p["w1"] + p["b1"], 0)
             for x, p in zip(own, tuned)]]  # fmt: skip
    for n, reads in zip(("w1", "w2"), read):
        grams = [v.T @ v / len(v) for v in reads]
        grams = [a * (alpha * g + (1 - alpha) * np.diag(np.diag(g))) for a, g in zip(w, grams)]
        wanted[n] = np.linalg.inv(sum(grams)) @ sum(g @ p[n] for g, p in zip(grams, tuned))
    close(merged(RegMean(alpha), x=Each(own), y=None, weights=w), wanted, 1e-3)


def test_regmean_leaves_what_nobody_reads_at_the_mean():
    x = np.array(X)
    x[:, 1] = 0
    made = merged("regmean", x=x)
    mean = np.mean([p["w1"][1] for p in TUNED], 0)
    np.testing.assert_allclose(made["w1"][1], mean, rtol=1e-5)


def test_regmean_of_convolutions():
    """Σ_i w_i ‖conv(x_i, W) − conv(x_i, W_i)‖² has no slope at W."""

    def conv(k, x):
        return jax.lax.conv_general_dilated(
            x, k, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    f = lambda p, x: jax.nn.relu(conv(p["k"], x)).mean((1, 2)) @ p["w"]
    rng = np.random.default_rng(1)
    a, b = ({"k": jnp.asarray(rng.normal(size=(3, 3, 2, 4)), jnp.float32),
             "w": jnp.asarray(rng.normal(size=(4, 3)), jnp.float32)} for _ in range(2))  # fmt: skip
    own = [jnp.asarray(rng.normal(size=(30, 5, 5, 2)), jnp.float32) for _ in range(2)]
    w = (0.3, 0.7)

    def objective(k):
        parts = zip(w, own, (a, b))
        return sum(s * jnp.sum((conv(k, x) - conv(p["k"], x)) ** 2) for s, x, p in parts)

    made = merge(mcjax.trace(f, a, own[0]), [a, b], RegMean(1.0), x=Each(own), weights=w,
                 permutations=[{}, {}]).params  # fmt: skip
    slope = jax.grad(objective)
    mean = w[0] * a["k"] + w[1] * b["k"]
    assert jnp.linalg.norm(slope(made["k"])) < 1e-4 * jnp.linalg.norm(slope(mean))
    assert objective(made["k"]) < objective(mean)


def test_regmean_says_which_layers_it_averages():
    case, network = traced("scan")
    a, b, x = case.another(1), case.another(2), case.inputs(40)
    with pytest.warns(UserWarning, match="is averaged: layer 'a' is inside a loop"):
        merge(network, [a, b], "regmean", x=x)


def zip_in_numpy(a, b, pairs):
    """Merged by hand: each unit the mean of a pair's, read by what read one of them."""
    a, b = wide(a), wide(b)
    columns = np.concatenate([a["w1"], b["w1"]], 1), np.concatenate([a["b1"], b["b1"]])
    rows = np.concatenate([a["w2"], b["w2"]], 0)
    return {
        "w1": np.stack([(columns[0][:, i] + columns[0][:, j]) / 2 for i, j in pairs], 1),
        "b1": np.stack([(columns[1][i] + columns[1][j]) / 2 for i, j in pairs]),
        "w2": np.stack([(rows[i] + rows[j]) / 2 for i, j in pairs]),
        "b2": (a["b2"] + b["b2"]) / 2,
    }


def test_zipit_of_a_layer():
    a, b = (dict(p, b1=p["b1"] + 1.0) for p in (draw(5), draw(6)))
    fires = [np.maximum(np.asarray(X, np.float64) @ wide(p)["w1"] + wide(p)["b1"], 0)
             for p in (a, b)]  # fmt: skip
    left, pairs = np.corrcoef(np.concatenate(fires, 1).T), []
    np.fill_diagonal(left, -2)
    while len(pairs) < 6:
        i, j = sorted(np.unravel_index(left.argmax(), left.shape))
        pairs.append((i, j))
        left[[i, j]] = left[:, [i, j]] = -2
    assert any(j < 6 or i >= 6 for i, j in pairs)  # within a network
    close(merged("zipit", [a, b], permutations=[{}, {}]), zip_in_numpy(a, b, sorted(pairs)), 1e-4)


def test_zipit_keeps_what_twins_leave_room_for():
    """Every unit of both networks twice: the merged one has each once, the mean of both outputs."""

    def twins(seed):
        half = draw(seed)
        w1, b1 = (jnp.repeat(half[n][..., :3], 2, -1) for n in ("w1", "b1"))
        rows = jnp.asarray(np.random.default_rng(seed).normal(size=(6, 3)), jnp.float32)
        return {"w1": w1, "b1": b1 + 1.0, "w2": rows, "b2": half["b2"]}

    a, b = twins(11), twins(12)
    made = merged("zipit", [a, b])
    wanted = (mlp(a, X) + mlp(b, X)) / 2
    np.testing.assert_allclose(mlp(made, X), wanted, rtol=1e-4, atol=1e-4)
    off = float(jnp.abs(mlp(merged("soup", [a, b], base=None), X) - wanted).max())
    assert off > 0.1  # which no order of units does


@pytest.mark.parametrize("name", ["transformer", "vgg-bn", "interleaved-gates"])
def test_zipit_of_copies(name):
    case, network = traced(name)
    a, x = case.another(1), case.inputs(60)
    b = network.permute(network.random_permutations(jax.random.key(0)), a)
    made = merge(network, [a, b], "zipit", x=x).params
    wanted = case.run(a, x)
    np.testing.assert_allclose(case.run(made, x), wanted, atol=2e-3, rtol=2e-3)


def complex_networks():
    def model(p, x):
        return jnp.abs(x @ p["w1"]) ** 2 @ p["w2"]

    rng = np.random.default_rng(7)
    draw = lambda *s: (rng.normal(size=s) + 1j * rng.normal(size=s)).astype(np.complex64)
    networks = [{"w1": draw(4, 5), "w2": draw(5, 3).real} for _ in range(2)]
    return mcjax.trace(model, networks[0], X[:2]), networks


def test_regmean_averages_complex_layers_and_says_so():
    network, networks = complex_networks()
    with pytest.warns(UserWarning, match=r"w1.*averaged.*complex"):
        made = merge(network, networks, "regmean", x=X, permutations=[{}, {}]).params
    np.testing.assert_allclose(made["w1"], (networks[0]["w1"] + networks[1]["w1"]) / 2, rtol=1e-5)
    assert np.abs(made["w2"] - (networks[0]["w2"] + networks[1]["w2"]) / 2).max() > 0.1


def test_pleas_refuses_complex_layers():
    network, networks = complex_networks()
    with pytest.raises(ValueError, match=r"w1.*complex"):
        merge(network, networks, "pleas", x=X, permutations=[{}, {}])


def test_correlations_of_complex_units():
    def model(p, x):
        return jnp.abs(jnp.tanh(x @ p["w1"]) @ p["w2"])

    _, (a, b) = complex_networks()
    network = mcjax.trace(model, a, X[:2])
    inputs = checked_inputs(network, X, 17)
    found = correlations((network, network), (a, b), inputs, ["w1"])["w1"]
    z, w = (np.tanh(np.asarray(X, np.float64) @ p["w1"]) for p in (a, b))
    z, w = ((v - v.mean(0)) / v.std(0) for v in (z, w))
    np.testing.assert_allclose(found, np.real(z.T @ w.conj()) / len(X), atol=1e-5)


def test_regmean_is_nearest_to_the_mean_where_layers_leave_it_open():
    def model(p, x):
        return jax.nn.relu(x @ p["w1"]) @ p["w2"]

    rng = np.random.default_rng(0)
    draw = lambda *s: rng.normal(size=s).astype(np.float32)
    networks = [{"w1": draw(20, 7), "w2": draw(7, 3)} for _ in range(2)]
    read = [draw(3, 20) for _ in range(2)]  # 3 of 20 directions each
    x = [draw(400, 3) @ v for v in read]
    network = mcjax.trace(model, networks[0], x[0])
    made = merge(network, networks, RegMean(1.0), x=Each(x), permutations=[{}, {}]).params
    mean = (networks[0]["w1"] + networks[1]["w1"]) / 2.0
    grams = [v.astype(np.float64).T @ v.astype(np.float64) for v in x]
    cross = sum(g @ (p["w1"] - mean) for g, p in zip(grams, networks, strict=True))
    scale = np.diag(1 / np.sqrt(np.diagonal(sum(grams))))
    wanted = mean + scale @ np.linalg.pinv(scale @ sum(grams) @ scale, 1e-5) @ scale @ cross
    np.testing.assert_allclose(made["w1"], wanted, atol=1e-4)


def test_fisher_refuses_gradients_that_are_not_finite():
    def model(p, x):
        return jnp.sqrt((x @ p["w1"]) ** 2) @ p["w2"]  # at 0 its gradient is ∞ · 0

    params = {n: TUNED[0][n] for n in ("w1", "w2")}
    network = mcjax.trace(model, params, X[:2])
    with pytest.raises(ValueError, match="x: squared gradients of leaf 'w1' are NaN"):
        merge(network, [params, params], "fisher", x=X.at[5].set(0))
