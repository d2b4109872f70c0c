"""What people hand over works from trace to files, or says what to do."""

from __future__ import annotations

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import mcjax
from mcjax.methods import OT, LayerByLayer, WeightAdjustment, WithSwaps

from ..handed import CASES, N, X, Y, draw, equinox_with_state, mlp, weights

# What differs from others in how it is wrapped alone.
TWINS = ("FrozenDict", "list of arrays", "nnx split", "partial")


@pytest.mark.parametrize(
    "name", [pytest.param(c, marks=pytest.mark.slow) if c in TWINS else c for c in CASES]
)
def test_from_trace_to_files(name, tmp_path):
    given = CASES[name]()
    a, b = given.make(0), given.make(1)
    x = X if given.x is None else given.x
    plain = x if given.plain is None else given.plain
    apply = eqx.filter_jit(lambda p: given.logits(given.apply_fn(p, plain)))

    network = mcjax.trace(given.apply_fn, a, x)
    assert [g.size for g in network.groups.values()] == [6]
    assert "6" in network.explain()

    moved = network.permute(network.random_permutations(jax.random.key(0)), a)
    assert jax.tree.structure(moved) == jax.tree.structure(a)
    np.testing.assert_allclose(apply(moved), apply(a), rtol=1e-4, atol=1e-5)
    found = mcjax.align.match_activations(network, a, moved, plain, tap="pre", chunk=10)
    back = network.permute(found.permutations, moved)
    for v, w in zip(jax.tree.leaves(back), jax.tree.leaves(a), strict=True):
        assert same(v, w)

    path = mcjax.path.Linear(a, b)
    curve = mcjax.evaluate(
        path, given.apply_fn, (x, Y), t=3, task=given.task, chunk=10,
        statistics=mcjax.evaluation.Statistics(np.array([0, 0.5, 1.0]), {}),
    )  # fmt: skip
    for t, loss in zip(curve.t, curve.loss, strict=True):
        expected = -np.mean(jax.nn.log_softmax(apply(path(t)))[np.arange(N), Y])
        np.testing.assert_allclose(loss, expected, rtol=1e-4)

    file = tmp_path / "network.safetensors"
    mcjax.save(file, path(1.0))
    loaded = mcjax.load(file, like=a)
    assert jax.tree.structure(loaded) == jax.tree.structure(a)
    for v, w in zip(jax.tree.leaves(loaded), jax.tree.leaves(path(1.0)), strict=True):
        assert same(v, w)


def same(v, w):
    if not hasattr(v, "dtype"):
        return v is w or v == w
    if jnp.issubdtype(v.dtype, jax.dtypes.prng_key):
        v, w = map(jax.random.key_data, (v, w))
    return v.dtype == w.dtype and np.array_equal(v, w)


# -- inputs that all examples share --------------------------------------------------------


def test_shared_inputs_give_what_closing_over_gives():
    """In every function that takes a network, the mark is needed once."""
    p, q = weights(0), weights(1)
    mask, t = jnp.array([True, False, True]), 0.3
    apply = lambda p, x: mlp(p, jnp.where(x["mask"], x["image"] + x["t"], 0))
    closed = lambda p, x: mlp(p, jnp.where(mask, x + t, 0))
    plain = {"image": X, "mask": mask, "t": t}
    one = mcjax.trace(apply, p, {**plain, "mask": mcjax.Shared(mask)})
    other = mcjax.trace(closed, p, X)

    def results(network, x):
        activations = network.activations(p, x)["w1"][0]
        matched = mcjax.align.match_activations(network, p, q, x, chunk=10)
        signature = mcjax.align.correlation_signature(network, p, q, x, chunk=10)
        solved = mcjax.adjust.solve_layers(network, p, q, x, layers=["w2"])
        method = LayerByLayer(reader=WeightAdjustment(points=3))
        path = mcjax.connect(network, p, q, method, x=x).path
        repaired = mcjax.evaluation.Repaired(mcjax.path.Linear(p, q), network, x, chunk=10)
        made = mcjax.merge.wa_ensemble(network, [p, q], x)
        return [
            activations, network.layer_inputs(p, x)["w2"], dict(matched.permutations),
            signature, solved.params, path(0.3), repaired(0.4), made(network.inputs(x)),
        ]  # fmt: skip

    pairs = zip(results(one, plain), results(other, X), strict=True)
    for found, expected in pairs:
        jax.tree.map(lambda v, w: np.testing.assert_allclose(v, w, atol=1e-4), found, expected)


def test_shared_inputs_and_statistics_of_batch_normalisation():
    def norm(p, h):
        return (h - p["mean"]) / jnp.sqrt(p["var"] + 1e-5)

    apply = lambda p, x: norm(p, x["keep"] * x["image"])
    p = {"mean": jnp.zeros(3), "var": jnp.ones(3)}
    keep = np.array([1.0, 2.0, 0.5], np.float32)
    x = {"image": X, "keep": mcjax.Shared(keep)}
    found = mcjax.evaluation.estimate_batch_norm(apply, p, x, chunk=N)
    np.testing.assert_allclose(found["mean"], (keep * X).mean(0), atol=1e-6)
    np.testing.assert_allclose(found["var"], (keep * X).var(0), rtol=1e-5)


def test_axes_of_shared_inputs_are_no_batch():
    apply = lambda p, x: x["image"] @ (x["mask"] @ p["w1"])
    x = {"image": X, "mask": mcjax.Shared(np.eye(3, dtype=np.float32))}
    assert "axis 1 of an input" in mcjax.trace(apply, weights(0), x).explain()
    assert "batch" not in mcjax.trace(apply, weights(0), x).explain().splitlines()[1]


# -- leaves that are no arrays -------------------------------------------------------------


def test_equinox_modules_in_what_makes_and_trains_paths():
    a, b = (eqx.nn.MLP(3, 2, 6, 2, key=jax.random.key(s)) for s in (0, 1))
    apply = lambda model, x: jax.vmap(model)(x)
    network = mcjax.trace(apply, a, X)
    loss = lambda model, batch: jnp.mean((apply(model, batch) - 1) ** 2)

    curve = mcjax.path.Bezier.between(a, b)
    fitted = mcjax.fit(curve, loss, jnp.stack([X] * 30), optax.sgd(0.05), key=jax.random.key(0))
    assert fitted.losses[-5:].mean() < fitted.losses[:5].mean()
    plane = mcjax.evaluation.Plane.through(a, b, fitted.path(0.5))
    found = {
        "fit": fitted.path(0.5),
        "connect": mcjax.connect(network, a, b, "arc+wa", x=X).path(0.5),
        "swaps": mcjax.connect(network, a, b, WithSwaps(OT())).path(0.8),
        "adjust": mcjax.adjust.solve_layers(network, a, b, X, layers=["layers/1"]).params,
        "soup": mcjax.merge.soup(network, [a, b]),
        "plane": plane.point(0.1, 0.2),
    }
    for name, model in found.items():
        assert model.activation is a.activation, name
        assert apply(model, X).shape == (N, 2), name
    for many in (mcjax.align.match_weights, mcjax.align.match_butterflies):
        moved = network.permute(many(network, a, b).permutations, b)
        np.testing.assert_allclose(apply(moved, X), apply(b, X), rtol=1e-4, atol=1e-5)


def test_statistics_of_a_stateful_module_are_estimated():
    given = equinox_with_state()
    a, b = given.make(0), given.make(1)
    path = mcjax.path.Linear(a, b)
    curve = mcjax.evaluate(path, given.apply_fn, (X, Y), t=3, statistics=X)
    for t, loss in zip(curve.t, curve.loss, strict=True):
        model, _ = path(t)
        h = np.asarray(jax.vmap(model.first)(X), np.float64)
        h = (h - h.mean(0)) / np.sqrt(h.var(0) + model.norm.eps)
        h = np.maximum(h * model.norm.weight + model.norm.bias, 0)
        logits = 2 * (h @ np.asarray(model.last.weight, np.float64).T + model.last.bias)
        expected = -np.mean(jax.nn.log_softmax(logits)[np.arange(N), Y])
        np.testing.assert_allclose(loss, expected, rtol=1e-4)


def test_functions_of_the_same_code_are_the_same():
    def maker(slope):
        return lambda v: slope * v

    same_ = lambda f, g: mcjax.path.Linear({**weights(0), "f": f}, {**weights(1), "f": g})
    assert same_(maker(2.0), maker(2.0))(0.5)["f"](3) == 6
    assert same_(partial(max, 1), partial(max, 1))(0.5)["f"](3) == 3
    for f, g in ((maker(2.0), maker(3.0)), (partial(max, 1), partial(max, 2)), (True, 1)):
        with pytest.raises(ValueError, match=r"leaf 'f' is no array and must be the same"):
            same_(f, g)


# -- types for parameters ------------------------------------------------------------------


@pytest.mark.parametrize("name", ["linen", "equinox", "equinox with state", "mixed leaves"])
def test_types_are_enough_to_trace(name):
    given = CASES[name]()
    types = eqx.filter_eval_shape(lambda: given.make(0))
    network = mcjax.trace(given.apply_fn, types, jax.ShapeDtypeStruct((N, 3), jnp.float32))
    expected = mcjax.trace(given.apply_fn, given.make(0), X)
    assert network.verification
    assert network.explain() == expected.explain()
    moved = network.permute(expected.random_permutations(jax.random.key(1)), given.make(0))
    np.testing.assert_allclose(
        given.apply_fn(moved, X), given.apply_fn(given.make(0), X), rtol=1e-4, atol=1e-5
    )


# -- what is frozen, and what apply_fn closes over -----------------------------------------


def embedding_model(p, x):
    h = p["embedding"]["table"][x].sum(1)
    return jax.nn.relu(h @ p["w1"] + p["b1"]) @ p["w2"]


def test_frozen_leaves_have_no_groups():
    make = lambda s: {
        "embedding": {"table": draw(5, 7, 4)}, **weights(s), "w1": draw([s, 9], 4, 6)
    }  # fmt: skip
    tokens = np.arange(2 * N).reshape(N, 2) % 7
    free = mcjax.trace(embedding_model, make(0), tokens)
    assert {g.size for g in free.groups.values()} == {4, 6}
    for name in ("embedding", "embedding/table"):
        network = mcjax.trace(embedding_model, make(0), tokens, frozen=[name])
        assert [g.size for g in network.groups.values()] == [6]
        assert all(p.leaf != "embedding/table" for g in network.groups.values() for p in g.places)
        lines = {line.split()[0]: line for line in network.explain().splitlines()[1:]}
        assert lines["embedding/table"].count("frozen by the caller") == 2
        assert "fixed(4: frozen by the caller)" in lines["w1"]
    assert not mcjax.trace(embedding_model, make(0), tokens, frozen=["w1", "b1"]).groups
    with pytest.raises(ValueError, match=r"there is no leaf 'embeddin'.*'embedding/table'"):
        mcjax.trace(embedding_model, make(0), tokens, frozen=["embeddin"])


def test_an_array_that_apply_fn_closes_over_is_named():
    mean = draw(4, 6)
    network = mcjax.trace(lambda p, x: jax.nn.relu(x @ p["w1"] - mean) @ p["w2"], weights(0), X)
    assert not network.groups
    text = network.explain()
    assert "put them into the parameters if they belong to the network" in text
    assert "fixed(6: a constant array of shape (6,) that apply_fn closes over)" in text
    own = lambda p, x: jax.nn.relu(x @ p[0]["w1"] - p[1]) @ p[0]["w2"]
    network = mcjax.trace(own, (weights(0), mean), X)
    assert [g.size for g in network.groups.values()] == [6]
    assert "closes over" not in network.explain()
