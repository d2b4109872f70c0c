"""Whose batch-normalisation statistics the networks on a path have: own, estimated or given."""

from __future__ import annotations

import warnings

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mcjax
from mcjax import _stream
from mcjax.evaluation import (
    Plane,
    Repaired,
    Statistics,
    StatisticsWarning,
    batch_norm_along,
    estimate_batch_norm,
    evaluate_plane,
    pieces,
)
from mcjax.path import Arc, Bezier, Legs, Linear, Partial, PolygonalChain
from mcjax.testing.models.catalogue import MODELS

from .. import streams

WARNS = pytest.warns(StatisticsWarning, match=r"pass inputs, as statistics=x_train")


def net(p, x):
    """Dense, batch normalisation as Keras names it, dense."""
    h = x @ p["kernel"]
    h = (h - p["moving_mean"]) / jnp.sqrt(p["moving_variance"] + 1e-3) * p["gamma"] + p["beta"]
    return jax.nn.relu(h) @ p["head"]


D = 40  # inputs: as many as make a first layer worth sharing between the points of a path


def drawn(seed, d=D, width=8):
    rng = np.random.default_rng(seed)
    return {
        "kernel": jnp.asarray(rng.normal(size=(d, width)) / d**0.5, jnp.float32),
        "moving_mean": jnp.asarray(rng.normal(size=width), jnp.float32),
        "moving_variance": jnp.asarray(rng.uniform(0.1, 3, size=width), jnp.float32),
        "gamma": jnp.asarray(rng.normal(size=width), jnp.float32),
        "beta": jnp.asarray(rng.normal(size=width), jnp.float32),
        "head": jnp.asarray(rng.normal(size=(width, 3)), jnp.float32),
    }


def data(n=40):
    rng = np.random.default_rng(9)
    return rng.normal(size=(n, D)).astype(np.float32) + 1, rng.integers(0, 3, n)


def loss_of(p, x, y):
    """In float64."""
    p = {k: np.asarray(v, np.float64) for k, v in p.items()}
    h = (x @ p["kernel"] - p["moving_mean"]) / np.sqrt(p["moving_variance"] + 1e-3)
    z = np.maximum(h * p["gamma"] + p["beta"], 0) @ p["head"]
    return (np.log(np.exp(z).sum(1)) - z[np.arange(len(y)), y]).mean()


def negative(seed=3):
    """A control point whose variances are negative: nobody trains them."""
    return {**drawn(seed), "moving_variance": -9 * jnp.ones(8)}


def by_leaf(a, b):
    """Half of the leaves move on the first leg, half on the second."""
    names, one, two = sorted(a), [0, 1, 2], [3, 4, 5]
    leaves = [a[n] for n in names], [b[n] for n in names]
    part = lambda k: Linear([leaves[0][i] for i in k], [leaves[1][i] for i in k])
    middle = {n: (b if i in one else a)[n] for i, n in enumerate(names)}
    return Legs([Partial(a, [(tuple(one), part(one))]), Partial(middle, [(tuple(two), part(two))])])


KINDS = {
    "linear": Linear,
    "arc": Arc,
    "bezier": lambda a, b: Bezier([a, negative(), b]),
    "chain": lambda a, b: PolygonalChain([a, negative(), b]),
    "legs": by_leaf,
}


@pytest.mark.parametrize("kind", KINDS)
def test_by_default_they_are_the_end_points_own(kind):
    """(1 − t) A + t B whatever the path: the networks score what they score, no variance is < 0."""
    a, b, (x, y) = drawn(1), drawn(2), data()
    path = KINDS[kind](a, b)
    with WARNS as caught:
        curve = mcjax.evaluate(path, net, (x, y), 5, chunk=16)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    for t, loss in zip(curve.t, curve.loss, strict=True):
        own = {k: (1 - t) * a[k] + t * b[k] for k in ("moving_mean", "moving_variance")}
        assert loss == pytest.approx(loss_of({**path(t), **own}, x, y), rel=1e-4)
    for end, loss in ((a, curve.loss[0]), (b, curve.loss[-1])):
        assert loss == pytest.approx(loss_of(end, x, y), rel=1e-5)
    assert "end points' own, mixed: (1 − t) A + t B" in curve.metadata["statistics"]
    assert curve.metadata["statistics"] in curve.summary()


def test_where_the_path_ends_at_permuted_b_they_are_the_permuted_ones():
    a, b, (x, y) = drawn(1), drawn(2), data()
    network = mcjax.trace(net, a, x)
    moved = network.permute(network.random_permutations(jax.random.key(0)), b)
    with WARNS:
        curve = mcjax.evaluate(Linear(a, moved), network, (x, y), 3)
    assert curve.loss[2] == pytest.approx(loss_of(b, x, y), rel=1e-5)
    middle = jax.tree.map(lambda u, v: (u + v) / 2, a, moved)
    assert curve.loss[1] == pytest.approx(loss_of(middle, x, y), rel=1e-4)


def test_no_warning_where_all_is_right():
    """End points only, a path that stays, a model without statistics."""
    a, b, (x, y) = drawn(1), drawn(2), data()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mcjax.evaluate(Linear(a, b), net, (x, y), [0.0, 1.0])
        mcjax.evaluate(Linear(a, a), net, (x, y), 3)
        curve = mcjax.evaluate(Linear(a, b), lambda p, x: x @ p["kernel"] @ p["head"], (x, y), 3)
    assert curve.metadata["statistics"] == "none"
    assert "statistics" not in curve.summary()


def test_batches_need_no_statistics_and_get_the_own_ones():
    a, b, (x, y) = drawn(1), drawn(2), data()
    batches = [(x[i : i + 7], y[i : i + 7]) for i in range(0, 40, 7)]
    with WARNS:
        curve = mcjax.evaluate(Linear(a, b), net, batches, 3)
    middle = jax.tree.map(lambda u, v: (u + v) / 2, a, b)
    assert curve.loss[1] == pytest.approx(loss_of(middle, x, y), rel=1e-4)


# -- estimated -----------------------------------------------------------------------------


def test_estimated_from_inputs_at_every_point():
    a, b, (x, y) = drawn(1), drawn(2), data()
    other = x[:30] * 2
    curve = mcjax.evaluate(Linear(a, b), net, (x, y), 3, statistics=other, chunk=30)
    for t, loss in zip(curve.t, curve.loss, strict=True):
        point = Linear(a, b)(t)
        h = other @ np.asarray(point["kernel"])
        found = {"moving_mean": h.mean(0), "moving_variance": h.var(0)}
        assert loss == pytest.approx(loss_of({**point, **found}, x, y), rel=1e-4)
    assert curve.metadata["statistics"] == "estimated at every point from 30 inputs"


class Normalised(nn.Module):
    train: bool = False

    @nn.compact
    def __call__(self, x):
        for width in (5, 4):
            x = nn.Dense(width)(x)
            x = nn.relu(nn.BatchNorm(use_running_average=not self.train, momentum=0.0)(x))
        return nn.Dense(2)(x)


def test_every_example_counts_once():
    """Of 25 in batches of 10 the last five have statistics of their own, with half the weight."""
    x = jax.random.normal(jax.random.key(0), (25, 3))
    variables = Normalised().init(jax.random.key(1), x)
    found = estimate_batch_norm(Normalised().apply, variables, x, chunk=10)["batch_stats"]
    each = [
        Normalised(train=True).apply(variables, part, mutable=["batch_stats"])[1]["batch_stats"]
        for part in (x[:10], x[10:20], x[20:])
    ]
    expected = jax.tree.map(lambda u, v, w: 0.4 * u + 0.4 * v + 0.2 * w, *each)
    jax.tree.map(
        lambda u, v: np.testing.assert_allclose(u, v, rtol=2e-4, atol=1e-5), found, expected
    )


# -- normalisers of the inputs -------------------------------------------------------------


def with_normaliser(p, x):
    return net(p, (x - p["shift"]) / jnp.sqrt(p["spread"]))


def normalised(seed, shift=1.0):
    return {**drawn(seed), "shift": jnp.full(D, shift), "spread": jnp.full(D, 4.0)}


def test_a_frozen_normaliser_of_the_inputs_is_no_batch_normalisation():
    """Its statistics, the same in both networks, stay; those behind weights are estimated."""
    a, b, (x, y) = normalised(1), normalised(2), data()
    plain, inside = Linear(drawn(1), drawn(2)), (x - 1) / 2
    expected = mcjax.evaluate(plain, net, (inside, y), 3, statistics=inside)
    # On an arc what both networks share would not even stay what it is.
    for path, wanted in ((Linear(a, b), expected), (Arc(a, b), None)):
        curve = mcjax.evaluate(path, with_normaliser, (x, y), 3, statistics=x)
        assert "of the inputs' normaliser, the same in all networks, are kept" in curve.summary()
        if wanted is not None:
            np.testing.assert_allclose(curve.loss, wanted.loss, rtol=1e-4)
        found = batch_norm_along(path, with_normaliser, x, 3).leaves
        kept = {i: np.asarray(v) for i, v in found.items() if (np.asarray(v) == 4).all()}
        assert len(found) == 4
        assert len(kept) == 1


def test_a_normaliser_of_the_inputs_that_differs_is_estimated():
    a, b, (x, y) = normalised(1), normalised(2, shift=1.25), data()
    curve = mcjax.evaluate(Linear(a, b), with_normaliser, (x, y), 3, statistics=x)
    assert "kept" not in curve.summary()
    inside = (x - x.mean(0)) / x.std(0)
    expected = mcjax.evaluate(Linear(drawn(1), drawn(2)), net, (inside, y), 3, statistics=inside)
    np.testing.assert_allclose(curve.loss, expected.loss, rtol=1e-3)


# -- planes, REPAIR, given -----------------------------------------------------------------


def test_on_a_plane_they_are_mixed_by_barycentric_coordinates():
    networks, (x, y) = [drawn(s) for s in (1, 2, 3)], data()
    plane = Plane.through(*networks)
    with WARNS:
        surface = evaluate_plane(plane, net, (x, y), 5, margin=3.0)
    assert np.isfinite(surface.values["loss"]).all()
    centre = jax.tree.map(lambda *v: sum(v) / 3, *networks)
    place = plane.corners.mean(0)
    weights = plane.mixture(np.array([*plane.corners, place]))[1]
    np.testing.assert_allclose(weights, [*np.eye(3), np.full(3, 1 / 3)], atol=1e-6)
    points, t = mcjax.path.Points(jax.tree.map(lambda v: v[None], centre)), np.zeros(1, int)
    alone = mcjax.evaluation.evaluate_points(points, net, (x, y), t)["loss"][0]
    assert alone == pytest.approx(loss_of(centre, x, y), rel=1e-4)
    assert "the networks' own, mixed" in surface.summary()


def test_repaired_networks_have_those_that_repair_estimates():
    a, b, (x, y) = drawn(1), drawn(2), data()
    network = mcjax.trace(net, a, x)
    path = Repaired(Linear(a, b), network, x, chunk=40)
    curve = mcjax.evaluate(path, net, (x, y), 3)
    assert curve.loss[1] == pytest.approx(loss_of(path(0.5), x, y), rel=1e-3)
    assert curve.metadata["statistics"] == "those that the points hold"


def test_those_of_the_paths_points_on_demand():
    a, b, (x, y) = drawn(1), drawn(2), data()
    path = Bezier([a, drawn(3), b])
    curve = mcjax.evaluate(path, net, (x, y), 3, statistics=Statistics(np.array([0, 0.5, 1]), {}))
    assert curve.loss[1] == pytest.approx(loss_of(path(0.5), x, y), rel=1e-4)
    assert curve.metadata["statistics"] == "as given"


# -- inputs in blocks ----------------------------------------------------------------------


@pytest.mark.parametrize("kind", streams.KINDS)
@pytest.mark.parametrize("legs", [False, True])
def test_estimated_from_inputs_in_blocks(kind, legs, tmp_path, monkeypatch):
    """The same as from those at hand: batches of 8, the last of 5, and 53 examples in all."""
    a, b, x = drawn(1), drawn(2), data(53)[0]
    path = by_leaf(a, b) if legs else Linear(a, b)
    whole = batch_norm_along(path, net, x, 5, chunk=8)
    monkeypatch.setattr(_stream, "BLOCK_BYTES", 16 * D * x.itemsize)
    given = lambda: streams.inputs(kind, x, tmp_path)
    found = batch_norm_along(path, net, given(), 5, chunk=8)
    assert found.leaves.keys() == whole.leaves.keys()
    for i, values in whole.leaves.items():
        np.testing.assert_allclose(found.leaves[i], values, rtol=1e-5, atol=1e-6)
    if not legs:
        one = estimate_batch_norm(net, a, given(), chunk=8)
        for name in ("moving_mean", "moving_variance"):
            i = sorted(a).index(name)
            np.testing.assert_allclose(one[name], whole.leaves[i][0], rtol=1e-5, atol=1e-6)
    x_test, y = data(40)
    curve = mcjax.evaluate(path, net, (x_test, y), 5, chunk=8, statistics=given())
    expected = mcjax.evaluate(path, net, (x_test, y), 5, statistics=whole)
    np.testing.assert_allclose(curve.loss, expected.loss, rtol=1e-5)
    number = "53" if kind in ("array", "map") else "batches of"
    assert curve.metadata["statistics"] == f"estimated at every point from {number} inputs"


def test_inputs_that_come_only_once_serve_one_pass(monkeypatch):
    a, b, x = drawn(1), drawn(2), data(53)[0]
    path = by_leaf(a, b)
    monkeypatch.setattr(pieces, "_POINTS_BYTES", 3 * sum(v.nbytes for v in a.values()))
    batches = streams.Batches(x, 20)
    batch_norm_along(path, net, batches, 5)
    assert batches.passes == 2
    with pytest.raises(ValueError, match=r"x is an iterator.* in 2 pieces needs 2 passes"):
        batch_norm_along(path, net, iter(batches), 5)
    with pytest.raises(ValueError, match="statistics must be inputs such as x, which is an array"):
        mcjax.evaluate(path, net, data(), 5, statistics=iter([{"x": x}]))


@pytest.mark.parametrize("t_batch", [2, 5])
def test_statistics_of_several_t_at_once(t_batch):
    case = MODELS["vgg-bn"]()
    path = Linear(case.another(1), case.another(2))
    x, y = case.inputs(24), jnp.arange(24) % 3
    one, many = (
        mcjax.evaluate(path, case.apply_fn, (x, y), 5, statistics=x, chunk=12, t_batch=b)
        for b in (1, t_batch)
    )
    np.testing.assert_allclose(many.loss, one.loss, rtol=1e-4)
