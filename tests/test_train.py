"""Training of end points: seeds on their own, and interruptions that leave no trace."""

from __future__ import annotations

import multiprocessing
import os

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mcjax.models import MLP
from mcjax.tasks import cross_entropy
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
            Protocol(epochs=2, batch=8), augment=crop_and_flip,
        )  # fmt: skip

    stepped = networks()
    monkeypatch.setattr(networks_module, "slow_in_loops", lambda *_: False)
    for one, other in zip(stepped, networks(), strict=True):
        jax.tree.map(lambda u, v: np.testing.assert_allclose(u, v, atol=1e-5), one, other)
