"""The symmetries that a person expects of small models, and their elements run."""

from __future__ import annotations

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mcjax
from mcjax.network.symmetry.act import random_element, transform_leaf


def arrays(**shapes):
    rng = np.random.default_rng(0)
    return {k: jnp.asarray(rng.normal(size=s), jnp.float32) for k, s in shapes.items()}


X = jnp.asarray(np.random.default_rng(9).normal(size=(4, 3)), jnp.float32)
TOKENS = jnp.asarray(np.random.default_rng(8).normal(size=(2, 4, 6)), jnp.float32)
MLP = arrays(w=(3, 5), b=(5,), o=(5, 2))


def traced(f, params, x=X):
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="mcjax found symmetries")
        return mcjax.trace(f, params, x)


def exponents(network, group, kind):
    """Leaf → the exponents on its axes, for each factor of a kind."""
    return [
        {network.leaf_names[i]: [m.exponents.ravel().tolist() for m in of] for i, of in f.moves}
        for f in network.groups[group].structure.factors
        if f.kind == kind
    ]


ACTIVATIONS = {
    "tanh": (jnp.tanh, "signed permutation"),
    "sin": (jnp.sin, "signed permutation"),
    "erf": (jax.lax.erf, "signed permutation"),
    "cos": (jnp.cos, "signed permutation"),
    "relu": (jax.nn.relu, "positive monomial"),
    "leaky relu": (jax.nn.leaky_relu, "positive monomial"),
    "squared relu": (lambda h: jax.nn.relu(h) ** 2, "positive monomial"),
    "abs": (jnp.abs, "monomial"),
    "x |x|": (lambda h: h * jnp.abs(h), "monomial"),
    "square": (jnp.square, "monomial"),
    "cube": (lambda h: h**3, "monomial"),
    "identity": (lambda h: h, "general linear"),
    "gelu": (jax.nn.gelu, "permutation"),
    "silu": (jax.nn.silu, "permutation"),
    "softplus": (jax.nn.softplus, "permutation"),
    "sigmoid": (jax.nn.sigmoid, "permutation"),
    "relu6": (jax.nn.relu6, "permutation"),
    "elu": (jax.nn.elu, "permutation"),
    "softmax": (jax.nn.softmax, "permutation"),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations(name):
    act, expected = ACTIVATIONS[name]
    network = traced(lambda p, x: act(x @ p["w"] + p["b"]) @ p["o"], MLP)
    assert network.groups["w"].symmetry == expected


def residual(p, x, norm):
    h = x @ p["e"]
    for i in "01":
        h = h + jax.nn.relu(norm(h, p.get(f"s{i}")) @ p[f"u{i}"]) @ p[f"d{i}"]
    return h @ p["o"]


STREAM = arrays(e=(3, 6), u0=(6, 5), d0=(5, 6), u1=(6, 5), d1=(5, 6), o=(6, 2))


def rms(h, scale):
    h = h / jnp.sqrt(jnp.mean(h**2, -1, keepdims=True) + 1e-6)
    return h if scale is None else h * scale


def centred(h, scale):
    return rms(h - h.mean(-1, keepdims=True), scale)


def test_streams():
    scales = arrays(s0=(6,), s1=(6,))
    none = traced(lambda p, x: residual(p, x, lambda h, _: h), STREAM)
    plain = traced(lambda p, x: residual(p, x, rms), STREAM)
    scaled = traced(lambda p, x: residual(p, x, rms), STREAM | scales)
    layer = traced(lambda p, x: residual(p, x, centred), STREAM)
    both = traced(lambda p, x: residual(p, x, centred), STREAM | scales)
    found = [n.groups["e"].symmetry for n in (none, plain, scaled, layer, both)]
    assert found == ["general linear", "orthogonal", "signed permutation", "permutation",
                     "permutation"]  # fmt: skip
    assert [f.kind for f in layer.groups["e"].structure.factors if f.matrices] == [
        "orthogonal fixing ones"
    ]
    # A norm's scale against what reads it alone: two, none of which moves the stream's writers.
    apart = [f for f in scaled.groups["e"].structure.factors if f.kind == "positive"]
    assert [f.primary for f in apart] == [False, False]


def attention(p, x, turn=lambda q: q):
    q, k, v = (jnp.einsum("btd,dhe->bthe", x, p[n]) + p.get("b" + n, 0.0) for n in "qkv")
    a = jax.nn.softmax(jnp.einsum("bthe,bshe->bhts", turn(q), turn(k)))
    return jnp.einsum("bhts,bshe,hed->btd", a, v, p["o"])


HEADS = arrays(q=(6, 2, 3), k=(6, 2, 3), v=(6, 2, 3), bq=(2, 3), bk=(2, 3), bv=(2, 3), o=(2, 3, 6))


def symmetries(network):
    return {g.name: (g.shape, g.symmetry) for g in network.groups.values()}


def test_attention_per_head():
    network = traced(attention, HEADS, TOKENS)
    assert symmetries(network) == {
        "q": ((2,), "permutation"),  # its scalings and signs are those of the units inside
        "q:1": ((2, 3), "general linear"),
        "v": ((2, 3), "general linear"),
    }
    (moves,) = exponents(network, "q:1", "general linear")
    assert moves["q"] == moves["bq"] == [[-moves["k"][0][0]]] == [[-moves["bk"][0][0]]]


def test_fused_attention():
    def f(p, x):
        q, k, v = jnp.moveaxis((x @ p["qkv"]).reshape(*x.shape[:2], 3, 2, 3), 2, 0)
        mask = jnp.tril(jnp.ones((4, 4), bool))
        a = jax.nn.softmax(jnp.where(mask, jnp.einsum("bthe,bshe->bhts", q, k), -1e9))
        return jnp.einsum("bhts,bshe->bthe", a, v).reshape(x.shape) @ p["o"]

    network = traced(f, arrays(qkv=(6, 18), o=(6, 6)), TOKENS)
    assert sorted(symmetries(network).values()) == [
        ((2,), "permutation"), ((2, 3), "general linear"), ((2, 3), "general linear")
    ]  # fmt: skip
    values = [np.ravel(v["qkv"]).tolist() for n in network.groups
              for v in exponents(network, n, "general linear")]  # fmt: skip
    one = [1] * 6
    assert values == [
        [*one, *(-1 for _ in one), *(0 for _ in one)],
        [*(0 for _ in range(12)), *one],
    ]


def test_normalised_queries_and_keys():
    network = traced(lambda p, x: attention(p, x, lambda q: rms(q, None)), HEADS, TOKENS)
    assert [s for _, s in symmetries(network).values()] == [
        "permutation", "orthogonal", "general linear"
    ]  # fmt: skip


def test_low_rank_and_weight_normalisation():
    p = arrays(w=(3, 5), a=(3, 2), b=(2, 5), o=(5, 2))
    network = traced(lambda p, x: jnp.tanh(x @ (p["w"] + p["a"] @ p["b"])) @ p["o"], p)
    assert {s for _, s in symmetries(network).values()} == {"general linear", "signed permutation"}

    def f(p, x):
        weight = p["g"] * p["v"] / jnp.linalg.norm(p["v"], axis=0)
        return jax.nn.relu(x @ weight) @ p["o"]

    network = traced(f, arrays(g=(5,), v=(3, 5), o=(5, 2)))
    (name,) = network.groups
    scalings = exponents(network, name, "positive")
    assert {"g": [[1]], "o": [[-1]]} in scalings
    assert {"v": [[1]]} in scalings


def test_tied_embedding():
    def f(p, tokens):
        return rms(p["table"][tokens], None) @ p["table"].T

    network = traced(f, arrays(table=(7, 4)), jnp.array([[0, 3], [5, 6]]))
    assert [g.symmetry for g in network.groups.values()] == ["orthogonal"]


def test_scans_keep_the_stream():
    def f(p, x):
        def body(h, w):
            return h + jax.nn.relu(h @ w[0]) @ w[1], None

        return jax.lax.scan(body, x @ p["e"], (p["u"], p["d"]))[0] @ p["o"]

    network = traced(f, arrays(e=(3, 6), u=(3, 6, 5), d=(3, 5, 6), o=(6, 2)))
    assert symmetries(network) == {
        "e": ((6,), "general linear"),
        "u": ((3, 5), "positive monomial"),
    }


def test_explain_says_what_made_it_no_larger():
    network = traced(lambda p, x: jnp.tanh(x @ p["w"] + p["b"]) @ p["o"], MLP)
    said = "w (5,): signed permutation (tanh admits no scaling or rotation)"
    assert said in network.explain().splitlines()


def test_a_second_trace_is_equal():
    f = lambda p, x: jax.nn.relu(x @ p["w"] + p["b"]) @ p["o"]
    one, two = traced(f, MLP), traced(f, MLP)
    assert one == two
    assert hash(one.groups["w"].structure) == hash(two.groups["w"].structure)
    assert one.groups["w"].structure == two.groups["w"].structure


@pytest.mark.parametrize("host", [True, False])
def test_elements_keep_the_function(host):
    """On the host in float64, and compiled: all factors of all groups of an attention layer."""
    network = traced(attention, HEADS, TOKENS)
    rng = np.random.default_rng(3)
    elements = [(g, f, random_element(f.kind, g.shape, rng))
                for g in network.groups.values() for f in g.structure.factors[1:]]  # fmt: skip
    assert len(elements) == 2

    def moved(leaves, given):
        out = list(leaves)
        for (group, factor, _), element in zip(elements, given, strict=True):
            pairs = enumerate(zip(out, network.leaf_axes, strict=True))
            out = [transform_leaf(group, factor, element, i, v, a) for i, (v, a) in pairs]
        return out

    given = [e for _, _, e in elements]
    leaves, treedef = jax.tree.flatten(HEADS)
    with jax.enable_x64(True):
        wide = [np.asarray(v, np.float64) for v in leaves]
        done = moved(wide, given) if host else jax.jit(moved)(wide, given)
        tokens = TOKENS.astype(np.float64)
        before, after = (attention(jax.tree.unflatten(treedef, v), tokens) for v in (wide, done))
    done = map(np.asarray, done)
    assert all(np.abs(v - w).max() > 0.1 for v, w in zip(done, wide, strict=True))
    np.testing.assert_allclose(after, before, rtol=1e-9, atol=1e-9)


def test_a_wrong_factor_is_dropped(monkeypatch):
    """Were tanh homogeneous, its scaling would fail in float64, and only that be left out."""
    from mcjax.network.symmetry import pointwise

    monkeypatch.setitem(pointwise._NAMED, "tanh", pointwise.linear)

    def f(p, x):
        return jnp.tanh(x @ p["w"] + p["b"]) @ p["o"]

    with pytest.warns(UserWarning, match="w: general linear"):
        network = mcjax.trace(f, MLP, X)
    assert network.groups["w"].symmetry == "permutation"
    monkeypatch.undo()
    assert network != traced(f, MLP)  # another structure, though the program is the same
