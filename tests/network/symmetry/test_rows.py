"""The table of symmetries, a row a test: what a person expects of each leaf, in writing.

That nothing is missing beside it is for the oracle to say (`test_oracle.py`), and every factor has
been run in float64 by `trace`.
"""

from __future__ import annotations

import warnings

import jax
import jax.numpy as jnp
import pytest

import mcjax
from tests.network.symmetry.test_table import (
    ACTIVATIONS,
    HEADS,
    MLP,
    STREAM,
    TOKENS,
    X,
    arrays,
    attention,
    centred,
    residual,
    rms,
)  # fmt: skip

SIGNS = "sign: b s, o s, w s"
SCALES = "positive: b c, o c⁻¹, w c"
UNITS = {
    "identity": "general linear: b g, o g⁻ᵀ, w g",
    "relu": SCALES,
    "leaky relu": SCALES,
    "squared relu": "positive: b c, o c⁻², w c",
    "abs": f"{SCALES}\nsign: b s, w s",
    "x |x|": f"positive: b c, o c⁻², w c\n{SIGNS}",
    "square": "positive: b c, o c⁻², w c\nsign: b s, w s",
    "cube": f"positive: b c, o c⁻³, w c\n{SIGNS}",
    "tanh": SIGNS,
    "erf": SIGNS,
    "sin": SIGNS,
    "softmax": "",
    "gelu": "",
    "silu": "",
    "softplus": "",
}


def unit(act):
    return lambda p, x: act(x @ p["w"] + p["b"]) @ p["o"]


def gated(act):
    return lambda p, x: ((x @ p["a"]) * act(x @ p["b"])) @ p["o"]


GATED = arrays(a=(3, 5), b=(3, 5), o=(5, 2))
GATE = "positive: a c, o c⁻¹"


def batch_norm(p, x, stored):
    h = x @ p["w"] + (p["b"] if stored else 0)
    mean, variance = (p["mean"], p["variance"]) if stored else (h.mean(0), h.var(0))
    h = (h - mean) * jax.lax.rsqrt(variance + 1e-5)
    return jax.nn.relu(h * p["gain"] + p["shift"]) @ p["o"]


ESTIMATED = arrays(w=(3, 6), gain=(6,), shift=(6,), o=(6, 2))
STORED = ESTIMATED | arrays(b=(6,), mean=(6,)) | {"variance": jnp.ones(6)}
READ = "positive: gain c, o c⁻¹, shift c"


def group_norm(p, x):
    h = centred((x @ p["w"]).reshape(*x.shape[:-1], 2, 3), None).reshape(*x.shape[:-1], 6)
    return jax.nn.gelu(h * p["scale"]) @ p["o"]


def scaled_heads(p, x):
    q, k, v = (jnp.einsum("btd,dhe->bthe", x, p[n]) + p["b" + n] for n in "qkv")
    a = jnp.einsum("bthe,bshe->bhts", rms(q, p["sq"]), rms(k, p["sk"]))
    return jnp.einsum("bhts,bshe,hed->btd", jax.nn.softmax(a), v, p["o"])


# Queries and keys may change their signs independently: the scales of both take it back.
SCALED_HEADS = """positive: sk c, sq c⁻¹
sign: bk s, k s, sq s
sign: bq s, q s, sq s
sign: sk s, sq s"""
ALL = "d0 Q, d1 Q, e Q, o Q, u0 Q, u1 Q"
OTHERS = {
    "a low rank": (
        lambda p, x: jnp.tanh(x @ (p["w"] + p["a"] @ p["b"])) @ p["o"],
        arrays(w=(3, 5), a=(3, 2), b=(2, 5), o=(5, 2)), X,
        {"a": "general linear: a g, b g⁻ᵀ"}),
    "queries with keys, values with outputs": (
        attention, HEADS, TOKENS,
        {"q:1": "general linear: bk g, bq g⁻ᵀ, k g, q g⁻ᵀ",
         "v": "general linear: bv g, o g⁻ᵀ, v g"}),
    "normalised queries and keys": (
        lambda p, x: attention(p, x, lambda q: rms(q, None)), HEADS, TOKENS,
        {"q:1": "orthogonal: bk Q, bq Q, k Q, q Q"}),
    "normalised queries and keys with scales": (
        scaled_heads, HEADS | arrays(sq=(3,), sk=(3,)), TOKENS,
        {"q:1": SCALED_HEADS}),
    "RMSNorm": (
        lambda p, x: residual(p, x, rms), STREAM, X, {"e": f"orthogonal: {ALL}"}),
    "RMSNorm, its scale absorbed": (
        lambda p, x: residual(p, x, rms), STREAM | arrays(s0=(6,), s1=(6,)), X,
        {"e": f"orthogonal: {ALL}"}),
    "LayerNorm": (
        lambda p, x: residual(p, x, centred), STREAM, X,
        {"e": f"orthogonal fixing ones: {ALL}"}),
    "LayerNorm, its scale absorbed": (
        lambda p, x: residual(p, x, centred), STREAM | arrays(s0=(6,), s1=(6,)), X,
        {"e": f"orthogonal fixing ones: {ALL}"}),
    "LayerNorm with its scale": (
        lambda p, x: residual(p, x, centred), STREAM | arrays(s0=(6,), s1=(6,)), X,
        {"e": "positive: s0 c, u0 c⁻¹\npositive: s1 c, u1 c⁻¹\n"
              "sign: s0 s, u0 s\nsign: s1 s, u1 s"}),
    "RMSNorm with its scale": (
        lambda p, x: residual(p, x, rms), STREAM | arrays(s0=(6,), s1=(6,)), X,
        {"e": "positive: s0 c, u0 c⁻¹\npositive: s1 c, u1 c⁻¹\n"
              "sign: d0 s, d1 s, e s, o s, u0 s, u1 s\nsign: s0 s, u0 s\nsign: s1 s, u1 s"}),
    "BatchNorm with stored statistics": (
        lambda p, x: batch_norm(p, x, True), STORED, X,
        {"w": f"positive: b c, gain c⁻¹, mean c, w c\n{READ}\nsign: b s, gain s, mean s, w s"}),
    "BatchNorm with statistics estimated": (
        lambda p, x: batch_norm(p, x, False), ESTIMATED, X, {"w": f"{READ}\nsign: gain s, w s"}),
    "GroupNorm": (
        group_norm, arrays(w=(3, 6), scale=(6,), o=(6, 2)), X,
        {"w": "sign: scale s, w s", "w:1": ""}),  # w: whole groups
    "SwiGLU": (gated(jax.nn.silu), GATED, X, {"a": f"{GATE}\nsign: a s, o s"}),
    "ReGLU": (gated(jax.nn.relu), GATED, X, {"a": f"{GATE}\npositive: b c, o c⁻¹\nsign: a s, o s"}),
    "a gate by tanh": (
        gated(jnp.tanh), GATED, X, {"a": f"{GATE}\nsign: a s, o s\nsign: b s, o s"}),
}  # fmt: skip


def found(network, group):
    """Its factors but for permutations."""
    lines = network.groups[group].structure.summary(network.leaf_names).splitlines()
    assert lines[0].startswith("permutation: ")
    return sorted(lines[1:])


def traced(f, params, x):
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="mcjax found symmetries")
        warnings.filterwarnings("ignore", message="apply_fn is normalised by the batch")
        return mcjax.trace(f, params, x)


@pytest.mark.parametrize("name", UNITS)
def test_units_that_pass_through(name):
    network = traced(unit(ACTIVATIONS[name][0]), MLP, X)
    assert found(network, "w") == sorted(UNITS[name].splitlines())


@pytest.mark.parametrize("name", OTHERS)
def test_other_rows(name):
    f, params, x, expected = OTHERS[name]
    network = traced(f, params, x)
    if "absorbed" in name:
        network, _ = network.absorbed(params)
    assert {g: found(network, g) for g in expected} == {
        g: sorted(lines.splitlines()) for g, lines in expected.items()
    }
