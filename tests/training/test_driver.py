"""The loop below every training: blocks, states on disk, interruptions, damage."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from mcjax import Shared
from mcjax.attacks import PGD
from mcjax.path import Bezier
from mcjax.tasks import REGRESSION
from mcjax.training import Protocol, Trainer, TrainingLoss, data, run, store, train_networks
from mcjax.training.fit import PathObjective
from mcjax.training.store import Store


def quadratic(trained, batch, key, given):
    noise = 0.0 if key is None else 0.1 * jax.random.normal(key)
    return jnp.sum((trained["w"] - batch - noise) ** 2)


def blocks_of(values, size):
    """Parts of four steps in blocks of a size, the last filled with what must not count."""

    def blocks(part):
        steps = values[4 * part : 4 * part + 4]
        for first in range(0, 4, size):
            block = steps[first : first + size]
            filled = np.concatenate([block, np.full((size - len(block), 2), 1e9)])
            yield filled.astype(np.float32), len(block)

    return blocks


VALUES = np.random.default_rng(0).normal(size=(12, 2)).astype(np.float32)


def expected(rate=0.1):
    """SGD by hand: w ← w − 2 · rate (w − batch)."""
    w, losses = np.zeros(2), []
    for batch in VALUES:
        losses.append(((w - batch) ** 2).sum())
        w = w - 2 * rate * (w - batch)
    return w, losses


@pytest.mark.parametrize("stepwise", [False, True])
@pytest.mark.parametrize("size", [4, 3, 1])
def test_blocks_of_any_size_are_sgd(size, stepwise):
    trainer = Trainer(quadratic, optax.sgd(0.1), stepwise=stepwise)
    start = {"w": jnp.zeros(2), "count": jnp.arange(3)}
    state, losses = run(trainer, trainer.init(start), 3, blocks_of(VALUES, size))
    w, by_hand = expected()
    np.testing.assert_allclose(state.trained["w"], w, rtol=1e-5)
    np.testing.assert_allclose(losses, by_hand, rtol=1e-5)
    assert state.trained["count"].tolist() == [0, 1, 2]
    assert start["w"].tolist() == [0, 0]  # the caller's arrays are not used up


@pytest.mark.parametrize("stepwise", [False, True])
def test_several_are_each_on_their_own(stepwise):
    trainer = Trainer(quadratic, optax.adam(0.1), several=True, stepwise=stepwise)
    alone = Trainer(quadratic, optax.adam(0.1))
    starts = np.array([[0.0, 0.0], [1.0, -1.0]], np.float32)
    both = trainer.init({"w": jnp.asarray(starts)}, jax.random.split(jax.random.key(0), 2))
    pair = np.stack([VALUES, VALUES[::-1]], 1)
    state, losses = run(trainer, both, 1, lambda _: iter([(pair, 12)]))
    for i, key in enumerate(jax.random.split(jax.random.key(0), 2)):
        one, own = run(alone, alone.init({"w": jnp.asarray(starts[i])}, key), 1,
                       lambda _, i=i: iter([(pair[:, i], 12)]))  # fmt: skip
        np.testing.assert_allclose(state.trained["w"][i], one.trained["w"], rtol=1e-5)
        np.testing.assert_allclose(losses[:, i], own, rtol=1e-4)


def test_steps_lower_for_accelerators():
    """A curve's and several networks' steps, attacked, on a machine without an accelerator."""
    model = lambda p, x: jax.nn.relu(x @ p["w"]) @ p["v"]
    loss = TrainingLoss(model, attack=PGD(0.1, 0.1, 2))
    point = {"w": jnp.ones((3, 4)), "v": jnp.ones((4, 2))}
    key, x, y = jax.random.key(0), jnp.ones((5, 8, 3)), jnp.zeros((5, 8), int)
    keys = jax.random.split(key, 5)
    objective = lambda params, batch, key, given: loss(params, batch)
    networks = Trainer(objective, optax.sgd(0.1), several=True)
    both = jax.tree.map(lambda v: jnp.stack([v, v]), point)
    pair = jax.tree.map(lambda v: jnp.stack([v, v], 1), (x, y, keys))
    path = Bezier.between(point, point)
    curve = Trainer(PathObjective(loss, 2), optax.adam(0.1))
    cases = [
        (networks, networks.init(both), pair, None),
        (curve, curve.init(path.free(), key), (x, y, keys), path),
    ]
    for trainer, state, block, given in cases:
        advance = jax.jit(lambda *a, trainer=trainer: trainer.advance(*a[:2], 5, a[2]))
        exported = jax.export.export(advance, platforms=("cuda", "tpu"))(state, block, given)
        assert exported.platforms == ("cuda", "tpu")


# -- states on disk ------------------------------------------------------------------------


def keep(folder, stop=None, parts=3):
    """Three parts of four steps, stopped by an exception after one of them."""
    trainer = Trainer(quadratic, optax.adam(0.1))

    def progress(part, losses):
        if part == stop:
            raise KeyboardInterrupt

    state = trainer.init({"w": jnp.zeros(2, jnp.bfloat16)}, jax.random.key(1))
    return run(
        trainer, state, parts, blocks_of(VALUES, 3), store=Store(folder, {"run": 1}),
        progress=progress,
    )  # fmt: skip


def same(one, other):
    for u, v in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        if jnp.issubdtype(u.dtype, jax.dtypes.prng_key):
            u, v = jax.random.key_data(u), jax.random.key_data(v)
        np.testing.assert_array_equal(np.asarray(u, np.float64), np.asarray(v, np.float64))


@pytest.mark.parametrize("stop", [0, 1, 2])
def test_after_an_interruption_it_goes_on_to_the_same_bits(tmp_path, stop):
    whole = keep(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        keep(tmp_path / "run", stop)
    again = keep(tmp_path / "run")
    same(again, whole)
    assert again[0].trained["w"].dtype == jnp.bfloat16


DAMAGE = {
    "cut off": lambda content: content[: len(content) // 2],
    "empty": lambda content: b"",
    "bytes": lambda content: bytes(255 - b for b in content),
}


def damage_state(state, damage):
    """Damage what an orbax checkpoint holds."""
    for file in state.rglob("*"):
        if file.is_file():
            file.write_bytes(damage(file.read_bytes()))


@pytest.mark.parametrize("damage", list(DAMAGE))
def test_a_damaged_state_falls_back_to_the_one_before(tmp_path, damage):
    whole = keep(tmp_path)
    damage_state(tmp_path / "3", DAMAGE[damage])
    with pytest.warns(UserWarning, match="damaged checkpoint .* going on from the one before"):
        again = keep(tmp_path)
    same(again, whole)
    for state in ("2", "3"):
        damage_state(tmp_path / state, DAMAGE[damage])
    with pytest.raises(ValueError, match=r"no checkpoint in .* can be read .* start anew"):
        keep(tmp_path)


def test_other_numbers_in_a_state_are_no_state(tmp_path, monkeypatch):
    """What can be read but is not what was written."""
    whole = keep(tmp_path)
    real, seen = store._digest, []
    wrong = lambda v: "" if seen.append(1) or len(seen) == 1 else real(v)
    monkeypatch.setattr(store, "_digest", wrong)
    with pytest.warns(UserWarning, match="its bytes are not those that were written"):
        again = keep(tmp_path)
    same(again, whole)


def test_without_its_record_a_folder_is_refused(tmp_path):
    keep(tmp_path)
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(ValueError, match=r"run\.json, which says of which run, cannot be read"):
        keep(tmp_path)


def test_a_full_disk_leaves_the_states_whole(tmp_path, monkeypatch):
    """The next state cannot be written: the one before is there, and it goes on from it."""
    real, written = store.Store.save, []

    def full(self, done, state, losses):
        written.append(done)
        if len(written) > 1:
            (tmp_path / f"{done}.orbax-checkpoint-tmp-1").mkdir()  # what orbax leaves of it
            raise OSError(28, "No space left on device")
        real(self, done, state, losses)

    monkeypatch.setattr(store.Store, "save", full)
    with pytest.raises(OSError, match="No space left"):
        keep(tmp_path)
    monkeypatch.undo()
    same(keep(tmp_path), keep(tmp_path / "whole"))


_TERMINATED = """
import sys, time
from tests.training.test_driver import blocks_of, VALUES, quadratic
import jax, jax.numpy as jnp, optax
from mcjax.training import Trainer, run
from mcjax.training.store import Store
trainer = Trainer(quadratic, optax.adam(0.1))
def progress(part, losses):
    if part == 1:
        print("ready", flush=True)
        time.sleep(60)
run(trainer, trainer.init({"w": jnp.zeros(2, jnp.bfloat16)}, jax.random.key(1)), 3,
    blocks_of(VALUES, 3), store=Store(sys.argv[1], {"run": 1}), progress=progress)
"""


def test_sigterm_leaves_a_whole_state(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", _TERMINATED, str(tmp_path / "run")],
        stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": os.getcwd()},
    )  # fmt: skip
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        with pytest.raises(ValueError, match="another training is writing in"):
            keep(tmp_path / "run")
        process.send_signal(signal.SIGTERM)
        process.wait(30)
    assert process.returncode == -signal.SIGTERM
    same(keep(tmp_path / "run"), keep(tmp_path / "whole"))


def test_a_training_that_is_refused_leaves_no_trace(tmp_path):
    """Before the first state is kept, too, a second training does not say that it is its own."""
    with store.Store(tmp_path, {"run": 1}):
        record = (tmp_path / "run.json").read_text()
        with pytest.raises(ValueError, match="another training is writing in"):
            store.Store(tmp_path, {"run": 2}).__enter__()
        assert (tmp_path / "run.json").read_text() == record


# -- data ----------------------------------------------------------------------------------


def linear(params, x):
    return x["image"] @ params["w"] * x["scale"]


def test_memory_maps_are_taken_in_blocks(tmp_path, monkeypatch):
    """Data on disk give the networks that arrays give, a small block of them at a time."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(50, 3)).astype(np.float32), rng.normal(size=(50, 2)).astype(np.float32)
    for name, array in (("x", x), ("y", y)):
        np.save(tmp_path / f"{name}.npy", array)
    mapped = [np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in "xy"]
    largest = []
    rows = data.Data.rows

    def watched(self, indices):
        found = rows(self, indices)
        largest.append(sum(v.nbytes for v in found))
        return found

    def networks(x, y):
        inputs = {"image": x, "scale": Shared(np.float32([2.0, 3.0]))}
        start = lambda key: {"w": jax.random.normal(key, (3, 2))}
        return train_networks(linear, start, (inputs, y), (0, 1), Protocol(2, 8), task=REGRESSION)

    whole = networks(x, y)
    monkeypatch.setattr(data, "BLOCK_BYTES", 1000)  # one step of two networks: 320 bytes
    monkeypatch.setattr(data.Data, "rows", watched)
    same(networks(*mapped), whole)
    assert max(largest) <= 1000
    assert len(largest) == 4  # two blocks an epoch: six steps in twice three


def test_a_part_begins_with_its_own_key():
    """So that what a part draws does not depend on how many steps those before it took."""
    trainer = Trainer(
        lambda p, batch, draw, given: 0 * p + jax.random.uniform(draw), optax.sgd(0.1)
    )
    begin = trainer.init(jnp.zeros(()), jax.random.key(9))
    _, losses = run(trainer, begin, 3, lambda part: [(jnp.zeros(2), 2)], keys=jax.random.key)
    expected = []
    for part in range(3):
        key = jax.random.key(part)
        for _ in range(2):
            key, draw = jax.random.split(key)
            expected.append(jax.random.uniform(draw))
    np.testing.assert_array_equal(losses, expected)
