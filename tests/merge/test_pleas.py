"""PLeaS against least squares in NumPy, and where it must give networks that are known."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mcjax
from mcjax.merge import pleas
from tests.conftest import traced


def mlp(p, x):
    h = jax.nn.relu(x @ p["w1"] + p["b1"])
    h = jax.nn.relu(h @ p["w2"] + p["b2"])
    return h @ p["w3"] + p["b3"]


def draw(seed, *widths):
    rng = np.random.default_rng(seed)
    out = {}
    for i, (n, m) in enumerate(itertools.pairwise(widths), 1):
        out[f"w{i}"] = jnp.asarray(rng.normal(size=(n, m)) / np.sqrt(n), jnp.float32)
        out[f"b{i}"] = jnp.asarray(rng.normal(size=m) / 5, jnp.float32)
    return out


def inputs(n, *shape, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(n, *shape)), jnp.float32)


X = inputs(300, 6)


def layers(p, x):
    """What each layer reads, and writes before its bias, in float64."""
    h, out = np.asarray(x, np.float64), []
    for i in (1, 2, 3):
        y = h @ np.asarray(p[f"w{i}"], np.float64)
        out.append((h, y))
        h = np.maximum(y + np.asarray(p[f"b{i}"], np.float64), 0)
    return out


def merged_units(z, w, pairs):
    """Units on the last axis: means of pairs, A's left over, B's."""
    i, j = pairs.T
    rest = [np.setdiff1d(np.arange(v.shape[-1]), k) for v, k in ((z, i), (w, j))]
    return np.concatenate([(z[..., i] + w[..., j]) / 2, z[..., rest[0]], w[..., rest[1]]], -1)


def test_against_least_squares_in_numpy():
    a, b = draw(1, 6, 9, 7, 3), draw(2, 6, 8, 10, 3)
    one, two = (mcjax.trace(mlp, p, X) for p in (a, b))
    made = pleas(one, a, b, X, other=two, ratio={"w1": 0.5, "w2": 1.0}, chunk=70)
    assert [len(made.pairs[n]) for n in ("w1", "w2")] == [4, 7]
    assert [made.network.groups[n].size for n in ("w1", "w2")] == [13, 10]
    # The pairs are those of greatest correlation of what the next layer reads.
    reads, units = list(zip(layers(a, X), layers(b, X), strict=True)), {}
    for i, name in ((1, "w1"), (2, "w2")):
        (z, _), (w, _) = reads[i]
        n = z.shape[1]
        with np.errstate(invalid="ignore"):
            c = np.nan_to_num(np.corrcoef(z.T, w.T))[:n, n:]  # 0 of units that never vary
        picked = sum(c[u, v] for u, v in made.pairs[name])
        better = [swapped(c, made.pairs[name], k) for k in range(20)]
        assert picked >= max(better) - 1e-5
        units[i] = made.pairs[name]
    for i in (1, 2, 3):
        (z, y), (w, v) = reads[i - 1]
        joined = merged_units(z, w, units[i - 1]) if i > 1 else z
        wanted = merged_units(y, v, units[i]) if i < 3 else (y + v) / 2
        solved = np.linalg.lstsq(joined, wanted, rcond=None)[0]
        np.testing.assert_allclose(made.params[f"w{i}"], solved, rtol=1e-3, atol=1e-3)
        both = [np.asarray(p[f"b{i}"], np.float64) for p in (a, b)]
        bias = merged_units(*both, units[i]) if i < 3 else sum(both) / 2
        np.testing.assert_allclose(made.params[f"b{i}"], bias, rtol=1e-6)
        status = made.layers[f"w{i}"]
        off = np.sum((joined @ solved - wanted) ** 2) / np.sum(wanted**2)
        assert (status.samples, status.rank) == (300, joined.shape[1])
        assert status.residual == pytest.approx(off, rel=1e-3, abs=1e-6)
    assert "13 units, 4 of them pairs" in made.summary()


def swapped(c, pairs, seed):
    """The value of pairs of which one is taken apart and another made, at random."""
    rng, pairs = np.random.default_rng(seed), pairs.copy()
    free = [np.setdiff1d(np.arange(n), p) for n, p in zip(c.shape, pairs.T, strict=True)]
    k, side = rng.integers(len(pairs)), rng.integers(2)
    if len(free[side]):
        pairs[k, side] = rng.choice(free[side])
    else:
        other = rng.integers(len(pairs))
        pairs[[k, other], side] = pairs[[other, k], side]
    return sum(c[u, v] for u, v in pairs)


def test_of_a_network_and_its_permuted_self():
    a = draw(3, 6, 9, 7, 3)
    network = mcjax.trace(mlp, a, X)
    b = network.permute(network.random_permutations(jax.random.key(0)), a)
    made = pleas(network, a, b, X)
    assert made.network is network
    for name, v in a.items():
        np.testing.assert_allclose(made.params[name], v, atol=1e-4)
    assert max(s.residual for s in made.layers.values()) < 1e-6


@pytest.mark.parametrize("name", ["interleaved-gates", "transformer"])
def test_of_a_model_and_its_permuted_self(name):
    """Concatenations, residual streams, norms; heads, which are merged whole."""
    case, network = traced(name)
    a, x = case.another(1), case.inputs(120)
    b = network.permute(network.random_permutations(jax.random.key(0)), a)
    made = pleas(network, a, b, x)
    assert {*made.pairs, *made.permutations} == {*network.groups}
    wanted = case.run(a, x)
    np.testing.assert_allclose(case.run(made.params, x), wanted, atol=1e-3, rtol=1e-3)


def test_a_network_is_found_inside_a_wider_one():
    """B has A's units and others that are read by nothing: these are left alone."""
    a, wide = draw(4, 6, 5, 4, 3), draw(5, 6, 8, 4, 3)
    order = np.array([6, 1, 7, 0, 3])
    b = dict(wide, w3=a["w3"], b2=a["b2"], b3=a["b3"])
    b["w1"], b["b1"] = wide["w1"].at[:, order].set(a["w1"]), wide["b1"].at[order].set(a["b1"])
    b["w2"] = jnp.zeros((8, 4)).at[order].set(a["w2"])
    one, two = (mcjax.trace(mlp, p, X) for p in (a, b))
    made = pleas(one, a, b, X, other=two)
    assert made.pairs["w1"].tolist() == [[i, j] for i, j in enumerate(order)]
    assert made.network.groups["w1"].size == 8
    np.testing.assert_allclose(mlp(made.params, X), mlp(a, X), atol=1e-3)


def convnet(p, x):
    """A convolution, batch normalisation by stored statistics, a flattened image, two groups."""
    h = jax.lax.conv_general_dilated(x, p["k"], (1, 1), "SAME", dimension_numbers=_DIMS)
    h = (h - p["mean"]) * jax.lax.rsqrt(p["variance"] + 1e-5) * p["scale"] + p["shift"]
    h = jax.lax.reduce_window(jax.nn.relu(h), 0.0, jax.lax.add, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    return jax.nn.relu(h.reshape(len(h), -1) @ p["w"]) @ p["o"]


_DIMS = ("NHWC", "HWIO", "NHWC")


def convolutional(seed, channels, units):
    shapes = {"k": (3, 3, 2, channels), "mean": (channels,), "scale": (channels,),
              "shift": (channels,), "w": (9 * channels, units), "o": (units, 3)}  # fmt: skip
    rng = np.random.default_rng(seed)
    out = {n: jnp.asarray(rng.normal(size=s) / np.sqrt(s[0]), jnp.float32)
           for n, s in shapes.items()}  # fmt: skip
    return out | {"variance": jnp.asarray(rng.uniform(0.5, 2, channels), jnp.float32)}


@pytest.mark.parametrize("ratio", [0, 0.5, 1])
def test_of_convolutions(ratio):
    """With ratio 0 both are beside each other: the mean of their outputs, to rounding."""
    a, b, x = convolutional(1, 4, 6), convolutional(2, 3, 7), inputs(400, 6, 6, 2)
    one, two = (mcjax.trace(convnet, p, x, check=False) for p in (a, b))
    made = pleas(one, a, b, x, other=two, ratio=ratio, chunk=150)
    assert made.params["k"].shape[-1] == 7 - len(made.pairs["k"]) == 7 - round(3 * ratio)
    assert made.params["w"].shape == (9 * made.params["k"].shape[-1], 13 - round(6 * ratio))
    means = [np.asarray(p["mean"])[None] for p in (a, b)]
    wanted = merged_units(*means, made.pairs["k"])[0]
    np.testing.assert_allclose(made.params["mean"], wanted, rtol=1e-6)
    got, ensemble = convnet(made.params, x), (convnet(a, x) + convnet(b, x)) / 2
    off = float(jnp.linalg.norm(got - ensemble) / jnp.linalg.norm(ensemble))
    assert off < 1e-3 if ratio == 0 else 1e-3 < off < 1


def test_what_cannot_be_merged_is_said():
    a = draw(6, 6, 5, 4, 3)
    network = mcjax.trace(mlp, a, X)
    with pytest.raises(ValueError, match=r"ratio must lie between 0 and 1, got 1.5 for 'w1'"):
        pleas(network, a, a, X, ratio=1.5)
    with pytest.raises(ValueError, match="unknown group 'w9'"):
        pleas(network, a, a, X, ratio={"w9": 1.0})
    plain = mcjax.trace(lambda p, x: jax.nn.relu(x @ p["w1"]) @ p["w3"],
                        {"w1": a["w1"], "w3": jnp.ones((5, 3))}, X)  # fmt: skip
    with pytest.raises(ValueError, match="other: not the same model, its leaves differ"):
        pleas(network, a, a, X, other=plain)
    case, tied = traced("remat-tied-embedding")
    with pytest.raises(ValueError, match="has other uses in the model"):
        pleas(tied, case.params, case.params, case.x)
    case, heads = traced("transformer")
    name = next(g.name for g in heads.groups.values() if g.outer)
    with pytest.raises(ValueError, match=f"ratio of group '{name}' must be 1"):
        pleas(heads, case.params, case.params, case.x, ratio={name: 0.5})
    wide = mcjax.trace(lambda p, x: case.apply_fn(p, x) * 2, case.params, case.x, check=False)
    with pytest.raises(ValueError, match="between networks of one trace alone"):
        pleas(heads, case.params, case.params, case.x, other=wide)


def test_a_model_of_one_width_needs_that_of_the_merged():
    def narrow(p, x):
        if p["w1"].shape != (6, 5):
            raise TypeError("Dense(5)")
        return mlp(p, x)

    a = draw(6, 6, 5, 4, 3)
    network = mcjax.trace(narrow, a, X, check=False)
    with pytest.raises(TypeError, match="Dense") as caught:
        pleas(network, a, draw(7, 6, 5, 4, 3), X, ratio=0.5)
    assert any("at the merged widths" in note for note in caught.value.__notes__)
    made = pleas(network, a, draw(7, 6, 5, 4, 3), X, ratio=0.5, merged=mlp)
    assert made.params["w1"].shape == (6, 8)


def test_few_examples_are_warned_of():
    a, b = draw(8, 6, 9, 7, 3), draw(9, 6, 9, 7, 3)
    network = mcjax.trace(mlp, a, X)
    with pytest.warns(UserWarning, match="8 samples for the 9 units of layer 'w2'"):
        pleas(network, a, b, X[:8])
