"""Verification finds what the rules got wrong, whatever the parameters, inputs and types."""

from __future__ import annotations

import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mcjax
from mcjax.network import rules
from mcjax.network.draws import vocabularies
from mcjax.network.program import trace_program
from mcjax.network.verify import _permutation
from mcjax.network.wide import Wide, on_host


def arrays(seed=0, **shapes):
    rng = np.random.default_rng(seed)
    return {k: jnp.asarray(rng.normal(size=s), jnp.float32) for k, s in shapes.items()}


X = jnp.asarray(np.random.default_rng(9).normal(size=(4, 3)), jnp.float32)


@pytest.fixture
def wrong(monkeypatch):
    """A rule that is wrong: cumulative sums keep the order of the units."""
    monkeypatch.setitem(rules.RULES, "cumsum", rules.RULES["tanh"])


def mixes(p, x):
    return jnp.cumsum(jnp.tanh(x @ p["in"]), -1) @ p["out"]


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16, jnp.complex64])
def test_in_every_type(wrong, dtype):
    p = jax.tree.map(lambda v: v.astype(dtype), arrays(**{"in": (3, 5), "out": (5, 2)}))
    with pytest.raises(RuntimeError, match=r"do not leave the function unchanged \(in\)"):
        mcjax.trace(mixes, p, X.astype(dtype))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16, jnp.complex64])
def test_right_groups_in_every_type(dtype):
    p = jax.tree.map(lambda v: v.astype(dtype), arrays(**{"in": (3, 5), "out": (5, 2)}))
    network = mcjax.trace(lambda p, x: jnp.tanh(x @ p["in"]) @ p["out"], p, X.astype(dtype))
    assert list(network.groups) == ["in"]
    assert "verified by execution (3 random draws in float64)" in network.explain()


@pytest.mark.parametrize("x", [jnp.zeros((4, 3)), np.ones((4, 3), np.float32)])
def test_inputs_that_hide_everything(wrong, x):
    with pytest.raises(RuntimeError, match="do not leave"):
        mcjax.trace(mixes, arrays(**{"in": (3, 5), "out": (5, 2)}), x)


def test_tiny_scales(wrong):
    """A layer scale of 1e-6 beside a skip connection, in float32."""

    def model(p, x):
        return x + p["scale"] * mixes(p, x)

    p = arrays(**{"in": (3, 5), "out": (5, 3)}) | {"scale": jnp.full(3, 1e-6)}
    with pytest.raises(RuntimeError, match="do not leave"):
        mcjax.trace(model, p, X)


def test_a_mistake_behind_a_choice(wrong):
    """Only one of six experts shows it, to which one draw in ten goes."""

    def model(p, x):
        chosen = jnp.argmax(jnp.mean(x @ p["router"], 0))
        return x @ p["linear"] + jnp.where(chosen == 5, 1.0, 0.0) * mixes(p, x)

    p = arrays(**{"in": (3, 5), "out": (5, 2), "router": (3, 6), "linear": (3, 2)})
    with pytest.raises(RuntimeError, match="do not leave"):
        mcjax.trace(model, p, X)


def test_zero_parameters(wrong):
    p = jax.tree.map(jnp.zeros_like, arrays(**{"in": (3, 5), "out": (5, 2)}))
    with pytest.raises(RuntimeError, match="do not leave"):
        mcjax.trace(mixes, p, X)


def test_a_small_share_of_a_16_bit_output(wrong):
    """An error of a thousandth of the output, below what bfloat16 can show."""

    def model(p, x):
        return p["bias"] + 1e-3 * mixes(p, x)

    p = arrays(**{"in": (3, 5), "out": (5, 2)}) | {"bias": jnp.ones(2)}
    p = jax.tree.map(lambda v: v.astype(jnp.bfloat16), p)
    with pytest.raises(RuntimeError, match="do not leave"):
        mcjax.trace(model, p, X.astype(jnp.bfloat16))


def test_tokens_are_drawn_over_the_vocabulary(wrong):
    """Token 0 alone would show only the padding's row, which is masked."""

    def model(p, tokens):
        h = jnp.cumsum(p["table"][tokens], -1) @ p["out"]
        return jnp.where((tokens > 3)[..., None], h, 0.0).sum(1)

    p = arrays(table=(11, 5), out=(5, 2))
    with pytest.raises(RuntimeError, match="do not leave"):
        mcjax.trace(model, p, jnp.zeros((2, 4), jnp.int32))


@pytest.mark.parametrize(
    "embed",
    [
        lambda p, i: p["table"][i],
        lambda p, i: jnp.take(p["table"], i, axis=0),
        lambda p, i: jax.nn.one_hot(i, 11) @ p["table"],
        lambda p, i: p["table"][jnp.minimum(i + 1, 10)],
    ],
)
def test_vocabulary(embed):
    p = arrays(table=(11, 5))
    leaves, treedef = jax.tree.flatten(p)
    x = jnp.zeros((2, 4), jnp.int32)
    assert vocabularies(trace_program(embed, treedef, leaves, x)[0], 1) == {0: 11}


def test_the_network_that_is_never_finite_is_not_verified():
    network = mcjax.trace(
        lambda p, x: jnp.tanh(x @ p["in"]) @ p["out"] / jnp.zeros(()),
        arrays(**{"in": (3, 5), "out": (5, 2)}),
        X,
    )
    assert network.verification is None
    assert "not verified" in network.explain()


def test_integer_outputs(wrong):
    """Decisions are looked at too: here nothing else leaves the model."""
    with pytest.raises(RuntimeError, match="do not leave"):
        mcjax.trace(lambda p, x: mixes(p, x) > 0.1, arrays(**{"in": (3, 8), "out": (8, 30)}), X)


def test_what_takes_no_float64_is_said():
    """A user's primitive of float32 only."""

    def model(p, x):
        h = jnp.tanh(x @ p["in"])
        bits = jax.lax.bitcast_convert_type(h, jnp.uint32) & jnp.uint32(0xFFFFF000)
        return jax.lax.bitcast_convert_type(bits, jnp.float32) @ p["out"]

    network = mcjax.trace(model, arrays(**{"in": (3, 5), "out": (5, 2)}), X)
    assert list(network.groups) == ["in"]
    assert "bitcast_convert_type in float32" in network.explain()


def test_the_host_computes_the_model(model):
    """Every primitive of the catalogue, against XLA's own program."""
    case, network = model
    params, x = case.another(1), case.inputs(2)
    leaves = [*jax.tree.leaves(params), *jax.tree.leaves(x)]
    types = [jax.ShapeDtypeStruct(v.shape, v.dtype) for v in jax.tree.leaves(params)]
    program, _ = trace_program(case.apply_fn, network.treedef, types, x)
    wide = Wide()
    with on_host():
        found = wide.run(program, list(map(np.asarray, leaves)))
    assert not wide.rounded
    for y, z in zip(jax.tree.leaves(case.run(params, x)), found, strict=True):
        np.testing.assert_allclose(z, np.asarray(y, np.float64), rtol=1e-3, atol=1e-4)


def test_memory_is_that_of_a_leaf():
    """Sixteen layers in bfloat16: never all in float64, never a second copy of all."""
    width, layers = 768, 8
    rng = np.random.default_rng(0)
    p = [jnp.asarray(rng.normal(size=(width, width)) / 28, jnp.bfloat16) for _ in range(2 * layers)]

    def model(p, x):
        for i in range(layers):
            x = x + jnp.tanh(x @ p[2 * i]) @ p[2 * i + 1]
        return x

    x = jnp.ones((2, width), jnp.bfloat16)
    mcjax.trace(model, p, x)  # what is kept: the random numbers
    tracemalloc.start()
    mcjax.trace(model, p, x)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    everything = sum(v.nbytes for v in p)
    assert peak < everything  # 19 MB; in float64 all leaves would be 75 MB


@pytest.mark.parametrize("every", [True, False])
def test_no_group_is_left_as_it_is(every):
    """Half of the permutations of two units are the identity, which verifies nothing."""
    rng = np.random.default_rng(0)
    for _ in range(20):
        for shape in ((2,), (3,), (4, 2)):
            drawn = _permutation(shape, rng, every)
            moved = (drawn != np.arange(shape[-1])).any(-1)
            assert np.all(moved) if every else np.any(moved)
            assert (np.sort(drawn, -1) == np.arange(shape[-1])).all()


def test_integer_inputs_that_are_compared():
    p = arrays(**{"in": (3, 5), "out": (5, 2)})
    ids = jnp.array([0, 1, 1, 0])
    x = {"x": X, "first": ids, "second": ids}

    def model(p, x):
        same = (x["first"] == x["second"])[:, None]
        return jnp.where(same, jnp.tanh(x["x"] @ p["in"]), 0.0) @ p["out"]

    assert list(mcjax.trace(model, p, x).groups) == ["in"]


def test_nothing_to_verify():
    network = mcjax.trace(lambda p, x: x @ p["w"], arrays(w=(3, 2)), X)
    assert "0 groups, 1 layer, nothing to verify" in network.explain()


@pytest.mark.parametrize("layout", [("NHWC", "HWIO", "NHWC"), ("NCHW", "OIHW", "NCHW"),
                                    ("CNHW", "IHWO", "HWNC")])  # fmt: skip
@pytest.mark.parametrize(
    "options",
    [
        {"window_strides": (2, 3), "padding": "SAME"},
        {"window_strides": (1, 1), "padding": [(0, 2), (1, 0)], "rhs_dilation": (2, 1)},
        {"window_strides": (2, 1), "padding": [(0, 0), (0, 0)], "lhs_dilation": (2, 2)},
        {"window_strides": (1, 1), "padding": "VALID", "feature_group_count": 2},
    ],
)
def test_convolutions_on_the_host_are_the_devices(layout, options):
    """Strides, padding, dilation, groups, in any layout."""
    rng = np.random.default_rng(0)
    sizes = {"N": 3, "C": 4, "H": 9, "W": 8}
    window = {"O": 6, "I": 4 // options.get("feature_group_count", 1), "H": 3, "W": 2}
    x, w = (rng.normal(size=[of[c] for c in letters]).astype(np.float32)
            for of, letters in ((sizes, layout[0]), (window, layout[1])))  # fmt: skip

    def model(p, x):
        return jax.lax.conv_general_dilated(x, p, dimension_numbers=layout, **options)

    types = [jax.ShapeDtypeStruct(v.shape, v.dtype) for v in (w, x)]
    program, _ = trace_program(model, jax.tree.structure(w), types[:1], types[1])
    with on_host():
        (found,) = Wide().run(program, [w, x])
        expected = model(*(jnp.asarray(v, jnp.float64) for v in (w, x)))
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-12)
