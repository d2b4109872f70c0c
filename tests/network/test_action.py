"""Actions of the whole group: laws, the function kept, dense matrices as oracles, bad input."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mcjax

D, H, U = 4, 2, 3


def relu(p, x):
    return jax.nn.relu(x @ p["w1"] + p["b"]) @ p["w2"]


def odd(p, x):
    return jnp.tanh(x @ p["w1"] + p["b"]) @ p["w2"]


def bottleneck(p, x):
    return (x @ p["w1"] + p["b"]) @ p["w2"]


def attention(p, x):
    x = x * jax.lax.rsqrt(jnp.mean(x**2, -1, keepdims=True) + 1e-6)
    q, k, v = (jnp.einsum("btd,dhu->bthu", x, p[n]) for n in "qkv")
    s = jax.nn.softmax(jnp.einsum("bthu,bshu->bhts", q, k))
    return jnp.einsum("bhts,bshu,huo->bto", s, v, p["o"])


def stream(p, x):
    """A pre-RMSNorm residual stream."""
    h = x @ p["in"]
    for layer in ("1", "2"):
        n = h * jax.lax.rsqrt(jnp.mean(h**2, -1, keepdims=True) + 1e-6)
        h = h + jax.nn.gelu(n @ p["w" + layer]) @ p["v" + layer]
    return h * jax.lax.rsqrt(jnp.mean(h**2, -1, keepdims=True) + 1e-6) @ p["out"]


TWO_LAYERS = {"w1": (5, D), "b": (D,), "w2": (D, 2)}
HEADS = dict.fromkeys("qkv", (5, H, U)) | {"o": (H, U, 2)}
STREAM = {"in": (5, D), "out": (D, 2)} | {
    f"{n}{k}": s for k in (1, 2) for n, s in (("w", (D, 6)), ("v", (6, D)))
}
MODELS = {
    "relu": (relu, TWO_LAYERS, (3, 5), {"w1": "positive monomial"}),
    "tanh": (odd, TWO_LAYERS, (3, 5), {"w1": "signed permutation"}),
    "bottleneck": (bottleneck, TWO_LAYERS, (3, 5), {"w1": "general linear"}),
    "attention": (attention, HEADS, (2, 3, 5), {"v": "general linear", "q:1": "general linear"}),
    "stream": (stream, STREAM, (3, 5), {"in": "orthogonal", "w1": "permutation"}),
}


def drawn(shapes, seed):
    rng = np.random.default_rng(seed)
    return {n: rng.normal(size=s).astype(np.float32) for n, s in shapes.items()}


@pytest.fixture(scope="module", params=MODELS)
def model(request):
    f, shapes, x, expected = MODELS[request.param]
    x = np.random.default_rng(0).normal(size=x).astype(np.float32)
    network = mcjax.trace(f, drawn(shapes, 0), jnp.asarray(x))
    return f, shapes, x, network, expected


def random(network, seed):
    return mcjax.Action.random(network, jax.random.key(seed))


def close(a, b, atol=2e-3):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=atol, rtol=1e-3), a, b)


def test_symmetries_of_the_models(model):
    *_, network, expected = model
    assert {n: network.groups[n].symmetry for n in expected} == expected


def test_random_actions_keep_the_function(model):
    f, shapes, x, network, _ = model
    params = drawn(shapes, 1)
    action = random(network, 3)
    assert action.elements
    close(f(action(params), x), f(params, x))


def test_the_contract(model):
    _, shapes, x, network, _ = model
    one, other = random(network, 5), random(network, 6)
    mcjax.testing.check_action(one, drawn(shapes, 1), x, other, tolerance=1e-3)


def test_group_laws(model):
    _, shapes, _, network, _ = model
    p, q, r = (random(network, s) for s in range(3))
    params = drawn(shapes, 2)
    close((p @ q)(params), p(q(params)))
    close(((p @ q) @ r)(params), (p @ (q @ r))(params))
    close((p.inverse() @ p)(params), params)
    close((p @ p.inverse())(params), params)
    assert (p.inverse() @ p).allclose(mcjax.Action.identity(network))
    assert not p.allclose(q)


def test_one_group_by_hand():
    """M D P on a linear bottleneck, against dense float64 matrices."""
    f, shapes, _, _ = MODELS["bottleneck"]
    params = drawn(shapes, 4)
    network = mcjax.trace(f, params, jnp.ones((3, 5)))
    p, g = np.array([2, 0, 3, 1]), np.random.default_rng(5).normal(size=(D, D))
    action = mcjax.Action.of(network, {"w1": p}, {"w1": {"general linear": g.astype(np.float32)}})
    dense = g @ np.eye(D)[p]
    moved = action(params)
    np.testing.assert_allclose(moved["w1"], params["w1"] @ dense.T, atol=1e-4)
    np.testing.assert_allclose(moved["b"], dense @ params["b"], atol=1e-4)
    np.testing.assert_allclose(moved["w2"], np.linalg.inv(dense).T @ params["w2"], atol=1e-3)
    np.testing.assert_allclose(action.matrices()["w1"], dense, atol=1e-5)


def test_heads_by_hand():
    """Heads move, and take their matrices with them: head by head with dense matrices."""
    f, shapes, x, _ = MODELS["attention"]
    params = drawn(shapes, 6)
    network = mcjax.trace(f, params, jnp.ones(x))
    rng = np.random.default_rng(7)
    g = rng.normal(size=(H, U, U)).astype(np.float32)
    heads = next(n for n, group in network.groups.items() if group.shape == (H,))
    first = mcjax.Action.of(network, elements={"v": {"general linear": g}})
    turn = mcjax.Action.of(network, {heads: np.array([1, 0])})
    moved = (turn @ first)(params)
    for h, source in ((0, 1), (1, 0)):
        np.testing.assert_allclose(
            moved["v"][:, h], params["v"][:, source] @ g[source].T, atol=1e-5
        )
    other = (first @ turn)(params)
    np.testing.assert_allclose(other["v"][:, 0], params["v"][:, 1] @ g[0].T, atol=1e-5)


def test_matrices_are_those_of_the_incoming_weights():
    """A gated unit has two writers, each with scales and signs of its own: the first is meant."""
    f = lambda p, x: ((x @ p["u"]) * (x @ p["v"])) @ p["o"]
    params = drawn({"u": (5, D), "v": (5, D), "o": (D, 2)}, 0)
    network = mcjax.trace(f, params, jnp.ones((3, 5)))
    action = random(network, 1)
    moved, matrix = action(params), action.matrices()["u"]
    assert not np.allclose(moved["v"], params["v"] @ matrix.T, atol=1e-2)
    np.testing.assert_allclose(moved["u"], params["u"] @ matrix.T, atol=1e-5)


def test_what_is_not_given_is_the_identity():
    network, _ = trace_of("relu")
    identity = mcjax.Action.identity(network)
    for c in (1.0, 2.0):
        scaled = mcjax.Action.of(network, elements={"w1": {"positive": np.full(D, c, "f")}})
        assert scaled.allclose(identity) == identity.allclose(scaled) == (c == 1)


def test_under_jit_and_vmap(model):
    _, shapes, _, network, _ = model
    params, keys = drawn(shapes, 1), jax.random.split(jax.random.key(0), 3)
    moved = jax.jit(lambda a, p: a(p))(random(network, 5), params)
    close(moved, random(network, 5)(params))
    many = jax.vmap(lambda k: mcjax.Action.random(network, k))(keys)
    every = jax.vmap(lambda a: (a.inverse() @ a)(params))(many)
    close(jax.tree.map(lambda v: v[1], every), params)


def test_split_and_log(model):
    f, shapes, x, network, _ = model
    params, action = drawn(shapes, 1), random(network, 8)
    connected, discrete = action.split()
    close((connected @ discrete)(params), action(params))
    curve = connected.log()
    close(curve.power(1.0)(params), connected(params))
    close(curve.power(0.0)(params), params)
    for t in (0.3, 0.7):
        close(f(curve.power(t)(params), x), f(params, x))


def test_orbit_stays_at_the_function(model):
    f, shapes, x, network, _ = model
    params, action = drawn(shapes, 1), random(network, 9)
    path = mcjax.path.Orbit(action, params, discrete="first")
    end = action(params)
    close(path(1.0), end)
    for t in (0.0, 0.4, 1.0):
        close(f(path(t), x), f(params, x))
    if "b" in shapes:  # signs, scales, matrices; the larger models take long
        mcjax.testing.check_path(path, path.start, path.end)


def test_saved_and_loaded(model, tmp_path):
    _, _, _, network, _ = model
    action = random(network, 1)
    mcjax.save(tmp_path / "action", action)
    again = mcjax.load(tmp_path / "action", like=network)
    assert again.elements.keys() == action.elements.keys()
    assert again.allclose(action)


def trace_of(name):
    f, shapes, x, _ = MODELS[name]
    return mcjax.trace(f, drawn(shapes, 0), jnp.ones(x)), drawn(shapes, 1)


@pytest.mark.parametrize(
    ("name", "elements", "words"),
    [
        ("relu", {"w1": {"positive": np.array([1.0, 0, 1, 1])}}, "must be positive"),
        ("relu", {"w1": {"positive": np.array([1.0, np.inf, 1, 1])}}, "not finite"),
        ("relu", {"w1": {"positive": np.array([1, 1e-45, 1, 1], "f")}}, "its inverse is infinite"),
        ("relu", {"w1": {"sign": np.ones(4)}}, "symmetry is 'positive monomial'"),
        ("relu", {"w1": {"orthogonal": np.eye(4)}}, "no factor of this kind"),
        ("relu", {"w1": {"positive": np.ones(3)}}, r"shape \(3,\), expected \(4,\)"),
        ("relu", {"w1": {"positive": np.ones(4) * 1j}}, "expected real floats"),
        ("relu", {"w1": np.ones(4)}, "a mapping from kinds"),
        ("relu", {"w9": {}}, "unknown group 'w9'"),
        ("tanh", {"w1": {"sign": np.array([1.0, 2, 1, 1])}}, "1 or -1"),
        ("stream", {"in": {"orthogonal": 2 * np.eye(D)}}, "not orthogonal"),
        ("bottleneck", {"w1": {"general linear": np.ones((D, D))}}, "singular to rounding"),
        ("bottleneck", {"w1": {"general linear": np.eye(D) * 1j}}, "expected real floats"),
        ("bottleneck", {"w1": {"general linear": np.eye(D, dtype="f") * 1e-40}}, "singular"),
        ("bottleneck", {"w1": {"general linear": np.diag([1, 1, 1, 3e-7]).astype("f")}}, "e-07"),
    ],
)
def test_no_element(name, elements, words):
    network, _ = trace_of(name)
    with pytest.raises(ValueError, match=words):
        mcjax.Action.of(network, elements=elements)


def test_rotations_of_a_layer_norms_stream_keep_the_constant_vector():
    """The stream without scale and bias, of which means are subtracted before it is read."""

    def f(p, x):
        h = x @ p["in"]
        c = h - h.mean(-1, keepdims=True)
        return c * jax.lax.rsqrt(jnp.mean(c**2, -1, keepdims=True) + 1e-6) @ p["out"]

    network = mcjax.trace(f, drawn({"in": (5, D), "out": (D, 2)}, 0), jnp.ones((3, 5)))
    kind = "orthogonal fixing ones"
    swap = np.eye(D, dtype="f")[[1, 0, 2, 3]]
    mcjax.Action.of(network, elements={"in": {kind: swap}})
    with pytest.raises(ValueError, match=r"does not keep the constant vector.*off 1 by 2"):
        mcjax.Action.of(network, elements={"in": {kind: -swap}})


def test_what_is_nearest_to_no_element():
    network, _ = trace_of("relu")
    with pytest.raises(ValueError, match=r"nearest to no element: scales fall to 0.*positive"):
        mcjax.Action.nearest(network, {"w1": -np.eye(D)})


def test_what_no_curve_reaches():
    network, params = trace_of("bottleneck")
    g = np.diag([-1.0, 1, 1, 1]).astype(np.float32)
    action = mcjax.Action.of(network, elements={"w1": {"general linear": g}})
    with pytest.raises(ValueError, match=r"negative determinant.*odd permutation"):
        action.log()
    with pytest.raises(ValueError, match="negative determinant"):
        mcjax.path.Orbit(action, params)
    path = mcjax.path.Orbit(action, params, discrete="first")
    close(path(1.0), action(params))
    network, _ = trace_of("tanh")
    action = mcjax.Action.of(network, elements={"w1": {"sign": np.array([1.0, -1, 1, 1])}})
    with pytest.raises(ValueError, match="changes signs"):
        action.log()
    with pytest.raises(ValueError, match="permutes its units"):
        mcjax.Action.of(network, {"w1": np.array([1, 0, 2, 3])}).log()


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_elements_of_half_precision(dtype):
    network, params = trace_of("bottleneck")
    g = np.diag([2.0, 1, 0.5, 4]).astype(np.float32)
    whole = mcjax.Action.of(network, elements={"w1": {"general linear": g}})
    half = mcjax.Action.of(network, elements={"w1": {"general linear": jnp.asarray(g, dtype)}})
    close(half(params), whole(params))
    close(half.inverse()(half(params)), params)
    close(mcjax.path.Orbit(half, params)(0.5), mcjax.path.Orbit(whole, params)(0.5))
    assert mcjax.symmetry.log(jnp.asarray(g, dtype)).angles.dtype == jnp.float32


@pytest.mark.parametrize("kind", [np, jnp])
def test_what_overflows_is_said(kind):
    """Half-precision parameters are moved in float32, and it is said where the result does not
    fit."""
    network, params = trace_of("relu")
    half = {n: kind.asarray(v, np.float16) for n, v in params.items()}
    small = mcjax.Action.of(network, elements={"w1": {"positive": np.full(D, 1e-3, np.float32)}})
    moved = small(half)
    assert all(v.dtype == np.float16 for v in moved.values())
    expected = np.float32(half["w2"]) * np.float32(1000)
    np.testing.assert_array_equal(moved["w2"], expected.astype(np.float16))
    big = mcjax.Action.of(network, elements={"w1": {"positive": np.full(D, 1e6, np.float32)}})
    with pytest.warns(UserWarning, match=r"'b' \(float16\), 'w1' \(float16\)\. Move"):
        big(half)


def test_permute_takes_permutations_alone():
    network, params = trace_of("relu")
    with pytest.raises(ValueError, match="does more than permute"):
        network.permute(random(network, 0), params)


def test_heads_of_width_one():
    shapes = dict.fromkeys("qkv", (5, H, 1)) | {"o": (H, 1, 2)}
    params = drawn(shapes, 0)
    network = mcjax.trace(attention, params, jnp.ones((2, 3, 5)))
    x = np.random.default_rng(1).normal(size=(2, 3, 5)).astype(np.float32)
    action = random(network, 2)
    close(attention(action(params), x), attention(params, x))


def test_overflow_is_looked_for_with_one_wait(monkeypatch):
    """As on an accelerator: however many leaves are moved, the host waits for all of them once."""
    f = lambda p, x: jax.nn.relu(x @ p["w1"] + p["b1"]) @ p["w2"]
    params = {"b1": jnp.ones(4), "w1": jnp.ones((3, 4)), "w2": jnp.ones((4, 2))}
    network = mcjax.trace(f, params, jnp.ones((2, 3)))
    action = mcjax.Action.of(network, elements={"w1": {"positive": jnp.full(4, 2.0)}})
    large = jax.tree.map(lambda v: v * 3e38, params)
    waits, get = [], jax.device_get
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(jax, "device_get", lambda v: waits.append(v) or get(v))
    action(params)
    assert [len(v) for v in waits if v] == [3]
    with pytest.warns(UserWarning, match=r": 'b1' \(float32\), 'w1' \(float32\)\. Move"):
        action(large)
