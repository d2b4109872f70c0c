"""Merging methods compared: the numbers against NumPy's, methods that fail, what is written."""

from __future__ import annotations

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mcjax
from mcjax.study_merging import compare_merging
from mcjax.tasks import REGRESSION


def model(params, x):
    return jax.nn.relu(x @ params["w1"]) @ params["w2"]


def network_of(seed):
    rng = np.random.default_rng(seed)
    return {"w1": rng.normal(size=(4, 6)).astype(np.float32),
            "w2": rng.normal(size=(6, 3)).astype(np.float32)}  # fmt: skip


def first(problem):
    """The first network, as it is."""
    return problem.networks[0]


def fails(problem):
    raise ValueError("never")


def data(n=50):
    x = np.random.default_rng(1).normal(size=(n, 4)).astype(np.float32)
    return x, np.asarray(model(network_of(0), x)).argmax(-1)


def logits(params, x):
    w1, w2 = (np.asarray(params[k], np.float64) for k in ("w1", "w2"))
    return np.maximum(np.asarray(x, np.float64) @ w1, 0) @ w2


def softmax(z):
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


NETWORKS = [network_of(k) for k in range(3)]


@pytest.fixture(scope="module")
def compared():
    x, y = data()
    return compare_merging(
        model, NETWORKS, (x, y), (x[:20], y[:20]), methods=["soup", first, fails], align=False
    )


def test_the_numbers_are_numpys(compared):
    x, y = data()
    mean = {k: np.mean([n[k] for n in NETWORKS], 0) for k in ("w1", "w2")}
    for split, n in (("train", 50), ("test", 20)):
        rows = np.arange(n)
        for row, params in zip(compared.rows, (mean, NETWORKS[0]), strict=False):
            p = softmax(logits(params, x[:n]))
            found = row.values[split]
            assert found["loss"] == pytest.approx(-np.log(p[rows, y[:n]]).mean(), rel=1e-4)
            assert found["accuracy"] == pytest.approx((p.argmax(1) == y[:n]).mean(), abs=1e-6)
        each = [softmax(logits(v, x[:n])) for v in NETWORKS]
        own = [(p.argmax(1) == y[:n]).mean() for p in each]
        np.testing.assert_allclose(compared.own[split]["accuracy"], own, atol=1e-6)
        together = np.mean(each, 0)
        loss = -np.log(together[rows, y[:n]]).mean()
        assert compared.ensemble[split]["loss"] == pytest.approx(loss, rel=1e-4)
    assert compared.rows[1].values["train"]["accuracy"] == 1


def test_what_fails_is_said_and_the_others_go_on(compared):
    assert compared.failed == {"fails": "never"}
    assert set(compared.mergings) == {"soup", "first"}
    table = compared.table()
    assert [r[0] for r in table.rows] == ["Soup", "first", "fails"] + [
        f"network {i}" for i in range(3)
    ]
    assert table.last[:2] == ["ensemble of outputs", "all networks"]
    assert "fails failed: never" in table.text()
    assert "as they are" in table.notes[0]
    assert "50 train, 20 test" in compared.summary()


def test_whatever_a_method_raises_is_a_row():
    """Not Ctrl-C, which ends it all."""

    def raises(error):
        def method(problem):
            raise error

        return method

    errors = {"later": NotImplementedError("not yet"), "singular": np.linalg.LinAlgError("det 0"),
              "large": MemoryError(), "wrong": KeyError("w9")}  # fmt: skip
    methods = {"soup": "soup", **{n: raises(e) for n, e in errors.items()}, "second": first}
    found = compare_merging(model, NETWORKS, data(), methods=methods)
    assert set(found.mergings) == {"soup", "second"}
    assert found.failed["later"].startswith("NotImplementedError: not yet")
    assert found.failed["singular"] == "det 0"
    assert found.failed["large"].startswith("out of memory")
    assert found.failed["wrong"].startswith("KeyError: 'w9'")
    with pytest.raises(KeyboardInterrupt):
        compare_merging(model, NETWORKS, data(), methods=["soup", raises(KeyboardInterrupt())])


def test_names_of_networks():
    named = dict(zip("abc", NETWORKS, strict=True))
    found = compare_merging(model, named, data(), methods=["soup"])
    assert [row[0] for row in found.table().rows[1:]] == ["a", "b", "c"]
    assert found.to_dict()["names"] == ["a", "b", "c"]


def test_a_star_is_trained_on_all_examples(monkeypatch):
    """Others look at the first of them; the table says that it trains."""
    monkeypatch.setattr("mcjax.study_merging._SAMPLE", 10)
    seen = {}

    def looks(name, trains):
        def method(problem):
            seen[name] = len(problem.x), len(problem.y)
            return problem.networks[0]

        method.trains = trains
        return method

    methods = {name: looks(name, name == "all") for name in ("all", "some")}
    found = compare_merging(model, NETWORKS, data(), methods=methods)
    assert seen == {"all": (50, 50), "some": (10, 10)}
    assert [row.needs for row in found.rows] == ["training", "–"]


def test_units_are_matched_unless_there_is_a_base():
    x, y = data()
    network = mcjax.trace(model, NETWORKS[0], x)
    copies = [network.permute(network.random_permutations(jax.random.key(k)), NETWORKS[0])
              for k in range(3)]  # fmt: skip
    aligned = compare_merging(network, copies, (x, y), methods=["soup"])
    assert aligned.rows[0].values["train"]["accuracy"] == 1
    assert aligned.alignment.startswith("matched (C²M³), optimal")
    base = compare_merging(network, copies, (x, y), methods=["soup"], base=copies[0])
    assert base.rows[0].values["train"]["accuracy"] < 1
    assert base.alignment == "as they are, in the order of their base"
    assert base.base["train"]["accuracy"] == 1
    assert "base" in [r[0] for r in base.table().rows]
    both = compare_merging(network, copies, (x, y), methods=["soup"], base=copies[0], align=True)
    assert both.rows[0].values["train"]["accuracy"] == 1


def test_all_presets_say_what_they_need():
    x, y = data()
    found = compare_merging(model, NETWORKS, (x, y))
    assert [row.method for row in found.rows] == [n for n in mcjax.merge.PRESETS if n != "star"]
    for row in found.rows:
        traits = mcjax.merge.traits_of(mcjax.merge.PRESETS[row.method])
        assert ("a base" in row.needs) == traits.needs_base
        if traits.needs_base or traits.pairs_only:
            assert row.error is not None
        else:
            assert row.error is None, row.error


def test_methods_look_at_every_networks_own_data():
    seen = []

    def looks(problem):
        seen.append([problem.data(i) for i in range(3)])
        return problem.networks[0]

    x, y = data()
    each = lambda v: mcjax.merge.Each([v[:10], v[10:20], v[20:]])
    own = each(x), each(y)
    compare_merging(model, NETWORKS, (x, y), methods=[looks], own=own)
    assert [len(x) for x, _ in seen[0]] == [10, 10, 30]
    compare_merging(model, NETWORKS, (x, y), methods=[looks])
    assert [len(x) for x, _ in seen[1]] == [50, 50, 50]


def test_outputs_of_a_regression_are_averaged():
    x, _ = data()
    y = logits(network_of(5), x).astype(np.float32)
    found = compare_merging(model, NETWORKS, (x, y), methods=["soup"], task=REGRESSION)
    together = np.mean([logits(n, x) for n in NETWORKS], 0)
    assert found.ensemble["train"]["loss"] == pytest.approx(((together - y) ** 2).mean(), rel=1e-4)
    assert found.table().columns == ["method", "needs", "train loss"]


def test_what_is_written(compared, tmp_path):
    record = json.loads(json.dumps(compared.to_dict()))
    assert record["methods"]["soup"]["values"]["test"] == dict(compared.rows[0].values["test"])
    assert record["methods"]["fails"]["error"] == "never"
    assert record["metadata"]["examples"] == {"train": 50, "test": 20}
    axes = compared.plot(tmp_path / "bars.png")
    widths = [p.get_width() for p in axes.patches]
    expected = [100 * r.values["test"]["accuracy"] for r in compared.rows[:2]]
    np.testing.assert_allclose(widths, expected)
    with pytest.raises(TypeError):
        compared.metadata["task"] = 1


@pytest.mark.parametrize(
    ("networks", "options", "message"),
    [(NETWORKS[:1], {}, "networks: at least two are needed, got 1"),
     (NETWORKS, {"methods": []}, "methods is empty"),
     (NETWORKS, {"methods": "soup"}, "methods must be a sequence"),
     (NETWORKS, {"methods": ["sop"]}, "did you mean 'soup'"),
     (NETWORKS, {"methods": [fails]}, "every method failed; fails: never"),
     ([NETWORKS[0], {"w1": jnp.ones(3)}], {}, r"networks\[1\]")],
)  # fmt: skip
def test_mistakes_are_said(networks, options, message):
    with pytest.raises(ValueError, match=message):
        compare_merging(model, networks, data(), **options)


def test_a_metric_that_there_is_not_is_said(compared):
    with pytest.raises(ValueError, match="metric must be one of 'loss', 'accuracy', got 'zz'"):
        compared.plot(metric="zz")
