"""Statistics of batch normalisation are found by role, in any algebra, and estimated."""

from __future__ import annotations

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import nnx

import mcjax
from mcjax.evaluation import batch_norm_along, estimate_batch_norm
from mcjax.network.batch_norm import in_training_mode
from mcjax.path import Linear

# Leaves of a normalisation: u the mean, s the variance, g the scale, c the offset.


def folded(p, h):
    """Keras's."""
    inv = jax.lax.rsqrt(p["s"] + 1e-3) * p["g"]
    shape = (1,) * (h.ndim - 1) + (-1,)
    return h * inv.reshape(shape) + (p["c"] - p["u"] * inv).reshape(shape)


def haiku_like(p, h):
    inv = p["g"] * jax.lax.rsqrt(p["s"] + 1e-3)
    return (h - p["u"]) * inv + p["c"]


def channels_first(p, h):
    """PyTorch's, on the channels moved to axis 1."""
    h = jnp.moveaxis(h, -1, 1)
    u, s, g, c = (p[k].reshape(1, -1, *(1,) * (h.ndim - 2)) for k in "usgc")
    return jnp.moveaxis((h - u) / jnp.sqrt(s + 1e-3) * g + c, 1, -1)


def by_power(p, h):
    return p["c"] + p["g"] * ((h - p["u"]) * (p["s"] + 1e-3) ** -0.5)


def subtracted_last(p, h):
    inv = 1 / jnp.sqrt(p["s"] + 1e-3)
    return (h * inv - p["u"] * inv) * (1 + p["g"]) + p["c"]


def broadcast_whole(p, h):
    u, s = (jnp.broadcast_to(p[k], h.shape) for k in "us")
    return (h - u) * jax.lax.rsqrt(s + 1e-3) * p["g"]


def negative(p, h):
    return (p["u"] - h) / (jnp.sqrt(p["s"]) + 1e-3)


ALGEBRAS = [
    folded, haiku_like, channels_first, by_power, subtracted_last, broadcast_whole, negative,
]  # fmt: skip
WIDTHS = (5, 4, 3)


def network_of(normalise):
    """Two layers with biases, each normalised."""

    def apply(params, x):
        for layer in params:
            x = jax.nn.relu(normalise(layer["norm"], x @ layer["w"] + layer["b"]))
        return x

    return apply


def drawn(seed: int = 0):
    rng = np.random.default_rng(seed)
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
    return [
        {"w": draw(n, m), "b": draw(m), "norm": {k: 1 + 0.2 * jnp.abs(draw(m)) for k in "usgc"}}
        for n, m in itertools.pairwise(WIDTHS)
    ]


def reference(normalise, params, x):
    """Statistics of every layer's input in float64, each layer normalised by those before."""
    h, out = np.asarray(x, np.float64), []
    for layer in params:
        z = h @ np.asarray(layer["w"], np.float64) + np.asarray(layer["b"], np.float64)
        others = tuple(range(z.ndim - 1))
        u, s = z.mean(others), z.var(others)
        out.append((u, s))
        inputs = {**layer["norm"], "u": jnp.asarray(u), "s": jnp.asarray(s)}
        h = np.maximum(np.asarray(normalise(inputs, jnp.asarray(z)), np.float64), 0)
    return out


@pytest.mark.parametrize("shape", [(40,), (10, 3, 2)], ids=["dense", "images"])
@pytest.mark.parametrize("normalise", ALGEBRAS)
def test_every_algebra(normalise, shape):
    params = drawn()
    x = jax.random.normal(jax.random.key(0), (*shape, 5))
    found = estimate_batch_norm(network_of(normalise), params, x)
    for layer, old, (u, s) in zip(found, params, reference(normalise, params, x), strict=True):
        np.testing.assert_allclose(layer["norm"]["u"], u, rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(layer["norm"]["s"], s, rtol=1e-3, atol=1e-4)
        for k in "gc":
            np.testing.assert_array_equal(layer["norm"][k], old["norm"][k])
    outputs = in_training_mode(network_of(normalise))(params, x)
    np.testing.assert_allclose(outputs, network_of(normalise)(found, x), rtol=1e-3, atol=1e-3)


def test_statistics_of_two_axes_in_another_order():
    """A mean and a variance for each position and channel, stored channels first."""

    def f(p, x):
        h = jnp.einsum("btc,cd->btd", x, p["w"])
        return (h - p["u"].T) * jax.lax.rsqrt(p["s"].T + 1e-5)

    params = {"w": jnp.eye(3), "u": jnp.zeros((3, 3)), "s": jnp.ones((3, 3))}
    x = np.random.default_rng(0).normal(size=(50, 3, 3)).astype(np.float32)
    x *= np.arange(1, 10).reshape(3, 3)
    found = estimate_batch_norm(f, params, x)
    np.testing.assert_allclose(found["u"], x.mean(0).T, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found["s"], x.var(0).T, rtol=1e-4)


def test_names_mean_nothing():
    """Leaves called mean and var that are offset and scale, statistics that are called a and b."""
    f = lambda p, x: (x @ p["w"] - p["a"]) * jax.lax.rsqrt(p["b"]) * p["var"] + p["mean"]
    params = {"w": jnp.eye(3), "mean": jnp.ones(3), "var": jnp.ones(3)}
    params |= {"a": jnp.zeros(3), "b": jnp.ones(3)}
    x = jax.random.normal(jax.random.key(0), (50, 3))
    found = estimate_batch_norm(f, params, x)
    np.testing.assert_allclose(found["a"], np.mean(x, 0), atol=1e-5)
    np.testing.assert_allclose(found["b"], np.var(x, 0), rtol=1e-4)
    for k in ("mean", "var"):
        np.testing.assert_array_equal(found[k], 1.0)
    network = mcjax.trace(f, params, x)
    (line,) = [s for s in network.explain().splitlines() if s.startswith("batch normalisation")]
    assert line == "batch normalisation: mean a, variance b, over axes (0,) of its input"


def layer_norm(p, h):
    centred = h - h.mean(-1, keepdims=True)
    return centred / jnp.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * p["var"] - p["mean"]


LOOKALIKES = {
    "layer norm": layer_norm,
    "weight norm": lambda p, h: h * (p["var"] / jnp.sqrt(jnp.sum(p["var"] ** 2))) - p["mean"],
    "log variance": lambda p, h: (h - p["mean"]) / jnp.sqrt(jnp.exp(p["var"])),
    "positive root": lambda p, h: (h - p["mean"]) * jnp.sqrt(p["var"]),
    "another scale": lambda p, h: h * jax.lax.rsqrt(p["var"]) - p["mean"],
    "added": lambda p, h: (h + p["mean"]) * jax.lax.rsqrt(p["var"]),
    "affine": lambda p, h: (h - p["mean"]) * p["var"],
    "softplus": lambda p, h: (h - p["mean"]) / jnp.sqrt(jax.nn.softplus(p["var"])),
}


@pytest.mark.parametrize("kind", LOOKALIKES)
def test_what_only_looks_like_it(kind):
    f = lambda p, x: LOOKALIKES[kind](p, x @ p["w"])
    params = {"w": jnp.eye(3), "mean": jnp.ones(3), "var": 2 * jnp.ones(3)}
    x = jax.random.normal(jax.random.key(0), (6, 3))
    assert not mcjax.trace(f, params, x).normalisations.leaves
    with pytest.raises(ValueError, match="no batch-normalisation statistics"):
        estimate_batch_norm(f, params, x)
    curve = mcjax.evaluate(Linear(params, params), f, (x, jnp.zeros(6, int)), 2)
    np.testing.assert_array_equal(in_training_mode(f)(params, x), f(params, x))
    assert np.isfinite(curve.loss).all()


def test_averages_that_do_not_act():
    """haiku's: of `average`, `hidden` and `counter` only the first counts in evaluation mode."""
    average = lambda n: {"average": jnp.full(3, n), "hidden": jnp.zeros(3), "counter": jnp.array(0)}
    params = {"mean_ema": average(0.0), "var_ema": average(1.0), "g": jnp.ones(3)}

    def f(p, x):
        u, s = (p[k]["average"] for k in ("mean_ema", "var_ema"))
        return (x - u) * (p["g"] * jax.lax.rsqrt(s + 1e-5))

    x = jax.random.normal(jax.random.key(0), (50, 3))
    found = estimate_batch_norm(f, params, x)
    np.testing.assert_allclose(found["mean_ema"]["average"], np.mean(x, 0), atol=1e-5)
    np.testing.assert_allclose(found["var_ema"]["average"], np.var(x, 0), rtol=1e-4)
    for k in ("mean_ema", "var_ema"):
        np.testing.assert_array_equal(found[k]["hidden"], 0)


def test_division_without_a_mean_is_said():
    f = lambda p, x: x @ p["w"] * jax.lax.rsqrt(p["v"] + 1e-5)
    network = mcjax.trace(f, {"w": jnp.eye(3), "v": jnp.ones(3)}, jnp.ones((2, 3)))
    assert "no mean is subtracted: v" in network.explain()


# -- libraries -----------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["ema", "batch"])
def test_equinox_state(mode):
    """State beside the parameters; `batch` holds averages that a counter corrects."""
    make = eqx.nn.make_with_state(eqx.nn.BatchNorm)
    norm, state = make(3, "batch", mode=mode, inference=True)
    arrays, static = eqx.partition(norm, eqx.is_inexact_array)

    def run(params, x, inference):
        module = eqx.combine(params["norm"], static)
        one = lambda h, s: module(h, s, inference=inference)
        axes = {"axis_name": "batch", "in_axes": (0, None), "out_axes": (0, None)}
        return jax.vmap(one, **axes)(x, params["state"])

    x = 3 * jax.random.normal(jax.random.key(0), (40, 3, 5)) + 1
    params = {"norm": arrays, "state": state}
    for _ in range(2):  # two updates: the correction is not trivial
        params["state"] = run(params, x, False)[1]
    apply = lambda p, v: run(p, v, True)[0]
    other = x[::2] * 2 - 1
    found = estimate_batch_norm(apply, params, other, chunk=20)
    values = np.asarray(other, np.float64)
    mean, var = values.mean((0, 2)), values.var((0, 2))
    expected = (values - mean[:, None]) / np.sqrt(var[:, None] + norm.eps)
    np.testing.assert_allclose(apply(found, other), expected, atol=1e-3)


@pytest.mark.parametrize("mode", ["ema", "batch"])
def test_equinox_in_training_mode(mode):
    """Named means of the batch and of images: the channels are found, and the mode is said."""
    norm, state = eqx.nn.make_with_state(eqx.nn.BatchNorm)(3, "batch", mode=mode)
    arrays, static = eqx.partition(norm, eqx.is_inexact_array)

    def apply(p, x):
        h = jnp.einsum("bis,io->bos", x, p["w"])
        module = eqx.combine(p["norm"], static)
        axes = {"axis_name": "batch", "in_axes": (0, None), "out_axes": (0, None)}
        return jax.nn.relu(jax.vmap(module, **axes)(h, p["state"])[0]).mean(-1) @ p["v"]

    rng = np.random.default_rng(0)
    params = {"norm": arrays, "state": state, "w": rng.normal(size=(2, 3)).astype("f"),
              "v": rng.normal(size=(3, 4)).astype("f")}  # fmt: skip
    with pytest.warns(UserWarning, match=r"by the batch's own mean.*inference_mode"):
        network = mcjax.trace(apply, params, rng.normal(size=(5, 2, 6)).astype("f"))
    assert [g.shape for g in network.groups.values()] == [(3,)]
    assert {"w", "v", "norm/weight", "norm/bias"} <= {
        n for n, axes in zip(network.leaf_names, network.leaf_axes, strict=True)
        if any(network.groups["w"].atom in e for e in axes)
    }  # fmt: skip


class Linen(nn.Module):
    train: bool = False

    @nn.compact
    def __call__(self, x):
        for width in (5, 4):
            x = nn.Conv(width, (3,))(x)
            x = nn.relu(nn.BatchNorm(use_running_average=not self.train, momentum=0.0)(x))
        return nn.Dense(2)(x)


def test_training_mode_of_linen():
    x = jax.random.normal(jax.random.key(0), (20, 6, 3))
    variables = Linen().init(jax.random.key(1), x)
    expected, updated = Linen(train=True).apply(variables, x, mutable=["batch_stats"])
    np.testing.assert_allclose(in_training_mode(Linen().apply)(variables, x), expected, atol=1e-4)
    found = estimate_batch_norm(Linen().apply, variables, x)["batch_stats"]
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4),
        found, updated["batch_stats"],
    )  # fmt: skip


def test_nnx():
    norm = nnx.BatchNorm(3, rngs=nnx.Rngs(0), use_running_average=True, momentum=0.0)
    graph, state = nnx.split(norm)
    x = 2 * jax.random.normal(jax.random.key(0), (20, 3)) + 1
    apply = lambda p, v: nnx.merge(graph, p)(v)
    found = nnx.merge(graph, estimate_batch_norm(apply, state, x))
    np.testing.assert_allclose(found.mean[...], np.mean(x, 0), rtol=1e-4)
    np.testing.assert_allclose(found.var[...], np.var(x, 0), rtol=1e-4)


# -- loops, several uses, refusals ---------------------------------------------------------


def stacked(params):
    return jax.tree.map(lambda *v: jnp.stack(v), *params)


@pytest.mark.parametrize("reverse", [False, True])
def test_a_scan_over_layers(reverse):
    """Statistics of scanned layers are those of the unrolled network."""
    rng = np.random.default_rng(0)
    layers = [
        {"w": jnp.asarray(rng.normal(size=(4, 4)), jnp.float32),
         "norm": {k: jnp.asarray(rng.uniform(1, 2, 4), jnp.float32) for k in "usgc"}}
        for _ in range(3)
    ]  # fmt: skip
    step = lambda h, p: (jnp.tanh(folded(p["norm"], h @ p["w"])), None)
    scanned = lambda p, x: jax.lax.scan(step, x, p, reverse=reverse)[0]

    def unrolled(p, x):
        for layer in reversed(p) if reverse else p:
            x = step(x, layer)[0]
        return x

    x = jax.random.normal(jax.random.key(0), (30, 4))
    found = estimate_batch_norm(scanned, stacked(layers), x, chunk=10)
    expected = stacked(estimate_batch_norm(unrolled, layers, x, chunk=10))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
                 found, expected)  # fmt: skip


@pytest.mark.parametrize("loop", [False, True])
def test_one_normalisation_used_twice(loop):
    """Each use is normalised by its own statistics; what is stored is their mean."""

    def f(p, x):
        step = lambda h, _: (jnp.tanh(folded(p, h @ p["w"])), None)
        if loop:
            return jax.lax.scan(step, x, None, length=2)[0]
        return step(step(x, None)[0], None)[0]

    rng = np.random.default_rng(1)
    params = {k: jnp.asarray(rng.uniform(1, 2, 3), jnp.float32) for k in "usgc"}
    params["w"] = jnp.asarray(rng.normal(size=(3, 3)), jnp.float32)
    x = jax.random.normal(jax.random.key(0), (30, 3))
    h, moments = np.asarray(x, np.float64), []
    for _ in range(2):
        z = h @ np.asarray(params["w"], np.float64)
        moments.append((z.mean(0), z.var(0)))
        inv = np.asarray(params["g"]) / np.sqrt(z.var(0) + 1e-3)
        h = np.tanh((z - z.mean(0)) * inv + np.asarray(params["c"]))
    found = estimate_batch_norm(f, params, x)
    for k, expected in zip("us", np.mean(moments, 0), strict=True):
        np.testing.assert_allclose(found[k], expected, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(in_training_mode(f)(params, x), h, atol=1e-4)


def conditional(p, x):
    normalise = lambda h: haiku_like(p, h)
    return jax.lax.cond(x.sum() > 0, normalise, lambda h: h, x)


def hoisted(p, x):
    inv = jax.lax.rsqrt(p["s"] + 1e-3)
    return jax.lax.scan(lambda h, _: ((h - p["u"]) * inv, None), x, None, length=2)[0]


REFUSED = {
    "condition": (conditional, "inside a `while` or a `cond`"),
    "hoisted": (hoisted, "come into a `scan` otherwise"),
    "elsewhere": (lambda p, x: haiku_like(p, x) + p["u"], "something besides its normalisation"),
    "axes": (lambda p, x: (x - p["u"]) * jax.lax.rsqrt(p["one"]), "along different axes"),
    "part": (lambda p, x: (x - p["all"][0]) / jnp.sqrt(p["all"][1] + 1e-5), "part of a leaf"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_estimated_is_refused(kind):
    f, why = REFUSED[kind]
    params = {k: jnp.ones(3) for k in "usgc"} | {"one": jnp.ones(1), "all": jnp.ones((2, 3))}
    x, y = jax.random.normal(jax.random.key(0), (6, 3)), jnp.zeros(6, int)
    for call in (
        lambda: estimate_batch_norm(f, params, x),
        lambda: mcjax.evaluate(Linear(params, params), f, (x, y), 2, statistics=x, chunk=2),
    ):
        with pytest.raises(ValueError, match=f"cannot estimate the statistics of '.*': .*{why}"):
            call()
    assert "statistics not understood: " in mcjax.trace(f, params, x).explain()
    stored = mcjax.evaluation.Statistics(np.linspace(0, 1, 2), {})
    curve = mcjax.evaluate(Linear(params, params), f, (x, y), 2, statistics=stored)
    plain = -jnp.mean(jax.nn.log_softmax(f(params, x))[:, 0])
    np.testing.assert_allclose(curve.loss, plain, rtol=1e-5)


def test_some_statistics_only():
    """`Statistics` can be thinned out: what is left out stays as the path has it."""
    params = drawn()
    f, x = network_of(folded), jax.random.normal(jax.random.key(0), (30, 5))
    path, y = Linear(params, params), jnp.arange(30) % 3
    found = batch_norm_along(path, f, x, 2)
    names = [n for n, _ in jax.tree_util.tree_flatten_with_path(params)[0]]
    first = {i: v for i, v in found.leaves.items() if names[i][0].idx == 0}
    some = mcjax.evaluation.Statistics(found.t, first)
    own = [estimate_batch_norm(f, params, x)[0], params[1]]
    expected = mcjax.evaluate(Linear(own, own), f, (x, y), 2,
                              statistics=mcjax.evaluation.Statistics(found.t, {})).loss  # fmt: skip
    got = mcjax.evaluate(path, f, (x, y), 2, statistics=some).loss
    np.testing.assert_allclose(got, expected, rtol=1e-5)
