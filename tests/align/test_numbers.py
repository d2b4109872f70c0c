"""Numbers of extraordinary size, half precision, and what is not finite."""

from __future__ import annotations

import functools
import itertools

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

import mcjax
from mcjax.align import match_activations, match_butterflies, match_many, match_weights
from mcjax.align.arrays import float_arrays, inner_product, scaled
from mcjax.align.weights import descend

X = np.random.default_rng(0).normal(size=(300, 6)).astype(np.float32)


def mlp(p, x):
    for w in p[:-1]:
        x = jax.nn.relu(x @ w)
    return x @ p[-1]


def weights(sizes, scales, seed=0):
    rng = np.random.default_rng(seed)
    pairs = zip(itertools.pairwise(sizes), scales, strict=True)
    return [(s * rng.normal(size=shape)).astype(np.float32) for shape, s in pairs]


def noisy(params, seed=9):
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda v: (v * (1 + 0.1 * rng.normal(size=v.shape))).astype(v.dtype), params
    )


def planted(a, x=X):
    """(network, a permuted and noisy, the permutations that undo it)."""
    network = mcjax.trace(mlp, a, x[:2])
    p = network.random_permutations(jax.random.key(3))
    return network, noisy(network.permute(p, a)), mcjax.Action.of(network, p).inverse().permutations


def check(matching, back):
    for name, p in back.items():
        np.testing.assert_array_equal(matching.permutations[name], p)
    for value in (*matching.before.values(), *matching.after.values()):
        assert np.isfinite(value)


def in_float64(network, a, b, matching):
    moved = jax.tree.leaves(network.permute(matching.permutations, b))
    pairs = [(np.float64(u), np.float64(v)) for u, v in zip(jax.tree.leaves(a), moved, strict=True)]
    return sum(np.vdot(u, v) for u, v in pairs), sum(((u - v) ** 2).sum() for u, v in pairs)


SCALES = [
    (1e-20, 1), (1e-30, 1e-30), (1e19, 1e19), (1e30, 1), (1e-30, 1e30), (1e25, 1e-38)
]  # fmt: skip


@pytest.mark.parametrize("scales", SCALES)
def test_weights_of_any_size(scales):
    a = weights((6, 8, 3), scales)
    network, b, back = planted(a)
    for matching in (match_weights(network, a, b), match_butterflies(network, a, b)):
        check(matching, back)
        assert matching.status == "optimal"
        inner, distance = in_float64(network, a, b, matching)
        expected = distance if matching.minimised else inner
        assert matching.after["total"] == pytest.approx(expected, rel=1e-4)
    for statistic, size in (("correlation", 0), ("inner", 2), ("l2", 2)):
        matching = match_activations(network, a, b, X, statistic, chunk=70)
        check(matching, back)
        plain = weights((6, 8, 3), (1, 1))
        moved = noisy(network.permute(mcjax.Action.of(network, back).inverse(), plain))
        same = match_activations(network, plain, moved, X, statistic, chunk=70)
        expected = float(np.float32(scales[0])) ** size * same.after["total"]
        assert matching.after["total"] == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("scales", [(1e19, 1, 1e-19, 1), (1, 1e-25, 1e25, 1), (1e-30,) * 4])
def test_layers_of_different_sizes(scales):
    a = weights((6, 9, 9, 9, 3), scales)
    network, b, back = planted(a)
    for matching in (
        match_weights(network, a, b), match_butterflies(network, a, b),
        match_activations(network, a, b, X) if max(scales) < 1e25 and min(scales) > 1e-30 else None,
    ):  # fmt: skip
        if matching is not None:
            check(matching, back)


def test_units_that_are_tiny_beside_others():
    """What weight decay leaves of units: they vary, and they are matched."""
    a = weights((6, 8, 3), (1, 1))
    a[0][:, 2:5] *= np.float32(1e-20)
    a[1][2:5] *= np.float32(1e-20)
    network = mcjax.trace(mlp, a, X[:2])
    p = network.random_permutations(jax.random.key(3))
    b, back = network.permute(p, a), mcjax.Action.of(network, p).inverse().permutations
    for matching in (
        match_activations(network, a, b, X, chunk=70), match_activations(network, a, b, X, "l2"),
        match_weights(network, a, b), match_butterflies(network, a, b),
    ):  # fmt: skip
        check(matching, back)
        assert matching.dead == {}


def test_overflowing_activations_are_named():
    a = weights((6, 8, 8, 3), (1e25, 1e25, 1))
    network = mcjax.trace(mlp, weights((6, 8, 8, 3), (1, 1, 1)), X[:2])
    with pytest.raises(ValueError, match="x: activations of 1 are NaN or infinite"):
        match_activations(network, a, a, X)
    for aligner in (match_weights, match_butterflies):
        assert np.isfinite(aligner(network, a, a).after["total"])


def test_sums_beyond_float64_are_infinite():
    big = [np.full((2, 2), 1e200)]
    (held,), (exponent,) = scaled(big)
    np.testing.assert_array_equal(np.ldexp(held, exponent), big[0])
    assert inner_product([held], [-held], [2 * exponent]) == -np.inf
    assert inner_product([held], [held], [0]) == pytest.approx(4 * float(held[0, 0]) ** 2)


def test_scaling_is_exact():
    """Powers of two, complex and subnormal leaves too; ordinary leaves are the same objects."""
    rng = np.random.default_rng(0)
    plain = rng.normal(size=5).astype(np.float32)
    leaves = [
        plain, np.float32(1e-42) * plain, np.float32(1e37) * plain,
        (1e30 * (plain + 1j * plain[::-1])).astype(np.complex64), None,
    ]  # fmt: skip
    arrays, exponents = scaled(leaves)
    assert arrays[0] is plain
    assert arrays[4] is None
    for before, after, exponent in zip(leaves[:4], arrays, exponents, strict=False):
        wide = np.asarray(after, np.complex128) * 2.0**exponent
        np.testing.assert_array_equal(wide, np.asarray(before, np.complex128))
        assert 0.1 < np.abs(after).max() < 3


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_half_precision(dtype):
    a = [jnp.asarray(w, dtype) for w in weights((6, 8, 3), (1, 1))]
    x = jnp.asarray(X, dtype)
    network = mcjax.trace(mlp, a, x[:2])
    p = network.random_permutations(jax.random.key(3))
    b, back = network.permute(p, a), mcjax.Action.of(network, p).inverse().permutations
    for matching in (
        match_activations(network, a, b, x), match_weights(network, a, b),
        match_butterflies(network, a, b),
    ):  # fmt: skip
        check(matching, back)
    many = match_many(network, [a, b])
    aligned = [network.permute(q, v) for q, v in zip(many.permutations, (a, b), strict=True)]
    jax.tree.map(np.testing.assert_array_equal, *aligned)


@pytest.mark.parametrize("scale", [1e-28, 1e22])
def test_many_networks_of_any_size(scale):
    plain = [weights((6, 5, 3), (1, 1), seed) for seed in range(3)]
    network = mcjax.trace(mlp, plain[0], X[:2])
    big = [[np.float32(scale) * w for w in p] for p in plain]
    for networks in (plain, big):
        found = match_many(network, networks)
        moved = [network.permute(p, v) for p, v in zip(found.permutations, networks, strict=True)]
        inner = sum(
            np.vdot(np.float64(u), np.float64(v))
            for first, second in itertools.combinations(moved, 2)
            for u, v in zip(first, second, strict=True)
        )
        assert found.objective[-1] == pytest.approx(inner, rel=1e-4)
        assert found.status in ("local optimum", "optimal")


# -- what is not finite ----------------------------------------------------------------------


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_inputs_that_are_not_finite(value):
    a = weights((6, 8, 3), (1, 1))
    network = mcjax.trace(mlp, a, X[:2])
    x = X.copy()
    x[3, 2] = value
    kind = "NaN" if np.isnan(value) else "infinite values"
    for call in (match_activations, mcjax.align.correlation_signature):
        with pytest.raises(ValueError, match=f"^x(: leaf '')? holds 1 {kind}"):
            call(network, a, a, x)


def test_masks_may_hold_minus_infinity():
    """Of every example (0 and −∞ alone), or shared."""

    def attend(p, x):
        scores = x["x"] @ p["q"] + x["mask"]
        return jnp.tanh(jax.nn.softmax(scores) @ p["v"]) @ p["o"]

    shapes = {"q": (6, 4), "v": (4, 5), "o": (5, 2)}
    rng = np.random.default_rng(0)
    a = {k: rng.normal(size=s).astype(np.float32) for k, s in shapes.items()}
    shared = mcjax.Shared(np.array([0, 0, -np.inf, 0], np.float32))
    for mask in (shared, np.where(rng.random((300, 4)) < 0.3, -np.inf, 0).astype(np.float32)):
        if mask is not shared:
            mask[:, 0] = 0
        x = {"x": X, "mask": mask}
        network = mcjax.trace(attend, a, x)
        matching = match_activations(network, a, a, x)
        assert np.isfinite(matching.after["total"])


# -- units that never vary, in groups that share activations -----------------------------------


def test_dead_units_of_groups_that_share_activations():
    """Heads and the units inside them: a head is dead if all of its units are."""

    def heads(p, x):
        h = jax.nn.relu(jnp.einsum("bd,dhu->bhu", x, p["a"]) + p["c"])
        h = h / (1 + h.sum(-1, keepdims=True))
        return jnp.einsum("bhu,huo->bo", h, p["b"])

    rng = np.random.default_rng(3)
    shapes = {"a": (6, 3, 4), "c": (3, 4), "b": (3, 4, 2)}
    a = {k: rng.normal(size=s).astype(np.float32) for k, s in shapes.items()}
    a["c"][1] = -100  # a head that never fires
    a["c"][0, 2] = -100
    network = mcjax.trace(heads, a, X[:2])
    names = {g.shape: n for n, g in network.groups.items()}
    matching = match_activations(network, a, a, X)
    assert matching.dead == {names[3,]: 1, names[3, 4]: 5}
    assert "5 dead units" in matching.summary()


def test_dead_units_of_crossed_groups():
    def crossed(p, x):
        h = jax.nn.relu(jnp.einsum("bi,ijk->bjk", x, p["w"]) + p["c"])
        return jnp.einsum("bjk,j,k->b", h, p["u"], p["v"])

    rng = np.random.default_rng(3)
    shapes = {"w": (6, 3, 4), "c": (3, 4), "u": (3,), "v": (4,)}
    a = {k: rng.normal(size=s).astype(np.float32) for k, s in shapes.items()}
    a["c"][:, 1] = -100
    a["c"][0, 2] = -100  # unit 2 of the four varies with others of the three
    network = mcjax.trace(crossed, a, X[:2])
    names = {g.shape: n for n, g in network.groups.items()}
    assert match_activations(network, a, a, X).dead == {names[4,]: 1}


# -- on the host -------------------------------------------------------------------------------


def test_the_host_part_of_weight_matching_uses_no_jax():
    """It runs inside a callback of straight-through estimation."""
    a = weights((6, 8, 8, 3), (1, 1, 1))
    network, b, back = planted(a)
    arrays = [float_arrays([np.asarray(v) for v in jax.tree.leaves(p)]) for p in (a, b)]
    run = functools.partial(descend, network, *arrays, np.random.default_rng(0), restarts=2)
    with jax.transfer_guard("disallow_explicit"):
        matching = run()
    check(matching, back)
