"""A network is a value: nothing in it changes, and what is equal by content is equal."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import pickle
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mcjax
from mcjax.network.axes import Atom, FrozenAtom
from tests.conftest import traced

X = np.random.default_rng(0).normal(size=(24, 6)).astype(np.float32)


def params(seed, widths=(6, 8, 5, 3)):
    rng = np.random.default_rng(seed)
    out = {}
    for i, (n, m) in enumerate(itertools.pairwise(widths)):
        out[f"w{i}"] = rng.normal(size=(n, m)).astype(np.float32)
        out[f"b{i}"] = rng.normal(size=m).astype(np.float32)
    out["norm"] = {
        "mean": rng.normal(size=widths[1]).astype(np.float32),
        "var": rng.uniform(1, 2, widths[1]).astype(np.float32),
        "gamma": rng.normal(size=widths[1]).astype(np.float32),
        "beta": rng.normal(size=widths[1]).astype(np.float32),
    }
    return out


def model(act=jax.nn.relu, scale=1.0, n=3):
    def apply(p, x):
        h = (x @ p["w0"] + p["b0"]) * scale
        b = p["norm"]
        h = (h - b["mean"]) * (b["gamma"] * jax.lax.rsqrt(b["var"] + 1e-5)) + b["beta"]
        h = act(h)
        for i in range(1, n):
            h = h @ p[f"w{i}"] + p[f"b{i}"]
            h = act(h) if i < n - 1 else h
        return h

    return apply


def trace(**options):
    frozen = options.pop("frozen", ())
    check = options.pop("check", False)
    x = options.pop("x", X[:2])
    return mcjax.trace(model(**options), params(0), x, frozen=frozen, check=check)


# -- equality --------------------------------------------------------------------------------


def test_two_traces_of_one_model_are_equal():
    """Through two functions, verified or not; all that is asked of them agrees."""
    a, b = trace(), trace(check=True)
    assert a.apply_fn is not b.apply_fn
    assert a == b
    assert hash(a) == hash(b)
    assert {a: 1}[b] == 1
    assert dict(a.groups) == dict(b.groups)
    assert a.layers == b.layers
    assert a.leaf_axes == b.leaf_axes
    assert a.leaf_axes[0][0][0] is b.leaf_axes[0][0][0]  # atoms of equal content are one
    assert a.verification is None
    assert b.verification is not None


table = np.linspace(-1, 1, 8, dtype=np.float32)

DIFFERENT = {
    "another activation": lambda: trace(act=jnp.tanh),
    "another literal": lambda: trace(scale=1.5),
    "an array": lambda: trace(scale=table),
    "another array": lambda: trace(scale=table * np.float32(1 + 1e-6)),
    "frozen": lambda: trace(frozen=["w1"]),
    "another leaf frozen, where nothing moves anyhow": lambda: trace(frozen=["b2"]),
    "another shape": lambda: mcjax.trace(model(), params(0, (6, 7, 5, 3)), X[:2], check=False),
    "another type of input": lambda: trace(x=X[:2].astype(np.float16)),
    "more leaves": lambda: mcjax.trace(
        model(), params(0) | {"unused": np.ones(3, np.float32)}, X[:2], check=False
    ),
    "other names": lambda: mcjax.trace(
        lambda p, x: model()(p["net"], x), {"net": params(0)}, X[:2], check=False
    ),
    "another number of a primitive": lambda: mcjax.trace(
        lambda p, x: model()(p, jnp.roll(x, 1, 1)), params(0), X[:2], check=False
    ),
    "and another": lambda: mcjax.trace(
        lambda p, x: model()(p, jnp.roll(x, 2, 1)), params(0), X[:2], check=False
    ),
    "a primitive": lambda: mcjax.trace(
        lambda p, x: jnp.sin(model()(p, x)), params(0), X[:2], check=False
    ),
    "another primitive": lambda: mcjax.trace(
        lambda p, x: jnp.cos(model()(p, x)), params(0), X[:2], check=False
    ),
}


def test_different_models_are_different():
    found = [trace(), *(make() for make in DIFFERENT.values())]
    assert len(set(found)) == len(found)
    assert trace() != "a network"
    assert trace() != params(0)


def test_equality_does_not_hang_on_addresses():
    """Functions inside a program (a callback) are told by their code, loops by their bodies."""

    def network(shift):
        def host(v):
            return np.tanh(v) + shift

        def apply(p, x):
            h = jax.pure_callback(host, jax.ShapeDtypeStruct(x.shape, x.dtype), x)
            h = jax.lax.scan(lambda c, w: (jnp.tanh(c @ w), None), h, p["w"])[0]
            return jax.lax.cond(h.sum() > 0, jnp.sin, lambda v: v * 2, h)

        weights = {"w": np.ones((3, 6, 6), np.float32)}
        return mcjax.trace(apply, weights, X[:2], check=False)

    assert network(1) == network(1)
    assert hash(network(1)) == hash(network(1))
    assert network(1) != network(2)


def test_digest_is_that_of_another_process_too():
    import subprocess
    import sys

    code = (
        "import jax, mcjax; from tests.network.test_values import trace; "
        "print(trace().identity.digest.hex())"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == trace().identity.digest.hex()


# -- immutability ----------------------------------------------------------------------------


def deep(value, seen=None):
    """All there is in a value, hidden attributes too; what is not mcjax's by its repr."""
    seen = {} if seen is None else seen
    if id(value) in seen:
        return seen[id(value)][0]
    seen[id(value)] = (f"#{len(seen)}", value)
    if isinstance(value, jax.Array | np.ndarray):
        return str((value.dtype, value.shape, np.asarray(value).tobytes()))
    if isinstance(value, Mapping):
        return "".join(f"{deep(k, seen)}:{deep(v, seen)}," for k, v in value.items())
    if isinstance(value, tuple | list):
        return "".join(deep(v, seen) + "," for v in value)
    if isinstance(value, set | frozenset):
        return "".join(sorted(deep(v, seen) for v in value))
    if type(value).__module__.startswith("mcjax"):
        slots = [s for c in type(value).__mro__ for s in getattr(c, "__slots__", ())]
        hidden = {s: getattr(value, s) for s in slots if s != "__weakref__"}
        return type(value).__name__ + deep(hidden | getattr(value, "__dict__", {}), seen)
    return repr(value)


def digest(network):
    return hashlib.blake2b(deep(network).encode(), digest_size=8).hexdigest()


def calls(network):
    a, b = params(1), params(2)
    data, key = (X, np.zeros(24, int)), jax.random.key(0)
    p = network.random_permutations(key)
    path = mcjax.path.Linear(a, b)
    yield "permute", lambda: network.permute(p, a)
    yield "activations", lambda: network.activations(a, X[:7])
    yield "one example", lambda: network.activations(a, X[:1], "pre")
    yield "layer_inputs", lambda: network.layer_inputs(a, X[:5])
    yield "layer_outputs", lambda: network.layer_outputs(a, X)
    yield "explain", network.explain
    yield "match_activations", lambda: mcjax.align.match_activations(network, a, b, X)
    yield "match_weights", lambda: mcjax.align.match_weights(network, a, b)
    yield "match_butterflies", lambda: mcjax.align.match_butterflies(network, a, b)
    yield "match_many", lambda: mcjax.align.match_many(network, [a, b], steps=1)
    yield "repair", lambda: mcjax.evaluation.Repaired(path, network, X)(0.5)
    yield "evaluate", lambda: mcjax.evaluate(path, network, data, 2, statistics=X)
    yield "swaps", lambda: mcjax.path.Swaps(network, a, p)(0.3)
    yield "hash", lambda: hash(network)
    yield "connect", lambda: mcjax.connect(network, a, b, "ot+wa", x=X, key=key)


def test_nothing_in_a_network_changes():
    network = trace()
    before, said = digest(network), network.explain()
    for name, call in calls(network):
        call()
        assert digest(network) == before, name
    assert network.explain() == said
    with pytest.raises(dataclasses.FrozenInstanceError):
        network.groups = {}
    with pytest.raises(TypeError):
        network.groups["w0"] = None
    with pytest.raises(AttributeError, match="cannot change"):
        network.groups["w0"].atom.fixed = True


def test_the_digest_sees_changes():
    network = trace()
    before = digest(network)
    network.__dict__["_cache"] = {}
    assert digest(network) != before


def test_an_atom_is_one_object_for_its_content():
    outer = FrozenAtom(0, 3, frozenset(), None)
    atom = FrozenAtom(1, 4, frozenset({outer}), None)
    assert FrozenAtom(1, 4, frozenset({FrozenAtom(0, 3, frozenset(), None)}), None) is atom
    assert FrozenAtom(1, 4, frozenset(), None) is not atom
    assert pickle.loads(pickle.dumps(atom)) is atom
    assert Atom(0, 3, frozenset(), None) != outer


def test_no_cache_keeps_networks_for_ever():
    from mcjax.network import activations

    first = trace()
    for n in range(3, 6):
        first.activations(params(1), X[:n])
    info = activations._analysis.cache_info()
    assert info.maxsize is not None
    assert info.currsize <= info.maxsize <= 32


def test_a_function_is_no_network():
    f, a, b = model(), params(0), params(1)
    path = mcjax.path.Linear(a, b)
    for call in (
        lambda: mcjax.Action.random(f, jax.random.key(0)),
        lambda: mcjax.path.Swaps(f, a, {}),
        lambda: mcjax.path.Transported(f, a, b, {}),
        lambda: mcjax.align.StraightThroughPath(f, a, b, a),
        lambda: mcjax.align.match_weights(f, a, b),
        lambda: mcjax.align.match_activations(f, a, b, X),
        lambda: mcjax.evaluation.Repaired(path, f, X),
        lambda: mcjax.adjust.solve_layers(f, a, b, X, layers=["w1"]),
        lambda: mcjax.theory.alignment_bound(f, a, b, X),
    ):
        with pytest.raises(
            ValueError, match=r"network must be a mcjax\.Network, .*; got a function"
        ):
            call()


# -- roles -----------------------------------------------------------------------------------


def test_roles_are_found_from_the_program():
    network = trace()
    found = dict(zip(network.leaf_names, network.roles, strict=True))
    assert found == {
        **{f"w{i}": "weight" for i in range(3)},
        **{f"b{i}": "bias" for i in range(3)},
        "norm/mean": "mean",
        "norm/var": "variance",
        "norm/gamma": "scale",
        "norm/beta": "bias",
    }
    assert "scale" in network.explain()


def test_roles_of_folded_and_tied_leaves():
    """(1 + γ) h, β − µ/σ, a product of leaves, an embedding that is read out, a scan, a mixture."""

    def apply(p, x):
        h = p["e"][x]
        h = h / jnp.sqrt((h * h).mean(-1, keepdims=True) + 1e-6) * (1 + p["g"]) + p["pos"]
        inv = p["gamma"] / jnp.sqrt(p["v"] + 1e-5)
        h = h * inv + (p["beta"] - p["m"] * inv)
        h = jax.lax.scan(lambda c, w: (jnp.tanh(c @ w["w"] + w["b"]), None), h, p["loop"])[0]
        h = h @ (p["down"] @ p["up"]) + p["both"]
        return (h * p["both"]) @ p["e"].T, p["n"] + h

    d, r = 6, 2
    leaves = {
        "e": (9, d), "g": (d,), "pos": (4, d), "gamma": (d,), "v": (d,), "beta": (d,), "m": (d,),
        "down": (d, r), "up": (r, d), "both": (d,), "loop": {"w": (3, d, d), "b": (3, d)},
    }  # fmt: skip
    make = lambda s: np.ones(s, np.float32)
    p = jax.tree.map(make, leaves, is_leaf=lambda s: isinstance(s, tuple))
    p["n"] = np.zeros(d, np.int32)
    network = mcjax.trace(apply, p, np.zeros((2, 4), int), check=False)
    assert dict(zip(network.leaf_names, network.roles, strict=True)) == {
        "e": "weight", "g": "scale", "pos": "bias", "gamma": "scale", "v": "variance",
        "beta": "bias", "m": "mean", "down": "weight", "up": "weight", "both": "other",
        "loop/w": "weight", "loop/b": "bias", "n": "other",
    }  # fmt: skip


# -- precision -------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_other_precisions_are_taken(dtype):
    """Results have the precision given; programs run in that of the trace."""
    network = trace(act=jnp.tanh)  # no unit is dead
    half = jax.tree.map(lambda v: jnp.asarray(v, dtype), params(1))
    p = network.random_permutations(jax.random.key(0))
    moved = network.permute(p, half)
    assert {v.dtype for v in jax.tree.leaves(moved)} == {jnp.dtype(dtype)}
    wide = jax.tree.map(lambda v: jnp.asarray(v, jnp.float32), half)
    jax.tree.map(np.testing.assert_array_equal, moved, jax.tree.map(
        lambda v: v.astype(dtype), network.permute(p, wide)))  # fmt: skip
    found = network.activations(half, X)["w0"][0]
    np.testing.assert_array_equal(found, network.activations(wide, X)["w0"][0])
    inverse = mcjax.align.match_weights(network, half, moved).permutations
    back = network.permute(inverse, moved)
    jax.tree.map(np.testing.assert_array_equal, back, half)
    path = mcjax.path.Linear(half, moved)
    points = [
        mcjax.evaluation.Repaired(path, network, X)(0.5),
        network.mix(mcjax.Action.of(network, p).matrices(), half),
        mcjax.path.Swaps(network, half, p)(0.3),
        mcjax.adjust.solve_layers(network, half, wide, X, layers=["w1"]).params,
    ]
    assert {v.dtype for v in jax.tree.leaves(points)} == {jnp.dtype(dtype)}
    by_data = mcjax.align.match_activations(network, half, moved, X).permutations
    jax.tree.map(np.testing.assert_array_equal, network.permute(by_data, moved), half)


def test_another_kind_of_numbers_is_refused():
    network = trace()
    whole = params(0) | {"b1": np.ones(5, int)}
    with pytest.raises(ValueError, match=r"leaf 'b1' has dtype int64, expected float32"):
        network.permute({}, whole)
    half = mcjax.trace(
        model(), jax.tree.map(lambda v: v.astype(np.float16), params(0)), X[:2], check=False
    )
    assert half.permute({}, params(0))["w0"].dtype == np.float32
    assert half.activations(params(0), X[:3])["w0"][0].shape == (3, 8)


def test_restricted_is_another_network_with_smaller_groups():
    _, network = traced("mlp")
    less = network.restricted()
    assert less == network.restricted() != network
    assert {g.symmetry for g in less.groups.values()} == {"permutation"}
    assert not mcjax.Action.random(less, jax.random.key(0)).elements
    assert network.restricted("positive").groups == network.groups
    with pytest.raises(ValueError, match="kinds must be one of"):
        network.restricted("rotation")
