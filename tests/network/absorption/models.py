"""Small models with normalisations, written in the ways that people write them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

WIDTH, HEADS, HEAD, HIDDEN, LENGTH, VOCABULARY = 6, 2, 4, 5, 4, 7


def arrays(**shapes):
    """Generic parameters: scales of either sign, none small; biases and weights."""
    rng = np.random.default_rng(0)

    def one(name, shape):
        values = rng.normal(size=shape)
        if name.startswith("s"):
            values = rng.choice([-1, 1], shape) * rng.uniform(0.5, 2, shape)
        return jnp.asarray(values, jnp.float32)

    return {k: one(k, s) for k, s in shapes.items()}


X = jnp.asarray(np.random.default_rng(1).normal(size=(3, LENGTH, 3)), jnp.float32)
TOKENS = jnp.asarray(np.random.default_rng(2).integers(0, VOCABULARY, (3, LENGTH)))


def rms(h, scale=1.0):
    return h / jnp.sqrt(jnp.mean(h**2, -1, keepdims=True) + 1e-6) * scale


def layer_norm(h, scale, bias=0.0):
    h = h - h.mean(-1, keepdims=True)
    return h * jax.lax.rsqrt(jnp.var(h, -1, keepdims=True) + 1e-6) * scale + bias


def attended(q, k, v):
    s = jax.nn.softmax(jnp.einsum("bthd,bshd->bhts", q, k))
    return jnp.einsum("bhts,bshd->bthd", s, v)


def attention(p, h, prefix="", bias=False):
    def to(name):
        y = jnp.einsum("btc,chd->bthd", h, p[prefix + name])
        return y + p[f"b{prefix}{name}"] if bias else y

    return jnp.einsum("bthd,hdc->btc", attended(to("q"), to("k"), to("v")), p[prefix + "o"])


def gated(p, h):
    return (jax.nn.silu(h @ p["gate"]) * (h @ p["up"])) @ p["down"]


ATTENTION = dict.fromkeys("qkv", (WIDTH, HEADS, HEAD)) | {"o": (HEADS, HEAD, WIDTH)}
BLOCK = ATTENTION | {"gate": (WIDTH, HIDDEN), "up": (WIDTH, HIDDEN), "down": (HIDDEN, WIDTH)}


def swiglu(p, x):
    """RMSNorm, separate queries, keys and values, a gated unit; no biases."""
    h = x @ p["in"]
    h = h + attention(p, rms(h, p["s0"]))
    h = h + gated(p, rms(h, p["s1"]))
    return rms(h, p["s2"]) @ p["out"]


SWIGLU = {"in": (3, WIDTH), **BLOCK, "s0": (WIDTH,), "s1": (WIDTH,), "s2": (WIDTH,),
          "out": (WIDTH, 2)}  # fmt: skip


def gpt(p, x, tied=False):
    """LayerNorm with biases, one weight for queries, keys and values, which has a bias, too."""
    h = p["table"][x] + p["position"]
    y = layer_norm(h, p["s0"], p["b0"]) @ p["qkv"] + p["bqkv"]
    q, k, v = jnp.split(y.reshape(*h.shape[:2], 3 * HEADS, HEAD), 3, 2)
    h = h + attended(q, k, v).reshape(*h.shape[:2], -1) @ p["o"] + p["bo"]
    y = layer_norm(h, p["s1"], p["b1"]) @ p["up"].T + p["bup"]
    h = h + jax.nn.gelu(y) @ p["down"] + p["bdown"]
    return layer_norm(h, p["s2"], p["b2"]) @ (p["table"].T if tied else p["out"])


GPT = {
    "table": (VOCABULARY, WIDTH), "position": (LENGTH, WIDTH), "s0": (WIDTH,), "b0": (WIDTH,),
    "qkv": (WIDTH, 3 * HEADS * HEAD), "bqkv": (3 * HEADS * HEAD,), "o": (HEADS * HEAD, WIDTH),
    "bo": (WIDTH,), "s1": (WIDTH,), "b1": (WIDTH,), "up": (HIDDEN, WIDTH), "bup": (HIDDEN,),
    "down": (HIDDEN, WIDTH), "bdown": (WIDTH,), "s2": (WIDTH,), "b2": (WIDTH,),
    "out": (WIDTH, VOCABULARY),
}  # fmt: skip


def tied(p, x):
    return gpt(p, x, tied=True)


TIED = {k: s for k, s in GPT.items() if k != "out"}


def scanned(p, x):
    """Layers in a scan: scales and biases in one leaf, a row each."""

    def block(h, w):
        y = layer_norm(h, w["s"], w["b"])
        return h + jnp.tanh(y @ w["up"] + w["bup"]) @ w["down"], None

    h, _ = jax.lax.scan(block, x @ p["in"], p["layers"])
    return rms(h, p["s"]) @ p["out"]


LAYERS = {"s": (3, WIDTH), "b": (3, WIDTH), "up": (3, WIDTH, HIDDEN), "bup": (3, HIDDEN),
          "down": (3, HIDDEN, WIDTH)}  # fmt: skip
SCANNED = {"in": (3, WIDTH), "s": (WIDTH,), "out": (WIDTH, 2)}


def stacked(p, x):
    """The same leaves, taken apart by index in a loop of Python's."""
    h = x @ p["in"]
    for i in range(3):
        w = {k: v[i] for k, v in p["layers"].items()}
        y = layer_norm(h, w["s"], w["b"])
        h = h + jnp.tanh(y @ w["up"] + w["bup"]) @ w["down"]
    return rms(h, p["s"]) @ p["out"]


def normalised_queries(p, x):
    """RMSNorm on queries and keys, with scales of their own."""
    y = x @ p["in"]
    h = rms(y, p["s0"])
    q, k, v = (jnp.einsum("btc,chd->bthd", h, p[n]) for n in "qkv")
    y = y + jnp.einsum("bthd,hdc->btc", attended(rms(q, p["sq"]), rms(k, p["sk"]), v), p["o"])
    return rms(y, p["s1"]) @ p["out"]


NORMALISED_QUERIES = {"in": (3, WIDTH), **ATTENTION, "s0": (WIDTH,), "s1": (WIDTH,),
                      "sq": (HEAD,), "sk": (HEAD,), "out": (WIDTH, 2)}  # fmt: skip


def convolutional(p, x):
    """RMSNorm over channels, then a convolution of three positions."""
    h = x @ p["in"]
    y = jax.lax.conv_general_dilated(
        rms(h, p["s0"]) + p["b0"], p["w"], (1,), "SAME", dimension_numbers=("NWC", "WIO", "NWC")
    )
    h = h + jnp.tanh(y + p["bw"]) @ p["down"]
    return rms(h, p["s1"]).mean(1) @ p["out"]


CONVOLUTIONAL = {"in": (3, WIDTH), "s0": (WIDTH,), "b0": (WIDTH,), "w": (3, WIDTH, HIDDEN),
                 "bw": (HIDDEN,), "down": (HIDDEN, WIDTH), "s1": (WIDTH,),
                 "out": (WIDTH, 2)}  # fmt: skip
