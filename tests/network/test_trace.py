"""What trace must refuse, fix, or say."""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mcjax

from ..fuzz import ROUNDING, outcome_of


def mlp(p, x):
    return jax.nn.relu(x @ p["w1"] + p["b1"]) @ p["w2"]


def params(width=5, dtype=jnp.float32, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "w1": jnp.asarray(rng.normal(size=(3, width)), dtype),
        "b1": jnp.asarray(rng.normal(size=width), dtype),
        "w2": jnp.asarray(rng.normal(size=(width, 2)), dtype),
    }


X = jnp.asarray(np.random.default_rng(9).normal(size=(4, 3)), jnp.float32)


@pytest.mark.filterwarnings("ignore:no unit group")  # outputs of random shapes
@pytest.mark.parametrize(("first", "steps"), [(0, 9), (10_000, 9), (20_000, 14)])
def test_fuzz(first, steps):
    """36 random programs: no group found is wrong (thousands are run by hand)."""
    found = [outcome_of(seed, steps) for seed in range(first, first + 12)]
    assert [o.wrong for o in found if o.wrong and not o.wrong.startswith(ROUNDING)] == []
    assert sum(o.groups for o in found) > 10  # and the tracer is not merely conservative


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:no unit group")
@pytest.mark.parametrize(("first", "steps"), [(30_000, 14), (40_000, 20)])
def test_fuzz_many(first, steps):
    found = [outcome_of(seed, steps) for seed in range(first, first + 1000)]
    assert [o.wrong for o in found if o.wrong and not o.wrong.startswith(ROUNDING)] == []
    assert sum(o.groups for o in found) > 1500


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32])
def test_dtypes(dtype):
    network = mcjax.trace(mlp, params(dtype=dtype), X.astype(dtype))
    assert network.groups["w1"].shape == (5,)
    moved = network.permute({"w1": np.array([1, 0, 2, 4, 3])}, params(dtype=dtype))
    assert {v.dtype for v in jax.tree.leaves(moved)} == {jnp.dtype(dtype)}


def test_float64():
    with jax.enable_x64(True):
        assert mcjax.trace(mlp, params(dtype=jnp.float64), X.astype(jnp.float64)).groups


def test_shape_dtype_structs_are_enough_for_inputs():
    types = jax.ShapeDtypeStruct((10, 3), jnp.float32)
    assert mcjax.trace(mlp, params(), types).groups["w1"].size == 5


@pytest.mark.parametrize("width", [0, 1])
def test_widths_without_a_group(width):
    assert not mcjax.trace(mlp, params(width), X).groups


def test_constant_output():
    network = mcjax.trace(lambda p, x: jnp.zeros((len(x), 2)), params(), X)
    assert not network.groups
    assert "does not use" in network.explain()


def test_unused_parameters_are_no_group():
    extra = {**params(), "unused": jnp.ones((4, 4))}
    assert list(mcjax.trace(mlp, extra, X).groups) == ["w1"]


def test_unknown_primitive_is_fixed_and_named():
    def model(p, x):
        h = jax.nn.relu(x @ p["w1"] + p["b1"])
        h = jnp.linalg.qr(h.T @ h)[0] + h.sum()
        return h @ p["w2"]

    network = mcjax.trace(model, params(), X)
    assert not network.groups
    assert "qr" in network.explain() or "householder" in network.explain()


def test_what_mixes_positions_fixes():
    for mix in (lambda h: jnp.cumsum(h, -1), lambda h: h[:, ::-1], jnp.fft.fft, jnp.argsort):
        model = lambda p, x, mix=mix: jnp.real(mix(x @ p["w1"] + p["b1"])) @ p["w2"]
        assert not mcjax.trace(model, params(), X).groups


def test_sorted_values_do_not_depend_on_the_order_of_the_units():
    """The units that write them are interchangeable, the rows that read them are not."""
    model = lambda p, x: jnp.sort(x @ p["w1"] + p["b1"]) @ p["w2"]
    (group,) = mcjax.trace(model, params(), X).groups.values()
    assert {place.leaf for place in group.places} == {"w1", "b1"}


def test_an_index_fixes_only_what_it_must():
    """One unit is read by name: the tracer may not permute it away."""

    def model(p, x):
        h = jax.nn.relu(x @ p["w1"] + p["b1"])
        return h @ p["w2"] + h[:, :1]

    assert not mcjax.trace(model, params(), X).groups


def test_a_slice_of_units_splits_the_group():
    def model(p, x):
        h = jax.nn.relu(x @ p["w1"] + p["b1"])
        return jnp.concatenate([h[:, :2], 2 * h[:, 2:]], -1) @ p["w2"]

    shapes = sorted(g.shape for g in mcjax.trace(model, params(), X).groups.values())
    assert shapes == [(2,), (3,)]


def test_dropout_in_training_mode_is_refused():
    """A random mask by unit: permuted units meet other masks."""

    def model(p, x):
        h = x @ p["w1"] + p["b1"]
        mask = jax.random.bernoulli(jax.random.key(0), 0.5, h.shape)
        return (h * mask) @ p["w2"]

    with pytest.warns(UserWarning, match="with a key that it holds itself"):
        assert not mcjax.trace(model, params(), X).groups


def test_nan():
    bad = {**params(), "b1": jnp.array([1.0, jnp.nan, 0, 0, 0])}
    with pytest.raises(ValueError, match=r"params: leaf 'b1' holds 1 NaN or infinite values of 5"):
        mcjax.trace(mlp, bad, X)


def test_integer_parameters():
    with pytest.raises(ValueError, match=r"no floating-point leaf .*int32"):
        mcjax.trace(mlp, jax.tree.map(lambda v: v.astype(jnp.int32), params()), X)


def test_empty_batch():
    with pytest.raises(ValueError, match="x is an empty batch"):
        mcjax.trace(mlp, params(), X[:0])


def test_impure_function():
    calls = []

    def impure(p, x):
        calls.append(0)
        return mlp(p, x) * len(calls)

    with pytest.raises(ValueError, match="not pure"):
        mcjax.trace(impure, params(), X)

    rng = np.random.default_rng()
    with pytest.raises(ValueError, match="not pure"):
        mcjax.trace(lambda p, x: mlp(p, x) + rng.normal(size=2), params(), X)


@pytest.mark.parametrize(
    ("permutations", "message"),
    [
        ([np.arange(5)], "or map names of groups to index arrays; got a list"),
        ({"w9": np.arange(5)}, "unknown group 'w9'; the groups are 'w1'"),
        ({"w1": np.arange(4)}, r"has shape \(4,\), expected \(5,\)"),
        ({"w1": np.array([0, 0, 1, 2, 3])}, "is no permutation of 0 … 4"),
        ({"w1": np.array([0, 1, 2, 3, 5])}, "is no permutation of 0 … 4"),
        ({"w1": np.arange(5.0)}, "is no permutation of 0 … 4, but of type float64, expected int"),
    ],
)
def test_bad_permutations(permutations, message):
    network = mcjax.trace(mlp, params(), X)
    with pytest.raises(ValueError, match=message):
        network.permute(permutations, params())


def test_numbers_that_jax_would_round_are_permuted_bitwise():
    a = {k: np.random.default_rng(0).normal(size=np.shape(v)) for k, v in params().items()}
    moved = mcjax.trace(mlp, params(), X).permute({"w1": np.array([3, 0, 4, 1, 2])}, a)
    np.testing.assert_array_equal(moved["w1"], a["w1"][:, [3, 0, 4, 1, 2]])
    assert moved["w1"].dtype == np.float64


def test_bytes_in_another_order_are_refused():
    swapped = {**params(), "w2": np.asarray(params()["w2"]).astype(">f4")}
    with pytest.raises(ValueError, match=r"params: leaf 'w2' is .* of dtype >f4, whose bytes"):
        mcjax.trace(mlp, swapped, X)


def test_parameters_of_another_shape_or_structure():
    network = mcjax.trace(mlp, params(), X)
    with pytest.raises(ValueError, match=r"leaf 'b1' has shape \(6,\), expected \(5,\)"):
        network.permute({}, params(6))
    with pytest.raises(ValueError, match="'w2' is in the traced parameters but not in params"):
        network.permute({}, {"w1": params()["w1"], "b1": params()["b1"]})


def test_a_wrong_group_would_be_caught(monkeypatch):
    """Verification is independent of the rules: break one and trace must refuse."""
    from mcjax.network import rules

    monkeypatch.setitem(rules.RULES, "cumsum", rules.RULES["tanh"])
    with pytest.raises(RuntimeError, match="do not leave the function unchanged"):
        mcjax.trace(lambda p, x: jnp.cumsum(x @ p["w1"], -1) @ p["w2"], params(), X)


def test_deep_linen_network_with_frozen_statistics():
    model = nn.BatchNorm(use_running_average=True)
    variables = model.init(jax.random.key(0), X)
    assert not mcjax.trace(model.apply, variables, X).groups  # inputs and outputs are fixed


def test_rows_that_no_input_reaches_are_no_group():
    def model(p, x):
        table = p["position"].astype(jnp.float32)[: x.shape[1]]
        h = jax.nn.relu((x[..., None] * p["up"] + table) @ p["w1"])
        return (h @ p["w2"]).mean(1)

    shapes = {"position": (50, 7), "up": (7,), "w1": (7, 6), "w2": (6, 3)}
    p = {k: jax.random.normal(jax.random.key(i), s) for i, (k, s) in enumerate(shapes.items())}
    network = mcjax.trace(model, p, jnp.ones((2, 4)))
    assert sorted(g.shape for g in network.groups.values()) == [(6,), (7,)]
    assert "does not use" in network.explain()


def test_what_each_of_two_slices_uses_is_a_group():
    def model(p, x):
        left, right = p["w1"][:, :2], p["w1"][:, 2:5]
        return jax.nn.relu(x @ left) @ p["w2"] + jax.nn.relu(x @ right) @ p["w3"]

    shapes = {"w1": (5, 8), "w2": (2, 4), "w3": (3, 4)}
    p = {k: jax.random.normal(jax.random.key(i), s) for i, (k, s) in enumerate(shapes.items())}
    groups = mcjax.trace(model, p, jnp.ones((2, 5))).groups
    assert sorted(g.size for g in groups.values()) == [2, 3]
