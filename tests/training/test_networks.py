"""Training of end points: seeds on their own, and interruptions that leave no trace."""

from __future__ import annotations

import multiprocessing
import os
from typing import Any, NamedTuple

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import mcjax
from mcjax.models import MLP
from mcjax.tasks import REGRESSION, cross_entropy
from mcjax.training import Protocol, train_networks

MODEL = MLP((16,), 3)
PROTOCOL = Protocol(epochs=4, batch=8, learning_rate=0.05)


def init(key):
    return MODEL.init(key, jnp.zeros((1, 6)))


def data(n=50):
    rng = np.random.default_rng(0)
    return rng.normal(size=(n, 6)).astype(np.float32), rng.integers(0, 3, n).astype(np.int32)


def run(directory=None, seeds=(0, 1), progress=None, protocol=PROTOCOL):
    return train_networks(
        MODEL.apply, init, data(), seeds, protocol, directory=directory, progress=progress
    )


def assert_equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_a_network_does_not_depend_on_its_neighbours():
    first, second, alone = run(seeds=(3, 1)), run(seeds=(7, 3)), run(seeds=(3,))
    close = lambda u, v: np.testing.assert_allclose(u, v, atol=1e-5)
    jax.tree.map(close, first[0], second[1])
    jax.tree.map(close, first[0], alone[0])
    assert not np.allclose(jax.tree.leaves(first[0])[1], jax.tree.leaves(first[1])[1])


def test_against_a_plain_loop():
    """The vmapped scan is SGD with momentum, weight decay and the paper's schedule."""
    x, y = data()
    steps = len(x) // PROTOCOL.batch
    key = jax.random.key(5)
    params, total = init(key), steps * PROTOCOL.epochs
    velocity, step = jax.tree.map(jnp.zeros_like, params), 0
    loss = lambda p, i: jnp.mean(cross_entropy(MODEL.apply(p, x[i]), y[i]))
    for epoch in range(PROTOCOL.epochs):
        order = jax.random.permutation(jax.random.fold_in(key, epoch + 1), len(x))
        for k in range(steps):
            i = np.asarray(order[k * PROTOCOL.batch : (k + 1) * PROTOCOL.batch])
            gradient = jax.grad(loss)(params, i)
            rate = 0.05 * (1 - 0.99 * min(max((step / total - 0.5) / 0.4, 0), 1))
            velocity = jax.tree.map(
                lambda v, g, p: 0.9 * v + g + 1e-4 * p, velocity, gradient, params
            )
            params = jax.tree.map(lambda p, v, r=rate: p - r * v, params, velocity)
            step += 1
    found = run(seeds=(5,))[0]
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-5), found, params)


class InterruptedRunError(Exception):
    pass


def test_resuming_gives_the_same_bits(tmp_path):
    def stop(epoch, _):
        if epoch == 1:
            raise InterruptedRunError

    with pytest.raises(InterruptedRunError):
        run(tmp_path / "run", progress=stop)
    seen = []
    resumed = run(tmp_path / "run", progress=lambda epoch, _: seen.append(epoch))
    assert seen == [2, 3]
    assert_equal(resumed, run())
    assert_equal(run(tmp_path / "run"), resumed)  # finished: nothing is trained again


def _killed(directory):
    run(directory, progress=lambda epoch, _: os._exit(9) if epoch == 2 else None)


def test_a_killed_process_leaves_a_whole_checkpoint(tmp_path):
    process = multiprocessing.get_context("spawn").Process(target=_killed, args=(tmp_path / "run",))
    process.start()
    process.join(120)
    assert process.exitcode == 9
    assert_equal(run(tmp_path / "run"), run())


def test_another_run_in_the_same_folder(tmp_path):
    run(tmp_path / "run", seeds=(0,))
    with pytest.raises(ValueError, match="of another run"):
        run(tmp_path / "run", seeds=(4,))


def test_too_few_examples():
    with pytest.raises(ValueError, match="50 examples are fewer than one batch of 64"):
        run(protocol=Protocol(batch=64))


def test_schedule():
    protocol = Protocol(epochs=1, learning_rate=0.01, momentum=0.0, weight_decay=0.0)
    optimizer = protocol.optimizer(1000)
    state, rates = optimizer.init(jnp.zeros(())), []
    for _ in range(1000):
        update, state = optimizer.update(jnp.ones(()), state, jnp.zeros(()))
        rates.append(-float(update))
    assert rates[0] == rates[500] == pytest.approx(0.01)
    assert rates[700] == pytest.approx(0.01 * (1 - 0.99 / 2))
    assert rates[900] == pytest.approx(0.0001, rel=1e-4)
    assert rates[999] == pytest.approx(0.0001, rel=1e-4)


def test_mlp_starts_as_the_papers_programs():
    params = MLP((2000,)).init(jax.random.key(0), jnp.zeros((1, 784)))["params"]
    kernel = np.asarray(params["Dense_0"]["kernel"])
    assert np.abs(kernel).max() <= 784**-0.5
    assert kernel.std() == pytest.approx(784**-0.5 / 3**0.5, rel=0.01)
    assert np.abs(params["Dense_1"]["bias"]).max() <= 2000**-0.5
    assert optax.tree.size(params) == 784 * 2000 + 2000 + 2000 * 10 + 10


def test_convolutional_networks_do_not_depend_on_how_they_are_stepped(monkeypatch):
    """Step by step (convolutions on a CPU) or in one vmapped scan: the same networks."""
    from mcjax.data import crop_and_flip
    from mcjax.training import networks as networks_module

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.relu(nn.Conv(3, (3, 3))(x)).mean((1, 2))
            return nn.Dense(2)(x)

    model = Net()
    x = np.random.default_rng(0).normal(size=(24, 8, 8, 1)).astype(np.float32)
    data = x, (x.mean((1, 2, 3)) > 0).astype(np.int32)

    def networks():
        return train_networks(
            model.apply, lambda key: model.init(key, x[:1]), data, (0, 1),
            Protocol(epochs=2, batch=8, augment=crop_and_flip),
        )  # fmt: skip

    stepped = networks()
    monkeypatch.setattr(networks_module, "slow_in_loops", lambda *_: False)
    for one, other in zip(stepped, networks(), strict=True):
        jax.tree.map(lambda u, v: np.testing.assert_allclose(u, v, atol=1e-5), one, other)


def linear(params, x):
    return x @ params["w"] + params["b"]


def zeros(_):
    return {"w": jnp.zeros((6, 2)), "b": jnp.zeros(2)}


def test_a_regression_is_trained_by_squared_error():
    """Against the least squares of NumPy, which the linear model's minimum is."""
    x, _ = data(64)
    y = (x @ np.arange(12, dtype=np.float32).reshape(6, 2) / 4 + 1).astype(np.float32)
    protocol = Protocol(60, 16, 0.1, 0.9, 0.0)
    (found,) = train_networks(linear, zeros, (x, y), (0,), protocol, task=REGRESSION)
    expected = np.linalg.lstsq(np.c_[x, np.ones(64)], y, rcond=None)[0]
    np.testing.assert_allclose(found["w"], expected[:6], atol=1e-3)
    np.testing.assert_allclose(found["b"], expected[6], atol=1e-3)


@pytest.mark.parametrize(
    ("y", "task", "message"),
    [
        (np.zeros((50, 3), np.float32), mcjax.tasks.CLASSIFICATION, "y: rows of probabilities"),
        (np.full(50, 3), mcjax.tasks.CLASSIFICATION, r"labels lie in \[3, 3\]"),
        (np.full(50, -1), mcjax.tasks.CLASSIFICATION, r"labels lie in \[-1, -1\]"),
        (np.zeros(50, int), REGRESSION, "regression needs targets of the outputs' shape"),
        (np.zeros(49, int), mcjax.tasks.CLASSIFICATION, "different lengths: 50 and 49"),
    ],
)
def test_labels_that_are_not_the_tasks(y, task, message):
    with pytest.raises(ValueError, match=message):
        train_networks(MODEL.apply, init, (data()[0], y), (0,), PROTOCOL, task=task)


def test_what_overflows_is_said():
    x, y = data()
    with pytest.warns(UserWarning, match="not finite from epoch 0 on"):
        train_networks(MODEL.apply, init, (x * 1e30, y), (0,), Protocol(2, 8, 1e10))


class Masked(NamedTuple):
    image: Any
    keep: Any


def masked(params, x):
    return jnp.where(x.keep, x.image, 0) @ params["w"] + params["b"]


def test_inputs_that_all_examples_share():
    """A mask of shape (6,) given once is the mask given for each example."""
    x, y = data()
    keep = np.array([True, False, True, True, False, True])
    for_all = Masked(x, mcjax.Shared(keep)), y % 2
    for_each = Masked(x, np.broadcast_to(keep, x.shape)), y % 2
    one, other = (train_networks(masked, zeros, d, (0,), PROTOCOL)[0] for d in (for_all, for_each))
    jax.tree.map(lambda u, v: np.testing.assert_allclose(u, v, atol=1e-6), one, other)
    assert not np.asarray(one["w"])[1].any()  # what is masked is never trained


def test_modules_whose_leaves_are_no_arrays():
    """An equinox module (functions among its leaves) is trained as the tree of its arrays."""
    x, y = data()

    def start(key):
        return eqx.nn.MLP(6, 3, 16, 1, key=key)

    def apply_fn(model, x):
        return jax.vmap(model)(x)

    (found,) = train_networks(apply_fn, start, (x, y), (0,), PROTOCOL)
    assert found.activation is jax.nn.relu

    def arrays_of(key):
        return eqx.filter(start(key), eqx.is_array)

    def by_arrays(arrays, x):
        return jax.vmap(eqx.combine(arrays, start(jax.random.key(0))))(x)

    (other,) = train_networks(by_arrays, arrays_of, (x, y), (0,), PROTOCOL)
    pairs = zip(jax.tree.leaves(eqx.filter(found, eqx.is_array)), jax.tree.leaves(other))
    for u, v in pairs:
        np.testing.assert_allclose(u, v, atol=1e-6)


def test_integers_among_the_parameters_stay():
    def start(key):
        return {**zeros(key), "offset": jnp.arange(2)}

    def apply_fn(params, x):
        return linear(params, x) + params["offset"]

    x, y = data()
    (found,) = train_networks(apply_fn, start, (x, y % 2), (0,), PROTOCOL)
    assert found["offset"].tolist() == [0, 1]
    assert np.asarray(found["w"]).any()
