"""Weight matching over the whole group: planted elements of all kinds are found again."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mcjax
from mcjax.align import match_weights
from mcjax.transport.element_joints import JointPart
from mcjax.transport.elements import ElementProblem, Part
from mcjax.transport.joints import Joint
from mcjax.transport.terms import Term
from tests.conftest import models, traced

# Between them: scales, signs, matrices; streams, heads, gates, experts, recurrent cells,
# normalisations of all kinds, groups inside groups and beside each other.
PLANTED = (
    "mlp", "scan", "rmsnorm", "remat-tied-embedding", "interleaved-gates", "gru", "transformer",
    "groupnorm", "separable",
)  # fmt: skip


def length(params):
    return np.sqrt(sum(float(np.vdot(v, v).real) for v in map(np.asarray, jax.tree.leaves(params))))


def planted(name, seed):
    case, network = traced(name)
    b = case.another(seed)
    action = mcjax.Action.random(network, jax.random.key(seed))
    return case, network, action(b), b


def test_nothing_is_nearest_to_nothing():
    """All elements are as far from zeros: of rotations, too, none is better."""
    case, network = traced("rmsnorm")
    b = case.another(1)
    for zero in (0.0, 1e-40):
        a = jax.tree.map(lambda v: np.asarray(v) * np.float32(zero), b)
        found = match_weights(network, a, b, symmetry="full")
        assert np.isfinite(found.after["total"])
        assert found.after["total"] <= found.before["total"]
        assert all(np.isfinite(v).all() for v in jax.tree.leaves(found.action(network)(b)))


@pytest.mark.parametrize("name", models(PLANTED))
def test_a_random_element_of_the_whole_group_is_found(name):
    case, network, a, b = planted(name, 1)
    found = match_weights(network, a, b, symmetry="full")
    moved = found.action(network)(b)
    off = length(jax.tree.map(lambda v, w: v - w, moved, a))
    assert off <= 1e-6 * length(a)
    assert found.before["total"] > 0.1 * length(a) ** 2 > 1e6 * found.after["total"]
    assert found.status == "optimal"
    np.testing.assert_allclose(case.run(moved, case.x), case.run(a, case.x), rtol=1e-3, atol=1e-3)


def test_two_networks_come_as_near_as_by_permutations_and_nearer():
    case, network = traced("attention-fused-reshape")
    a, b = case.another(1), case.another(2)
    found = match_weights(network, a, b, symmetry="full")
    permuted = match_weights(network, a, b)
    far = length(jax.tree.map(lambda v, w: v - w, permuted.action(network)(b), a)) ** 2
    near = length(jax.tree.map(lambda v, w: v - w, found.action(network)(b), a)) ** 2
    assert near == pytest.approx(found.after["total"], rel=1e-4)
    assert found.after["total"] < far <= found.before["total"] * 1.0001
    assert found.status == "local optimum"
    np.testing.assert_allclose(
        case.run(found.action(network)(b), case.x), case.run(b, case.x), rtol=1e-3, atol=1e-3
    )


def test_nothing_is_led_farther_than_it_was():
    """Not where the descent ends at a point that is (seeds 134 and 178 without the last look),
    and for a network and itself not even by rounding."""
    f = lambda p, x: jnp.tanh(jnp.tanh(x @ p["a"]) @ p["b"]) @ p["c"]
    shapes = {"a": (3, 5), "b": (5, 5), "c": (5, 2)}
    for seed in (134, 178):
        rng = np.random.default_rng(seed)
        a, b = ({n: rng.normal(size=s).astype("f") for n, s in shapes.items()} for _ in "ab")
        near = {n: a[n] + np.float32(0.8) * b[n] for n in a}
        network = mcjax.trace(f, a, jnp.ones((2, 3)))
        for other in (a, near):
            found = match_weights(network, a, other, symmetry="full")
            assert found.after["total"] == found.before["total"]
            moved = found.action(network)(other)
            jax.tree.map(np.testing.assert_array_equal, moved, other)


def test_a_matrix_that_acts_from_two_sides():
    """On a recurrence whose units are read by those of another kind alone."""

    def f(p, x):
        h = x @ p["u"]
        for _ in range(2):
            h = h @ p["w"] + x @ p["u"]
        return h @ p["o"]

    rng = np.random.default_rng(1)
    w = np.zeros((4, 4))
    w[0, 1:], w[1:, 0] = rng.normal(size=3), 3 * rng.normal(size=3)
    a = {"w": w, "u": 0.1 * rng.normal(size=(3, 4)), "o": 0.1 * rng.normal(size=(4, 2))}
    a = {n: v.astype("f") for n, v in a.items()}
    network = mcjax.trace(f, a, jnp.ones((2, 3)))
    b = mcjax.Action.random(network, jax.random.key(1))(a)
    found = match_weights(network, a, b, symmetry="full")
    assert found.status == "optimal"
    assert found.after["total"] < 1e-8


def test_a_start_and_restarts():
    _, network, a, b = planted("scan", 3)
    start = mcjax.Action.random(network, jax.random.key(5))
    first = match_weights(network, a, b, symmetry="full", restarts=2)
    again = match_weights(network, a, b, symmetry="full", init=first)
    assert again.after["total"] <= first.after["total"] * (1 + 1e-6) + 1e-9
    anywhere = match_weights(network, a, b, symmetry="full", init=start)
    assert anywhere.after["total"] <= anywhere.before["total"]


def test_a_single_group_of_permutations_is_as_before():
    f = lambda p, x: jax.nn.gelu(x @ p["w"]) @ p["o"]
    rng = np.random.default_rng(0)
    a, b = (
        {"w": jnp.asarray(rng.normal(size=(3, 6))), "o": jnp.asarray(rng.normal(size=(6, 2)))}
        for _ in range(2)
    )
    network = mcjax.trace(f, a, jnp.ones((2, 3)))
    full, plain = (match_weights(network, a, b, symmetry=s) for s in ("full", "permutation"))
    assert full.permutations["w"].tolist() == plain.permutations["w"].tolist()
    assert full.status == plain.status == "optimal"
    assert not full.elements


def test_what_cannot_be_matched_is_said():
    f = lambda p, x: jnp.real(x @ p["w"] @ p["o"])
    rng = np.random.default_rng(0)
    p = {k: jnp.asarray(rng.normal(size=s) + 1j) for k, s in (("w", (3, 4)), ("o", (4, 2)))}
    network = mcjax.trace(f, p, jnp.ones((2, 3)))
    with pytest.raises(ValueError, match="symmetry='full' is for real parameters, and leaf 'o'"):
        match_weights(network, p, p, symmetry="full")
    with pytest.raises(ValueError, match="symmetry must be"):
        match_weights(network, p, p, symmetry="all")


# -- the solver, against enumeration ----------------------------------------------------------


class Units:
    """In the place of an atom: the solver asks for its size alone."""

    def __init__(self, size):
        self.size = size


def brute(parts, n, many):
    best = -np.inf
    for p in itertools.permutations(range(n)):
        # Signs of different units are independent.
        total = 0.0
        for i, j in enumerate(p):
            total += max(
                sum(
                    np.prod([s for bit, s in enumerate(signs) if code >> bit & 1]) * v[i, j]
                    for code, v in parts.items()
                )
                for signs in itertools.product((1, -1), repeat=many)
            )
        best = max(best, total)
    return best


@pytest.mark.parametrize(
    "codes", [(0, 1), (0, 1, 2), (1, 2, 3), (0,), (3, 5, 6), (3, 6, 4), (7, 1)]
)
def test_signed_permutations_are_the_best(codes):
    rng, unit, many = np.random.default_rng(4), Units(4), max(codes).bit_length()
    profits = {c: rng.normal(size=(4, 4)) for c in codes}
    parts = [Part(Term(v, (), (unit,)), {unit: c}) for c, v in profits.items()]
    found = ElementProblem(parts, {unit: ()}, {unit: many}, {}).solve()
    assert found.value == pytest.approx(brute(profits, 4, many))
    assert found.status == "optimal"
    value = sum(
        np.prod([s[i] for bit, s in enumerate(found.signs[unit]) if c >> bit & 1])
        * profits[c][i, j]
        for c in codes for i, j in enumerate(found.permutations[unit])
    )  # fmt: skip
    assert value == pytest.approx(found.value)


def test_heads_are_assigned_by_what_is_left_after_rotation():
    """Three heads of two units each: all orders, each with its rotations."""
    rng, head, unit = np.random.default_rng(5), Units(3), Units(2)
    profit = rng.normal(size=(3, 2, 3, 2))
    part = Part(Term(profit, (), (head, unit)), {head: 0, unit: 0})
    found = ElementProblem([part], {head: (), unit: (head,)}, {}, {unit: False}).solve()
    nuclear = np.linalg.norm(profit.transpose(0, 2, 1, 3), "nuc", (2, 3))
    best = max(
        sum(nuclear[i, j] for i, j in enumerate(p)) for p in itertools.permutations(range(3))
    )
    assert found.value == pytest.approx(best)
    for i, j in enumerate(found.permutations[head]):
        assert np.vdot(found.rotations[unit][i], profit[i, :, j]) == pytest.approx(nuclear[i, j])


def test_groups_beside_each_other_in_turns():
    """Query heads that share a key: permuted, and rotated inside all in the same way."""
    rng, heads, unit = np.random.default_rng(6), Units(3), Units(2)
    b = rng.normal(size=(3, 2, 7))
    turn, order = np.linalg.qr(rng.normal(size=(2, 2)))[0], [2, 0, 1]
    a = np.einsum("ij,gjc->gic", turn, b[order])
    joint = JointPart(Joint(a, b, (), (heads, unit), (0, 1)), {})
    found = ElementProblem([], {heads: (), unit: ()}, {}, {unit: False}, [joint]).solve()
    assert found.permutations[heads].tolist() == order
    np.testing.assert_allclose(found.rotations[unit], turn, atol=1e-9)
    assert found.value == pytest.approx(np.vdot(a, a))
    assert found.status == "local optimum"


def rotary_scores(p, x):
    def rotated(u):
        angle = jnp.arange(u.shape[1])[:, None, None]
        first, second = u[..., :1], u[..., 1:]
        c, s = jnp.cos(angle), jnp.sin(angle)
        return jnp.concatenate([first * c - second * s, first * s + second * c], -1)

    q, k = (rotated(jnp.einsum("btd,dhe->bthe", x, p[n])) for n in "qk")
    v = jnp.einsum("btd,dh->bth", x, p["v"])
    return jnp.einsum("bthe,bshe,bsh,hd->btd", q, k, v, p["o"])


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_elements_in_float64_keep_the_types_of_half_floats(dtype):
    """The planes of rotary embeddings have scales of single entries: exponents as an array."""
    shapes = {"q": (3, 2, 2), "k": (3, 2, 2), "v": (3, 2), "o": (2, 3)}
    rng = np.random.default_rng(0)
    a, b = ({n: jnp.asarray(rng.normal(size=s), dtype) for n, s in shapes.items()} for _ in "ab")
    network = mcjax.trace(rotary_scores, a, jnp.ones((2, 3, 3), dtype), check=False)
    assert any(f.kind == "positive" for f in network.groups["q"].structure.factors)
    moved = mcjax.align.match_weights(network, a, b, symmetry="full").action(network)(b)
    assert {v.dtype for v in jax.tree.leaves(moved)} == {jnp.dtype(dtype)}
    assert not all(jnp.array_equal(moved[n], b[n]) for n in b)
