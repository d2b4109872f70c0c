"""Weight adjustment against NumPy's least squares in float64, and by its optimality condition."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mcjax
from mcjax import _stream
from mcjax.adjust import gram, moments, solve_layers
from mcjax.adjust.form import matrix_form
from mcjax.adjust.moments import Wanted, inputs_of, moments_along
from mcjax.adjust.solve import Normal, solve
from mcjax.evaluation import estimate_batch_norm
from mcjax.path import Linear, Partial

from ..conftest import COVERING, models, traced
from ..streams import KINDS, inputs


def normal(x, y):
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    return Normal(x.T @ x, x.T @ y, float(np.sum(y**2)))


def residual(x, y, w):
    return np.sum((x @ w - y) ** 2) / np.sum(y**2)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 10_000), st.integers(1, 12), st.integers(0, 4), st.integers(0, 4),
    st.integers(1, 40),
)  # fmt: skip
def test_solve_is_numpys_least_squares(seed, units, dead, twins, samples):
    """Whatever the rank: dead units, duplicated units, fewer samples than units."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(samples, units)) * rng.uniform(0.01, 100, units)
    x = np.concatenate([x, np.zeros((samples, dead)), x[:, : min(twins, units)]], 1)
    y = rng.normal(size=(samples, 3))
    found = solve(normal(x, y))
    oracle, _, rank, _ = np.linalg.lstsq(x, y, rcond=1e-9)
    assert found.rank == rank
    best = residual(x, y, oracle)
    # The ridge's solution has no greater ‖XW − Y‖² + 1e-9 ‖DW‖² than any other, D the units' norms.
    ridge = 1e-9 * np.sum((np.linalg.norm(x, axis=0)[:, None] * oracle) ** 2) / np.sum(y**2)
    assert residual(x, y, found.weights) <= best + ridge + 1e-6
    assert found.residual == pytest.approx(residual(x, y, found.weights), abs=1e-6)
    assert np.all(found.weights[units : units + dead] == 0)


def test_duplicated_units_share_their_weight():
    x = np.random.default_rng(0).normal(size=(50, 3))
    x = np.concatenate([x, x], 1)
    w = solve(normal(x, x @ np.ones((6, 1)))).weights
    np.testing.assert_allclose(w, 1, atol=1e-6)


@pytest.mark.parametrize(("apart", "rank"), [(1e-1, 6), (1e-2, 6), (1e-3, 6), (1e-5, 5)])
def test_nearly_duplicated_units_count_while_moments_in_float32_tell_them_apart(apart, rank):
    """The difference of two units has apart² of their second moment; the limit is 1e-7."""
    x, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(50, 6)))
    x[:, 5] = x[:, 4] + apart * x[:, 5]
    assert solve(normal(x, x[:, :1])).rank == rank


def test_all_units_dead():
    found = solve(normal(np.zeros((5, 4)), np.ones((5, 2))))
    assert (found.rank, found.residual) == (0, 1.0)
    assert np.all(found.weights == 0)
    assert solve(normal(np.zeros((5, 4)), np.zeros((5, 2)))).residual == 0


def test_moments_that_are_not_definite_are_cut_off():
    """Rounding made an eigenvalue negative: Cholesky fails, the answer is still finite."""
    x = np.random.default_rng(0).normal(size=(40, 5))
    x[:, 4] = x[:, 3]
    problem = normal(x, x[:, :1] * 2)
    problem.gram[3, 4] = problem.gram[4, 3] = problem.gram[3, 3] * (1 + 1e-8)
    found = solve(problem)
    np.testing.assert_allclose(x @ found.weights, x[:, :1] * 2, atol=1e-5)
    assert found.rank == 4


def solvable(network):
    program = network.analysis.program
    for layer in network.layers:
        try:
            yield layer, matrix_form(program, layer, layer.contraction)
        except ValueError:
            continue


@pytest.mark.filterwarnings("ignore:.* samples for the")
@pytest.mark.parametrize("model", models(COVERING), indirect=True)
def test_gradient_vanishes_on_every_architecture(model):
    """The derivative of the squared error by the solved weights, from autodiff, is zero."""
    case, network = model
    b, a, x = case.another(1), case.another(2), case.inputs(60)
    if network.normalisations.found:  # it is solved with the statistics of the inputs
        b = estimate_batch_norm(case.apply_fn, b, x)
    names = list(network.leaf_names)
    for layer, _ in list(solvable(network))[:3]:
        like = jax.tree.leaves(a)
        if layer.bias is not None:  # biases are not adjusted: compare outputs without them
            like[names.index(layer.bias)] = jax.tree.leaves(b)[names.index(layer.bias)]
        like = jax.tree.unflatten(network.treedef, like)
        done = solve_layers(network, b, like, x, layers=[layer.name])
        target = network.layer_outputs(like, x)[layer.name]
        number = layer.contraction.weight

        def error(weight, params=done.params, layer=layer, number=number, target=target):
            leaves = jax.tree.leaves(params)
            leaves[number] = weight
            params = jax.tree.unflatten(network.treedef, leaves)
            return jnp.sum((network.layer_outputs(params, x)[layer.name] - target) ** 2)

        old, new = jax.tree.leaves(b)[number], jax.tree.leaves(done.params)[number]
        # At the old weights the derivative is far from zero (unless they fit already).
        gradient = jax.jit(jax.value_and_grad(error))
        (first, before), (last, after) = jax.device_get((gradient(old), gradient(new)))
        assert np.linalg.norm(after) <= 2e-3 * np.linalg.norm(before) + 1e-4, layer.name
        assert last <= first * (1 + 1e-5)


def test_only_the_layer_changes_and_status_says_rank():
    case, network = traced("mlp")
    a, b = case.another(1), case.another(2)
    kernel = b["params"]["Dense_0"]["kernel"].at[:, 0].set(0)
    bias = b["params"]["Dense_0"]["bias"].at[0].set(-1)
    b["params"]["Dense_0"] = {"kernel": kernel, "bias": bias}  # unit 0 never fires
    done = solve_layers(network, b, a, case.inputs(200), layers=["Dense_1"])
    assert done.layers["Dense_1"].units == 8
    assert done.layers["Dense_1"].rank == 7
    assert "rank 7 of 8" in done.summary()
    for name in ("Dense_0", "Dense_2"):
        np.testing.assert_array_equal(
            done.params["params"][name]["kernel"], b["params"][name]["kernel"]
        )
    np.testing.assert_array_equal(done.params["params"]["Dense_1"]["kernel"][0], 0)


def test_a_network_is_adjusted_to_itself():
    case, network = traced("convnet")
    a, x = case.another(1), case.inputs(200)
    names = [layer.name for layer in network.layers[1:]]
    done = solve_layers(network, a, a, x, layers=names)
    np.testing.assert_allclose(case.run(done.params, x), case.run(a, x), atol=2e-3)


WANTED = [Wanted(1, 0)]


def test_chunks_do_not_matter():
    case, network = traced("mlp")
    path, x = Linear(case.another(1), case.another(2)), case.inputs(97)
    found = [
        moments_along(network, path, [0.0, 0.3, 1.0], WANTED, (path.a,),
                      inputs_of(network, x, WANTED, chunk))
        for chunk in (97, 8)
    ]  # fmt: skip
    for one, many in zip(*found, strict=True):
        np.testing.assert_allclose(one[0][0].gram, many[0][0].gram, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(one[0][0].cross, many[0][0].cross, rtol=1e-4, atol=1e-4)


def test_moments_are_numpys_in_float64():
    """A sum over many chunks keeps what float32 would lose."""
    f = lambda p, x: (x * p["scale"]) @ p["w"]
    x = jnp.asarray(1 + np.random.default_rng(0).normal(size=(200_000, 2)), jnp.float32)
    params = {"scale": jnp.ones(2), "w": jnp.ones((2, 1))}
    network = mcjax.trace(f, params, x[:3])
    path, wanted = Partial(params, ()), [Wanted(0, 0)]
    given = inputs_of(network, x, wanted, 200)
    found = next(moments_along(network, path, [0.0], wanted, (params,), given))
    wide = np.asarray(x, np.float64)
    np.testing.assert_allclose(found[0][0].gram, wide.T @ wide, rtol=3e-8)


@pytest.mark.parametrize("tile", [1, 3, 11])
def test_tiles_make_up_the_whole_gram_matrix(tile, monkeypatch):
    monkeypatch.setattr(gram, "_TILE", tile)
    # As many examples as no other: networks that are alike share programs, with their tiles.
    x = jnp.asarray(np.random.default_rng(0).normal(size=(30 + tile, 11)), jnp.float32)
    params = {"w": jnp.ones((11, 2))}
    network = mcjax.trace(lambda p, x: x @ p["w"], params, x[:3])
    path, wanted = Partial(params, ()), [Wanted(0, 0)]
    given = inputs_of(network, x, wanted)
    found = next(moments_along(network, path, [0.0], wanted, (params,), given))
    np.testing.assert_allclose(found[0][0].gram, np.asarray(x.T @ x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("n", [53, 59, 60])
@pytest.mark.parametrize("kind", KINDS)
def test_every_example_counts_wherever_it_comes_from(n, kind, tmp_path, monkeypatch):
    """NumPy's least squares in float64; the last example alone shows the last unit."""
    monkeypatch.setattr(moments, "_chunk_size", lambda *_: 8)
    monkeypatch.setattr(_stream, "BLOCK_BYTES", 16 * 4 * 6)
    rng = np.random.default_rng(n)
    x = rng.normal(size=(n, 6)).astype(np.float32)
    x[:-1, 5] = 0
    a, b = ({"w1": jnp.eye(6), "w2": jnp.asarray(rng.normal(size=(6, 2)), jnp.float32)}
            for _ in range(2))  # fmt: skip
    b["w1"] = jnp.asarray(rng.normal(size=(6, 6)), jnp.float32)
    network = mcjax.trace(lambda p, x: jnp.tanh(x @ p["w1"]) @ p["w2"], a, x[:4])
    done = solve_layers(network, a, b, inputs(kind, x, tmp_path), layers=["w2"])
    wide = {k: np.asarray(v, np.float64) for k, v in b.items()}
    target = np.tanh(x @ wide["w1"]) @ wide["w2"]
    expected = np.linalg.lstsq(np.tanh(x.astype(np.float64)), target, rcond=None)[0]
    np.testing.assert_allclose(done.params["w2"], expected, rtol=1e-4, atol=1e-5)
    assert done.layers["w2"].rank == 6
    assert done.layers["w2"].samples == n


def test_fewer_samples_than_units_warns():
    case, network = traced("mlp")
    with pytest.warns(UserWarning, match="3 samples for the 8 units of layer 'Dense_1'"):
        solve_layers(network, case.another(1), case.another(2), case.inputs(3), layers=["Dense_1"])


@pytest.mark.parametrize(
    ("name", "layer", "message"),
    [
        ("mlp", "Dense_9", "unknown layer 'Dense_9'; the layers are Dense_0, Dense_1"),
        ("transformer", "Embed_0", "layer 'Embed_0' looks up rows"),
        ("scan", "a", "layer 'a' is inside a loop"),
        ("remat-tied-embedding", "table#2", "has other uses in the model"),
    ],
)
def test_layers_that_cannot_be_solved(name, layer, message):
    case, network = traced(name)
    if layer == "table#2":
        layer = network.layers[-1].name
    with pytest.raises(ValueError, match=message):
        solve_layers(network, case.another(1), case.another(2), case.inputs(20), layers=[layer])


def test_bad_inputs():
    case, network = traced("mlp")
    a, x = case.another(1), case.inputs(20)
    with pytest.raises(ValueError, match="x is an empty batch"):
        solve_layers(network, a, a, x[:0], layers=["Dense_1"])
    with pytest.raises(ValueError, match="x: leaf '' holds 6 NaN"):
        solve_layers(network, a, a, x.at[0].set(jnp.nan), layers=["Dense_1"])
    with pytest.raises(ValueError, match="layers is empty"):
        solve_layers(network, a, a, x, layers=[])
    with pytest.raises(ValueError, match="different structures"):
        solve_layers(network, a, {"params": {}}, x, layers=["Dense_1"])


def test_layers_that_read_nan_are_refused():
    """`jnp.take` fills the rows of tokens outside of the table with NaN: no unit is dead."""
    tables = [np.random.default_rng(i).normal(size=(7, 3)).astype(np.float32) for i in range(2)]
    a, b = ({"table": t, "w": t[:3]} for t in tables)
    tokens = np.array([[0, 1], [2, 3], [4, 9], [5, 6]])
    network = mcjax.trace(
        lambda p, x: jnp.take(p["table"], x, axis=0).mean(1) @ p["w"], a, tokens[:2]
    )
    with pytest.raises(ValueError, match="x: what layer 'w' reads or should give is NaN"):
        solve_layers(network, a, b, tokens, layers=["w"])
