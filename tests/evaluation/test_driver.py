"""The engine: a pure core, and a driver that streams data and computes costly points once."""

from __future__ import annotations

import itertools
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mcjax
from mcjax import _compiled, _stream
from mcjax.evaluation import along, evaluate_points, metrics_at
from mcjax.path import Bezier, Knots, Legs, Linear, Path, Points

from ..conftest import alive
from ..test_compiles import Compiled
from .test_evaluate import data, mlp, oracle, params

TS = jnp.linspace(0, 1, 5)


# -- the core ------------------------------------------------------------------------------


def test_the_core_is_evaluate_on_one_batch():
    path, (x, y) = Linear(params(0), params(1)), data(30)
    found = jax.jit(lambda p, batch: metrics_at(p, mlp, batch, TS))(path, (x, y))
    for i, t in enumerate(TS):
        loss, accuracy = oracle(path(t), x, y)
        assert float(found["loss"][i]) == pytest.approx(loss, rel=1e-4)
        assert float(found["accuracy"][i]) == pytest.approx(accuracy, abs=1e-6)


def test_the_core_can_be_differentiated_in_free_points():
    """The gradient of the mean loss along a curve, against central differences."""
    curve, (x, y) = Bezier([params(0), params(2), params(1)]), data(20)
    free = curve.free()
    loss = lambda free: jnp.mean(metrics_at(curve.with_free(free), mlp, (x, y), TS)["loss"])
    gradient = jax.grad(loss)(free)
    along = jax.tree.map(lambda v: jax.random.normal(jax.random.key(v.size), v.shape), free)
    expected = sum(float(jnp.vdot(g, d)) for g, d in zip(*map(jax.tree.leaves, (gradient, along))))

    def mean_loss(step):
        moved = curve.with_free(jax.tree.map(lambda v, d: v + step * d, free, along))
        return np.mean([oracle(moved(t), x, y)[0] for t in TS])

    assert expected == pytest.approx((mean_loss(1e-3) - mean_loss(-1e-3)) / 2e-3, rel=0.02)


def test_the_core_vmapped_over_stacked_pairs():
    x, y = data(30)
    pairs = [Linear(params(0), params(1)), Linear(params(2), params(3))]
    stacked = jax.tree.map(lambda *v: jnp.stack(v), *pairs)
    found = jax.vmap(lambda p: metrics_at(p, mlp, (x, y), TS)["loss"])(stacked)
    for k, path in enumerate(pairs):
        expected = [oracle(path(t), x, y)[0] for t in TS]
        np.testing.assert_allclose(found[k], expected, rtol=1e-4)


def test_the_core_refuses_what_is_not_the_tasks():
    path, (x, y) = Linear(params(0), params(1)), data(30)
    with pytest.raises(ValueError, match=r"labels lie in \[0, 7\]"):
        metrics_at(path, mlp, (x, np.full(30, 7) * (np.arange(30) > 0)), TS)
    with pytest.raises(ValueError, match="a leading axis of points"):
        metrics_at(path, mlp, (x, y), 0.5)
    with pytest.raises(ValueError, match=r"t must lie in \[0, 1\]"):
        metrics_at(path, mlp, (x, y), 1.5 * TS)


# -- data in blocks ------------------------------------------------------------------------


@pytest.mark.parametrize("n", [31, 32, 33, 64, 103])
def test_blocks_do_not_matter_and_compile_once(n, monkeypatch):
    path, (x, y) = Linear(params(0), params(1)), data(n)
    whole = mcjax.evaluate(path, mlp, (x, y), 3, chunk=16)
    monkeypatch.setattr(along, "BLOCK_BYTES", 32 * (40 * 4 + 8))
    mcjax.evaluate(path, mlp, (x, y), 3, chunk=16)
    with Compiled() as second:
        parts = mcjax.evaluate(path, mlp, (x, y), 3, chunk=16)
    assert second.programs == []
    np.testing.assert_allclose(parts.loss, whole.loss, rtol=1e-5)
    np.testing.assert_allclose(parts.accuracy, whole.accuracy, rtol=1e-6)
    assert parts.metadata["examples"] == n


def test_a_memory_map_is_never_read_whole(tmp_path, monkeypatch):
    path, (x, y) = Linear(params(0), params(1)), data(103)
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    monkeypatch.setattr(along, "BLOCK_BYTES", 32 * (40 * 4 + 8))
    most, put = [], jnp.asarray
    monkeypatch.setattr(
        jnp, "asarray", lambda v, *a, **k: (most.append(np.size(v)), put(v, *a, **k))[1]
    )
    found = mcjax.evaluate(path, mlp, (mapped, y), 3, chunk=16)
    assert 0 < max(most) <= 32 * 40
    expected = [oracle(path(t), x, y)[0] for t in found.t]
    np.testing.assert_allclose(found.loss, expected, rtol=1e-4)


def batches(x, y, *sizes):
    ends = list(itertools.accumulate(sizes))
    return [(x[i:j], y[i:j]) for i, j in zip([0, *ends[:-1]], ends, strict=True)]


@pytest.mark.parametrize("kind", [list, iter])
def test_batches_of_any_sizes(kind):
    """Each example once, whatever the batches; several blocks of 8 chunks and a last one."""
    path, (x, y) = Linear(params(0), params(1)), data(103)
    given = kind(batches(x, y, 1, 40, 7, 55))
    found = mcjax.evaluate(path, mlp, given, 3, chunk=5)
    expected = [oracle(path(t), x, y) for t in found.t]
    np.testing.assert_allclose(np.stack([found.loss, found.accuracy], 1), expected, rtol=1e-4)
    assert found.metadata["examples"] == 103


@pytest.mark.parametrize("kind", ["arrays", "batches"])
def test_labels_of_a_later_block_are_looked_at(kind, monkeypatch):
    path, (x, y) = Linear(params(0), params(1)), data(103)
    y = np.where(np.arange(103) == 90, 3, y)
    monkeypatch.setattr(along, "BLOCK_BYTES", 32 * (40 * 4 + 8))
    given = (x, y) if kind == "arrays" else batches(x, y, 40, 63)
    with pytest.raises(ValueError, match=r"labels lie in \[0, 3\], expected classes from 0 to 2"):
        mcjax.evaluate(path, mlp, given, 3, chunk=16)


def test_batches_are_gone_through_once(monkeypatch):
    """However many legs: their points are swept together, as far as they fit."""
    from mcjax.evaluation import pieces

    class Loader:
        passes = 0

        def __iter__(self):
            type(self).passes += 1
            return iter(batches(*data(30), 10, 20))

    line, loader = Linear(params(0), params(1)), Loader()
    legs = Legs([line, Linear(params(1), params(2))])
    mcjax.evaluate(line, mlp, loader, 3)
    expected = mcjax.evaluate(legs, mlp, data(30), 5)
    for given in (loader, iter(loader)):
        np.testing.assert_allclose(mcjax.evaluate(legs, mlp, given, 5).loss, expected.loss, 1e-5)
    assert Loader.passes == 3
    monkeypatch.setattr(pieces, "_POINTS_BYTES", 3 * sum(v.nbytes for v in params(0).values()))
    np.testing.assert_allclose(mcjax.evaluate(legs, mlp, loader, 5).loss, expected.loss, 1e-5)
    assert Loader.passes == 5
    with pytest.raises(ValueError, match=r"only once, and a path in 2 pieces needs 2 passes"):
        mcjax.evaluate(legs, mlp, iter(loader), 5)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "holds no batches"),
        ([data(3)[0]], "batch 0: a batch must be"),
        ([data(4), (data(4)[0], data(3)[1])], "batch 1: x and y have different lengths: 4 and 3"),
        ({"x": 1}, "data must be"),
        (7, "data must be"),
    ],
)
def test_data_that_are_none(given, message):
    with pytest.raises(ValueError, match=message):
        mcjax.evaluate(Linear(params(0), params(1)), mlp, given, 3)


def test_what_examples_share_in_blocks(monkeypatch):
    """A mask for all examples is not cut with them."""
    x, y = data(50)
    keep = np.arange(40) % 3 > 0
    masked = lambda p, x: mlp(p, jnp.where(x["keep"], x["image"], 0))
    path = Linear(params(0), params(1))
    monkeypatch.setattr(along, "BLOCK_BYTES", 20 * (40 * 4 + 8))
    given = {"image": x, "keep": mcjax.Shared(keep)}
    found = mcjax.evaluate(path, masked, (given, y), 3, chunk=10)
    np.testing.assert_allclose(
        found.loss, [oracle(path(t), x * keep, y)[0] for t in found.t], rtol=1e-4
    )


# -- points --------------------------------------------------------------------------------


class Counting(Path):
    """A segment that counts how often its points are computed."""

    a: dict
    b: dict
    costly = True
    calls = 0

    def at(self, t):
        line = Linear(self.a, self.b)

        def count(t):
            Counting.calls += 1
            return t

        t = jax.pure_callback(count, jax.ShapeDtypeStruct((), t.dtype), t, vmap_method="sequential")
        return line.at(t)


@pytest.mark.parametrize("kind", ["plain", "leg"])
def test_costly_points_are_computed_once(kind):
    path, d = Counting(params(0), params(1)), data(30)
    if kind == "leg":
        path = Legs([path, Linear(params(1), params(2))])
    Counting.calls = 0
    curve = mcjax.evaluate(path, mlp, d, path.grid(4), chunk=10)
    assert Counting.calls == (5 if kind == "plain" else 4)
    plain = Linear(params(0), params(1))
    plain = Legs([plain, Linear(params(1), params(2))]) if kind == "leg" else plain
    expected = mcjax.evaluate(plain, mlp, d, path.grid(4), chunk=10)
    np.testing.assert_allclose(curve.loss, expected.loss, rtol=1e-5)
    np.testing.assert_allclose(curve.lengths, expected.lengths, rtol=1e-4)


def test_costly_points_are_computed_once_with_statistics():
    """Their estimation and the sweep share them."""

    def normalised(p, x):
        h = (x @ p["w1"] - p["mean"]) / jnp.sqrt(p["var"] + 1e-5)
        return jax.nn.relu(h + p["b1"]) @ p["w2"] + p["b2"]

    more = {"mean": jnp.zeros(12), "var": jnp.ones(12)}
    a, b = ({**params(s), **more} for s in (0, 1))
    x, y = data(30)
    Counting.calls = 0
    curve = mcjax.evaluate(Counting(a, b), normalised, (x, y), 5, chunk=10, statistics=x[:20] + 0)
    # Besides the five: its ends once, to see whether what normalises the inputs is the same there.
    assert Counting.calls <= 7
    expected = mcjax.evaluate(Linear(a, b), normalised, (x, y), 5, chunk=10, statistics=x[:20] + 0)
    np.testing.assert_allclose(curve.loss, expected.loss, rtol=1e-4)


def test_many_costly_points_a_part_at_a_time(monkeypatch):
    from mcjax.evaluation import pieces

    size = sum(v.nbytes for v in jax.tree.leaves(params(0)))
    monkeypatch.setattr(pieces, "_POINTS_BYTES", 2 * size)
    path, d = Counting(params(0), params(1)), data(30)
    curve = mcjax.evaluate(path, mlp, d, 5)
    expected = mcjax.evaluate(Linear(params(0), params(1)), mlp, d, 5)
    np.testing.assert_allclose(curve.loss, expected.loss, rtol=1e-5)
    np.testing.assert_allclose(curve.lengths, expected.lengths, rtol=1e-4)


def test_stacks_of_points_in_any_order():
    x, y = data(30)
    networks = [params(s) for s in range(3)]
    points = Points(jax.tree.map(lambda *v: jnp.stack(v), *networks))
    found = evaluate_points(points, mlp, (x, y), [2, 0, 2])
    expected = [oracle(networks[k], x, y)[0] for k in (2, 0, 2)]
    np.testing.assert_allclose(found["loss"], expected, rtol=1e-4)


def test_a_path_tabulated_at_given_ts():
    path, ts = Bezier([params(0), params(2), params(1)]), [0, 0.1, 0.75, 1]
    table = Knots.of(path, ts)
    for t in ts:
        jax.tree.map(np.testing.assert_array_equal, table(t), path(t))
    middle = jax.tree.map(lambda u, v: (u + v) / 2, path(0.75), path(1.0))
    jax.tree.map(lambda u, v: np.testing.assert_allclose(u, v, rtol=1e-5), table(0.875), middle)
    with pytest.raises(ValueError, match="ts must be 3 numbers that rise from 0 to 1"):
        Knots.of(path, [0, 0.5, 0.75])


# -- messages ------------------------------------------------------------------------------


def test_t_that_falls():
    with pytest.raises(ValueError, match=r"t must not fall: t\[2\] = 0.25 comes after t\[1\]"):
        mcjax.evaluate(Linear(params(0), params(1)), mlp, data(), [0, 0.5, 0.25])
    repeated = mcjax.evaluate(Linear(params(0), params(1)), mlp, data(), [0, 0.5, 0.5, 1])
    assert repeated.loss[1] == repeated.loss[2]
    assert repeated.lengths[1] == 0


def test_nan_in_x(monkeypatch):
    x, y = data(103)
    x[90, 3] = np.nan
    monkeypatch.setattr(along, "BLOCK_BYTES", 32 * (40 * 4 + 8))
    with pytest.raises(ValueError, match="x holds 1 NaN"):
        mcjax.evaluate(Linear(params(0), params(1)), mlp, (x, y), 3, chunk=16)


def test_metrics_that_are_not_finite():
    """One warning, which names the first t and how many examples."""
    x, y = data(30)
    x[:4] *= 1e4
    path = Linear(jax.tree.map(jnp.zeros_like, params(0)), params(1))
    steep = lambda p, x: jnp.exp(jnp.abs(mlp(p, x)))
    with pytest.warns(UserWarning, match=r"for 4 of 30 examples at t = 0.5, and at 1 other"):
        curve = mcjax.evaluate(path, steep, (x, y), 3, chunk=10)
    assert np.isfinite(curve.loss[0])
    assert not np.isfinite(curve.loss[1])


def test_a_network_in_place_of_its_function():
    """What the trace marked as shared needs no mark."""
    x, y = data(30)
    keep = np.arange(40) % 3 > 0
    masked = lambda p, x: mlp(p, jnp.where(x["keep"], x["image"], 0))
    marked = {"image": x, "keep": mcjax.Shared(keep)}
    network = mcjax.trace(masked, params(0), marked)
    path = Linear(params(0), params(1))
    found = mcjax.evaluate(path, network, ({"image": x, "keep": keep}, y), 3)
    expected = mcjax.evaluate(path, masked, (marked, y), 3)
    np.testing.assert_array_equal(found.loss, expected.loss)


# -- memory --------------------------------------------------------------------------------


def test_what_is_compiled_is_let_go(monkeypatch):
    """Of many closures, each evaluated, no more are kept than the bound."""
    monkeypatch.setattr(_compiled, "KEPT", 4)
    path, (x, y) = Linear(params(0), params(1)), data(8)

    def closure(i):
        return lambda p, x: mlp(p, x) + i

    kept = []
    for i in range(12):
        f = closure(i)
        kept.append(weakref.ref(f))
        mcjax.evaluate(path, f, (x, y), [0.0])
        del f
    assert alive(kept, 4) <= 4


def test_equal_static_arguments_are_compiled_once():
    def scaled(scale, x):
        return scale * x

    first = _compiled.compiled(scaled, (1, 2), of="a")
    assert first is _compiled.compiled(scaled, (1, 2), of="a")
    assert first is not _compiled.compiled(scaled, (1, 2), of="b")


def test_blocks_have_one_shape_and_hold_each_example_once():
    for n, chunk, limit in itertools.product((1, 7, 24, 25), (1, 4, 7), (1, 30, 10**6)):
        x, y = np.arange(n, dtype=np.float32)[:, None], np.arange(n)
        seen, shapes = np.zeros(n), set()
        for block in _stream.Stream((x, y), min(chunk, n), limit=limit).blocks():
            np.add.at(seen, block.data[1], block.weights)
            shapes.add(block.data[0].shape)
            assert block.n == block.weights.sum()
        assert (seen == 1).all()
        assert len(shapes) == 1
