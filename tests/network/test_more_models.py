"""More architectures than the contract tests run on: each must come out maximal."""

from __future__ import annotations

from collections import Counter

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mcjax
from mcjax.testing.models.catalogue import Case, by_hand, images, linen, tokens, vectors


def sequences():
    return jax.random.normal(jax.random.key(0), (2, 6, 5))


class ViT(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Conv(8, (4, 4), strides=4)(x).reshape(x.shape[0], -1, 8)
        first = self.param("class", nn.initializers.normal(), (1, 1, 8))
        x = jnp.concatenate([jnp.tile(first, (x.shape[0], 1, 1)), x], 1)
        x = x + self.param("position", nn.initializers.normal(), (1, *x.shape[1:]))
        for _ in range(2):
            x = x + nn.MultiHeadDotProductAttention(2)(nn.LayerNorm()(x))
            x = x + nn.Dense(8)(nn.gelu(nn.Dense(10)(nn.LayerNorm()(x))))
        return nn.Dense(4)(nn.LayerNorm()(x)[:, 0])


class Mixer(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.Conv(8, (4, 4), strides=4)(x).reshape(x.shape[0], -1, 8)
        for _ in range(2):
            y = nn.LayerNorm()(x).swapaxes(1, 2)
            x = x + nn.Dense(4)(nn.gelu(nn.Dense(5)(y))).swapaxes(1, 2)
            x = x + nn.Dense(8)(nn.gelu(nn.Dense(10)(nn.LayerNorm()(x))))
        return nn.Dense(4)(x.mean(1))


class ConvNeXt(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.LayerNorm()(nn.Conv(6, (2, 2), strides=2)(x))
        for i in range(2):
            y = nn.LayerNorm()(nn.Conv(6, (7, 7), feature_group_count=6)(x))
            y = nn.Dense(6)(nn.gelu(nn.Dense(9)(y)))
            x = x + y * self.param(f"scale{i}", nn.initializers.ones, (6,))
        return nn.Dense(4)(x.mean((1, 2)))


class UNet(nn.Module):
    @nn.compact
    def __call__(self, x):
        a = nn.relu(nn.Conv(4, (3, 3))(x))
        b = nn.relu(nn.Conv(6, (3, 3))(nn.max_pool(a, (2, 2), (2, 2))))
        up = nn.ConvTranspose(5, (2, 2), strides=(2, 2))(b)
        wide = jax.image.resize(b, (*a.shape[:3], 6), "nearest")
        x = nn.relu(nn.Conv(7, (3, 3))(jnp.concatenate([up, a, wide], -1)))
        return nn.Conv(2, (3, 3))(x)


class BiRNN(nn.Module):
    @nn.compact
    def __call__(self, x):
        forward, backward = nn.RNN(nn.GRUCell(4)), nn.RNN(nn.GRUCell(5))
        return nn.Dense(3)(nn.Bidirectional(forward, backward)(x)[:, -1])


class Tied(nn.Module):
    @nn.compact
    def __call__(self, x):
        table = nn.Embed(20, 6)
        h = table(x)
        return table.attend(h + nn.Dense(6)(nn.relu(nn.Dense(7)(h))))


class WeightNormed(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(2)(nn.PReLU()(nn.WeightNorm(nn.Dense(5))(x)))


class InstanceNormed(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(3)(nn.relu(nn.InstanceNorm()(nn.Conv(6, (3, 3))(x))).mean((1, 2)))


class Circular(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dense(2)(nn.relu(nn.Conv(6, (3,), padding="CIRCULAR")(x)).mean(1))


def rotary(p, x):
    h = x @ p["in"]
    length = h.shape[1]
    q, k, v = ((h @ p[n]).reshape(*h.shape[:2], 2, 4) for n in "qkv")
    angle = jnp.arange(length)[:, None] / 10 ** (jnp.arange(2) / 2.0)
    cosine, sine = jnp.cos(angle)[None, :, None], jnp.sin(angle)[None, :, None]

    def rotate(a):
        first, second = jnp.split(a, 2, -1)
        turned = [first * cosine - second * sine, first * sine + second * cosine]
        return jnp.concatenate(turned, -1)

    s = jnp.einsum("bthd,bshd->bhts", rotate(q), rotate(k))
    s = jax.nn.softmax(s + jnp.where(jnp.tril(jnp.ones((length, length))), 0, -1e9))
    return jnp.einsum("bhts,bshd->bthd", s, v).reshape(*h.shape[:2], -1) @ p["o"]


def gated(p, x):
    up, gate = jnp.split(x @ p["a"], 2, -1)
    return (up * jax.nn.sigmoid(gate)) @ p["b"]


def fourier(p, x):
    h = x @ p["in"]
    h = h + jnp.real(jnp.fft.fft(h, axis=1))
    return (jax.nn.gelu(h @ p["a"]) @ p["b"] + h).mean(1) @ p["o"]


def ensemble(p, x):
    return jax.vmap(lambda q: jnp.tanh(x @ q["a"]) @ q["b"])(p).mean(0)


def lstm(p, x):
    """Gates in one product, told apart by a reshape."""

    def step(carry, xt):
        h, c = carry
        z = (xt @ p["x"] + h @ p["h"]).reshape(-1, 4, 4)
        i, f, g, o = (z[:, k] for k in range(4))
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return (h, c), h

    zero = jnp.zeros((x.shape[0], 4))
    return jax.lax.scan(step, (zero, zero), x.swapaxes(0, 1))[1][-1] @ p["o"]


def branches(p, x):
    h = x @ p["a"]
    h = jax.lax.cond(
        h.sum() > 0, lambda h: jax.nn.relu(h @ p["b"]), lambda h: jnp.tanh(h @ p["c"]), h
    )
    return h @ p["o"]


def equilibrium(p, x):
    h = x @ p["a"]
    z = jax.lax.fori_loop(0, 5, lambda i, z: jnp.tanh(z @ p["w"] + h), jnp.zeros_like(h))
    return z @ p["o"]


def chosen_experts(p, x):
    """The two best of four experts: which they are is told by their own names."""
    h = x @ p["in"]
    best, which = jax.lax.top_k(h @ p["gate"], 2)
    y = jax.nn.relu(jnp.einsum("bd,edh->beh", h, p["up"]))
    y = jnp.take_along_axis(jnp.einsum("beh,ehd->bed", y, p["down"]), which[:, :, None], 1)
    return (h + (y * jax.nn.softmax(best)[:, :, None]).sum(1)) @ p["out"]


def maxout(p, x):
    return (x @ p["a"]).reshape(len(x), 5, 3).max(-1) @ p["b"]


def equinox_attention() -> Case:
    class Model(eqx.Module):
        convolution: eqx.nn.Conv2d
        attention: eqx.nn.MultiheadAttention
        norm: eqx.nn.LayerNorm
        last: eqx.nn.Linear

        def __call__(self, x):
            h = jax.nn.relu(self.convolution(x)).reshape(8, -1).T
            h = jax.vmap(self.norm)(h)
            return self.last((h + self.attention(h, h, h)).mean(0))

    keys = jax.random.split(jax.random.key(0), 3)
    model = Model(
        eqx.nn.Conv2d(3, 8, 3, key=keys[0]), eqx.nn.MultiheadAttention(2, 8, key=keys[1]),
        eqx.nn.LayerNorm(8), eqx.nn.Linear(8, 3, key=keys[2]),
    )  # fmt: skip
    params, static = eqx.partition(model, eqx.is_array)
    apply_fn = lambda p, x: jax.vmap(eqx.combine(p, static))(x)
    shapes = Counter([(8,), (2,), (2, 4), (2, 4)])
    return Case(apply_fn, params, jax.random.normal(jax.random.key(1), (2, 3, 5, 5)), shapes)


ATTENTION = [(2,), (2, 4), (2, 4)]
MODELS = {
    "vit": lambda: linen(ViT(), images(), [(8,), *[*ATTENTION, (10,)] * 2]),
    "mixer": lambda: linen(Mixer(), images(), [(8,), *[(5,), (10,)] * 2]),
    "convnext": lambda: linen(ConvNeXt(), images(), [(6,), (9,), (9,)]),
    "unet": lambda: linen(UNet(), images(), [(4,), (6,), (5,), (7,)]),
    "bidirectional": lambda: linen(BiRNN(), sequences(), [(4,), (5,)]),
    "tied": lambda: linen(Tied(), tokens(), [(6,), (7,)]),
    "weight-norm": lambda: linen(WeightNormed(), vectors(), [(5,)]),
    "instance-norm": lambda: linen(InstanceNormed(), images(), [(6,)]),
    "circular": lambda: linen(Circular(), sequences(), [(6,)]),
    "rotary": lambda: by_hand(
        rotary, {"in": (5, 12), "q": (12, 8), "k": (12, 8), "v": (12, 8), "o": (8, 3)},
        sequences(), [(12,), (2,), (2, 4)],
    ),
    "gated": lambda: by_hand(gated, {"a": (6, 10), "b": (5, 2)}, vectors(), [(5,)]),
    "maxout": lambda: by_hand(maxout, {"a": (6, 15), "b": (5, 2)}, vectors(), [(5,), (5, 3)]),
    "fourier": lambda: by_hand(
        fourier, {"in": (5, 6), "a": (6, 7), "b": (7, 6), "o": (6, 2)}, sequences(), [(6,), (7,)]
    ),
    "ensemble": lambda: by_hand(
        ensemble, {"a": (3, 6, 5), "b": (3, 5, 2)}, vectors(), [(3,), (3, 5)]
    ),
    "lstm-reshape": lambda: by_hand(
        lstm, {"x": (5, 16), "h": (4, 16), "o": (4, 2)}, sequences(), [(4,)]
    ),
    "branches": lambda: by_hand(
        branches, {"a": (6, 5), "b": (5, 4), "c": (5, 4), "o": (4, 2)}, vectors(), [(5,), (4,)]
    ),
    "equilibrium": lambda: by_hand(
        equilibrium, {"a": (6, 5), "w": (5, 5), "o": (5, 2)}, vectors(), [(5,)]
    ),
    "chosen-experts": lambda: by_hand(
        chosen_experts,
        {"in": (6, 7), "gate": (7, 4), "up": (4, 7, 5), "down": (4, 5, 7), "out": (7, 3)},
        vectors(), [(7,), (4,), (4, 5)],
    ),
    "equinox-attention": equinox_attention,
}  # fmt: skip


@pytest.mark.parametrize("name", list(MODELS))
def test_groups(name):
    case = MODELS[name]()
    network = mcjax.trace(case.apply_fn, case.params, case.x)
    assert Counter(g.shape for g in network.groups.values()) == case.shapes
    attends = "if embeddings are rotary" in network.explain()
    if name != "branches":  # in a cond all counts as data
        assert attends == (name in ("rotary", "vit", "equinox-attention"))
    params, x = case.another(1), case.inputs(3)
    moved = network.permute(network.random_permutations(jax.random.key(0)), params)
    y, z = (np.asarray(case.run(p, x), np.float64) for p in (params, moved))
    np.testing.assert_allclose(z, y, rtol=2e-3, atol=2e-3 * np.abs(y).max())


def test_units_too_many_to_match_jointly_are_matched_in_turns(monkeypatch):
    """A mixer's hidden tokens stand beside its channels: these first, then those."""
    from mcjax.network import pools

    monkeypatch.setattr(pools, "MAX_CROSSED", 30)  # 8 channels × 5 tokens are more
    case = MODELS["mixer"]()
    network = mcjax.trace(case.apply_fn, case.params, case.x)
    a = case.another(1)
    p = network.random_permutations(jax.random.key(5))
    matching = mcjax.align.match_activations(network, a, network.permute(p, a), case.inputs(64))
    inverse = mcjax.Action.of(network, p).inverse().permutations
    for name in network.groups:
        np.testing.assert_array_equal(matching.permutations[name], inverse[name])


def test_group_normalisation_over_a_concatenation():
    """The two blocks of each branch, and the units inside each of them."""

    class Model(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = jnp.concatenate([nn.Conv(4, (3, 3))(x), nn.Conv(4, (3, 3))(x)], -1)
            return nn.Dense(3)(nn.GroupNorm(num_groups=4)(x).mean((1, 2)))

    case = linen(Model(), images(), [])
    network = mcjax.trace(case.apply_fn, case.params, case.x)
    assert Counter(g.shape for g in network.groups.values()) == Counter([(2,), (2, 2)] * 2)


# -- a concatenation that is normalised in runs which cut across its seams -----------------------


def in_runs(h, run):
    """h of (…, tokens, units), normalised over tokens and runs of units."""
    g = h.reshape(*h.shape[:-1], -1, run)
    mean, variance = (f(g, (-3, -1), keepdims=True) for f in (jnp.mean, jnp.var))
    return ((g - mean) / jnp.sqrt(variance + 1e-5)).reshape(h.shape)


def fused(p, x, keys, values, run, pairs):
    """An attention with one head; its keys, values and values' gates come of one layer."""
    h = in_runs(x @ p["kvg"] + p["bias"], run) * p["scale"]
    k, v, gate = jnp.split(h, [keys, keys + values], -1)
    q = in_runs(x @ p["q"], pairs) if pairs else x @ p["q"]
    attention = jax.nn.softmax(jnp.einsum("bqd,bkd->bqk", q, k))
    return (jnp.einsum("bqk,bkd->bqd", attention, v) * jax.nn.sigmoid(gate)).mean(1) @ p["out"]


# (keys, values, run, units of a run of queries) → groups. Counted by hand: keys in whole runs, and
# those left in the run that ends among the values; values between the ends of runs of theirs and of
# their gates. With queries in pairs, pairs in a run and the two of each.
FUSED = {
    # kkkk kkkk kkvv vvvg gggg: cells of 1, 1 and 3 values
    (10, 5, 4, 0): {(2,): 2, (2, 4): 1, (3,): 1},
    (10, 5, 4, 2): {(2,): 2, (2, 2): 1, (2, 2, 2): 1, (3,): 1},
    # kkkk kkkk kkvv vvvv vggg gggg: values end at 2 and 6, gates at 3 of 7
    (10, 7, 4, 0): {(2,): 3, (2, 4): 1, (3,): 1},
    # 6 runs of 10 keys and 4; values end at 6, 16, …, gates at 8, 18, …
    (64, 48, 10, 0): {(6,): 2, (6, 10): 1, (4,): 1, (2,): 5, (8,): 4},
    (64, 48, 10, 2): {(6,): 2, (6, 5): 1, (6, 5, 2): 1, (2,): 6, (2, 2): 1, (8,): 4},
}


@pytest.mark.parametrize("sizes", FUSED)
def test_runs_that_cut_across_a_concatenation(sizes):
    keys, values, run, pairs = sizes
    rng = np.random.default_rng(0)
    n = keys + 2 * values
    shapes = {"kvg": (5, n), "bias": (n,), "scale": (n,), "q": (5, keys), "out": (values, 3)}
    params = {k: jnp.asarray(rng.normal(size=s), jnp.float32) for k, s in shapes.items()}
    model = lambda p, x: fused(p, x, keys, values, run, pairs)
    network = mcjax.trace(model, params, sequences())  # verified
    assert Counter(g.shape for g in network.groups.values()) == FUSED[sizes]
