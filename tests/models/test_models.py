"""The papers' networks: their sizes, their symmetries, and the pipeline on them."""

from __future__ import annotations

import dataclasses

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mcjax
from mcjax.align import (
    Projection,
    Search,
    SinkhornRelaxation,
    StraightThrough,
    learn_permutations,
    match_activations,
    match_weights,
)
from mcjax.attacks import PGD
from mcjax.evaluation import Plane, Repaired, estimate_batch_norm, evaluate_plane
from mcjax.methods import Pam, Problem
from mcjax.models import MLP, GoogLeNet, ResNet, ResNet32, TinyTen
from mcjax.path import Bezier, Linear, Transported
from mcjax.testing.models.catalogue import MODELS
from mcjax.training import Protocol, train_curve

IMAGES = jnp.asarray(np.random.default_rng(0).normal(size=(8, 32, 32, 3)), jnp.float32)


@pytest.mark.parametrize(
    ("model", "millions"),
    [
        (TinyTen(), "0.09"),
        (TinyTen(100), "0.09"),
        (ResNet32(), "0.47"),
        (ResNet32(100), "0.47"),
        (GoogLeNet(100, auxiliary=True), "10.24"),
    ],
)
def test_parameter_counts_of_the_paper(model, millions):
    """tatro2020, Table 1 (statistics of batch normalisation do not count)."""
    shapes = jax.eval_shape(model.init, jax.random.key(0), IMAGES[:1])["params"]
    assert f"{sum(v.size for v in jax.tree.leaves(shapes)) / 1e6:.2f}" == millions


def random_network(model, seed):
    """Initialised, with statistics and scales that differ from unit to unit."""
    params = model.init(jax.random.key(seed), IMAGES[:1])
    rng = np.random.default_rng(seed)

    def vary(path, leaf):
        name = jax.tree_util.keystr(path)
        if "scale" in name or "var" in name:
            return jnp.asarray(leaf * rng.uniform(0.5, 1.5, leaf.shape), leaf.dtype)
        if "mean" in name or "bias" in name:
            return jnp.asarray(leaf + 0.3 * rng.normal(size=leaf.shape), leaf.dtype)
        return leaf

    params = jax.tree_util.tree_map_with_path(vary, params)
    return estimate_batch_norm(model.apply, params, IMAGES, chunk=8)


SIZES = {
    "tiny-ten": (TinyTen(), [16, 16, 32, 32, 32, 64, 64, 64]),
    # A stream and five inner groups a stage.
    "resnet32": (ResNet32(), [16] * 6 + [32] * 6 + [64] * 6),
    # 3 convolutions, 9 blocks of 6, two groups in each of two auxiliary classifiers.
    "googlenet": (GoogLeNet(auxiliary=True, width=0.125), None),
}


@pytest.mark.parametrize(
    "name",
    ["tiny-ten", *(pytest.param(n, marks=pytest.mark.slow) for n in ("resnet32", "googlenet"))],
)
def test_groups_and_alignment(name):
    model, sizes = SIZES[name]
    a = random_network(model, 1)
    network = mcjax.trace(model.apply, a, IMAGES[:2])
    assert network.verification
    if sizes is None:
        assert len(network.groups) == 3 + 9 * 6 + 2 * 2
    else:
        assert sorted(g.size for g in network.groups.values()) == sorted(sizes)
    planted = network.random_permutations(jax.random.key(3))
    b = network.permute(planted, a)
    back = mcjax.Action.of(network, planted).inverse().permutations
    for matching in (
        match_weights(network, a, b),
        # Not by correlation: units that fire on one of eight images only cannot be told apart.
        match_activations(network, a, b, IMAGES, "l2", chunk=8),
    ):
        for group, p in matching.permutations.items():
            wrong = int(np.sum(p != np.asarray(back[group])))
            assert wrong <= matching.dead.get(group, 0), group


@pytest.mark.slow
def test_a_network_with_auxiliary_classifiers_serves_one_without():
    with_auxiliary, without = GoogLeNet(auxiliary=True, width=0.125), GoogLeNet(width=0.125)
    params = with_auxiliary.init(jax.random.key(0), IMAGES[:1])
    logits, first, second = with_auxiliary.apply(params, IMAGES[:2])
    np.testing.assert_array_equal(without.apply(params, IMAGES[:2]), logits)
    assert first.shape == second.shape == (2, 10)
    assert not np.array_equal(first, second)


@pytest.mark.slow
def test_an_aligned_residual_network_keeps_its_ends_along_the_whole_pipeline():
    """t = 0 and t = 1 of the aligned, trained, evaluated, repaired curve are the end points."""
    model = ResNet(blocks=1, widths=(8, 12))
    a, b = (random_network(model, k) for k in (1, 2))
    y = jnp.arange(8) % 10
    network = mcjax.trace(model.apply, a, IMAGES[:2])
    aligned = network.permute(match_activations(network, a, b, IMAGES, chunk=8).permutations, b)
    losses = [
        -jnp.mean(jax.nn.log_softmax(model.apply(p, IMAGES))[jnp.arange(8), y])
        for p in (a, b, aligned)
    ]
    np.testing.assert_allclose(losses[1], losses[2], rtol=1e-4)
    fitted = train_curve(
        Bezier.between(a, aligned), model.apply, (IMAGES, y), Protocol(2, 4, 0.01),
        key=jax.random.key(0),
    )  # fmt: skip
    repaired = Repaired(Linear(a, aligned), network, IMAGES, chunk=8)
    for path in (Linear(a, aligned), fitted.path, repaired):
        curve = mcjax.evaluate(path, model.apply, (IMAGES, y), 5, statistics=IMAGES, chunk=8)
        np.testing.assert_allclose(curve.loss[[0, -1]], [losses[0], losses[1]], rtol=2e-3)
    # Inside, without statistics of its own, a network on the path would be another one.
    inside = fitted.path(0.5)
    stale = -jnp.mean(jax.nn.log_softmax(model.apply(inside, IMAGES))[jnp.arange(8), y])
    middle = mcjax.evaluate(
        fitted.path, model.apply, (IMAGES, y), [0.5], statistics=IMAGES, chunk=8
    ).loss[0]
    assert abs(float(stale) - middle) > 1e-3


def test_parameters_without_their_statistics_are_named():
    model = TinyTen()
    whole = model.init(jax.random.key(0), IMAGES[:1])
    network = mcjax.trace(model.apply, whole, IMAGES[:2])
    bare = {"params": whole["params"]}
    with pytest.raises(ValueError, match="leaf 'batch_stats/BatchNorm_0/mean' is in the traced"):
        network.permute({}, bare)
    with pytest.raises(ValueError, match="'batch_stats/BatchNorm_0/mean' is in a but not in b"):
        Linear(whole, bare)
    with pytest.raises(flax.errors.ScopeCollectionNotFound, match=r'"mean" from .*"batch_stats"'):
        estimate_batch_norm(model.apply, bare, IMAGES)


def vgg():
    case = MODELS["vgg-bn"]()
    return case.apply_fn, [case.another(k) for k in (1, 2, 3)], case.inputs(8)


def flat():
    model = MLP((12, 10))
    x = IMAGES[:, ::4, ::4].reshape(8, -1)
    return model.apply, [model.init(jax.random.key(k), x) for k in (1, 2, 3)], x


def images(model):
    return model.apply, [random_network(model, k) for k in (1, 2, 3)], IMAGES


ARCHITECTURES = {
    "mlp": flat,
    "vgg-bn": vgg,
    "resnet32": lambda: images(ResNet32()),
    "googlenet": lambda: images(GoogLeNet(width=0.0625)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", list(ARCHITECTURES))
def test_every_method_of_tatro2020(name):
    """One step of each on a batch: it runs, and keeps what it promises."""
    apply_fn, (a, b, c), x = ARCHITECTURES[name]()
    y = jnp.arange(8) % 3
    data = (x, y)
    network = mcjax.trace(apply_fn, a, x[:2])
    protocol, key = Protocol(1, 8, 0.01), jax.random.key(0)
    for statistic in ("correlation", "l2"):
        for tap in ("post", "pre"):
            matching = match_activations(network, a, b, x, statistic, tap, chunk=8)
            change = matching.after["total"] - matching.before["total"]
            assert (-change if matching.minimised else change) >= -1e-5
    moved = network.permute(matching.permutations, b)
    np.testing.assert_allclose(apply_fn(moved, x), apply_fn(b, x), rtol=2e-3, atol=2e-3)
    signature = mcjax.align.correlation_signature(network, a, moved, x, chunk=8)
    assert all(-1.001 <= v <= 1.001 for v in signature.values())
    attack = PGD(0.01, 0.01, 1, bounds=(-10.0, 10.0))
    for against in (None, attack):
        start = Bezier.between(a, moved)
        how = dataclasses.replace(protocol, attack=against)
        fitted = train_curve(start, apply_fn, data, how, key=key)
        assert fitted.finite
        curve = mcjax.evaluate(fitted.path, apply_fn, data, 3, attack=against, chunk=8)
        assert np.isfinite(curve.loss).all()
    for relaxation in (Projection(), SinkhornRelaxation(), StraightThrough()):
        search = Search(protocol, relaxation, candidates=1)
        learned = learn_permutations(Transported.between(network, a, b), data, search, key=key)
        assert learned.after["total"] <= learned.before["total"]
    method = Pam(protocol, permutation_protocol=protocol, candidates=1)
    found = method.minimise(Problem(network, a, b, *data, key))
    assert found.objective[-1] <= found.objective[0]
    surface = evaluate_plane(Plane.through(a, b, c), apply_fn, data, 2, chunk=8)
    assert np.isfinite(surface.values["loss"]).all()
    repaired = Repaired(Linear(a, moved), network, x, chunk=8)(0.5)
    assert np.isfinite(np.asarray(apply_fn(repaired, x))).all()
    many = mcjax.align.match_many(network, [a, b, c], steps=2)
    soup = mcjax.merge.soup(network, [a, b, c], permutations=many.permutations)
    assert np.isfinite(np.asarray(apply_fn(soup, x))).all()
