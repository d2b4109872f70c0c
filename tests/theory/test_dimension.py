"""Effective dimensions against eigenvalues in NumPy."""

from __future__ import annotations

import sys

import jax
import numpy as np
import pytest

import mcjax
from mcjax import theory
from tests.align.test_incoming import drawn, hidden, inputs, mlp


def by_eigenvalues(s):
    values = np.linalg.eigvalsh(s)
    return values.sum() ** 2 / np.square(values).sum()


def test_known_matrices():
    rng = np.random.default_rng(0)
    v = rng.normal(size=4)
    assert theory.effective_dimension(np.outer(v, v)) == pytest.approx(1)
    assert theory.effective_dimension(1e-200 * np.eye(6)) == pytest.approx(6)
    assert np.isnan(theory.effective_dimension(np.zeros((2, 2))))
    blocks = np.stack([np.eye(2), 2 * np.eye(2)])
    assert theory.effective_dimension(blocks) == pytest.approx(
        by_eigenvalues(np.diag([1, 1, 2, 2]))
    )
    for bad, words in (
        (np.ones((2, 3)), "expected"),
        (np.full((2, 2), np.nan), "holds 4 NaN"),
        (np.array([[1, 2], [0, 1]]), "symmetric"),
        (np.diag([1, -1]), "semidefinite, has -1 "),
    ):
        with pytest.raises(ValueError, match=words):
            theory.effective_dimension(bad)


@pytest.mark.parametrize("n", [200, 2])  # two examples: a singular second moment
def test_layers_of_a_network(n):
    params, x = drawn(0), inputs(n)
    network = mcjax.trace(mlp, params, x)
    found = theory.layer_dimensions(network, params, x)
    for k, (layer, z) in enumerate(zip(found, hidden(params, x), strict=True)):
        w = np.asarray(params[f"w{k}"], np.float64)
        sigma = z.T @ z / n
        assert layer.weights == pytest.approx(by_eigenvalues(w.T @ w), rel=1e-4)
        assert layer.incoming == pytest.approx(by_eigenvalues(w.T @ sigma @ w), rel=1e-4)
        assert layer.inputs == pytest.approx(by_eigenvalues(sigma), rel=1e-4)
        assert layer.inputs <= n * (1 + 1e-6)


def test_no_permutation_changes_them():
    params, x = drawn(0), inputs()
    network = mcjax.trace(mlp, params, x)
    moved = network.permute(network.random_permutations(jax.random.key(0)), params)
    for one, other in zip(*(theory.layer_dimensions(network, p, x) for p in (params, moved)),
                          strict=True):  # fmt: skip
        for name in ("weights", "incoming", "inputs"):
            assert getattr(one, name) == pytest.approx(getattr(other, name), rel=1e-4)


def test_clouds_have_the_inner_products_whose_dimension_is_reported():
    params, x = drawn(0), inputs()
    network = mcjax.trace(mlp, params, x)
    clouds = theory.neuron_clouds(network, params, x)
    for cloud, layer in zip(clouds, theory.layer_dimensions(network, params, x), strict=True):
        for name in ("weights", "incoming", "inputs"):
            points = getattr(cloud, name)
            found = theory.effective_dimension(points @ points.T)
            assert found == pytest.approx(getattr(layer, name), rel=1e-6)
    dead = np.flatnonzero(hidden(params, x)[0].std(0) == 0)
    z = hidden(params, x)[1]
    i, j = 1, 4
    points = np.asarray(clouds[1].inputs)
    apart = np.square(points[i] - points[j]).sum()
    assert apart == pytest.approx(np.mean((z[:, i] - z[:, j]) ** 2), rel=1e-5)
    assert len(dead) == 1  # an input that never changes


@pytest.mark.parametrize("n", [1, 5, 40])
def test_clouds_have_no_more_dimensions_than_there_are_examples(n):
    """Moments are of products in float32: what float64 does not call rounding there is some."""
    rng = np.random.default_rng(n)
    shapes = {"w0": (90, 70), "w1": (70, 3)}
    params = {k: rng.normal(size=s).astype(np.float32) for k, s in shapes.items()}
    x = rng.uniform(size=(n, 90)).astype(np.float32)
    network = mcjax.trace(lambda p, x: jax.nn.relu(x @ p["w0"]) @ p["w1"], params, x)
    read = [x.astype(np.float64), np.maximum(x @ params["w0"], 0).astype(np.float64)]
    for cloud, z in zip(theory.neuron_clouds(network, params, x), read, strict=True):
        values, vectors = np.linalg.eigh(z.T @ z / n)
        rank = np.linalg.matrix_rank(z)
        values[: len(values) - rank] = 0
        root = vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T
        assert cloud.inputs is not None
        assert np.linalg.matrix_rank(cloud.inputs) == rank <= n
        np.testing.assert_allclose(cloud.inputs, root, atol=2e-4 * np.abs(root).max())


def test_clouds_have_no_dimension_for_a_unit_that_is_another_times_a_number():
    """Of many examples, with directions that are small, and are no rounding, beside it."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3000, 4)) * [1, 1e-1, 1e-2, 3e-3]
    x = np.concatenate([x, 0.7 * x[:, :1], x[:, 1:2] - 1.3 * x[:, :1]], 1).astype(np.float32)
    network = mcjax.trace(lambda p, x: x @ p["w"], {"w": np.ones((6, 2), np.float32)}, x)
    (cloud,) = theory.neuron_clouds(network, {"w": np.ones((6, 2), np.float32)}, x)
    assert cloud.inputs is not None
    assert np.linalg.matrix_rank(cloud.inputs) == 4


def test_blocks_are_orthogonal():
    def f(p, x):
        return jax.lax.conv_general_dilated(
            x, p["w"], (1,), "SAME", dimension_numbers=("NWC", "WIO", "NWC"), feature_group_count=2
        ).mean(1)

    rng = np.random.default_rng(0)
    x, params = rng.normal(size=(50, 6, 4)), {"w": rng.normal(size=(1, 2, 6))}
    x, params = jax.tree.map(np.float32, (x, params))
    network = mcjax.trace(f, params, x)
    (cloud,), (layer,) = (g(network, params, x) for g in (theory.neuron_clouds,
                                                         theory.layer_dimensions))  # fmt: skip
    assert cloud.weights.shape == (6, 4)
    np.testing.assert_allclose(cloud.weights[:3, :2], params["w"][0, :, :3].T, rtol=1e-6)
    assert not cloud.weights[:3, 2:].any()
    found = theory.effective_dimension(cloud.incoming @ cloud.incoming.T)
    assert found == pytest.approx(layer.incoming, rel=1e-6)


class Counting:
    """An estimator whose dimension is the number of points that it sees."""

    def fit(self, points):
        self.dimension_ = len(points) if points.shape[1] > 1 else None


def test_the_clouds_of_estimators():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(6, 2))
    assert theory.intrinsic_dimension(x, Counting()) == 6
    dead = np.concatenate([x, np.zeros((3, 2)), x[:2] * (1 + 1e-14)])
    for size in (1e-200, 1.0, 1e200):
        assert theory.intrinsic_dimension(size * dead, Counting()) == 7
    assert theory.intrinsic_dimension(x[:, :1], Counting()) == 6  # coordinates to work with
    assert theory.intrinsic_dimension(np.ones((1, 3)), Counting()) == 1

    class Refusing:
        def __init__(self, found):
            self.dimension_ = found

        def fit(self, points):
            return 1 / 0 if self.dimension_ is None else self

    for cloud, estimator, words in (
        (np.full((3, 2), np.nan), Counting(), "cloud holds 6 NaN"),
        (np.ones((0, 2)), Counting(), r"cloud must be points \(m, d\)"),
        (x, Refusing(None), "Refusing does not work on 6 different points of 2 coord.*division"),
        (x, Refusing(np.nan), "Refusing finds the dimension nan for 6 different points"),
    ):
        with pytest.raises(ValueError, match=words):
            theory.intrinsic_dimension(cloud, estimator)


def test_what_is_missing_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "skdim.id", None)
    with pytest.raises(ImportError, match=r"pip install 'mcjax\[dimension\]'"):
        theory.intrinsic_dimension(np.eye(3))


@pytest.mark.parametrize("k", [2, 5])
@pytest.mark.parametrize("shape", ["flat", "sphere"])
def test_planted_dimensions_are_found_by_scikit_dimension(k, shape):
    """Two nearest neighbours find k within k / √n, a standard deviation (Facco et al. 2017)."""
    estimators = pytest.importorskip("skdim.id", reason="needs the extra mcjax[dimension]")
    rng, n = np.random.default_rng(k), 800
    points = rng.normal(size=(n, k + (shape == "sphere")))
    if shape == "sphere":
        points /= np.linalg.norm(points, axis=1, keepdims=True)
    cloud = points @ np.linalg.qr(rng.normal(size=(40, 40)))[0][: points.shape[1]]
    found = theory.intrinsic_dimension(np.concatenate([cloud, cloud[:9]]))  # nine of them twice
    assert abs(found - k) < 4 * k / np.sqrt(n)
    assert abs(theory.intrinsic_dimension(cloud, estimators.MLE()) - k) < 0.1 * k


@pytest.mark.parametrize("units", [1, 2])
def test_too_few_neurons_for_two_neighbours(units):
    pytest.importorskip("skdim.id", reason="needs the extra mcjax[dimension]")
    with pytest.raises(ValueError, match=f"TwoNN does not work on {units} different points"):
        theory.intrinsic_dimension(np.eye(3)[:units])
