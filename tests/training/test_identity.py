"""A folder holds one run: another is refused and told apart; the same goes on."""

from __future__ import annotations

import dataclasses
import functools
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mcjax.attacks import PGD
from mcjax.models import MLP
from mcjax.path import Bezier
from mcjax.tasks import CLASSIFICATION
from mcjax.training import Protocol, identity, train_curve, train_networks

MODEL, OTHER = MLP((4,), 3), MLP((5,), 3)
KEY = jax.random.key(0)


def noise(key, x):
    return x + 0.1 * jax.random.normal(key, x.shape)


def scaled_noise(scale):
    return lambda key, x: x + scale * jax.random.normal(key, x.shape)


PROTOCOL = Protocol(2, 8, augment=noise)


def sets(seed=0):
    rng = np.random.default_rng(seed)
    return rng.uniform(size=(20, 6)).astype(np.float32), rng.integers(0, 3, 20).astype(np.int32)


def init(key):
    return MODEL.init(key, jnp.zeros((1, 6)))


def networks(directory, *, model=MODEL, start=init, data=None, seeds=(0,), protocol=PROTOCOL, **o):
    data = sets() if data is None else data
    return train_networks(model.apply, start, data, seeds, protocol, directory=directory, **o)


CHANGES = {
    "data/x": dict(data=(sets()[0] + np.float32(1e-6), sets()[1])),
    "data/y": dict(data=(sets()[0], sets()[1][::-1])),
    "model": dict(model=OTHER, start=lambda key: OTHER.init(key, jnp.zeros((1, 6)))),
    "init": dict(start=lambda key: jax.tree.map(lambda v: v / 2, init(key))),
    "seeds": dict(seeds=(1,)),
    "protocol/epochs, over all of which the learning rate falls: 2 there, 3": dict(
        protocol=Protocol(3, 8, augment=noise)
    ),
    "protocol/learning_rate": dict(protocol=Protocol(2, 8, 0.5, augment=noise)),
    "protocol/augment": dict(protocol=Protocol(2, 8, augment=scaled_noise(0.1))),
    "protocol/attack": dict(protocol=Protocol(2, 8, augment=noise, attack=PGD())),
    "task": dict(task=CLASSIFICATION.adding("margin", lambda o, y: o[:, 0], worse="low")),
}  # fmt: skip


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    return folder, networks(folder)


@pytest.mark.parametrize("what", list(CHANGES))
def test_another_run_in_the_same_folder_is_refused(kept, what):
    with pytest.raises(ValueError, match=f"of another run: .*{what}"):
        networks(kept[0], **CHANGES[what])


def test_the_same_run_goes_on(kept):
    """Everything made anew: data read again, functions defined again."""
    again = networks(
        kept[0], model=MLP((4,), 3), start=lambda key: init(key), data=sets(),
        protocol=Protocol(2, 8, augment=noise), progress=lambda *_: pytest.fail("trained again"),
    )  # fmt: skip
    jax.tree.map(np.testing.assert_array_equal, again, kept[1])


def test_what_the_run_is_stands_beside_the_states(kept):
    record = json.loads((kept[0] / "run.json").read_text())
    assert record["protocol"]["learning_rate"] == 0.01
    assert record["data"]["x"].startswith("float32 (20, 6) ")
    assert record["seeds"] == [0]


def test_a_curve_is_its_path_its_key_and_its_optimizer(tmp_path):
    a, b = (init(jax.random.key(s)) for s in (0, 1))

    def curve(end=b, key=KEY, **options):
        path = Bezier.between(a, end)
        return train_curve(
            path, MODEL.apply, sets(), Protocol(1, 8), key=key, directory=tmp_path, **options
        )

    curve()
    for what, change in {
        "path": dict(end=jax.tree.map(lambda v: v + 1, b)),
        "key": dict(key=jax.random.key(1)),
        "samples": dict(samples=2),
        "optimizer": dict(optimizer=Protocol(1, 8).optimizer(9)),
    }.items():
        with pytest.raises(ValueError, match=f"of another run: .*{what}"):
            curve(**change)


HALVING = Protocol(2, 8, 0.1, halve_every=1.5, augment=noise)
LONGER = dataclasses.replace(HALVING, epochs=5)


def test_networks_go_on_with_more_epochs(tmp_path):
    """Where the rate does not depend on their number: bit for bit the longer training."""
    networks(tmp_path, protocol=HALVING, seeds=(0, 1))
    seen = []
    found = networks(
        tmp_path, protocol=LONGER, seeds=(0, 1), progress=lambda epoch, _: seen.append(epoch)
    )
    assert seen == [2, 3, 4]
    whole = networks(None, protocol=LONGER, seeds=(0, 1))
    jax.tree.map(np.testing.assert_array_equal, found, whole)
    with pytest.raises(ValueError, match=r"holds 5 epochs of this training, .* go back to 2"):
        networks(tmp_path, protocol=HALVING, seeds=(0, 1))


@pytest.mark.parametrize("optimizer", [None, optax.adam(0.01)], ids=["the protocol's", "adam"])
def test_curves_go_on_with_more_epochs(tmp_path, optimizer):
    path = Bezier.between(*(init(jax.random.key(s)) for s in (0, 1)))
    short, long = HALVING, LONGER
    if optimizer is not None:  # which the protocol's schedule is nothing to
        short, long = (dataclasses.replace(p, halve_every=None) for p in (short, long))

    def curve(protocol, directory=None, **more):
        return train_curve(
            path, MODEL.apply, sets(), protocol, key=KEY, optimizer=optimizer,
            directory=directory, **more,
        )  # fmt: skip

    curve(short, tmp_path)
    seen = []
    found = curve(long, tmp_path, progress=lambda epoch, _: seen.append(epoch))
    whole = curve(long)
    assert seen == [2, 3, 4]
    jax.tree.map(np.testing.assert_array_equal, found.path, whole.path)
    np.testing.assert_array_equal(found.losses, whole.losses)
    jax.tree.map(np.testing.assert_array_equal, found.state[0], whole.state[0])


def test_a_curve_whose_rate_falls_over_all_epochs_does_not_go_on(tmp_path):
    path = Bezier.between(*(init(jax.random.key(s)) for s in (0, 1)))
    for optimizer, why in (
        (None, "over all of which the learning rate falls: 1 there, 2 here"),
        (optax.cosine_decay_schedule, "optimizer"),
    ):
        folder = tmp_path / why[:4]
        for epochs in (1, 2):
            protocol, steps = Protocol(epochs, 8), 2 * epochs
            given = optimizer and optax.sgd(optimizer(0.1, steps))
            run = functools.partial(
                train_curve, path, MODEL.apply, sets(), protocol, key=KEY, optimizer=given,
                directory=folder,
            )  # fmt: skip
            if epochs == 1:
                run()
            else:
                with pytest.raises(ValueError, match=f"of another run: .*{why}"):
                    run()


@pytest.mark.parametrize("rate", [dict(halve_every=1.5), dict(halve_every=math.inf)])
def test_the_rate_of_an_extendable_protocol_does_not_know_the_length(rate):
    """0.1 halved every 1.5 epochs of 4 steps, by optax's own state and a loop of NumPy's."""
    for epochs in (3, 7):
        protocol = Protocol(epochs, learning_rate=0.1, momentum=0, weight_decay=0, **rate)
        optimizer = protocol.optimizer(4 * epochs)
        state, seen = optimizer.init(jnp.zeros(())), []
        for _ in range(4 * epochs):
            update, state = optimizer.update(jnp.ones(()), state, jnp.zeros(()))
            seen.append(-float(update))
        expected = [0.1 * 0.5 ** int(i / 4 / rate["halve_every"]) for i in range(4 * epochs)]
        np.testing.assert_allclose(seen, expected, rtol=1e-6)


def test_a_folder_that_cannot_be_written_is_said_before_the_work(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ValueError, match=r"directory: cannot write in .*file"):
        networks(tmp_path / "file" / "run", progress=lambda *_: pytest.fail("trained"))


# -- what describes a function -------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Shift:
    by: float

    def __call__(self, key, x):
        return x + self.by


class Named:
    """Its state is its own affair: it states a name."""

    def __init__(self, name, cache):
        self.name, self.cache = name, cache

    def __call__(self, key, x):
        return x


SCALE = 2.0


def reads_a_global(key, x):
    return x * SCALE


DIFFERENT = {
    "closure": (scaled_noise(0.1), scaled_noise(0.2)),
    "array in a closure": (scaled_noise(np.ones(2)), scaled_noise(np.zeros(2))),
    "default": (lambda key, x, by=1: x + by, lambda key, x, by=2: x + by),
    "code": (lambda key, x: x + 1, lambda key, x: x - 1),
    "constant": (lambda key, x: x + 1, lambda key, x: x + 2),
    "field": (Shift(1.0), Shift(2.0)),
    "method": (Shift(1.0).__call__, Shift(2.0).__call__),
    "partial": (functools.partial(noise, x=1), functools.partial(noise, x=2)),
    "name": (Named("crops", []), Named("flips", [])),
}


@pytest.mark.parametrize("what", list(DIFFERENT))
def test_different_functions_are_told_apart(what):
    one, other = map(identity.describe, DIFFERENT[what])
    assert one != other
    assert json.loads(json.dumps(one)) == one


def test_equal_functions_are_described_alike():
    assert identity.describe(scaled_noise(0.1)) == identity.describe(scaled_noise(0.1))
    assert identity.describe(Named("crops", [1])) == identity.describe(Named("crops", [2]))
    assert identity.describe(jax.jit(noise)) == identity.describe(noise)
    first, second = (identity.describe(Protocol(1).optimizer(n)) for n in (5, 6))
    assert first == identity.describe(Protocol(1).optimizer(5)) != second


def test_globals_that_a_function_reads(monkeypatch):
    before = identity.describe(reads_a_global)
    monkeypatch.setitem(reads_a_global.__globals__, "SCALE", 3.0)
    assert identity.describe(reads_a_global) != before


def test_programs_that_differ_in_a_constant():
    x = jnp.ones((2, 3))
    digest = [identity.of_model(lambda p, x, c=c: x @ p * c, jnp.ones((3, 2)), x)
              for c in (np.arange(2.0), np.arange(2.0), np.arange(2.0) + 1)]  # fmt: skip
    assert digest[0] == digest[1] != digest[2]
    relu, tanh = (
        identity.of_model(lambda p, x, f=f: f(x @ p), jnp.ones((3, 2)), x)
        for f in (jax.nn.relu, jnp.tanh)
    )
    assert relu != tanh


def test_a_memory_map_is_digested_as_the_array(tmp_path, monkeypatch):
    array = np.random.default_rng(0).normal(size=(100, 7))
    np.save(tmp_path / "x.npy", array)
    monkeypatch.setattr(identity, "_STREAM", 1000)  # in parts
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    assert identity.of_array(mapped) == identity.of_array(array)
    array[99, 6] += 1e-9
    assert identity.of_array(mapped) != identity.of_array(array)
