"""Scales absorbed: the same function, larger groups, and words where not."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mcjax
from tests.conftest import traced as catalogued
from tests.test_compiles import Compiled

from . import models
from .models import TOKENS, X, arrays

ORTHOGONAL, FIXING = "orthogonal", "orthogonal fixing ones"

# name → (function, shapes, inputs, group, its new factor, absorbed scales, biases)
CASES = {
    "swiglu": (models.swiglu, models.SWIGLU, X, "in", ORTHOGONAL, {"s0", "s1", "s2"}, set()),
    "gpt": (models.gpt, models.GPT, TOKENS, "table", FIXING, {"s0", "s1", "s2"}, {"b0", "b1"}),
    "scanned": (models.scanned, models.SCANNED | {"layers": models.LAYERS}, X, "in", FIXING,
                {"s", "layers/s"}, {"layers/b"}),
    "stacked": (models.stacked, models.SCANNED | {"layers": models.LAYERS}, X, "in", FIXING,
                {"s", "layers/s"}, set()),
    "normalised queries": (models.normalised_queries, models.NORMALISED_QUERIES, X, "in",
                           ORTHOGONAL, {"s0", "s1"}, set()),
    "convolutional": (models.convolutional, models.CONVOLUTIONAL, X, "in", ORTHOGONAL,
                      {"s0", "s1"}, set()),
}  # fmt: skip


def parameters(shapes):
    plain = {k: s for k, s in shapes.items() if isinstance(s, tuple)}
    inner = {k: arrays(**s) for k, s in shapes.items() if not isinstance(s, tuple)}
    return arrays(**plain) | inner


@pytest.fixture(scope="module")
def traced():
    made = {}

    def of(name):
        if name not in made:
            f, shapes, x = CASES[name][:3]
            params = parameters(shapes)
            network = mcjax.trace(f, params, x)
            made[name] = f, params, x, network, *network.absorbed(params)
        return made[name]

    return of


def wide(f, params, x):
    """The outputs in float64."""
    with jax.enable_x64(True):

        def up(v):
            return jnp.asarray(np.asarray(v), "f8") if v.dtype == jnp.float32 else v

        return np.asarray(jax.jit(f)(jax.tree.map(up, params), up(x)))


@pytest.mark.parametrize("name", CASES)
def test_the_function_stays_and_the_group_grows(name, traced):
    f, params, x, network, absorbed, moved = traced(name)
    _, _, _, group, kind, scales, biases = CASES[name]
    assert set(absorbed.absorption.scales) == scales
    assert set(absorbed.absorption.biases) == biases
    before = [g.kind for g in network.groups[group].structure.factors if g.matrices]
    after = [g.kind for g in absorbed.groups[group].structure.factors if g.matrices]
    assert (before, after) == ([], [kind])
    assert absorbed.verification.draws > 0
    expected = wide(f, params, x)
    for g, p in ((f, moved), (absorbed.apply_fn, moved)):
        np.testing.assert_allclose(wide(g, p, x), expected, atol=3e-5 * np.abs(expected).max())
    flat = dict(zip(network.leaf_names, jax.tree.leaves(moved), strict=True))
    assert all((flat[n] == 1).all() for n in scales)
    assert not any(flat[n].any() for n in biases)


@pytest.mark.parametrize("name", CASES)
def test_the_whole_group_keeps_the_function(name, traced):
    f, params, x, _, absorbed, moved = traced(name)
    action = mcjax.Action.random(absorbed, jax.random.key(0))
    expected = wide(f, params, x)
    turned = action(moved)
    np.testing.assert_allclose(wide(f, turned, x), expected, atol=2e-4 * np.abs(expected).max())
    assert not all(
        np.allclose(a, b)
        for a, b in zip(jax.tree.leaves(turned), jax.tree.leaves(moved), strict=True)
    )


def test_of_flax():
    """Pre-LN, fused biases of every reader but the last, whose mean over tokens is between."""
    case, network = catalogued("transformer")
    params = case.another(4)
    absorbed, moved = network.absorbed(params)
    assert len(absorbed.absorption.scales) == 5
    assert len(absorbed.absorption.biases) == 4
    assert not absorbed.absorption.refused
    assert FIXING in {f.kind for f in absorbed.groups["Embed_0"].structure.factors}
    expected = wide(case.apply_fn, params, case.x)
    found = wide(case.apply_fn, mcjax.Action.random(absorbed, jax.random.key(1))(moved), case.x)
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_what_stays_and_why():
    params = parameters(models.TIED)
    absorbed, moved = mcjax.trace(models.tied, params, TOKENS).absorbed(params)
    assert list(absorbed.absorption.refused) == ["s2"]
    assert "table" in absorbed.absorption.refused["s2"]
    assert "untie=True" in absorbed.absorption.summary()
    assert "untie=True" in absorbed.explain()
    assert (moved["s2"] == params["s2"]).all()
    assert (moved["s0"] == 1).all()
    found, expected = wide(models.tied, moved, TOKENS), wide(models.tied, params, TOKENS)
    np.testing.assert_allclose(found, expected, atol=3e-5 * np.abs(expected).max())


def test_untied():
    params = parameters(models.TIED)
    network = mcjax.trace(models.tied, params, TOKENS)
    absorbed, moved = network.absorbed(params, untie=True)
    assert absorbed.absorption.untied == ("table",)
    assert "untied: table" in absorbed.explain()
    assert not absorbed.absorption.refused
    assert set(moved) == {"params", "untied"}
    np.testing.assert_allclose(moved["untied"]["table"], params["table"] * params["s2"], rtol=1e-5)
    (stream,) = [g for g in absorbed.groups.values() if g.size == models.WIDTH]
    assert FIXING in {f.kind for f in stream.structure.factors}
    expected = wide(models.tied, params, TOKENS)
    for p in (moved, mcjax.Action.random(absorbed, jax.random.key(3))(moved)):
        found = wide(absorbed.apply_fn, p, TOKENS)
        np.testing.assert_allclose(found, expected, atol=2e-4 * np.abs(expected).max())
    again, _ = mcjax.trace(models.tied, params, TOKENS).absorbed(params, untie=True)
    assert again == absorbed
    longer = jnp.concatenate([TOKENS, TOKENS])  # another number of examples; both uses are trained
    slopes = jax.jit(jax.grad(lambda p: (absorbed.apply_fn(p, longer) ** 2).sum()))(moved)
    assert jnp.abs(slopes["params"]["table"]).max() > 0
    assert jnp.abs(slopes["untied"]["table"]).min() > 0


def test_untie_where_nothing_is_tied(traced):
    _, params, _, network, absorbed, _ = traced("gpt")
    assert network.absorbed(params, untie=True)[0] == absorbed


WHY = {
    "a nonlinearity": (lambda p, h: jnp.tanh(models.rms(h, p["s"])) @ p["out"], "tanh"),
    "two readers": (
        lambda p, h: models.rms(h, p["s"]) @ p["out"] + jnp.abs(models.rms(h, p["s"])) @ p["out"],
        "abs",
    ),
    "two readers, two weights": (
        lambda p, h: models.rms(h, p["s"]) @ p["out"] + jnp.abs(models.rms(h, p["s"])) @ p["o3"],
        "abs",
    ),
    "a stream": (lambda p, h: (h + models.rms(h, p["s"])) @ p["out"], "added to other data"),
    "the output": (lambda p, h: models.rms(h, p["s"]), "leaves the program"),
    "a weight used twice": (
        lambda p, h: models.rms(h, p["s"]) @ p["out"] + h @ p["out"], "out reads it, and is used"
    ),
    "nothing gained": (
        lambda p, h: jax.nn.gelu(h) * p["s"] @ p["out"], "admit no rotation either"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WHY)
def test_refused(name):
    f, why = WHY[name]
    params = arrays(**{"in": (3, 6)}, s=(6,), out=(6, 2), o3=(6, 2))
    network = mcjax.trace(lambda p, x: f(p, x @ p["in"]), params, X)
    absorbed, moved = network.absorbed(params)
    assert absorbed == network
    assert moved is params
    if name == "the output":  # its units cannot be permuted either
        assert absorbed.absorption.summary() == "nothing to absorb: no unit is scaled"
    else:
        assert why in absorbed.absorption.refused["s"]


def test_queries_and_keys_keep_their_scales(traced):
    absorbed = traced("normalised queries")[4]
    assert set(absorbed.absorption.refused) == {"sq", "sk"}
    assert all("dot_general" in why for why in absorbed.absorption.refused.values())


def test_nothing_to_absorb():
    case, network = catalogued("mlp")
    absorbed, moved = network.absorbed(case.params)
    assert absorbed == network
    assert moved is case.params
    assert "nothing to absorb" in absorbed.absorption.summary()
    assert network.absorption is None


def test_results_say_the_form(traced):
    f, params, x, network, absorbed, moved = traced("gpt")
    data = x, jnp.zeros_like(f(params, x))
    for net, p in ((network, params), (absorbed, moved)):
        made = mcjax.connect(net, p, p, "linear")
        curve = mcjax.evaluate(made.path, net, data, 2, task=mcjax.tasks.REGRESSION)
        for result in (made, curve):
            assert result.metadata["form"] == net.form
            assert ("absorbed" in result.summary()) == (net is absorbed)
    assert network.form == "plain"
    n = len(absorbed.absorption.scales)
    assert n
    assert absorbed.form.startswith(f"absorbed ({n} scales")


def test_a_value_as_a_network_is(traced):
    f, params, x, network, absorbed, moved = traced("gpt")
    other = jax.tree.map(lambda v: v + 0.5, params)
    again, _ = mcjax.trace(f, params, x).absorbed(other)
    assert again == absorbed
    assert hash(again) == hash(absorbed)
    assert absorbed != network
    assert again.absorption == absorbed.absorption
    same, untouched = absorbed.absorbed(moved)
    assert same == absorbed
    assert untouched is moved
    assert same.absorption == absorbed.absorption


def test_a_second_call_compiles_nothing(traced):
    f, params, x, *_ = traced("gpt")
    with Compiled() as compiled:
        absorbed, moved = mcjax.trace(f, params, x, check=False).absorbed(params)
        absorbed.permute(absorbed.identity_permutations(), moved)
    assert not compiled.programs


def test_constants_whatever_they_are(traced):
    _, params, x, _, absorbed, moved = traced("gpt")
    other = moved | {"s0": params["s0"], "b0": params["b0"]}
    assert (absorbed.apply_fn(other, x) == absorbed.apply_fn(moved, x)).all()
    assert all(p.leaf not in ("s0", "b0") for g in absorbed.groups.values() for p in g.places)


def test_under_jit(traced):
    _, params, _, network, _, moved = traced("gpt")
    found = jax.jit(lambda p: network.absorbed(p)[1])(params)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(moved), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_a_unit_whose_scale_is_zero(traced):
    f, params, x, network, *_ = traced("gpt")
    dead = params | {"s0": params["s0"].at[2].set(0)}  # b0 is taken up by a bias
    moved = network.absorbed(dead)[1]
    expected = wide(f, dead, x)
    np.testing.assert_allclose(wide(f, moved, x), expected, atol=3e-5 * np.abs(expected).max())
    assert not moved["qkv"][2].any()
    dead = params | {"s2": params["s2"].at[2].set(0)}  # `out` has no bias
    with pytest.raises(ValueError, match=r"'s2' is 0 at unit 2.*'b2'"):
        network.absorbed(dead)
    assert np.isfinite(network.absorbed(dead | {"b2": params["b2"].at[2].set(0)})[1]["b2"]).all()


def test_other_parameters(traced):
    _, params, _, network, *_ = traced("gpt")
    with pytest.raises(ValueError, match="params: leaf 's0' has shape"):
        network.absorbed(params | {"s0": jnp.ones(3)})
    with pytest.raises(ValueError, match="params"):
        network.absorbed({k: v for k, v in params.items() if k != "s0"})


def test_parameters_that_are_not_absorbed_are_refused(traced):
    """One network absorbed and the other not: the other is another function there."""
    _, params, x, _, absorbed, moved = traced("swiglu")
    y, task = absorbed.apply_fn(moved, x), mcjax.tasks.REGRESSION
    action = mcjax.Action.identity(absorbed)
    for attempt in (
        lambda: mcjax.connect(absorbed, moved, params, "linear"),
        lambda: mcjax.align.match_weights(absorbed, moved, params),
        lambda: action(params),
        lambda: mcjax.evaluate(mcjax.path.Linear(params, moved), absorbed, (x, y), task=task),
    ):
        with pytest.raises(ValueError, match=r"'s0' is not 1 everywhere.*does not read it"):
            attempt()
    middle = jax.tree.map(lambda u, v: 0.3 * u + 0.7 * v, moved, action(moved))
    absorbed.check_parameters(params=middle)
