"""Layer-by-layer paths: their stages against a person's, and what they are for."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mcjax
from mcjax.adjust.stages import Plan
from mcjax.methods import (
    OT,
    Butterfly,
    LayerByLayer,
    Linear,
    TrainedCurve,
    WeightAdjustment,
    WithSwaps,
)
from mcjax.path import Legs, PolygonalChain, Swaps
from mcjax.testing.models.catalogue import MLP, linen, vectors

from ..conftest import traced

# model → for each stage (groups written, layers adjusted), by hand from the architecture
STAGES = {
    "mlp": [("Dense_0", "Dense_1"), ("Dense_1", "Dense_2")],
    "convnet": [("Conv_0", "Conv_1"), ("Conv_1", "Dense_0"), ("Dense_0", "Dense_1")],
    "inception": [
        ("Conv_0", "Conv_1 Conv_3 Conv_4"),
        ("Conv_1", "Conv_5"),
        ("Conv_3", "Conv_2"),
        ("Conv_2", "Conv_5"),
        ("Conv_4", "Conv_5"),
        ("Conv_5", "Dense_0"),
    ],
    "densenet": [
        ("Conv_0", "Conv_1 Conv_2 Conv_3 Dense_0"),
        ("Conv_1", "Conv_2 Conv_3 Dense_0"),
        ("Conv_2", "Conv_3 Dense_0"),
        ("Conv_3", "Dense_0"),
    ],
    "scan": [("in", "out")],  # layers in a loop move with the residual stream
    "gru": [("GRUCell_0", "Dense_0")],
}


@pytest.mark.parametrize("name", list(STAGES))
def test_stages(name):
    _, network = traced(name)
    found = []
    for stage in Plan(network).stages:
        first = min(
            i for i, layer in enumerate(network.layers)
            if {network.groups[g].atom for g in layer.groups_out} & stage.groups
        )  # fmt: skip
        writer = network.layers[first].name.split("/")[0]
        found.append((writer, " ".join(network.layers[r].name for r in stage.readers)))
    assert found == STAGES[name]


def test_residual_stream_turns_with_all_its_writers():
    _, network = traced("resnet-projection")
    stream = Plan(network).stages[0]
    names = [network.layers[n].name for n in stream.writers]
    assert names == ["Conv_0", *(f"Block_{i}/Conv_1" for i in range(2))]
    readers = [network.layers[n].name for n in stream.readers]
    assert readers == [*(f"Block_{i}/Conv_0" for i in range(3)), "Block_2/Conv_2"]


def one_hidden():
    case = linen(MLP((24,)), vectors(), [(24,)])
    return case, mcjax.trace(case.apply_fn, case.params, case.x)


def test_one_hidden_layer_is_the_papers():
    """W2(t) is the least-squares solution on φ(W1(t) x) for A's outputs (Eq. 10), in float64."""
    case, network = one_hidden()
    a, b, x = case.another(1), case.another(2), np.asarray(case.inputs(300))
    method = LayerByLayer(Linear(), WeightAdjustment(points=5))
    path = mcjax.connect(network, a, b, method, x=x).path
    assert len(path.legs) == 3

    def hidden(p, t):
        leaf = lambda k: (
            (1 - t) * np.float64(a["params"]["Dense_0"][k])
            + t * np.float64(b["params"]["Dense_0"][k])
        )
        return np.maximum(np.float64(x) @ leaf("kernel") + leaf("bias"), 0)

    target = hidden(a, 0.0) @ np.float64(a["params"]["Dense_1"]["kernel"])
    for i in range(5):
        s = i / 4
        found = np.float64(path(1 / 3 + s / 3)["params"]["Dense_1"]["kernel"])
        h = hidden(a, s)
        oracle = np.linalg.lstsq(h, target, rcond=None)[0]
        best, ours = (np.sum((h @ w - target) ** 2) for w in (oracle, found))
        assert ours <= best * (1 + 1e-5) + 1e-8 * np.sum(target**2)
    # The first leg moves only W2, the last only what is left.
    np.testing.assert_array_equal(
        path(0.2)["params"]["Dense_0"]["kernel"], a["params"]["Dense_0"]["kernel"]
    )
    np.testing.assert_array_equal(
        path(0.8)["params"]["Dense_0"]["kernel"], b["params"]["Dense_0"]["kernel"]
    )


@pytest.mark.parametrize("motion", ["linear", "arc", "ot"])
def test_butterfly_of_one_hidden_layer_is_the_plain_method(motion):
    case, network = one_hidden()
    a, b, x = case.another(1), case.another(2), case.inputs(100)
    plain = mcjax.connect(network, a, b, motion).path
    legs = mcjax.connect(network, a, b, f"{motion}+butterfly", x=x).path
    for t in (0.0, 0.3, 1.0):
        for u, v in zip(jax.tree.leaves(plain(t)), jax.tree.leaves(legs(t)), strict=True):
            if motion == "arc" and u.ndim == 1 and len(u) == 4:
                continue  # the output bias has another mean
            np.testing.assert_allclose(u, v, atol=1e-6)


def test_intermediate_points_of_a_deep_network():
    """Θ_k = {W^B_1 … W^B_{k−1}, W^AB_k, W^A_{k+1} …}, and it computes what A does."""
    case = linen(MLP((40, 30)), vectors(), [(40,), (30,)])
    network = mcjax.trace(case.apply_fn, case.params, case.x)
    a, b, x = case.another(1), case.another(2), case.inputs(60)
    path = mcjax.connect(network, a, b, "linear+butterfly", x=x).path
    assert len(path.legs) == 2
    middle, first, last = path(0.5)["params"], a["params"], b["params"]
    for leaf in ("kernel", "bias"):
        np.testing.assert_array_equal(middle["Dense_0"][leaf], last["Dense_0"][leaf])
        np.testing.assert_array_equal(middle["Dense_2"][leaf], first["Dense_2"][leaf])
    # 60 inputs are enough for 40 units to reproduce A to a few per cent.
    out, like = case.run(path(0.5), x), case.run(a, x)
    assert float(jnp.mean((out - like) ** 2) / jnp.var(like)) < 0.1


def test_branches_turn_one_after_the_other():
    """What was solved for where the first branch turned stays so while the second turns."""

    def apply(p, x):
        one, two = jax.nn.relu(x @ p["u1"]), jax.nn.relu(x @ p["u2"])
        return jnp.tanh(one @ p["v1"] + two @ p["v2"]) @ p["w"]

    def drawn(seed):
        shapes = {"u1": (9, 80), "u2": (9, 70), "v1": (80, 20), "v2": (70, 20), "w": (20, 3)}
        rng = np.random.default_rng(seed)
        draw = lambda shape: rng.normal(size=shape) / shape[0] ** 0.5
        return {k: jnp.asarray(draw(s), jnp.float32) for k, s in shapes.items()}

    a, b = drawn(0), drawn(1)
    x = jnp.asarray(np.random.default_rng(2).normal(size=(50, 9)), jnp.float32)
    path = mcjax.connect(mcjax.trace(apply, a, x[:2]), a, b, "linear+butterfly", x=x).path
    assert len(path.legs) == 3
    # 50 inputs are few enough for the 80 and the 70 units of a branch to reproduce A's outputs.
    for number, leg in enumerate(path.legs[:2], 1):
        turned = [bool((leg(1.0)[name] == b[name]).all()) for name in ("u1", "u2")]
        assert sum(turned) == number
        np.testing.assert_allclose(apply(leg(1.0), x), apply(a, x), atol=2e-2)


def test_planted_permutation_is_no_distance_for_ot():
    """B is A with its units shuffled: the transport undoes it, nothing moves."""
    case = linen(MLP((12, 10)), vectors(), [(12,), (10,)])
    network = mcjax.trace(case.apply_fn, case.params, case.x)
    a, x = case.another(1), case.inputs(200)
    shuffle = network.random_permutations(jax.random.key(5))
    b = network.permute(shuffle, a)
    for method in (LayerByLayer(OT(), WeightAdjustment(3)), "ot+butterfly"):
        made = mcjax.connect(network, a, b, method, x=x)
        curve = mcjax.evaluate(
            made.path, case.apply_fn, (x, jnp.argmax(case.run(a, x), -1)),
            made.path.grid(4),
        )  # fmt: skip
        assert curve.worst() == 1.0
        for name, found in made.permutations.items():
            np.testing.assert_array_equal(np.asarray(shuffle[name])[found], np.arange(len(found)))


def test_swaps_end_exactly_at_b():
    case, network = one_hidden()
    a, x = case.another(1), case.inputs(100)
    b = network.permute(network.random_permutations(jax.random.key(4)), case.another(2))
    method = WithSwaps(LayerByLayer(OT(), WeightAdjustment(3)))
    path = mcjax.connect(network, a, b, method, x=x).path
    assert isinstance(path, Legs)
    assert isinstance(path.legs[-1], Swaps)
    jax.tree.map(np.testing.assert_array_equal, path(1.0), b)
    curve = mcjax.evaluate(path, case.apply_fn, (x, jnp.zeros(100, int)), path.grid(3))
    assert np.isfinite(curve.loss).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    "method",
    [
        LayerByLayer(Linear(), WeightAdjustment(3)),
        LayerByLayer(OT(), WeightAdjustment(3)),
        LayerByLayer(OT(), Butterfly()),
    ],
)
def test_a_resnet_with_batch_norm(method):
    """The whole pipeline on a network with skip connections: t = 0 and t = 1 are A and B."""
    case, network = traced("resnet-projection")
    a, b, x = case.another(1), case.another(2), case.inputs(64)
    made = mcjax.connect(network, a, b, method, x=x)
    jax.tree.map(np.testing.assert_array_equal, made.path(0.0), a)
    end = network.permute(made.permutations, b)
    jax.tree.map(np.testing.assert_array_equal, made.path(1.0), end)
    curve = mcjax.evaluate(made.path, case.apply_fn, (x, jnp.zeros(64, int)), made.path.grid(1))
    assert np.isfinite(curve.loss).all()


def test_status_of_every_adjustment():
    case = linen(MLP((12, 10)), vectors(), [(12,), (10,)])
    network = mcjax.trace(case.apply_fn, case.params, case.x)
    method = LayerByLayer(reader=WeightAdjustment(points=4))
    made = mcjax.connect(network, case.another(1), case.another(2), method, x=case.inputs(100))
    assert [leg.groups for leg in made.legs] == [("Dense_0",), ("Dense_1",)]
    for leg, layer, units in zip(made.legs, ("Dense_1", "Dense_2"), (12, 10), strict=True):
        assert len(leg.layers[layer]) == len(leg.t) == 4
        assert all(s.units == units and s.residual < 1 for s in leg.layers[layer])


def test_bad_arguments():
    case, network = one_hidden()
    a, b = case.another(1), case.another(2)
    with pytest.raises(ValueError, match="pass inputs as x="):
        mcjax.connect(network, a, b, "linear+wa")
    with pytest.raises(ValueError, match="points must be at least 2"):
        WeightAdjustment(points=1)
    with pytest.raises(ValueError, match="motion must be"):
        LayerByLayer(motion="ot")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="reader must be"):
        LayerByLayer(reader=3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="x is an empty batch"):
        mcjax.connect(network, a, b, "linear+wa", x=case.inputs(9)[:0])
    wider = linen(MLP((30,)), vectors(), [(30,)]).another(2)
    with pytest.raises(ValueError, match=r"bias' has shape \(30,\), expected \(24,\)"):
        mcjax.connect(network, a, wider, "ot")


def test_garipov_lowers_the_barrier():
    case, network = one_hidden()
    a, x = case.another(1), case.inputs(512)
    y = jnp.argmax(case.run(a, x), -1)
    b = network.permute(network.random_permutations(jax.random.key(2)), a)
    from mcjax.training import Protocol

    method = TrainedCurve(PolygonalChain, protocol=Protocol(80, 64, learning_rate=0.1))
    path = mcjax.connect(network, a, b, method, x=x, y=y).path
    jax.tree.map(np.testing.assert_array_equal, path(1.0), b)
    trained, line = (
        mcjax.evaluate(p, case.apply_fn, (x, y), t=11).loss.max()
        for p in (path, mcjax.connect(network, a, b, "linear").path)
    )
    assert trained < 0.85 * line
