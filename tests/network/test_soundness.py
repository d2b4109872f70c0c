"""What the fuzzer found, by hand: why each axis may or may not be permuted."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mcjax
from mcjax.network import rules
from mcjax.network.algebra import Algebra
from mcjax.network.axes import Atom
from mcjax.network.blocks import map_blocks

from .test_indices import X, check, norm


def convolve(x, w, **options):
    return jax.lax.conv_general_dilated(
        x, w, (1,), "SAME", dimension_numbers=("NHC", "HIO", "NHC"), **options
    )


def test_a_blur_that_is_the_same_for_all_channels_keeps_them():
    """The kernel is a constant without channels of its own; the result has the input's: to take
    them for constant would let the rows of the next layer move alone."""
    blur = np.broadcast_to(np.float32([1, 2, 1])[:, None, None] / 4, (3, 1, 7))

    def model(p, x):
        h = convolve(jnp.tanh(x @ p["in"]), blur, feature_group_count=7)
        return jnp.sin(h).mean(1) @ p["out"]

    check(model, {"in": (5, 7), "out": (7, 3)}, [(7,)])


def test_a_blur_of_the_inputs_channels_leaves_no_group():
    blur = np.broadcast_to(np.float32([1, 2, 1])[:, None, None] / 4, (3, 1, 5))
    model = lambda p, x: jnp.sin(convolve(x, blur, feature_group_count=5)).mean(1) @ p["out"]
    check(model, {"out": (5, 3)}, [])


def test_patches_of_units():
    """Each unit beside its neighbours in time: 7 units, each with 3 fixed places."""

    def model(p, x):
        h = jax.lax.conv_general_dilated_patches(
            x @ p["in"], (3,), (1,), "SAME", dimension_numbers=("NHC", "HIO", "NHC")
        )
        return jnp.sin(h).mean(1) @ p["out"]

    check(model, {"in": (5, 7), "out": (21, 3)}, [(7,)])


def test_convolution_over_a_pair_map():
    """The same units are batch and channels: one order for both, and the kernel's rows follow."""

    def model(p, x):
        h = x @ p["in"]
        pairs = jnp.einsum("btu,btv->butv", h, h)
        y = jax.vmap(convolve, (0, None))(pairs, p["kernel"])
        return jnp.sin(y).sum((1, 2)) @ p["out"]

    check(model, {"in": (5, 7), "kernel": (3, 7, 4), "out": (4, 3)}, [(7,), (4,)])


def test_convolution_vmapped_over_the_kernel():
    """Six kernels, each with an order of its own of its four results (a transposing reshape)."""

    def model(p, x):
        h = x @ p["in"]
        pairs = jnp.einsum("tu,tv->utv", h[0], h[0])
        y = jax.vmap(convolve, (None, 0))(pairs, p["kernel"])
        return jnp.sin(y).sum((1, 2, 3)) @ p["out"]

    shapes = {"in": (5, 7), "kernel": (6, 3, 7, 4), "out": (6, 3)}
    check(model, shapes, [(7,), (6,), (6, 4)])


def test_batches_of_a_convolution_that_hold_units():
    """Each group of the batch has kernels of its own: the order of the units on it counts."""

    def model(p, x):
        h = jnp.moveaxis(x @ p["in"], -1, 0)  # (units, batch, time)
        y = jax.lax.conv_general_dilated(
            h, p["kernel"], (1,), "SAME", dimension_numbers=("NCH", "OIH", "NCH"),
            batch_group_count=2,
        )  # fmt: skip
        return jnp.sin(y).sum()

    check(model, {"in": (5, 4), "kernel": (6, 2, 3)}, [])


def test_positions_reversed_beside_themselves_times_themselves():
    """Positions turn out to be laid out as themselves: once an endless recursion."""

    def model(p, x):
        h = jnp.tanh(x[:, 0] @ p["in"])
        c = jnp.concatenate([jnp.flip(h, -1), h], 0)
        return (c @ c).sum(0) @ p["out"]

    check(model, {"in": (5, 4), "out": (4, 3)}, [])


def test_positions_laid_out_as_themselves():
    """An axis is bound to a concatenation that proves to be the axis itself."""
    algebra = Algebra()
    a, b, m, n = (algebra.fixed(name, 3, "test") for name in "abmn")
    whole = algebra.concat([a, b])
    (key,) = algebra.fixed("key", 2, "test")
    algebra.join(whole, algebra.concat([algebra.family(key, [m, n]), b]))
    algebra.join(m, n)
    algebra.join(m, a)
    assert algebra.resolve(whole) == algebra.concat([algebra.resolve(a), algebra.resolve(b)])


def test_units_cut_one_by_one():
    """Half of a product of three units and two positions: the units become positions."""

    def model(p, x):
        h = jnp.tanh(x[:, 0] @ p["in"])
        pairs = (h[:, :, None] * x[:, 0, None, :2]).reshape(2, 6)
        return pairs[:, :3] @ p["out"]

    check(model, {"in": (5, 3), "out": (3, 2)}, [])


@pytest.mark.parametrize("length", [6, 9])
def test_positions_beside_a_constant_settle(length):
    """Scanned positions, some of them constant: the loop's index is the same in every sweep, and
    the units of the loop stay free."""

    def model(p, x):
        h = jnp.concatenate([x, jnp.ones((2, length - 6, 5))], 1) if length > 6 else x
        step = lambda c, t: (jnp.tanh(c @ p["w"] + t @ p["in"]), t.sum(-1))
        last, sums = jax.lax.scan(step, jnp.zeros((2, 7)), jnp.swapaxes(h, 0, 1))
        return last @ p["out"] + sums.sum()

    check(model, {"in": (5, 7), "w": (7, 7), "out": (7, 3)}, [(7,)])


def test_scatter_inside_vmap():
    """The row that is written to differs for each example, and is told by a sum over units."""

    def model(p, x):
        h = jnp.tanh(x @ p["in"])
        h = jax.vmap(lambda t: t.at[jnp.argmax(norm(t))].multiply(0.5))(h)
        return h.mean(1) @ p["out"]

    check(model, {"in": (5, 7), "out": (7, 3)}, [(7,)])


def test_two_fixed_axes_that_meet_stay_apart_from_units():
    """Positions of time plus positions of inputs: both fixed, one axis; the units stay free."""

    def model(p, x):
        h = jnp.tanh(x[:, :5] @ p["in"])
        return (h + jnp.swapaxes(x[:, :5], 1, 2) @ p["in"]).mean(1) @ p["out"]

    check(model, {"in": (5, 7), "out": (7, 3)}, [(7,)])


def test_an_operation_without_a_fixed_point_is_given_up_alone(monkeypatch):
    """Its axes are fixed and it is named; the groups of another branch stay."""

    def restless(call):
        call.algebra.changed = True  # finds more in every sweep
        return list(call.axes)

    monkeypatch.setitem(rules.RULES, "tan", restless)
    rng = np.random.default_rng(0)
    params = {k: jnp.asarray(rng.normal(size=s), jnp.float32)
              for k, s in {"a": (5, 6), "b": (6, 3), "c": (5, 7), "d": (7, 3)}.items()}  # fmt: skip

    def model(p, x):
        return jnp.tan(x @ p["a"]) @ p["b"] + jnp.tanh(x @ p["c"]) @ p["d"]

    network = mcjax.trace(model, params, X)
    assert [g.shape for g in network.groups.values()] == [(7,)]
    assert {p.leaf for p in network.groups["c"].places} == {"c", "d"}
    text = network.explain()
    assert "tan (no fixed point)" in text
    assert "no fixed point at 'tan'" in text


def test_names_of_groups_that_collide():
    """A layer that is called like the second group of another one."""
    shapes = {"w": (5, 6), "w:1": (3, 4), "o": (4, 2)}
    rng = np.random.default_rng(0)
    params = {k: jnp.asarray(rng.normal(size=s), jnp.float32) for k, s in shapes.items()}

    def model(p, x):
        h = jnp.tanh(x[:, 0] @ p["w"])
        return (h[:, :3] * h[:, 3:]) @ p["w:1"] @ p["o"] + h[:, 3:].sum()

    network = mcjax.trace(model, params, X)
    assert len(network.groups) == 2
    assert set(network.groups) == {"w", "w:1"}


@pytest.mark.parametrize("free", [True, False])
def test_a_family_that_follows_the_member_of_another(free):
    """Units that differ along j, where j itself is one of two members on another axis."""
    algebra = Algebra()
    (k,), (j,) = algebra.fixed("k", 2, "test"), algebra.fixed("j", 2, "test")
    u, v, w = (algebra.atom(4) for _ in range(3))
    other = algebra.atom(2) if free else algebra.fixed("other", 2, "test")
    nested = algebra.family(j, [u, v])
    axes = ((k,), algebra.family(k, [w, nested]), algebra.family(k, [other, (j,)]))
    array = np.arange(16).reshape(2, 4, 2)
    turn = np.array([1, 2, 3, 0])

    def move(block, dims):
        for i, dim in enumerate(dims):
            block = np.take(block, turn, axis=i) if dim.factor is u[0] else block
        return block

    expected = array.copy()
    expected[1, :, 0] = array[1, turn, 0]
    np.testing.assert_array_equal(map_blocks(move, array, axes), expected)


def test_rows_that_are_the_same_may_be_weighed_to_nothing():
    """Centred inputs, a weight that is a sum over rows and columns: every score is one number but
    for rounding, and the first of the largest is told by its place. A weight of its own is not."""

    def model(weight):
        def apply_fn(p, x):
            h = x[:, 0] - jnp.broadcast_to(x[:, 0].mean(-1, keepdims=True), (2, 5))
            return p["table"][jnp.argmax(h @ weight(p), -1)]

        return apply_fn

    tied = {"row": (5,), "column": (7,), "table": (7, 3)}
    check(model(lambda p: p["row"][:, None] + p["column"]), tied, [])
    check(model(lambda p: p["w"]), {"w": (5, 7), "table": (7, 3)}, [(7,)])


def route(h, p, dtype=jnp.float32):
    """The best of the experts, by its index."""
    which = jax.nn.one_hot(jnp.argmax(h.astype(dtype), -1), h.shape[-1])
    return jnp.einsum("be,bed->bd", which, jnp.einsum("bi,eid->bed", p["x"], p["experts"]))


@pytest.mark.parametrize(
    ("scores", "names"),
    [
        (lambda s: s, True),
        # Sixteen bits: two of the scores are often the same, and then the first is taken.
        (lambda s: s.astype(jnp.bfloat16).astype(jnp.float32), False),
        # Nothing of a score is left beside a large number.
        (lambda s: s + 1e9, False),
        (lambda s: s - jnp.where(jnp.arange(1) == 0, 1e9, 0.0), False),
    ],
)
def test_scores_that_may_tie_name_no_experts(scores, names):
    def model(p, x):
        return route(scores(x @ p["gate"]), {**p, "x": x})

    rng = np.random.default_rng(0)
    shapes = {"gate": (5, 4), "experts": (4, 5, 3)}
    params = {k: jnp.asarray(rng.normal(size=s), jnp.float32) for k, s in shapes.items()}
    network = mcjax.trace(model, params, jnp.asarray(rng.normal(size=(4, 5)), jnp.float32))
    assert ("gate" in network.groups) == names


def test_indices_that_do_not_fit_their_type_name_no_units():
    """Of 200 units, int8 tells apart 128."""

    def model(p, x):
        which = jax.lax.argmax(x @ p["gate"], 1, jnp.int8)
        return jnp.take_along_axis(x @ p["value"], which[:, None].astype(jnp.int32), 1)

    rng = np.random.default_rng(0)
    params = {k: jnp.asarray(rng.normal(size=(5, 200)), jnp.float32) for k in ("gate", "value")}
    x = jnp.asarray(rng.normal(size=(4, 5)), jnp.float32)
    assert not mcjax.trace(model, params, x).groups


def test_what_is_found_does_not_depend_on_addresses():
    """Sets of axes are walked in one order, wherever in memory they are."""
    made = {i: Atom(i, 3, frozenset(), None) for i in range(64)}
    again = {i: Atom(i, 3, frozenset(), None) for i in reversed(range(64))}
    first, second = ([a.index for a in {of[i] for i in range(64)}] for of in (made, again))
    assert first == second
