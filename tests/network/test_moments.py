"""Pooled moments against NumPy in float64, and what they must not grow with."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mcjax
from mcjax._stream import Inputs
from mcjax.align import match_activations
from mcjax.network import moments as module
from mcjax.network import pools as pooling
from mcjax.network.chunks import sizes
from mcjax.network.moments import moments
from mcjax.network.pools import pools

from ..large import SMALL, Clip, Tower


def two_kinds(p, x):
    """The first token and the others have layers of their own, read by weights of each position."""
    h = jnp.concatenate([jnp.tanh(x[:, :1] @ p["a"]), jnp.tanh(x[:, 1:] @ p["b"])], 1)
    return jnp.einsum("bth,tho->bo", h, p["v"])


def parameters(length, seed):
    rng = np.random.default_rng(seed)
    shapes = {"a": (4, 6), "b": (4, 6), "v": (length, 6, 2)}
    return {n: jnp.asarray(rng.normal(size=s), jnp.float32) for n, s in shapes.items()}


def tokens(n, length):
    return np.random.default_rng(0).normal(size=(n, length, 4)).astype(np.float32) + 2


@pytest.mark.parametrize("chunk", [3, 5, 100])
def test_pooled_moments_against_numpy(chunk):
    """11 examples: chunks that leave a rest, and that do not."""
    x, a, b = tokens(11, 9), parameters(9, 0), parameters(9, 1)
    network = mcjax.trace(two_kinds, a, x)
    found = list(moments(network, a, b, Inputs(x, chunk), "post", (), range(2)))
    assert [network.by_atom[m.units[0]].name for m in found] == ["a", "b"]
    for m, name, positions in zip(found, "ab", (slice(0, 1), slice(1, None)), strict=True):
        samples = x[:, positions].reshape(-1, 4).astype(np.float64)
        u, v = (np.tanh(samples @ np.asarray(p[name], np.float64)) for p in (a, b))
        np.testing.assert_allclose(m.mean_a, u.mean(0), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(m.mean_b, v.mean(0), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(m.var_a, u.var(0), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(m.var_b, v.var(0), rtol=1e-4, atol=1e-6)
        cross = (u - u.mean(0)).T @ (v - v.mean(0)) / len(samples)
        np.testing.assert_allclose(m.cross, cross, rtol=1e-4, atol=1e-6)


def test_moments_of_complex_units():
    """Re ⟨(z_a − µ_a) (z_b − µ_b)*⟩, whatever phase the mean has."""

    def model(p, x):
        z = x @ (p["re"] + 1j * p["im"])
        return jnp.abs(z) @ p["o"]

    def make(seed):
        rng = np.random.default_rng(seed)
        shapes = {"re": (4, 5), "im": (4, 5), "o": (5, 2)}
        return {n: jnp.asarray(rng.normal(size=s), jnp.float32) for n, s in shapes.items()}

    x, a, b = tokens(50, 1)[:, 0], make(0), make(1)
    network = mcjax.trace(model, a, x)
    (m,) = moments(network, a, b, Inputs(x, 20), "pre", (), range(1))
    u, v = (x.astype(np.float64) @ (np.asarray(p["re"]) + 1j * np.asarray(p["im"])) for p in (a, b))
    u, v = u - u.mean(0), v - v.mean(0)
    np.testing.assert_allclose(m.cross, (u.T @ v.conj()).real / 50, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(m.var_a, (np.abs(u) ** 2).mean(0), rtol=1e-4)
    p = network.random_permutations(jax.random.key(0))
    matching = match_activations(network, a, network.permute(p, a), x, "l2", "pre")
    (name,) = network.groups
    np.testing.assert_array_equal(matching.permutations[name], np.argsort(p[name]))
    assert matching.after["total"] == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("n", range(1, 30))
def test_every_example_is_in_one_chunk(n):
    for chunk in range(1, n + 1):
        plan = sizes(n, chunk)
        assert sum(size * number for size, number in plan) == n
        assert max(size for size, _ in plan) <= chunk
        assert len(plan) <= 2


def test_the_last_examples_count():
    """What tells two units apart is in the last example, which fills no chunk."""
    model = lambda p, x: jnp.tanh(x @ p["w"]) @ p["o"]
    a = {"w": jnp.eye(2), "o": jnp.ones((2, 1))}
    b = {"w": jnp.eye(2)[:, ::-1], "o": jnp.ones((2, 1))}
    x = np.zeros((9, 2), np.float32)
    x[-1] = [2, -1]
    network = mcjax.trace(model, a, x)
    matching = match_activations(network, a, b, x, "inner", chunk=4)
    assert matching.permutations["w"].tolist() == [1, 0]
    assert matching.metadata["examples"] == 9


# -- what memory grows with ----------------------------------------------------------------


def summary(network, x):
    found, left = pools(network, x, 3, "post", ())
    assert not left
    return [p.bytes for p in found], [sum(len(s) for _, s in p.pieces) for p in found]


def test_pools_do_not_grow_with_positions():
    """Positions that follow the same units are one block, however many they are."""
    of_length = []
    for length in (9, 60):
        x, params = tokens(3, length), parameters(length, 0)
        of_length.append(summary(mcjax.trace(two_kinds, params, x), x))
    assert of_length[0] == of_length[1] == ([4 * 6**2] * 2, [1, 1])


@pytest.mark.parametrize(("image", "tokens"), [(8, 6), (48, 150)])
def test_a_class_token_adds_no_moments(image, tokens):
    """5 and 145 positions of an image: the same moments as NumPy would pool by hand."""
    model = Clip(Tower(8, 2, 1), Tower(12, 3, 1), image, 4, tokens, vocabulary=200, joint=5)
    a, x = model.init(0), model.inputs(40)
    network = mcjax.trace(model.__call__, a, x)
    assert Counter(g.shape for g in network.groups.values()) == Counter(model.groups())
    needed, blocks = summary(network, x)
    # Five streams, what heads mix and hidden units; queries, keys and values come fused.
    vision = [8**2] * 3 + [8**2] + [32**2] + [8**2] * 2
    text = [12**2] * 3 + [12**2] + [48**2] + [12**2] * 2
    assert sorted(needed) == sorted(4 * n for n in (*vision, *text, 5**2))
    assert set(blocks) <= {1, 2}
    p = network.random_permutations(jax.random.key(1))
    matching = match_activations(network, a, network.permute(p, a), x, chunk=20)
    inverse = mcjax.Action.of(network, p).inverse().permutations
    for name in network.groups:
        np.testing.assert_array_equal(matching.permutations[name], inverse[name])
    assert matching.status == "optimal"


def test_passes_over_the_data_do_not_change_the_result(monkeypatch):
    a, b, x = SMALL.init(0), SMALL.init(1), SMALL.inputs(6)
    network = mcjax.trace(SMALL.__call__, a, x)
    at_once = match_activations(network, a, b, x)
    monkeypatch.setattr(module, "_PASS_BYTES", 5_000)
    in_turns = match_activations(network, a, b, x)
    assert at_once.after == pytest.approx(in_turns.after, rel=1e-5)


def test_activations_that_are_not_finite_are_named():
    model = lambda p, x: jnp.tanh(jnp.log(x) @ p["w"]) @ p["o"]
    a = {"w": jnp.eye(2), "o": jnp.ones((2, 1))}
    x = np.ones((4, 2), np.float32)
    network = mcjax.trace(model, a, x)
    with pytest.raises(ValueError, match="x: activations of w are NaN or infinite"):
        match_activations(network, a, a, -x)


def test_units_too_many_to_match_are_said(monkeypatch):
    monkeypatch.setattr(pooling, "MAX_JOINT", 5)
    model = lambda p, x: jnp.tanh(jnp.tanh(x @ p["w"]) @ p["v"]) @ p["o"]
    a = {"w": jnp.eye(4, 6), "v": jnp.ones((6, 3)), "o": jnp.ones((3, 1))}
    x = tokens(5, 1)[:, 0]
    network = mcjax.trace(model, a, x)
    matching = match_activations(network, a, a, x)
    assert matching.statuses == {"w": "unmatched", "v": "optimal"}
    assert matching.unmatched == {"w": "an activation holds more than 5 units of 'w' jointly"}
    assert matching.status == "incomplete"


@pytest.mark.slow
def test_clip_is_matched_in_little_memory():
    """CLIP-B/32 in a process of its own: under 4 GB beyond the two networks' parameters."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.large"], capture_output=True, text=True, check=True
    )
    found = json.loads(done.stdout)
    assert (found["groups"], found["wrong"], found["status"]) == (
        len(Clip().groups()),
        0,
        "optimal",
    )
    assert found["peak bytes"] - found["parameter bytes"] < 4e9
