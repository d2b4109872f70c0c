"""`compare`: several methods on two networks, whatever the task, and methods that fail."""

from __future__ import annotations

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import mcjax
from mcjax.methods import Connection, LayerByLayer, Linear, WeightAdjustment
from mcjax.report import Table
from mcjax.study import compare, default_methods
from mcjax.tasks import NEXT_TOKEN, REGRESSION
from mcjax.testing.models.catalogue import MLP, MODELS, linen, vectors


class Fails:
    label = "Never"

    def connect(self, problem):
        raise ValueError("no way through")


class Sharp:
    """To B by way of A's negative, half way."""

    def connect(self, problem):
        middle = jax.tree.map(jnp.negative, problem.a)
        return Connection(mcjax.path.PolygonalChain([problem.a, middle, problem.b]))


@pytest.fixture(scope="module")
def case():
    return linen(MLP((16,)), vectors(), [(16,)])


@pytest.fixture(scope="module")
def compared(case):
    network = mcjax.trace(case.apply_fn, case.params, case.x)
    a, x = case.another(1), case.inputs(80)
    b = network.permute(network.random_permutations(jax.random.key(2)), a)
    y = np.asarray(jnp.argmax(case.run(a, x), -1))
    methods = ["linear", Fails(), "ot", Sharp(), LayerByLayer(Linear(), WeightAdjustment(3))]
    test = (x[:30], y[:30])
    return compare(network, a, b, (x, y), test, methods=methods, t=5, key=jax.random.key(4))


def test_rows_and_numbers(case, compared):
    assert [r.method for r in compared.rows] == [
        "linear", "Never", "ot", "Sharp", "Linear + WA"
    ]  # fmt: skip
    # b is a in another order: transport finds it, and nothing changes along the path.
    ot = compared.rows[2]
    assert ot.worst("train", "accuracy") == ot.worst("test", "accuracy") == 1.0
    assert ot.barrier("chord") == pytest.approx(0, abs=1e-5)
    assert compared.endpoints("test", "accuracy") == 1.0
    sharp = compared.rows[3].curves["train"]
    assert compared.rows[3].barrier("endpoint") == pytest.approx(
        sharp.loss.max() - max(sharp.loss[0], sharp.loss[-1])
    )
    assert compared.connections["ot"].permutations


def test_a_method_that_fails_is_a_row(compared):
    assert compared.failed == {"Never": "no way through"}
    shown = compared.summary()
    (line,) = [v for v in shown.splitlines() if v.startswith("Never ") and "failed" not in v]
    assert line.split()[1:] == ["–"] * 4
    assert "Never failed: no way through" in shown
    assert compared.to_dict()["methods"]["Never"]["error"] == "no way through"


def test_whatever_a_method_raises_is_a_row(case):
    """Not Ctrl-C, which ends it all."""

    class Raises:
        label = "Raises"

        def __init__(self, error):
            self.error = error

        def connect(self, problem):
            raise self.error

    a, b, x = case.another(1), case.another(2), case.inputs(20)
    data = x, np.arange(20) % 3
    errors = (NotImplementedError("not yet"), MemoryError(), KeyError("w9"))
    methods = {"linear": "linear"} | {f"m{i}": Raises(e) for i, e in enumerate(errors)}
    found = compare(case.apply_fn, a, b, data, methods=methods, t=3)
    assert set(found.connections) == {"linear"}
    assert found.failed["m0"].startswith("NotImplementedError: not yet")
    assert found.failed["m1"].startswith("out of memory")
    assert found.failed["m2"].startswith("KeyError: 'w9'")
    with pytest.raises(KeyboardInterrupt):
        compare(case.apply_fn, a, b, data, methods=["linear", Raises(KeyboardInterrupt())], t=3)


def test_table_says_what_it_is_of(compared):
    table = compared.table()
    assert list(table.columns) == [
        "method", "worst train %", "worst test %", "barrier (chord)", "barrier (ends)"
    ]  # fmt: skip
    assert table.rows[2][:3] == ["OT", "100.00", "100.00"]
    assert table.last is not None
    assert table.last[:3] == ["End points", "100.00", "100.00"]
    assert any("training loss (cross-entropy)" in note for note in table.notes)
    assert len(table.markdown().splitlines()) == 2 + 6 + 2 * 2
    facts = compared.metadata
    assert facts["examples"] == {"train": 80, "test": 30}
    assert facts["statistics"] == "train[:80]"
    assert facts["key"] == [0, 4]
    assert facts["methods"]["Linear + WA"].endswith("reader=WeightAdjustment(points=3))")
    json.dumps(compared.to_dict())


def test_figure(compared, tmp_path):
    compared.plot(tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_a_regression(case):
    a, b, x = case.another(1), case.another(2), case.inputs(60)
    y = case.run(a, x)
    found = compare(case.apply_fn, a, b, (x, y), methods=["linear"], t=3, task=REGRESSION)
    assert list(found.table().columns)[1:3] == ["worst train loss", "worst train absolute error"]
    end = float(jnp.mean((case.run(b, x) - y) ** 2))
    row = found.rows[0]
    assert row.curves["train"].loss[-1] == pytest.approx(end, rel=1e-4)
    assert found.endpoints("train", "loss") == pytest.approx(end / 2, rel=1e-4)
    assert row.worst("train", "loss") == pytest.approx(row.curves["train"].loss.max())
    with pytest.raises(ValueError, match=r"train: y: .*task=mcjax.tasks.REGRESSION"):
        compare(case.apply_fn, a, b, (x, y), methods=["linear"])


def test_a_language_model():
    rng = np.random.default_rng(0)
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
    a, b = ({"embed": draw(9, 6), "out": draw(6, 9)} for _ in range(2))
    predict = lambda p, tokens: jnp.tanh(p["embed"])[tokens] @ p["out"]
    x = rng.integers(0, 9, (12, 5))
    y = np.asarray(jnp.argmax(predict(a, x), -1))
    found = compare(predict, a, b, (x, y), methods=["ot"], t=3, task=NEXT_TOKEN)
    assert found.table().columns[1] == "worst train %"
    share = float(np.mean(np.argmax(predict(b, x), -1) == y))
    assert found.endpoints("train", "accuracy") == pytest.approx((1 + share) / 2, abs=1e-6)


def test_names(case):
    a, b, x = case.another(1), case.another(2), case.inputs(40)
    y = np.zeros(40, int)
    methods = {"mine": "linear", "yours": Sharp()}
    found = compare(case.apply_fn, a, b, (x, y), methods=methods, t=2)
    assert list(found.connections) == ["mine", "yours"]
    twice = ["linear", Linear(), Sharp(), Sharp()]
    found = compare(case.apply_fn, a, b, (x, y), methods=twice, t=2)
    assert [r.method for r in found.rows] == ["linear", "Sharp", "Sharp (2)"]


def test_bad_input(case):
    a, b, x = case.another(1), case.another(2), case.inputs(40)
    data = (x, np.zeros(40, int))
    with pytest.raises(ValueError, match="every method failed; Never: no way through"):
        compare(case.apply_fn, a, b, data, methods=[Fails()])
    with pytest.raises(ValueError, match="methods must be a sequence of names"):
        compare(case.apply_fn, a, b, data, methods="linear")
    with pytest.raises(ValueError, match="methods is empty"):
        compare(case.apply_fn, a, b, data, methods=[])
    with pytest.raises(ValueError, match="unknown method 'magic'"):
        compare(case.apply_fn, a, b, data, methods=["linear", "magic"])
    with pytest.raises(ValueError, match="train: y: labels lie in"):
        compare(case.apply_fn, a, b, (x, np.full(40, 9)))


def test_default_methods():
    case = MODELS["mlp"]()
    deep = mcjax.trace(case.apply_fn, case.params, case.x)
    names = default_methods(deep)
    assert "ot+butterfly" in names
    assert not {"bezier", "garipov-3", "pam"} & set(names)
    assert "bezier" in default_methods(deep, trained=True)
    case = linen(MLP((16,)), vectors(), [(16,)])
    flat = mcjax.trace(case.apply_fn, case.params, case.x)
    assert set(names) - set(default_methods(flat)) == {
        "linear+butterfly", "arc+butterfly", "ot+butterfly"
    }  # fmt: skip


def test_names_with_bars_stay_in_their_cells_in_markdown():
    lines = Table(["method", "a|b"], [["x|y", "1"]]).markdown().splitlines()
    assert lines == [r"| method | a\|b |", "|---|---:|", r"| x\|y | 1 |"]
