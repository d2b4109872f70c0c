"""Small models with a symmetry of each kind, and what a person expects of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


@dataclasses.dataclass(frozen=True)
class Case:
    """A model, and for each of its groups where the units stand, and what a person expects.

    - `views`: group → (view, index of the outer axes)
    - `expected`: group → (scalings of a unit with those of the units inside it, the same of signs,
      dimension of the group's own factors)
    """

    function: Callable
    params: dict[str, Any]
    x: Any
    views: dict[str, tuple[Callable, tuple[int, ...]]]
    expected: dict[str, tuple[int, int, int]]


def arrays(**shapes):
    rng = np.random.default_rng(0)
    return {k: rng.normal(size=s) for k, s in shapes.items()}


X = np.random.default_rng(9).normal(size=(4, 3))
TOKENS = np.random.default_rng(8).normal(size=(1, 3, 3))
MODELS: dict[str, Callable[[], Case]] = {}


def case(make):
    MODELS[make.__name__] = make
    return make


# -- activations and gates ------------------------------------------------------------------

ACTIVATIONS = {
    "tanh": (jnp.tanh, (0, 1, 0)),
    "sin": (jnp.sin, (0, 1, 0)),
    "relu": (jax.nn.relu, (1, 0, 3)),
    "leaky": (jax.nn.leaky_relu, (1, 0, 3)),
    "relu2": (lambda h: jax.nn.relu(h) ** 2, (1, 0, 3)),
    "xabs": (lambda h: h * jnp.abs(h), (1, 1, 3)),
    "abs": (jnp.abs, (1, 1, 3)),
    "gelu": (jax.nn.gelu, (0, 0, 0)),
    "silu": (jax.nn.silu, (0, 0, 0)),
}


@case
def activations():
    """One sum of two-layer networks: their groups have nothing to do with each other."""
    params, views = {}, {}
    for name in ACTIVATIONS:
        w, b, o = (f"{name}_{k}" for k in "wbo")
        params |= arrays(**{w: (3, 3), b: (3,), o: (3, 2)})
        views[w] = (lambda p, w=w, b=b, o=o: [p[w].T, p[b], p[o]], ())

    def f(p, x):
        return sum(act(x @ p[f"{n}_w"] + p[f"{n}_b"]) @ p[f"{n}_o"]
                   for n, (act, _) in ACTIVATIONS.items())  # fmt: skip

    return Case(f, params, X, views, {f"{n}_w": e for n, (_, e) in ACTIVATIONS.items()})


GATES = {
    "glu": (jax.nn.sigmoid, (1, 1, 3)),
    "swiglu": (jax.nn.silu, (1, 1, 3)),
    "reglu": (jax.nn.relu, (2, 1, 6)),
    "bilinear": (lambda h: h, (2, 2, 6)),
}


@case
def gates():
    params, views = {}, {}
    for name in GATES:
        u, g, o = (f"{name}_{k}" for k in "ugo")
        params |= arrays(**{u: (3, 3), g: (3, 3), o: (3, 2)})
        views[u] = (lambda p, u=u, g=g, o=o: [p[u].T, p[g].T, p[o]], ())

    def f(p, x):
        return sum((x @ p[f"{n}_u"] * act(x @ p[f"{n}_g"])) @ p[f"{n}_o"]
                   for n, (act, _) in GATES.items())  # fmt: skip

    return Case(f, params, X, views, {f"{n}_u": e for n, (_, e) in GATES.items()})


@case
def fused_gates():
    params, views = {}, {}
    for name in GATES:
        w, o = f"{name}_w", f"{name}_o"
        params |= arrays(**{w: (3, 6), o: (3, 2)})
        views[w] = (lambda p, w=w, o=o: [p[w][:, :3].T, p[w][:, 3:].T, p[o]], ())

    def f(p, x):
        out = 0
        for n, (act, _) in GATES.items():
            u, g = jnp.split(x @ p[f"{n}_w"], 2, -1)
            out += (u * act(g)) @ p[f"{n}_o"]
        return out

    return Case(f, params, X, views, {f"{n}_w": e for n, (_, e) in GATES.items()})


# -- linear maps ----------------------------------------------------------------------------


@case
def deep_linear():
    def f(p, x):
        return ((x @ p["a"] + p["bias"]) @ p["b"]) @ p["c"]

    views = {
        "a": (lambda p: [p["a"].T, p["bias"], p["b"]], ()),
        "b": (lambda p: [p["b"].T, p["c"]], ()),
    }
    shapes = {"a": (3, 4), "bias": (4,), "b": (4, 2), "c": (2, 3)}
    return Case(f, arrays(**shapes), X, views, {"a": (1, 1, 16), "b": (1, 1, 4)})


@case
def bottleneck_and_low_rank():
    """tanh(x (W + A B)) o, and a linear bottleneck beside it."""

    def f(p, x):
        return jnp.tanh(x @ (p["w"] + p["a"] @ p["b"])) @ p["o"] + jnp.tanh(x @ p["u"] @ p["v"])

    views = {
        "b": (lambda p: [p["w"].T, p["b"].T, p["o"]], ()),
        "a": (lambda p: [p["a"].T, p["b"]], ()),
        "u": (lambda p: [p["u"].T, p["v"]], ()),
    }
    params = arrays(w=(3, 3), a=(3, 2), b=(2, 3), o=(3, 2), u=(3, 2), v=(2, 2))
    return Case(f, params, X, views, {"b": (0, 1, 0), "a": (1, 1, 4), "u": (1, 1, 4)})


# -- attention ------------------------------------------------------------------------------


def attend(q, k, v):
    return jnp.einsum("bhts,bshe->bthe", jax.nn.softmax(jnp.einsum("bthe,bshe->bhts", q, k), -1), v)


def separate(p, x, turn=lambda q, name: q):
    q, k, v = (jnp.einsum("btd,dhe->bthe", x, p[n]) + p.get("b" + n, 0.0) for n in "qkv")
    return jnp.einsum("bthe,hed->btd", attend(turn(q, "q"), turn(k, "k"), v), p["o"])


def of_head(*names, head=1):
    """The units inside a head: axis −1 of (…, head, unit), or −2 of (head, unit, …)."""

    def view(p):
        return [p[n][head] if n == "o" else np.moveaxis(p[n][..., head, :], -1, 0)
                for n in names]  # fmt: skip

    return view, (head,)


def heads(*names):
    return (lambda p: [p[n] if n == "o" else np.moveaxis(p[n], -2, 0) for n in names]), ()


HEADS = {"q": (3, 2, 2), "k": (3, 2, 2), "v": (3, 2, 2), "o": (2, 2, 3)}


@case
def attention():
    biases = {"bq": (2, 2), "bk": (2, 2), "bv": (2, 2)}
    views = {
        "q": heads("q", "k", "v", "o", "bq", "bk", "bv"),
        "q:1": of_head("q", "bq", "k", "bk"),
        "v": of_head("v", "bv", "o"),
    }
    expected = {"q": (4, 2, 0), "q:1": (1, 1, 4), "v": (1, 1, 4)}
    return Case(separate, arrays(**HEADS, **biases), TOKENS, views, expected)


@case
def fused_attention():
    def f(p, x):
        q, k, v = jnp.moveaxis((x @ p["qkv"]).reshape(*x.shape[:2], 3, 2, 2), 2, 0)
        return attend(q, k, v).reshape(*x.shape[:2], 4) @ p["o"]

    def part(p, i):
        return p["qkv"].reshape(3, 3, 2, 2)[:, i, 1].T

    views = {
        "qkv:1": (lambda p: [part(p, 0), part(p, 1)], (1,)),
        "qkv:2": (lambda p: [part(p, 2), p["o"].reshape(2, 2, 3)[1]], (1,)),
    }
    params = arrays(qkv=(3, 12), o=(4, 3))
    return Case(f, params, TOKENS, views, {"qkv:1": (1, 1, 4), "qkv:2": (1, 1, 4)})


@case
def grouped_queries():
    """Two heads of queries for each of two heads of keys and values."""

    def f(p, x):
        q = jnp.einsum("btd,dgre->btgre", x, p["q"])
        k, v = (jnp.einsum("btd,dge->btge", x, p[n]) for n in "kv")
        a = jax.nn.softmax(jnp.einsum("btgre,bsge->bgrts", q, k), -1)
        return jnp.einsum("bgrts,bsge,gred->btd", a, v, p["o"])

    views = {
        "q:2": (lambda p: [p["q"][:, 1].transpose(2, 0, 1), p["k"][:, 1].T], (1,)),
        "v": (lambda p: [p["v"][:, 1].T, p["o"][1].transpose(1, 0, 2)], (1,)),
    }
    params = arrays(q=(3, 2, 2, 2), k=(3, 2, 2), v=(3, 2, 2), o=(2, 2, 2, 3))
    return Case(f, params, TOKENS, views, {"q:2": (1, 1, 4), "v": (1, 1, 4)})


def rms(h, scale=None):
    h = h * jax.lax.rsqrt(jnp.mean(h**2, -1, keepdims=True) + 0.1)
    return h if scale is None else h * scale


@case
def normalised_queries():
    views = {"q:1": of_head("q", "k"), "v": of_head("v", "o")}
    return Case(lambda p, x: separate(p, x, lambda q, _: rms(q)), arrays(**HEADS), TOKENS, views,
                {"q:1": (0, 1, 1), "v": (1, 1, 4)})  # fmt: skip


@case
def scaled_normalised_queries():
    """The scales are those of all heads: one permutation of the units for all of them."""

    def view(p):
        return [*(p[n].transpose(2, 0, 1) for n in "qk"), p["sq"], p["sk"]]

    params = arrays(**HEADS, sq=(2,), sk=(2,))
    f = lambda p, x: separate(p, x, lambda q, name: rms(q, p["s" + name]))
    return Case(f, params, TOKENS, {"q:1": (view, ()), "v": of_head("v", "o")},
                {"q:1": (1, 3, 2), "v": (1, 1, 4)})  # fmt: skip


# -- norms ----------------------------------------------------------------------------------


def centred(h, scale=None):
    return rms(h - h.mean(-1, keepdims=True), scale)


def stream(norm, expected, last=lambda h: h, **scales):
    """Two residual blocks. Without a last norm LayerNorms would admit more, which is not found:
    h ↦ h + 1 (a · h), undone by what reads the stream as it is."""

    def f(p, x):
        h = x @ p["e"]
        for i in "01":
            h = h + jax.nn.relu(norm(h, p.get(f"s{i}")) @ p[f"u{i}"]) @ p[f"d{i}"]
        return last(h) @ p["o"]

    def view(p):
        writers, readers = (p["e"], p["d0"], p["d1"]), (p["u0"], p["u1"], p["o"])
        return [*(w.T for w in writers), *readers, *(p[s] for s in scales)]

    params = arrays(e=(3, 4), u0=(4, 3), d0=(3, 4), u1=(4, 3), d1=(3, 4), o=(4, 2), **scales)
    views = {"e": (view, ()), "u0": (lambda p: [p["u0"].T, p["d0"]], ())}
    return Case(f, params, X, views, {"e": expected, "u0": (1, 0, 3)})


@case
def plain_stream():
    return stream(lambda h, _: h, (1, 1, 16))


@case
def rms_stream():
    return stream(rms, (0, 1, 6))


@case
def scaled_rms_stream():
    return stream(rms, (2, 3, 8), s0=(4,), s1=(4,))


@case
def layer_norm_stream():
    return stream(centred, (0, 0, 3), last=centred)


@case
def scaled_layer_norm_stream():
    return stream(centred, (2, 2, 8), last=centred, s0=(4,), s1=(4,))


@case
def group_norm():
    """Two groups of two channels, each with a scale and a shift; ReLU; a reader."""

    def f(p, x):
        h = (x @ p["w"]).reshape(*x.shape[:-1], 2, 2)
        h = centred(h) * p["scale"].reshape(2, 2) + p["shift"].reshape(2, 2)
        return jax.nn.relu(h).reshape(*x.shape[:-1], 4) @ p["o"]

    def inside(p):
        return [p["w"][:, 2:].T, p["scale"][2:], p["shift"][2:], p["o"][2:]]

    def whole(p):
        return [p["w"].reshape(3, 2, 2).transpose(1, 0, 2), *(p[n].reshape(2, 2) for n in
                ("scale", "shift")), p["o"].reshape(2, 2, 2)]  # fmt: skip

    params = arrays(w=(3, 4), scale=(4,), shift=(4,), o=(4, 2))
    return Case(f, params, X, {"w:1": (inside, (1,)), "w": (whole, ())},
                {"w:1": (1, 0, 2), "w": (2, 1, 0)})  # fmt: skip


def batch_norm(stored):
    def f(p, x):
        h = x @ p["w"] + p["b"]
        mean, variance = (p["mean"], p["variance"]) if stored else (h.mean(0), h.var(0))
        h = (h - mean) * jax.lax.rsqrt(variance + 0.1)
        return jax.nn.relu(h * p["gain"] + p["shift"]) @ p["o"]

    names = ("b", "gain", "shift", *(("mean", "variance") if stored else ()))
    params = arrays(w=(3, 3), b=(3,), gain=(3,), shift=(3,), o=(3, 2), mean=(3,))
    params |= {"variance": np.ones(3)}
    params = {k: v for k, v in params.items() if stored or k not in ("mean", "variance")}
    view = lambda p: [p["w"].T, *(p[n] for n in names), p["o"]]
    expected = (2, 1, 6) if stored else (1, 1, 3)
    return Case(f, params, X, {"w": (view, ())}, {"w": expected})


@case
def stored_statistics():
    return batch_norm(True)


@case
def estimated_statistics():
    return batch_norm(False)


@case
def weight_norm():
    def f(p, x):
        return jax.nn.relu(x @ (p["g"] * p["v"] / jnp.linalg.norm(p["v"], axis=0))) @ p["o"]

    view = lambda p: [p["g"], p["v"].T, p["o"]]
    params = arrays(g=(3,), v=(3, 3), o=(3, 2))
    return Case(f, params, X, {"g": (view, ())}, {"g": (2, 1, 6)})


@case
def tied_embeddings():
    def f(p, tokens):
        h = p["table"][tokens]
        return (h + jax.nn.relu(rms(h) @ p["u"]) @ p["d"]) @ p["table"].T

    view = lambda p: [p["table"].T, p["u"], p["d"].T]
    params = arrays(table=(5, 3), u=(3, 2), d=(2, 3))
    return Case(f, params, np.array([[0, 3], [4, 1]]), {"table": (view, ())}, {"table": (0, 1, 3)})


@case
def scanned_layers():
    def f(p, x):
        def body(h, w):
            return h + jax.nn.relu(rms(h) @ w[0]) @ w[1], None

        return jax.lax.scan(body, x @ p["e"], (p["u"], p["d"]))[0] @ p["o"]

    views = {
        "e": (lambda p: [p["e"].T, p["u"].transpose(1, 0, 2), p["d"].transpose(2, 0, 1),
                         p["o"]], ()),
        "u": (lambda p: [p["u"][1].T, p["d"][1]], (1,)),
    }  # fmt: skip
    params = arrays(e=(3, 4), u=(2, 4, 3), d=(2, 3, 4), o=(4, 2))
    return Case(f, params, X, views, {"e": (0, 1, 6), "u": (1, 0, 3)})
