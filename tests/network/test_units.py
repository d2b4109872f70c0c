"""The units lens against what a person reads off the models."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mcjax
from mcjax.network.units import choose, partition, units_of
from mcjax.testing.models.cases import by_hand, sequences
from mcjax.testing.models.catalogue import MLP, MODELS, linen, vectors

from ..conftest import PLAIN, traced


def leaves_equal(one, two):
    jax.tree.map(np.testing.assert_array_equal, one, two)


@pytest.mark.parametrize("model", PLAIN, indirect=True)
def test_rows_go_back_and_move_with_their_units(model):
    """put(p, rows(p)) = p, and the rows of permuted units are the rows, permuted."""
    case, network = model
    params = jax.tree.map(np.asarray, case.another(1))
    rng = np.random.default_rng(0)
    for name, group in network.groups.items():
        units = units_of(network, name)
        for which in ("all", "written", "read"):
            rows = units.rows(params, which)
            assert isinstance(rows, np.ndarray)
            assert rows.shape == (*group.shape, units.width(which))
            back = units.put(params, rows, which)
            leaves_equal(back, params)
            assert all(isinstance(v, np.ndarray) for v in jax.tree.leaves(back))
        permutation = rng.permuted(network.identity_permutations()[name], axis=-1)
        moved = network.permute({name: permutation}, params)
        expected = np.take_along_axis(units.rows(params), permutation[..., None], -2)
        found = units.rows(moved)
        if twice(network, group):  # other units of the group are columns of its rows
            expected, found = np.sort(expected, -1), np.sort(found, -1)
        np.testing.assert_array_equal(found, expected)


def twice(network, group):
    """Whether a group stands on two axes of a leaf."""
    leaves = [place.leaf for place in group.places]
    return len(set(leaves)) < len(leaves)


@pytest.mark.parametrize("model", PLAIN, indirect=True)
def test_every_parameter_is_in_one_row_at_most(model):
    """A partition counts each entry once: rows filled with ones add up to the leaves concerned."""
    case, network = model
    ones = jax.tree.map(np.ones_like, case.params)
    parts = partition(network)
    counted = jax.tree.map(np.zeros_like, ones)
    for units in parts:
        empty = jax.tree.map(np.zeros_like, ones)
        filled = units.put(empty, np.ones((*units.shape, units.width()), np.float32))
        counted = jax.tree.map(np.add, counted, filled)
    touched = {p.leaf for g in network.groups.values() for p in g.places}
    for name, count in zip(network.leaf_names, jax.tree.leaves(counted), strict=True):
        assert set(np.unique(count)) <= {0.0, 1.0}
        assert (count == 1).any() == (name in touched)


def test_a_perceptron_by_hand():
    case = linen(MLP(), vectors(), [(8,), (9,)])
    network = mcjax.trace(case.apply_fn, case.params, case.x)
    params = case.another(1)
    layers = [params["params"][f"Dense_{i}"] for i in range(3)]
    b, w, out = layers[1]["bias"], layers[1]["kernel"], layers[2]["kernel"]
    units = units_of(network, "Dense_1")
    np.testing.assert_array_equal(units.rows(params, "written"), np.c_[b, w.T])
    np.testing.assert_array_equal(units.rows(params, "read"), out)
    np.testing.assert_array_equal(units.rows(params), np.c_[b, w.T, out])
    assert units.columns() == ((2, 1), (3, 8), (5, 4))
    assert units.leaves("read") == {5}
    first, second = partition(network)
    np.testing.assert_array_equal(
        first.rows(params), np.c_[layers[0]["bias"], layers[0]["kernel"].T]
    )
    np.testing.assert_array_equal(second.rows(params), units.rows(params))


def test_concatenated_branches_with_one_normalisation():
    """Conv_1, Conv_2 and Conv_4 write channels 0–2, 3–6, 7–8 of what Conv_5 reads."""
    case, network = traced("inception")
    params = case.another(1)
    own, stats = params["params"], params["batch_stats"]["BatchNorm_0"]
    norm = own["BatchNorm_0"]
    units = units_of(network, "Conv_2")
    here = slice(3, 7)
    kernel = own["Conv_2"]["kernel"].reshape(-1, 4).T
    after = np.moveaxis(own["Conv_5"]["kernel"], 2, 0)[here].reshape(4, -1)
    written = np.c_[stats["mean"][here], stats["var"][here], norm["bias"][here],
                    norm["scale"][here], own["Conv_2"]["bias"], kernel]  # fmt: skip
    np.testing.assert_array_equal(units.rows(params, "written"), written)
    np.testing.assert_array_equal(units.rows(params, "read"), after)
    without = units_of(network, "Conv_2", statistics=False)
    np.testing.assert_array_equal(without.rows(params, "written"), written[:, 2:])
    put = units.put(params, 0 * units.rows(params))
    expected = own["Conv_5"]["kernel"].at[:, :, here].set(0)
    np.testing.assert_array_equal(put["params"]["Conv_5"]["kernel"], expected)


def test_heads_and_their_units_on_a_fused_axis():
    """q, k and v beside each other, 4 heads of 6 units; q and k share theirs."""
    case, network = traced("attention-fused-split")
    params = case.another(1)
    qkv = np.asarray(params["qkv"]).reshape(12, 3, 4, 6)
    (heads,) = [n for n, g in network.groups.items() if g.shape == (4,)]
    inner = [n for n, g in network.groups.items() if g.shape == (4, 6)]
    both, values = sorted(inner, key=lambda n: -units_of(network, n).width("written"))
    written = units_of(network, both).rows(params, "written")
    q, k = (np.moveaxis(qkv[:, i], 0, -1) for i in (0, 1))
    np.testing.assert_array_equal(written, np.concatenate([q, k], -1))
    lens = units_of(network, values)
    np.testing.assert_array_equal(lens.rows(params, "written"), np.moveaxis(qkv[:, 2], 0, -1))
    np.testing.assert_array_equal(lens.rows(params, "read"), params["o"].reshape(4, 6, 12))
    assert units_of(network, heads).width() == 12 * 18 + 6 * 12
    assert heads not in [u.group for u in partition(network)]  # units inside heads have it all


def test_a_recurrent_weight_has_a_row_and_a_column():
    """In tanh(h W + …) unit i is written by W[:, i] and read by W[i]; transposed too."""
    for transposed in (False, True):

        def apply_fn(p, x, transposed=transposed):
            w = p["w"].T if transposed else p["w"]
            h = jnp.tanh(x[:, 0] @ p["in"])
            for i in range(1, 3):
                h = jnp.tanh(x[:, i] @ p["in"] + h @ w + p["b"])
            return h @ p["out"]

        shapes = {"b": (6,), "in": (5, 6), "out": (6, 3), "w": (6, 6)}
        case = by_hand(apply_fn, shapes, sequences(), [(6,)])
        params = case.params
        network = mcjax.trace(apply_fn, params, case.x)
        (units,) = (units_of(network, n) for n in network.groups)
        w = params["w"].T if transposed else params["w"]
        written = np.c_[params["b"], params["in"].T, w.T]
        np.testing.assert_array_equal(units.rows(params, "written"), written)
        np.testing.assert_array_equal(units.rows(params, "read"), np.c_[params["out"], w])
        np.testing.assert_array_equal(units.rows(params)[:, :6], written[:, :6])
        # An entry is in two rows: what is written counts.
        rows = np.array(units.rows(params))
        for column in rows.T:
            if (column == w).all(1).any():
                column[:] = 1
            elif (column == w.T).all(1).any():
                column[:] = 2
        assert [(rows == k).sum() for k in (1, 2)] == [36, 36]
        np.testing.assert_array_equal(units.put(params, rows)["w"], 1)


def test_stacked_and_low_rank_weights():
    """Slices of one leaf belong to the layers that use them; W + BA counts as B and as A."""

    def apply_fn(p, x):
        h = jnp.tanh(x @ (p["in"] + p["b"] @ p["a"]))
        for i in range(2):
            h = h + jnp.tanh(h @ p["up"][i]) @ p["down"][i]
        return h @ p["out"]

    shapes = {"a": (2, 6), "b": (5, 2), "down": (2, 4, 6), "in": (5, 6), "out": (6, 3),
              "up": (2, 6, 4)}  # fmt: skip
    case = by_hand(apply_fn, shapes, vectors(5), [(6,), (4,), (4,), (2,)])
    p, network = case.params, mcjax.trace(apply_fn, case.params, case.x)
    by_shape = {g.shape: n for n, g in network.groups.items()}
    stream = units_of(network, by_shape[(6,)])
    written = np.c_[p["a"].T, p["down"].reshape(-1, 6).T, p["in"].T]
    np.testing.assert_array_equal(stream.rows(p, "written"), written)
    np.testing.assert_array_equal(stream.rows(p, "read"), np.c_[p["out"], p["up"][0], p["up"][1]])
    rank = units_of(network, by_shape[(2,)])
    np.testing.assert_array_equal(rank.rows(p), np.c_[p["a"], p["b"].T])


def test_units_that_follow_an_axis_with_other_units_beside_them():
    """Two streams go through one stacked weight: its blocks hold one stream's units each."""

    def apply_fn(p, x):
        h = jnp.stack([jnp.tanh(x @ p["p0"]), jnp.tanh(x @ p["p1"])])
        y = jnp.tanh(jnp.einsum("kbn,knm->kbm", h, p["w"]))
        return jnp.einsum("kbm,kmo->bo", y, p["v"])

    shapes = {"p0": (6, 5), "p1": (6, 5), "v": (2, 4, 3), "w": (2, 5, 4)}
    case = by_hand(apply_fn, shapes, vectors(), [(5,), (5,), (2, 4)])
    p, network = case.params, mcjax.trace(apply_fn, case.params, case.x)
    units = units_of(network, next(n for n, g in network.groups.items() if g.shape == (2, 4)))
    np.testing.assert_array_equal(units.rows(p, "written"), jnp.swapaxes(p["w"], 1, 2))
    np.testing.assert_array_equal(units.rows(p, "read"), p["v"])
    for params in (p, jax.tree.map(np.asarray, p)):
        back = units.put(jax.tree.map(lambda v: 0 * v, params), units.rows(params))
        leaves_equal(back, {**p, "p0": 0 * p["p0"], "p1": 0 * p["p1"]})
    second = units_of(network, "p1")
    np.testing.assert_array_equal(second.rows(p), np.c_[p["p1"].T, p["w"][1]])


def test_jit_vmap_and_grad():
    case, network = traced("inception")
    params = [case.another(i) for i in range(3)]
    units = units_of(network, "Conv_2")
    plain = [units.rows(p) for p in params]
    stacked = jax.tree.map(lambda *v: jnp.stack(v), *params)
    np.testing.assert_array_equal(jax.jit(jax.vmap(units.rows))(stacked), np.stack(plain))
    moved = jax.jit(units.put)(params[0], plain[1])
    np.testing.assert_array_equal(units.rows(moved), plain[1])
    gradient = jax.grad(lambda p: jnp.sum(units.rows(p) ** 2))(params[0])
    np.testing.assert_allclose(units.rows(gradient), 2 * plain[0], rtol=1e-6)


def test_two_widths_have_the_same_columns():
    """Rows of a narrower and a wider layer differ in their number alone."""
    lenses = []
    for width in (8, 12):
        case = linen(MLP((5, width, 6)), vectors(), [])
        network = mcjax.trace(case.apply_fn, case.params, case.x)
        lenses.append((units_of(network, "Dense_1"), case.another(1)))
    (narrow, a), (wide, b) = lenses
    assert narrow.columns() == wide.columns()
    wide_rows = wide.rows(b)
    into = narrow.put(a, wide_rows[2:10])
    for key in ("kernel", "bias"):
        np.testing.assert_array_equal(
            into["params"]["Dense_1"][key], b["params"]["Dense_1"][key][..., 2:10]
        )
    np.testing.assert_array_equal(
        into["params"]["Dense_2"]["kernel"], b["params"]["Dense_2"]["kernel"][2:10]
    )


def test_lenses_are_values(tmp_path):
    """Two traces have equal lenses; one that was saved comes back; types of leaves stay."""
    case = MODELS["attention-fused-reshape"]()
    one, two = (
        [units_of(n, name) for name in n.groups]
        for n in (mcjax.trace(case.apply_fn, case.params, case.x) for _ in range(2))
    )
    assert one == two
    assert hash(tuple(one)) == hash(tuple(two))
    mcjax.save(tmp_path / "lenses.safetensors", one)
    assert mcjax.load(tmp_path / "lenses.safetensors") == one
    half = jax.tree.map(lambda v: v.astype(jnp.bfloat16), case.params) | {"o": case.params["o"]}
    for units in one:
        rows = units.rows(half)
        back = units.put(half, rows)
        leaves_equal(back, half)
        assert [v.dtype for v in jax.tree.leaves(back)] == [v.dtype for v in jax.tree.leaves(half)]


def test_choose_takes_whole_units():
    _, network = traced("inception")
    leaf = network.leaf_names.index("params/BatchNorm_0/scale")
    yes, no = np.ones(9, np.float32), np.zeros(9, np.float32)
    chosen = choose(network, leaf, ["Conv_1", "Conv_4"], yes, no)
    np.testing.assert_array_equal(chosen, [1, 1, 1, 0, 0, 0, 0, 1, 1])
    assert choose(network, leaf, ["Conv_5"], yes, no) is no
    assert choose(network, leaf, ["Conv_1", "Conv_2", "Conv_4"], yes, no) is yes


def test_bad_input():
    case, network = traced("mlp")
    with pytest.raises(ValueError, match="name must be one of"):
        units_of(network, "Dense_7")
    units = units_of(network, "Dense_0")
    with pytest.raises(ValueError, match="which must be one of"):
        units.rows(case.params, "outer")
    with pytest.raises(ValueError, match=r"rows have shape \(8, 3\), expected \(8, 16\)"):
        units.put(case.params, np.zeros((8, 3)))
    wider = linen(MLP((9, 9)), vectors(), []).params
    with pytest.raises(ValueError, match=r"leaf 'params/Dense_0/bias' has shape \(9,\)"):
        units.rows(wider)
    with pytest.raises(ValueError, match="params has 1 leaves, expected 6"):
        units.rows({"w": jnp.ones(3)})
