"""Merging methods against the papers' formulas in NumPy, float64; what all of them promise."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mcjax
from mcjax.merge import (
    PRESETS,
    Dare,
    Each,
    Fisher,
    ModelStock,
    Problem,
    RegMean,
    Slerp,
    TaskArithmetic,
    Ties,
    fisher_diagonal,
    merge,
)
from mcjax.merge.dare import mask
from mcjax.tasks import CLASSIFICATION, NEXT_TOKEN, REGRESSION
from mcjax.testing import check_merging
from tests.conftest import traced


def mlp(p, x):
    h = jax.nn.relu(x @ p["w1"] + p["b1"])
    return h @ p["w2"] + p["b2"]


def draw(seed, scale=1.0, around=None):
    rng = np.random.default_rng(seed)
    shapes = {"w1": (4, 6), "b1": (6,), "w2": (6, 3), "b2": (3,)}
    around = around or dict.fromkeys(shapes, 0.0)
    return {
        n: jnp.asarray(around[n] + scale * rng.normal(size=s), jnp.float32)
        for n, s in shapes.items()
    }


X = jnp.asarray(np.random.default_rng(9).normal(size=(60, 4)), jnp.float32)
Y = np.arange(60) % 3
BASE = draw(0)
TUNED = [draw(i, 0.3, BASE) for i in (1, 2, 3)]
NETWORK = mcjax.trace(mlp, BASE, X)
NAMES = [*BASE]
ALL = {**PRESETS, "ties, leaf": Ties(0.4, over="leaf"), "slerp, network": Slerp("network"),
       "fisher, given": Fisher("given")}  # fmt: skip
RANDOM = ("dare-linear", "dare-ties")


def wide(tree):
    return {n: np.asarray(v, np.float64) for n, v in tree.items()}


def merged(method, networks=TUNED, **more):
    more = {"base": BASE, "x": X, "y": Y} | more
    if getattr(PRESETS.get(method, method), "pairs_only", False):
        networks = networks[:2]
    return merge(NETWORK, networks, method, **more).params


def close(made, wanted, tolerance=1e-5):
    assert {*made} == {*wanted}
    for name in wanted:
        np.testing.assert_allclose(made[name], wanted[name], rtol=tolerance, atol=tolerance)


# -- formulas --------------------------------------------------------------------------------


def test_task_arithmetic():
    base, tuned = wide(BASE), [wide(p) for p in TUNED]
    wanted = {n: base[n] + 0.7 * sum(p[n] - base[n] for p in tuned) for n in NAMES}
    close(merged(TaskArithmetic(0.7)), wanted)
    w = (0.5, 0.2, 0.3)
    wanted = {n: base[n] + 0.7 * 3 * sum(a * (p[n] - base[n]) for a, p in zip(w, tuned))
              for n in NAMES}  # fmt: skip
    close(merged(TaskArithmetic(0.7), weights=w), wanted)
    forgotten = {n: base[n] - (tuned[0][n] - base[n]) for n in NAMES}
    close(merged(TaskArithmetic(-1.0), TUNED[:1]), forgotten)


@pytest.mark.parametrize("over", ["leaf", "network"])
def test_slerp(over):
    a, b = (wide(p) for p in TUNED[:2])
    flat = [np.concatenate([p[n].ravel() for n in NAMES]) for p in (a, b)]

    def angle(u, v):
        return np.arccos(np.sum(u * v) / np.linalg.norm(u) / np.linalg.norm(v))

    wanted = {}
    for n in NAMES:
        o = angle(a[n], b[n]) if over == "leaf" else angle(*flat)
        wanted[n] = (np.sin(0.7 * o) * a[n] + np.sin(0.3 * o) * b[n]) / np.sin(o)
    close(merged(Slerp(over), weights=(0.7, 0.3)), wanted)


def test_slerp_keeps_norms_and_has_ends():
    turn = {n: v.reshape(-1)[::-1].reshape(v.shape) for n, v in TUNED[0].items()}
    middle = merged("slerp", [TUNED[0], turn])
    for n in NAMES:
        np.testing.assert_allclose(*map(np.linalg.norm, (middle[n], turn[n])), rtol=1e-5)
    close(merged("slerp", [TUNED[0], turn], weights=(0.0, 1.0)), turn)
    opposite = {n: -v for n, v in TUNED[0].items()}  # no one great circle: the chord
    wanted = {n: 0.5 * v for n, v in TUNED[0].items()}
    close(merged("slerp", [TUNED[0], opposite], weights=(0.75, 0.25)), wanted)


def ties_in_numpy(networks, density, scale, w, over):
    base, names = wide(BASE), NAMES
    taus = [{n: wide(p)[n] - base[n] for n in names} for p in networks]

    def trim(tau):
        whole = np.sort(np.abs(np.concatenate([v.ravel() for v in tau.values()])))
        out = {}
        for n, v in tau.items():
            sizes = whole if over == "network" else np.sort(np.abs(v.ravel()))
            k = max(1, int(density * len(sizes)))
            out[n] = np.where(np.abs(v) >= sizes[-k], v, 0)
        return out

    taus, out = [trim(t) for t in taus], {}
    for n in names:
        tau = np.stack([t[n] for t in taus])
        merged = np.zeros(base[n].shape)
        for at in np.ndindex(base[n].shape):
            column = tau[(slice(None), *at)]
            sign = np.sign(np.dot(w, column))
            agree = [i for i, v in enumerate(column) if sign and np.sign(v) == sign]
            if agree:
                merged[at] = sum(w[i] * column[i] for i in agree) / sum(w[i] for i in agree)
        out[n] = base[n] + scale * merged
    return out


@pytest.mark.parametrize("over", ["leaf", "network"])
@pytest.mark.parametrize("density", [0.1, 0.5, 1.0])
def test_ties(over, density):
    method = Ties(density, 0.8, over)
    for w in ((1 / 3,) * 3, (0.2, 0.5, 0.3)):
        close(merged(method, weights=w), ties_in_numpy(TUNED, density, 0.8, w, over))


def test_signs_that_cancel_move_nothing():
    zero, mirrored = (jax.tree.map(lambda v, s=s: s * v, TUNED[0]) for s in (0, -1))
    close(merged(Ties(1.0), [TUNED[0], mirrored], base=zero), zero, 0)


@pytest.mark.parametrize("drop", [0.0, 0.6])
def test_dare(drop):
    """The masks are drawn as it draws them, and used in NumPy."""
    key = jax.random.key(5)
    draws = jax.random.split(key)[0]
    base, thinned = wide(BASE), []
    for i, p in enumerate(TUNED):
        mine = jax.random.fold_in(draws, i)
        kept = {
            n: np.asarray(mask(jax.random.fold_in(mine, k), BASE[n].shape, drop))
            for k, n in enumerate(sorted(NAMES))
        }
        tau = {n: wide(p)[n] - base[n] for n in NAMES}
        thinned.append({n: base[n] + kept[n] * tau[n] / (1 - drop) for n in NAMES})
    wanted = {n: base[n] + 0.4 * sum(p[n] - base[n] for p in thinned) for n in NAMES}
    close(merged(Dare(TaskArithmetic(0.4), drop), key=key), wanted)
    method = Dare(Ties(density=1.0), drop)
    wanted = ties_in_numpy(thinned, 1.0, 1.0, (1 / 3,) * 3, "network")
    close(merged(method, key=key), wanted)


def test_dare_is_right_in_expectation():
    made = [merged(Dare(TaskArithmetic(1 / 3), 0.5), key=jax.random.key(i)) for i in range(300)]
    soup = merged("soup")
    tau = max(float(jnp.abs(p[n] - BASE[n]).max()) for p in TUNED for n in NAMES)
    for n in NAMES:  # six standard errors of the mean of 300, each at most |τ| / √3
        off = np.abs(np.mean([p[n] for p in made], 0) - soup[n]).max()
        assert off < 6 * tau / np.sqrt(3 * 300)


def test_model_stock():
    base, tuned = wide(BASE), [wide(p) for p in TUNED]
    wanted = {}
    for n in NAMES:
        d = [(p[n] - base[n]).ravel() for p in tuned]
        cos = [d[i] @ d[j] / np.linalg.norm(d[i]) / np.linalg.norm(d[j])
               for i, j in ((0, 1), (0, 2), (1, 2))]  # fmt: skip
        c = max(np.mean(cos), 0)
        t = 3 * c / (1 + 2 * c)
        wanted[n] = t * np.mean([p[n] for p in tuned], 0) + (1 - t) * base[n]
    close(merged("model-stock"), wanted)
    # Two at right angles: nothing tells a direction from noise.
    one, two = (dict(BASE, w1=BASE["w1"].at[0, i].add(1.0)) for i in (0, 1))
    close(merged("model-stock", [one, two]), BASE, 1e-6)


# -- with data -------------------------------------------------------------------------------


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


# -- what all promise ------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL)
def test_contract(name):
    check_merging(ALL[name], NETWORK, TUNED, base=BASE, x=X, y=Y, key=jax.random.key(1))


@pytest.mark.parametrize("name", [n for n in ALL if n not in RANDOM and n != "task-arithmetic"])
def test_copies_give_the_network_back(name):
    density = {"ties": Ties(1.0), "ties, leaf": Ties(1.0, over="leaf")}
    made = merged(density.get(name, ALL[name]), [TUNED[0]] * 3)
    close(made, TUNED[0], 1e-4)


@pytest.mark.parametrize("name", ["task-arithmetic", "dare-linear", "dare-ties", "ties"])
def test_nothing_of_what_was_learned_is_the_base(name):
    zero = {"task-arithmetic": TaskArithmetic(0.0), "dare-linear": Dare(TaskArithmetic(0.0)),
            "dare-ties": Dare(Ties(1.0, 0.0)), "ties": Ties(scale=0.0)}  # fmt: skip
    close(merged(zero[name]), BASE, 1e-7)


@pytest.mark.parametrize("name", [n for n in ALL if n not in RANDOM])
def test_the_order_of_units_is_nobodys(name):
    """All networks in another order, and the base: the merged one is in that order."""
    turn = NETWORK.random_permutations(jax.random.key(4))
    method = ALL[name]
    made = merged(method, [NETWORK.permute(turn, p) for p in TUNED],
                  base=NETWORK.permute(turn, BASE))  # fmt: skip
    close(made, NETWORK.permute(turn, merged(method)), 1e-4)


@pytest.mark.parametrize("name", ["soup", "slerp", "fisher", "regmean", "zipit", "pleas"])
def test_copies_in_other_orders_are_found(name):
    orders = [NETWORK.random_permutations(jax.random.key(i)) for i in range(3)]
    copies = [NETWORK.permute(order, TUNED[0]) for order in orders]
    close(merged(name, copies, base=None), copies[0], 1e-4)


def test_presets_are_values():
    for name, method in PRESETS.items():
        assert [n for n, m in PRESETS.items() if m == method] == [name]
        assert eval(repr(method), vars(mcjax.merge)) == method


def test_half_precision():
    half = [jax.tree.map(lambda v: v.astype(jnp.bfloat16), p) for p in (BASE, *TUNED)]
    network = mcjax.trace(mlp, half[0], X.astype(jnp.bfloat16))
    for name in ("soup", "ties", "dare-linear", "model-stock", "fisher"):
        made = merge(network, half[1:], name, base=half[0], x=X.astype(jnp.bfloat16)).params
        assert {v.dtype for v in jax.tree.leaves(made)} == {jnp.dtype(jnp.bfloat16)}
    # Task vectors are not rounded on the way.
    made = merge(network, half[1:2], Dare(TaskArithmetic(1.0), 0.0), base=half[0]).params
    assert all((made[n] == half[1][n]).all() for n in NAMES)


def test_problem_of_ones_own():
    problem = Problem(NETWORK, tuple(TUNED))
    assert problem.weights == (1 / 3,) * 3
    close(ModelStock()(Problem(NETWORK, tuple(TUNED), BASE)), merged("model-stock"), 1e-7)
