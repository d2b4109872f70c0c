"""One representative of an orbit: the same from everywhere in it, on every model."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mcjax
from tests.conftest import traced

# More than permutations, of all kinds; the deep ResNet and near twins take long.
MODELS = (
    "mlp", "vgg-bn", "grouped-convolution", "groupnorm", "rmsnorm", "transformer", "lstm",
    "attention-grouped-query", "experts", "remat-tied-embedding", "interleaved-gates",
)  # fmt: skip


def vector(params):
    leaves = [v for v in jax.tree.leaves(params) if jnp.issubdtype(v.dtype, jnp.inexact)]
    return np.concatenate([np.ravel(v) for v in leaves]).astype(np.float64)


def distance(a, b):
    return float(np.linalg.norm(vector(a) - vector(b)))


@pytest.mark.parametrize("name", MODELS)
def test_one_orbit_has_one_form(name):
    case, network = traced(name)
    params = case.another(1)
    found = mcjax.canonicalize(network, params)
    assert found.status == "canonical", found.summary()
    size = np.abs(vector(params)).max()
    moved = mcjax.Action.random(network, jax.random.key(3))(params)
    assert np.abs(vector(moved) - vector(params)).max() > 0.1 * size
    same = mcjax.canonicalize(network, moved).params
    np.testing.assert_allclose(vector(same), vector(found.params), atol=1e-5 * size)
    np.testing.assert_allclose(
        vector(found.action(params)), vector(found.params), atol=1e-5 * size
    )  # fmt: skip
    np.testing.assert_allclose(
        case.run(found.params, case.x), case.run(params, case.x), atol=1e-4, rtol=1e-4
    )


def test_distances_and_barriers_do_not_depend_on_the_representative():
    case, network = traced("mlp")
    a, b = case.another(1), case.another(2)
    moved = [mcjax.Action.random(network, jax.random.key(k))(p) for k, p in ((5, a), (6, b))]
    data = case.inputs(64), np.arange(64) % 4
    found = []
    for pair in ((a, b), moved):
        one, other = (mcjax.canonicalize(network, p).params for p in pair)
        path = mcjax.path.Linear(one, other)
        curve = mcjax.evaluate(path, network, data, 5)
        found.append((distance(one, other), curve.loss.max()))
    assert found[0] == pytest.approx(found[1], rel=1e-5)
    assert distance(*moved) != pytest.approx(distance(a, b), rel=0.05)


def relu(p, x):
    return jax.nn.relu(x @ p["w"] + p["b"]) @ p["o"]


def drawn(seed=0, **shapes):
    rng = np.random.default_rng(seed)
    return {n: jnp.asarray(rng.normal(size=s), jnp.float32) for n, s in shapes.items()}


def test_scales_by_hand():
    """Written and read equally, longest first."""
    p = drawn(w=(3, 5), b=(5,), o=(5, 2))
    network = mcjax.trace(relu, p, jnp.ones((2, 3)))
    form = mcjax.canonicalize(network, p).params
    into = np.sum(np.square(form["w"]), 0) + np.square(form["b"])
    out = np.sum(np.square(form["o"]), 1)
    np.testing.assert_allclose(into, out, rtol=1e-5)
    before = np.sum(np.square(p["w"]), 0) + np.square(p["b"])
    product = np.sqrt(before * np.sum(np.square(p["o"]), 1))
    np.testing.assert_allclose(np.sort(into), np.sort(product), rtol=1e-5)


def test_linear_units_by_hand():
    """The form of a linear bottleneck has the singular values of its product, twice."""
    p = drawn(w=(6, 3), o=(3, 5))
    network = mcjax.trace(lambda p, x: x @ p["w"] @ p["o"], p, jnp.ones((2, 6)))
    form = mcjax.canonicalize(network, p).params
    s = np.linalg.svd(np.asarray(p["w"] @ p["o"]), compute_uv=False)[:3]
    np.testing.assert_allclose(form["w"].T @ form["w"], np.diag(s), atol=1e-4)
    np.testing.assert_allclose(form["o"] @ form["o"].T, np.diag(s), atol=1e-4)


@pytest.mark.parametrize("dead", ["written", "read", "both"])
def test_dead_units(dead):
    """What nothing writes, or nothing reads, has length 1 where it stands, or stays 0."""
    p = drawn(w=(3, 5), b=(5,), o=(5, 2))
    if dead != "read":
        p |= {"w": p["w"].at[:, 1].set(0), "b": p["b"].at[1].set(0)}
    if dead != "written":
        p |= {"o": p["o"].at[1].set(0)}
    network = mcjax.trace(relu, p, jnp.ones((2, 3)))
    found = mcjax.canonicalize(network, p)
    assert found.status == "canonical"
    moved = mcjax.Action.random(network, jax.random.key(0))(p)
    form = mcjax.canonicalize(network, moved).params
    np.testing.assert_allclose(vector(form), vector(found.params), atol=1e-5)
    lengths = np.sum(np.square(form["w"]), 0) + np.square(form["b"])
    lengths = lengths + np.sum(np.square(form["o"]), 1)
    assert np.isclose(lengths, 0 if dead == "both" else 1).any()


def test_directions_that_nothing_reads():
    """A bottleneck of 4 units before 2 outputs: two directions do nothing."""
    p = drawn(w=(5, 4), o=(4, 2))
    network = mcjax.trace(lambda p, x: x @ p["w"] @ p["o"], p, jnp.ones((2, 5)))
    found = mcjax.canonicalize(network, p)
    assert found.degenerate == {"w": 2}
    moved = mcjax.Action.random(network, jax.random.key(0))(p)
    form = mcjax.canonicalize(network, moved).params
    np.testing.assert_allclose(vector(form), vector(found.params), atol=1e-4)


@pytest.mark.parametrize("unit", [1e-30, 1e30])
def test_directions_that_nothing_reads_in_any_unit(unit):
    """They are as long as the others, so no matrix is singular to rounding."""
    p = {n: np.asarray(v) for n, v in drawn(w=(5, 4), o=(4, 2)).items()}
    network = mcjax.trace(lambda p, x: x @ p["w"] @ p["o"], p, jnp.ones((2, 5)))
    tiny = {n: v * np.float32(unit) for n, v in p.items()}
    form, plain = (mcjax.canonicalize(network, v) for v in (tiny, p))
    assert form.status == plain.status
    for n, v in plain.params.items():
        np.testing.assert_allclose(form.params[n] / np.float32(unit), v, rtol=1e-3, atol=1e-3)
    found = mcjax.align.match_weights(network, tiny, tiny, symmetry="full")
    assert found.status == "optimal"


def test_recurrent_units_dominated_by_what_moves_twice():
    """Nearly all of the length is in w, which scales act on from both sides: every unit is as
    long in what writes it as in what reads it."""

    def f(p, x):
        h = jax.nn.relu(x @ p["u"])
        for _ in range(2):
            h = jax.nn.relu(h @ p["w"] + x @ p["u"])
        return h @ p["o"]

    params = drawn(0, u=(3, 4), w=(4, 4), o=(4, 2))
    params |= {k: params[k] * 1e-3 for k in "uo"}
    found = mcjax.canonicalize(mcjax.trace(f, params, jnp.ones((2, 3))), params)
    assert found.status == "canonical"
    u, w, o = (np.asarray(found.params[k], np.float64) for k in "uwo")
    writes, reads = (u**2).sum(0) + (w**2).sum(0), (w**2).sum(1) + (o**2).sum(1)
    np.testing.assert_allclose(writes, reads, rtol=1e-5)


@pytest.mark.parametrize("kind", ["linear", "relu"])
def test_recurrent_units_of_two_kinds(kind):
    """Each is read by the other alone: whole steps go to and fro. The least length is known: the
    entries of w become equal, 2 √(1 · 4)², and those of u and o are small."""
    act = jax.nn.relu if kind == "relu" else lambda h: h

    def f(p, x):
        h = act(x @ p["u"])
        for _ in range(2):
            h = act(h @ p["w"] + x @ p["u"])
        return h @ p["o"]

    small = drawn(1, u=(3, 2), o=(2, 2))
    params = {k: 1e-2 * v for k, v in small.items()} | {"w": jnp.float32([[0, 1], [4, 0]])}
    found = mcjax.canonicalize(mcjax.trace(f, params, jnp.ones((2, 3))), params)
    w = np.asarray(found.params["w"], np.float64)
    assert (w**2).sum() == pytest.approx(8, abs=0.02)


def test_scales_that_have_not_settled_are_said(monkeypatch):
    f = lambda p, x: jax.nn.relu(jax.nn.relu(x @ p["a"]) @ p["b"]) @ p["c"]
    params = drawn(0, a=(3, 4), b=(4, 4), c=(4, 2))
    network = mcjax.trace(f, params, jnp.ones((2, 3)))
    assert mcjax.canonicalize(network, params).status == "canonical"
    monkeypatch.setattr("mcjax.network.canonical._ROUNDS", 1)
    assert mcjax.canonicalize(network, params).status == "not converged"


def test_ties_are_said():
    p = {"w": jnp.ones((3, 4)), "b": jnp.ones(4), "o": jnp.ones((4, 2))}
    p["w"] = p["w"].at[0, 1].set(-1.0)
    network = mcjax.trace(relu, p, jnp.ones((2, 3)))
    found = mcjax.canonicalize(network, p)
    assert found.status == "ambiguous"
    assert found.ties == {"w": 4}
    assert "w: 4 units that their lengths do not tell apart" in found.summary()


def test_bad_input():
    p = drawn(w=(3, 5), b=(5,), o=(5, 2))
    network = mcjax.trace(relu, p, jnp.ones((2, 3)))
    with pytest.raises(ValueError, match="params: leaf 'w'"):
        mcjax.canonicalize(network, p | {"w": jnp.ones((3, 4))})
    with pytest.raises(ValueError, match="params"):
        mcjax.canonicalize(network, p | {"w": p["w"].at[0, 0].set(np.nan)})
    with pytest.raises(ValueError, match="works on the host"):
        jax.jit(lambda p: mcjax.canonicalize(network, p).params)(p)
