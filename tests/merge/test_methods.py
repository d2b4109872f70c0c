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
    Fisher,
    ModelStock,
    Problem,
    Slerp,
    Starlight,
    TaskArithmetic,
    Ties,
    merge,
)
from mcjax.merge.dare import mask
from mcjax.testing import check_merging
from mcjax.training import Protocol

from .cases import BASE, NAMES, NETWORK, TUNED, X, Y, close, merged, mlp, wide

ALL = {**PRESETS, "star": Starlight(Protocol(1, batch=20)), "ties, leaf": Ties(0.4, over="leaf"),
       "slerp, network": Slerp("network"), "fisher, given": Fisher("given")}  # fmt: skip
RANDOM = ("dare-linear", "dare-ties")


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


# -- what all promise ------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALL)
def test_contract(name):
    check_merging(ALL[name], NETWORK, TUNED, base=BASE, x=X, y=Y, key=jax.random.key(1))


@pytest.mark.parametrize("name", sorted({*ALL} - {*RANDOM, "task-arithmetic", "star"}))
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
        assert eval(repr(method), {**vars(mcjax.merge), "Protocol": Protocol}) == method


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
