"""Connection models: bijections against the Jacobian, and what their paths promise."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import paramax
import pytest
from flowjax.bijections import MaskedAutoregressive

import mcjax
from mcjax.flows import AdamProtocol, Architecture, train_bijection, train_flow
from mcjax.flows.architecture import arrays_of, build, skeleton, standardised, with_arrays
from mcjax.flows.rows import Rows
from mcjax.methods import Flow
from mcjax.testing.models.catalogue import MLP, linen, vectors

from ..conftest import traced

SMALL = {
    "realnvp": Architecture("realnvp", blocks=3, width=8, depth=1),
    "iaf": Architecture("iaf", blocks=3, width=1, depth=0),
}
BRIEF, STILL = AdamProtocol(2, 64), AdamProtocol(1, 64, 0.0)


def bijection(kind, dim=6, seed=0):
    """One whose networks are not zero, as after training."""
    skeleton(SMALL[kind], dim)
    rows = jax.random.normal(jax.random.key(9), (50, dim)) * 3 + 1
    made = standardised(build(SMALL[kind], dim, jax.random.key(seed)), rows)
    noisy = [
        v + 0.2 * jax.random.normal(jax.random.key(i), v.shape)
        if jnp.issubdtype(v.dtype, jnp.floating) and i > 1 else v
        for i, v in enumerate(arrays_of(made))
    ]  # fmt: skip
    return paramax.unwrap(with_arrays(SMALL[kind], dim, noisy))


@pytest.mark.parametrize("kind", list(SMALL))
def test_inverse_and_log_determinant(kind):
    flow = bijection(kind)
    x = jax.random.normal(jax.random.key(1), (6,)) * 2
    y, log_det = flow.transform_and_log_det(x)
    back, minus = flow.inverse_and_log_det(y)
    np.testing.assert_allclose(back, x, atol=1e-4)
    jacobian = jax.jacobian(flow.transform)(x)
    assert float(log_det) == pytest.approx(np.linalg.slogdet(jacobian)[1], abs=1e-4)
    assert float(minus) == pytest.approx(-float(log_det), abs=1e-4)


def test_parallel_inverse_is_flowjaxs_sequential_one():
    chain = bijection("iaf")
    blocks = chain.bijections[1].bijection.bijections[0]
    block = jax.tree.map(lambda v: v[0] if isinstance(v, jax.Array) and v.ndim else v, blocks)
    y = jax.random.normal(jax.random.key(2), (6,))
    sequential = MaskedAutoregressive.inverse_and_log_det(block, y)[0]
    np.testing.assert_allclose(block.inverse(y), sequential, atol=1e-5)


@pytest.mark.parametrize("kind", list(SMALL))
def test_untrained_flow_is_the_arc_of_standardised_rows(kind):
    """ν starts as the standardisation, whose path (Eq. 7) is the arc around the mean (Eq. 6)."""
    _, network, nets, _ = population()
    model = train_flow(network, nets, SMALL[kind], STILL, key=jax.random.key(0))
    rows = np.concatenate([np.asarray(Rows.of(network).take(p)["Dense_0"]) for p in nets])
    path = model.connect(network, nets[0], nets[1])
    a, b = (np.asarray(Rows.of(network).take(p)["Dense_0"]) for p in nets[:2])
    mean, half = rows.mean(0), np.sqrt(0.5)
    arc = mean + half * (a - mean) + half * (b - mean)
    np.testing.assert_allclose(Rows.of(network).take(path(0.5))["Dense_0"], arc, atol=1e-4)


_made: list = []


def population():
    """Five networks that compute nearly the same with their own hidden units."""
    if not _made:
        case = linen(MLP((16,)), vectors(), [(16,)])
        network = mcjax.trace(case.apply_fn, case.params, case.x)
        x = case.inputs(200)
        base = case.another(0)
        nets = [
            network.permute(network.random_permutations(jax.random.key(i)), base) for i in range(5)
        ]
        _made.append((case, network, nets, (x, jnp.argmax(case.run(base, x), -1))))
    return _made[0]


def test_rows_are_butterflies_and_go_back():
    _, network, nets, _ = population()
    rows = Rows.of(network)
    taken = rows.take(nets[0])["Dense_0"]
    kernel = nets[0]["params"]["Dense_0"]["kernel"]
    assert taken.shape == (16, 6 + 1 + 4)  # incoming row, bias, outgoing weights
    assert {float(v) for v in kernel[:, 3]} <= {float(v) for v in taken[3]}
    back = rows.put({"Dense_0": taken}, [0 * v for v in jax.tree.leaves(nets[0])])
    for i, (u, v) in enumerate(zip(back, jax.tree.leaves(nets[0]), strict=True)):
        np.testing.assert_array_equal(u, v if i in rows.leaves else 0 * v)


@pytest.mark.slow
def test_heads_and_concatenations_are_modelled(tmp_path):
    """Queries, keys and values of 4 heads beside each other: 24 neurons each, one ν a group."""
    case, network = traced("attention-fused-split")
    nets = [case.another(i) for i in range(3)]
    rows = Rows.of(network)
    assert sorted((len(v), v.shape[1]) for v in rows.take(nets[0]).values()) == [
        (12, 5 + 24 + 3),  # the stream: in, o and out
        (24, 12),  # values
        (24, 24),  # queries and keys
    ]
    assert rows.leaves == {0, 1, 2, 3}
    q, _, v = (w.reshape(12, 4, 6) for w in jnp.split(nets[0]["qkv"], 3, -1))
    taken = {r.shape[1]: r for r in rows.take(nets[0]).values()}
    np.testing.assert_array_equal(taken[12], v.reshape(12, -1).T)
    np.testing.assert_array_equal(taken[24][:, :12], q.reshape(12, -1).T)

    model = train_flow(network, nets, SMALL["realnvp"], STILL, key=jax.random.key(0))
    mcjax.save(tmp_path / "model.safetensors", model)
    again = mcjax.load(tmp_path / "model.safetensors")
    assert again.rows == model.rows == Rows.of(mcjax.trace(case.apply_fn, nets[0], case.x))
    path = again.connect(network, nets[0], nets[1])
    jax.tree.map(np.testing.assert_array_equal, path(1.0), nets[1])
    # ν is the standardisation still: every neuron goes along an arc around the group's mean.
    pooled = np.concatenate([rows.take(p)[group] for p in nets for group in rows.dims
                             if rows.dims[group] == 12])  # fmt: skip
    (group,) = (g for g, n in rows.dims.items() if n == 12)
    a, b, middle = (np.asarray(rows.take(p)[group]) for p in (*nets[:2], path(0.5)))
    mean = pooled.mean(0)
    np.testing.assert_allclose(middle, mean + np.sqrt(0.5) * (a + b - 2 * mean), atol=1e-4)


@pytest.mark.parametrize("method", ["flow", "bijection"])
def test_an_interrupted_training_goes_on_bit_for_bit(tmp_path, method):
    _, network, nets, data = population()
    key = jax.random.key(0)

    def run(networks=nets[:4], steps=140, **more):
        how = SMALL["realnvp"], AdamProtocol(steps, 32)
        if method == "flow":
            return train_flow(network, networks, *how, key=key, **more)
        return train_bijection(network, networks, data, *how, key=key, **more)

    def stop(step, loss):
        if step == 120:
            raise KeyboardInterrupt

    whole = run()
    with pytest.raises(KeyboardInterrupt):
        run(directory=tmp_path, progress=stop)
    seen = []
    again = run(directory=tmp_path, progress=lambda step, _: seen.append(step))
    assert seen == [120, 140]  # from step 100, where the state was kept last
    with pytest.raises(ValueError, match=r"of another run: (neurons|networks)"):
        run(nets[1:], directory=tmp_path)
    with pytest.raises(ValueError, match="over all of which the learning rate falls: 140 there"):
        run(steps=160, directory=tmp_path)
    np.testing.assert_array_equal(again.losses, whole.losses)
    jax.tree.map(np.testing.assert_array_equal, again.arrays, whole.arrays)


def test_flow_training_raises_the_likelihood_and_saves(tmp_path):
    _, network, nets, _ = population()
    protocol = AdamProtocol(60, 64, 1e-2)
    model = train_flow(network, nets[:4], SMALL["realnvp"], protocol, key=jax.random.key(0))
    assert model.losses[-10:].mean() < model.losses[:10].mean()
    mcjax.save(tmp_path / "model.safetensors", model)
    again = mcjax.load(tmp_path / "model.safetensors")
    one, two = (m.connect(network, nets[0], nets[4])(0.4) for m in (model, again))
    jax.tree.map(np.testing.assert_array_equal, one, two)
    assert again.metadata == dict(model.metadata)


def test_paths_of_a_flow_keep_the_contract():
    case, network, nets, data = population()
    for kind in SMALL:
        model = train_flow(network, nets[:4], SMALL[kind], BRIEF, key=jax.random.key(0))
        path = mcjax.connect(network, nets[0], nets[4], Flow(model)).path
        jax.tree.map(np.testing.assert_array_equal, path(0.0), nets[0])
        jax.tree.map(np.testing.assert_array_equal, path(1.0), nets[4])
        compiled = jax.jit(lambda p, t: p(t))(path, 0.3)
        jax.tree.map(lambda u, v: np.testing.assert_allclose(u, v, atol=1e-5), compiled, path(0.3))
        curve = mcjax.evaluate(path, case.apply_fn, data, t=5)
        single = mcjax.evaluate(path, case.apply_fn, data, t=[0.5])
        assert curve.loss[2] == pytest.approx(float(single.loss[0]), rel=1e-4)


def test_bijection_training_lowers_the_middle():
    _, network, nets, data = population()
    model = train_bijection(
        network, nets[:4], data, SMALL["realnvp"], AdamProtocol(120, 64, 5e-3),
        key=jax.random.key(0),
    )  # fmt: skip
    assert model.losses[-20:].mean() < model.losses[:20].mean()
    path = mcjax.connect(network, nets[0], nets[4], Flow(model)).path
    jax.tree.map(np.testing.assert_array_equal, path(1.0), nets[4])


def test_bad_input():
    _, network, nets, data = population()
    key = jax.random.key(0)
    with pytest.raises(ValueError, match="at least two are needed to learn from, got 1"):
        train_flow(network, nets[:1], key=key)
    with pytest.raises(ValueError, match="needs a fast inverse"):
        train_bijection(network, nets, data, SMALL["iaf"], key=key)
    with pytest.raises(ValueError, match="200 examples are fewer than one batch of 256"):
        train_bijection(network, nets, data, protocol=AdamProtocol(2, 256), key=key)
    for target in (data[1] + 100, np.zeros(200)):
        with pytest.raises(ValueError, match="y: "):
            train_bijection(network, nets, (data[0], target), key=key)
    with pytest.raises(ValueError, match="kind must be one of"):
        Architecture("glow")
    for wrong in (dict(steps=0, batch=2), dict(steps=2, batch=2, learning_rate=-1.0)):
        with pytest.raises(ValueError, match="must be"):
            AdamProtocol(**wrong)
    with pytest.raises(ValueError, match=r"protocol must be a mcjax\.flows\.AdamProtocol"):
        train_flow(network, nets, SMALL["realnvp"], 100, key=key)
    model = train_flow(network, nets[:3], SMALL["realnvp"], BRIEF, key=key)
    other = linen(MLP((16,), outputs=7), vectors(), [(16,)])
    wider = mcjax.trace(other.apply_fn, other.params, other.x)
    with pytest.raises(ValueError, match=r"rows of 11 \(Dense_0\); this network has 14"):
        mcjax.connect(wider, other.params, other.params, Flow(model))
    with pytest.raises(ValueError, match="needs a connection model trained for it"):
        mcjax.connect(network, nets[0], nets[1], "iaf-flow")
