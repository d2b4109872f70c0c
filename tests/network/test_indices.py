"""What is picked, sorted, flipped or written by indices: the groups a person expects."""

from __future__ import annotations

from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mcjax

X = jnp.asarray(np.random.default_rng(9).normal(size=(2, 6, 5)), jnp.float32)


def check(apply_fn, shapes, expected, x=X):
    """The groups' shapes; a random permutation of all keeps the outputs."""
    rng = np.random.default_rng(0)
    params = {k: jnp.asarray(rng.normal(size=s), jnp.float32) for k, s in shapes.items()}
    network = mcjax.trace(apply_fn, params, x, check=False)
    assert Counter(g.shape for g in network.groups.values()) == Counter(expected)
    moved = network.permute(network.random_permutations(jax.random.key(1)), params)
    np.testing.assert_allclose(apply_fn(moved, x), apply_fn(params, x), rtol=2e-4, atol=2e-4)


def norm(h):
    return jnp.square(h).sum(-1)


def along_tokens(index):
    return lambda h: jnp.take_along_axis(h, index(h), 1)


# Each picks tokens, the same for all units or by a sum over them: the units stay free.
OF_TOKENS = {
    "the last, broadcast": along_tokens(lambda h: jnp.broadcast_to(h.shape[1] - 1, (2, 1, 7))),
    "the last, not broadcast": along_tokens(lambda h: jnp.full((2, 1, 1), h.shape[1] - 1)),
    "repeated": along_tokens(lambda h: jnp.repeat(jnp.array([[[5]], [[2]]]), 7, 2)),
    "tiled": along_tokens(lambda h: jnp.tile(jnp.array([[[5]], [[2]]]), (1, 1, 7))),
    "constant": along_tokens(lambda h: np.full((2, 1, 7), 3)),
    "largest in norm": along_tokens(lambda h: jnp.argmax(norm(h), 1)[:, None, None]),
    "largest in norm, repeated": along_tokens(
        lambda h: jnp.repeat(jnp.argmax(norm(h), 1)[:, None, None], 7, 2)
    ),
    "two largest in norm": along_tokens(lambda h: jax.lax.top_k(norm(h), 2)[1][..., None]),
    "sorted by norm": along_tokens(lambda h: jnp.argsort(norm(h), -1)[..., None]),
    "by rows": lambda h: h[jnp.arange(2), jnp.argmax(norm(h), 1)][:, None],
    "flipped by an index": lambda h: h * h[:, jnp.arange(6)[::-1]],
    "each unit sorted over tokens": lambda h: jnp.sort(h, 1),
    "one token written to": lambda h: jax.vmap(lambda t, i: t.at[i].set(0.5))(
        h, jnp.argmax(norm(h), 1)
    ),
    "one token sliced": lambda h: jax.lax.dynamic_slice_in_dim(
        h, (h.sum() > 0.0123).astype(int), 1, 1
    ),
}


@pytest.mark.parametrize("name", OF_TOKENS)
def test_what_is_done_to_tokens_keeps_the_units(name):
    mix = OF_TOKENS[name]
    weights = jnp.linspace(0.5, 1.5, 6)[:, None]

    def model(p, x):
        h = mix(jnp.tanh(x @ p["in"]))
        return (h * weights[: h.shape[1]]).mean(1) @ p["out"]

    check(model, {"in": (5, 7), "out": (7, 3)}, [(7,)])


# Each names a unit by its place: another one stands there after a permutation.
OF_UNITS = {
    "flipped by an index": lambda h: h[..., jnp.arange(7)[::-1]] + h,
    "taken by a constant": lambda h: h[..., np.array([2, 0, 1, 3, 4, 5, 6])] + h,
    "its index as a number": lambda h: h * jnp.argmax(h, -1, keepdims=True),
    "rolled": lambda h: h + jnp.roll(h, 1, -1),
    "one written to": lambda h: h.at[..., 2].set(0.3),
    # A ReLU makes ties: the first of them is told by its place.
    "the first of the smallest": lambda h: jax.nn.one_hot(jnp.argmin(jax.nn.relu(h), -1), 7),
    "sliced by data": lambda h: jnp.pad(
        jax.lax.dynamic_slice_in_dim(h, (h.sum() > 0.0123).astype(int), 6, 2),
        ((0, 0), (0, 0), (0, 1)),
    ),
}


@pytest.mark.parametrize("name", OF_UNITS)
def test_what_names_units_by_their_place_leaves_no_group(name):
    mix = OF_UNITS[name]
    check(lambda p, x: mix(x @ p["in"]).mean(1) @ p["out"], {"in": (5, 7), "out": (7, 3)}, [])


@pytest.mark.parametrize("reshaped", [False, True])
def test_an_empty_array_says_nothing_of_what_it_is_laid_beside(reshaped):
    """A share of the tokens that rounds to none, laid behind a token of other units."""

    def model(p, x):
        h = jnp.tanh(x @ p["in"])
        none = h.reshape(-1, 2, 3, 7)[:, :0].reshape(len(x), 0, 7) if reshaped else h[:, :0]
        token = jnp.broadcast_to(jnp.tanh(p["token"]), (len(x), 1, 7))
        return h.mean(1) @ p["out"] + jnp.concatenate([token, none], 1).mean(1) @ p["read"]

    shapes = {"in": (5, 7), "out": (7, 3), "token": (7,), "read": (7, 3)}
    check(model, shapes, [(7,), (7,)])


def test_a_key_that_names_units_is_a_number():
    """Where the first key has ties the second decides: the index of a unit, which changes with
    the units' order."""

    def model(p, x):
        first, names = jnp.round(x[..., 0] * 0.01), jnp.argmax(x @ p["in"], -1)
        ordered = jax.lax.sort((first, names, x[..., 1]), dimension=1, num_keys=2)[2]
        return ordered * jnp.arange(6.0)

    check(model, {"in": (5, 7)}, [])


def test_what_is_sorted_beside_a_key_may_name_units():
    """Moved by tokens' norms, then used to look up: the units' own names all the way."""

    def model(p, x):
        h = x @ p["in"]
        _, names = jax.lax.sort((norm(x), jnp.argmax(h, -1)), dimension=1, num_keys=1)
        return p["table"][names].mean(1)

    check(model, {"in": (5, 7), "table": (7, 3)}, [(7,)])


SIGNED_ZEROS = {
    "copysign": jnp.copysign,
    "arctan2": jnp.arctan2,
    "division": lambda a, c: jnp.tanh(a / c),
    "signbit": lambda a, c: jnp.where(jnp.signbit(c), a, 2 * a),
    "atan2 of the constant": lambda a, c: jnp.arctan2(c, a),
}


@pytest.mark.parametrize("name", SIGNED_ZEROS)
def test_zeros_of_two_signs_tell_units_apart(name):
    """0 and −0 are equal as numbers, but not to these functions."""
    combine = SIGNED_ZEROS[name]
    zeros = np.where(np.arange(7) % 2, 0.0, -0.0).astype(np.float32)
    shapes = {"in": (5, 7), "out": (7, 3)}
    check(lambda p, x: combine(x @ p["in"], zeros).mean(1) @ p["out"], shapes, [])


def test_blocks_of_a_constant_share_no_group():
    """A constant that is the same along two blocks: conservative, its axis is fixed."""
    scale = np.repeat(np.float32([0.4, 1.7]), [3, 4])
    shapes = {"in": (5, 7), "out": (7, 3)}
    check(lambda p, x: (jnp.tanh(x @ p["in"]) * scale).mean(1) @ p["out"], shapes, [])
