"""Look-ups as layers of one-hot vectors, against their matrices in NumPy."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

import mcjax
from experiments.symmetry.models import GPT
from mcjax import theory
from mcjax.adjust.lookups import frequencies, lookup_form
from mcjax.adjust.second_moments import second_moments
from mcjax.align import match_incoming
from tests.theory.test_dimension import by_eigenvalues

VOCABULARY, WIDTH = 11, 4


def model(p, tokens):
    return jnp.tanh(p["table"][tokens]).mean(1) @ p["out"]


def drawn(seed):
    rng = np.random.default_rng(seed)
    shapes = {"table": (VOCABULARY, WIDTH), "out": (WIDTH, 3)}
    return {k: rng.normal(size=s).astype(np.float32) for k, s in shapes.items()}


def tokens(n=40):
    """Some often and two never."""
    p = np.arange(VOCABULARY) - 1.0
    p[:2] = 0
    return np.random.default_rng(1).choice(VOCABULARY, (n, 6), p=p / p.sum()).astype(np.int32)


def covariance(x):
    one_hot = np.eye(VOCABULARY)[np.ravel(x)]
    return one_hot.T @ one_hot / len(one_hot)


@pytest.mark.parametrize("chunk", [None, 7])
def test_dimensions_and_clouds_are_those_of_one_hot_vectors(chunk):
    params, x = drawn(0), tokens()
    network, sigma = mcjax.trace(model, params, x[:2]), covariance(x)
    w = params["table"].astype(np.float64)
    found = theory.layer_dimensions(network, params, x, chunk=chunk)[0]
    assert found.layer == "table"
    assert found.weights == pytest.approx(by_eigenvalues(w.T @ w), rel=1e-9)
    assert found.incoming == pytest.approx(by_eigenvalues(w.T @ sigma @ w), rel=1e-9)
    assert found.inputs == pytest.approx(1 / np.square(np.diag(sigma)).sum(), rel=1e-12)
    cloud = theory.neuron_clouds(network, params, x, chunk=chunk)[0]
    np.testing.assert_allclose(cloud.incoming @ cloud.incoming.T, w.T @ sigma @ w, rtol=1e-9)
    assert cloud.weights.shape == (WIDTH, VOCABULARY)
    assert cloud.inputs is None


@pytest.mark.parametrize("mode", ["clip", "fill"])
@pytest.mark.parametrize("dtype", ["int8", "int32", "uint32"])
def test_which_rows_tokens_outside_of_the_table_read(mode, dtype):
    """Against the gradient of the sum of what is read."""
    info, read = np.iinfo(dtype), {"axis": 0, "mode": mode}
    x = np.array([[info.min, info.max, 3, 12]] * 3, dtype)
    params = {"table": np.ones((VOCABULARY, 3), np.float32), "w": np.ones((3, 2), np.float32)}
    network = mcjax.trace(lambda p, x: jnp.take(p["table"], x, **read).sum(1) @ p["w"], params, x)
    sums = jax.grad(lambda table: jnp.nansum(jnp.take(table, x, **read)))(params["table"])
    ((shares, samples),) = frequencies(network, params, x, [0])
    assert samples == x.size
    np.testing.assert_allclose(shares, sums[:, 0] / x.size, rtol=1e-6)


@pytest.mark.parametrize("both", [False, True])
def test_units_are_matched_in_the_metric_of_how_often_tokens_come(both):
    a, b, x = drawn(0), drawn(1), tokens()
    network = mcjax.trace(model, a, x[:2])
    apart = a["table"].astype(float)[:, :, None] - b["table"].astype(float)[:, None, :]
    cost = np.einsum("iuv,ij,juv->uv", apart, covariance(x), apart)
    found, (rows, columns) = (
        match_incoming(network, a, b, x, both=both),
        linear_sum_assignment(cost),
    )
    np.testing.assert_array_equal(found.permutations["table"], columns)
    assert found.after["table"] == pytest.approx(cost[rows, columns].mean(), rel=1e-6)


def test_a_small_gpt():
    """Its stream is matched by the rows of its embedding, then all that reads it."""
    gpt = GPT(VOCABULARY, context=6, width=8, depth=2, heads=2)
    x, keys = tokens(), jax.random.split(jax.random.key(0))
    a: Any = gpt.init(keys[0], x)
    network = mcjax.trace(gpt.apply, a, x)
    b = network.permute(network.random_permutations(keys[1]), a)
    found = match_incoming(network, a, b, x)
    moved = network.permute(found.permutations, b)
    np.testing.assert_allclose(
        moved["params"]["Embed_0"]["embedding"], a["params"]["Embed_0"]["embedding"], rtol=1e-6
    )
    assert found.after["total"] < 1e-6 * found.before["total"]
    dimensions = theory.layer_dimensions(network, a, x)
    assert [d.layer for d in dimensions] == [layer.name for layer in network.layers]
    assert dimensions[0].inputs == pytest.approx(1 / np.square(np.diag(covariance(x))).sum())


def test_tables_of_any_axis_and_type_and_tokens_outside():
    """The table's rows on its second axis; -1 is the last row, what is outside reads none."""

    def f(p, x):
        return jnp.take(p["table"].T.astype(jnp.float16), x, axis=1, mode="fill").sum((0, 2))

    def clipped(p, x):
        return jnp.take(p["table"], x, axis=0, mode="clip").sum((1, 2))

    params, x = drawn(0), tokens()
    x[0] = [-1, 0, 1, VOCABULARY - 1, VOCABULARY, VOCABULARY + 5]
    inside = np.where(x < 0, x + VOCABULARY, x)
    expected = np.bincount(inside[inside < VOCABULARY], minlength=VOCABULARY) / x.size
    network = mcjax.trace(f, params, x)
    (moment,) = second_moments(network, params, x, [0])
    np.testing.assert_allclose(moment.moment[0], expected, rtol=1e-12)
    np.testing.assert_array_equal(moment.weights(params["table"])[0], params["table"])
    moved = moment.form.place(params["table"], 2 * moment.weights(params["table"]))
    np.testing.assert_array_equal(moved, 2 * params["table"])
    (moment,) = second_moments(mcjax.trace(clipped, params, x), params, x, [0])
    expected = np.bincount(np.clip(x, 0, VOCABULARY - 1).ravel()) / x.size
    np.testing.assert_allclose(moment.moment[0], expected, rtol=1e-12)


def test_positions_are_counted_too():
    """Rows that every example reads, known when the model is traced."""

    def f(p, x):
        positions = p["positions"][jnp.arange(x.shape[1])]
        return jnp.tanh(p["table"][x] + positions).mean(1) @ p["out"]

    params = drawn(0) | {"positions": np.ones((9, WIDTH), np.float32)}
    network = mcjax.trace(f, params, tokens(2))
    found = {d.layer: d.inputs for d in theory.layer_dimensions(network, params, tokens())}
    assert found["positions"] == pytest.approx(6)


def test_a_large_table_is_never_squared():
    rows = 200_000  # 320 GB as a matrix
    params = {"table": np.ones((rows, 2), np.float32), "out": np.ones((2, 3), np.float32)}
    x = np.arange(600, dtype=np.int32).reshape(100, 6)
    network = mcjax.trace(model, params, x[:2])
    assert theory.layer_dimensions(network, params, x)[0].inputs == pytest.approx(600)
    assert theory.neuron_clouds(network, params, x)[0].incoming.shape == (2, rows)
    assert match_incoming(network, params, params, x).permutations["table"].tolist() == [0, 1]


def test_mistakes():
    tied = lambda p, x: jnp.tanh(p["table"][x]) @ p["table"].T
    pairs = lambda p, x: jnp.tanh(p["table"][x[:, 0], x[:, 1] % WIDTH])
    params, x = drawn(0), tokens()
    network = mcjax.trace(tied, params, x)
    with pytest.raises(ValueError, match=r"weight of layer 'table.*' has other uses in the model"):
        theory.layer_dimensions(network, params, x)
    network = mcjax.trace(model, params, x)
    with pytest.raises(ValueError, match="batched on axis 0"):
        second_moments(network, params, iter([x]), [0])
    other = mcjax.trace(pairs, params, x)
    for found in other.layers:
        with pytest.raises(ValueError, match="something else than rows"):
            lookup_form(other, found)
