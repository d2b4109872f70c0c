"""Every two of many networks: against one evaluation a pair, and the bootstrap over networks."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mcjax
from mcjax.evaluation import PairwiseCurves, evaluate_pairs, mean_over_pairs
from mcjax.path import Segments


def f(p, x):
    return jax.nn.relu(x @ p["w1"] + p["b"]) @ p["w2"]


def networks(n, width=5, seed=0):
    """The network whose labels `data` has, its units in other orders, and some noise."""
    rng = np.random.default_rng(seed)
    w1, b, w2 = (rng.normal(size=s) for s in ((40, width), width, (width, 3)))
    found = []
    for p in [rng.permutation(width) for _ in range(n)]:
        one = {"w1": w1[:, p], "b": b[p], "w2": w2[p]}
        found.append({k: jnp.asarray(v + 0.1 * rng.normal(size=v.shape), jnp.float32)
                      for k, v in one.items()})  # fmt: skip
    return found


def data(n=23, seed=9):
    x = np.random.default_rng(seed).normal(size=(n, 40)).astype(np.float32)
    return x, np.asarray(f(networks(1)[0], x).argmax(-1))


@pytest.mark.parametrize("options", [{}, {"chunk": 7}, {"t_batch": 4}])
def test_all_pairs_are_one_evaluation_a_pair(options):
    some, ts = networks(4), [0, 0.25, 0.5, 1]
    found = evaluate_pairs(some, f, data(), ts, **options)
    for i, j in found.pairs:
        alone = mcjax.evaluate(mcjax.path.Linear(some[i], some[j]), f, data(), ts)
        for curve in (found.curve(i, j), found.curve(j, i)):
            ends = slice(None, None, 1 if curve.metadata["pair"] == (i, j) else -1)
            np.testing.assert_allclose(curve.loss[ends], alone.loss, rtol=1e-5)
            np.testing.assert_array_equal(curve.accuracy[ends], alone.accuracy)
            np.testing.assert_allclose(curve.lengths[ends], alone.lengths, rtol=1e-5)
            for convention in ("chord", "endpoint"):
                expected = alone.barrier(convention)
                assert found.barriers(convention)[i, j] == pytest.approx(expected, rel=1e-4)
    matrix = found.barriers()
    assert matrix[np.triu_indices(4, 1)].min() > 0.1
    mean = found.mean_barrier()
    assert mean.mean == pytest.approx(matrix[np.triu_indices(4, 1)].mean())
    assert mean.low < mean.mean < mean.high
    np.testing.assert_array_equal(matrix, matrix.T)
    middle = found.at_middle()
    assert middle[1, 2] == found.curve(1, 2).loss[2]
    own = [mcjax.evaluate(mcjax.path.Linear(p, p), f, data(), [0.0]).loss[0] for p in some]
    np.testing.assert_allclose(np.diag(middle), own, rtol=1e-5)


def test_first_layers_are_computed_once_a_network_and_once_compiled():
    some, (x, y) = networks(4, width=64), data()
    seen = []

    def counted(p, x):
        seen.append(1)
        return f(p, x)

    family = Segments.between(some)
    coordinates = tuple(map(jnp.asarray, ([0, 2, 1], [1, 3, 2], [0.0, 0.5, 1.0])))

    def sums(family):
        return mcjax.evaluation.metrics_at(family, f, (x, y), coordinates)["loss"]

    text = str(jax.make_jaxpr(sums)(family))
    assert "f32[4,23,64]" in text  # the stack of the four networks' first layers
    evaluate_pairs(some, counted, (x, y), 3)
    first = len(seen)
    evaluate_pairs(networks(4, width=64, seed=1), counted, (x, y), 3)
    assert len(seen) - first < first


def test_each_pair_aligned_by_itself():
    some, (x, y) = networks(3), data()
    network = mcjax.trace(f, some[0], x)
    turned = [network.permute(network.random_permutations(jax.random.key(k)), some[0])
              for k in range(3)]  # fmt: skip

    def align(a, b):
        return network.permute(mcjax.align.match_weights(network, a, b).permutations, b)

    plain, found = (evaluate_pairs(turned, network, (x, y), 3, align=m) for m in (None, align))
    assert plain.distances.min() > 1
    np.testing.assert_allclose(found.distances, 0, atol=1e-6)
    np.testing.assert_allclose(found.barriers(), 0, atol=1e-6)
    assert found.metadata["aligned"] == "align"
    assert "aligned: align" in found.summary()


def test_statistics_are_the_two_networks_own():
    def g(p, x):
        return (x @ p["w"] - p["mean"]) / jnp.sqrt(p["var"] + 1e-5)

    rng = np.random.default_rng(0)
    some = [
        {"w": jnp.asarray(rng.normal(size=(40, 3)), jnp.float32), "mean": jnp.full(3, float(k)),
         "var": jnp.full(3, k + 1.0)} for k in range(3)
    ]  # fmt: skip
    with pytest.warns(mcjax.evaluation.StatisticsWarning) as warned:
        found = evaluate_pairs(some, g, data(), 3)
    assert warned[0].filename == __file__
    with pytest.warns(mcjax.evaluation.StatisticsWarning):
        alone = mcjax.evaluate(mcjax.path.Linear(some[1], some[2]), g, data(), 3)
    np.testing.assert_allclose(found.curve(1, 2).loss, alone.loss, rtol=1e-5)
    estimated = evaluate_pairs(some, g, data(), 3, statistics=data()[0])
    path = mcjax.path.Linear(some[0], some[2])
    alone = mcjax.evaluate(path, g, data(), 3, statistics=data()[0])
    np.testing.assert_allclose(estimated.curve(0, 2).loss, alone.loss, rtol=1e-5)


def test_the_contract_of_families():
    coordinates = tuple(map(jnp.asarray, ([0, 2, 1], [1, 0, 1], [0.0, 0.5, 0.3])))
    mcjax.testing.check_family(Segments.between(networks(3)), coordinates)


def test_intervals_cover_as_often_as_they_say_and_pairs_alone_do_not():
    rng = np.random.default_rng(0)
    n, trials, covered, naive = 16, 200, 0, 0
    i, j = np.triu_indices(n, 1)
    for _ in range(trials):
        u = rng.normal(size=n)  # v_ij = u_i + u_j: the mean over all networks is 0
        found = mean_over_pairs(u[:, None] + u, 0.9, draws=500)
        covered += found.low < 0 < found.high
        pairs = (u[:, None] + u)[i, j]
        naive += abs(pairs.mean()) < 1.645 * pairs.std(ddof=1) / len(pairs) ** 0.5
        assert found.deviation == pytest.approx(pairs.std(ddof=1))
    assert 0.8 < covered / trials < 0.97  # 0.9, less a little for few networks
    assert naive / trials < 0.6


def test_two_networks_have_no_interval():
    found = mean_over_pairs([[0, 2.0], [2.0, 0]])
    assert found.mean == 2
    assert np.isnan([found.low, found.high, found.deviation]).all()


def test_saved_drawn_and_said(tmp_path):
    found = evaluate_pairs(networks(3), f, data(), 3)
    mcjax.save(tmp_path / "pairs.safetensors", found)
    for again in (mcjax.load(tmp_path / "pairs.safetensors"),
                  PairwiseCurves.from_dict(found.to_dict())):  # fmt: skip
        np.testing.assert_array_equal(again.values["loss"], found.values["loss"])
        np.testing.assert_array_equal(again.barriers("endpoint"), found.barriers("endpoint"))
        assert again.task is found.task
        assert again.metadata == found.metadata
    panel = found.plot(tmp_path / "matrix.png", names=["a", "b", "c"])
    assert (tmp_path / "matrix.png").stat().st_size > 1000
    written = {t.get_text() for t in panel.texts}
    assert written == {f"{v:.2g}" for v in found.barriers()[np.triu_indices(3, 1)]}
    assert "3 networks, 3 pairs, 3 points; classification, 23 examples" in found.summary()
    with pytest.raises(ValueError, match="names: 2 for 3"):
        found.plot(names=["a", "b"])


def test_mistakes():
    good = networks(2)
    bad = {**good[1], "w1": jnp.full((40, 5), jnp.nan)}
    wide = networks(1, width=6)[0]
    for some, words in (
        (good[:1], "at least two"),
        (good[0], "sequence of parameter trees"),
        ([good[0], bad], r"networks\[1\].*w1.*NaN"),
        ([good[0], wide], r"networks\[1\]"),
    ):
        with pytest.raises(ValueError, match=words):
            evaluate_pairs(some, f, data(), 3)
    found = evaluate_pairs(good, f, data(), 2)
    with pytest.raises(ValueError, match="no curve from 1 to 1"):
        found.curve(1, 1)
    with pytest.raises(ValueError, match="½"):
        found.at_middle()
    with pytest.raises(ValueError, match=r"expected \(N, N\)"):
        mean_over_pairs([[0.0]])
    with pytest.raises(ValueError, match="level"):
        mean_over_pairs(np.eye(3), 1.0)
