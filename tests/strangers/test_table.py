"""Models that nobody here wrote: every row of `experiments.strangers`, measured anew."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

import mcjax
from experiments.strangers import measure
from experiments.strangers.__main__ import Strangers, main
from experiments.strangers.keras_graph import Channels
from experiments.strangers.processes import Processes
from experiments.strangers.row import Row, attention, with_readout
from experiments.strangers.table import absent, rows, table, works

from ..pages import ROOT, run_page

RESULTS = Path(measure.__file__).parent / "results"
COMMITTED = json.loads((RESULTS / "strangers.json").read_text())["models"]
ROWS = {r.key: r for r in rows()}


def test_the_committed_table_hides_nothing():
    assert len(ROWS) == len(rows())
    assert set(COMMITTED) <= set(ROWS)
    for key, record in COMMITTED.items():
        assert works(record) != bool(ROWS[key].broken), key
    assert table(rows(), COMMITTED) in (RESULTS / "strangers.md").read_text()


def test_rows_that_another_environment_has_measured_stay(tmp_path, monkeypatch):
    monkeypatch.setenv("JAX_DISABLE_MOST_OPTIMIZATIONS", "0")  # so that it is this again
    file = tmp_path / "strangers.json"
    file.write_text(json.dumps({"models": {**COMMITTED, "kimm: no more": {}}}))
    assert main(Strangers(out=tmp_path, only=("nothing",))) == 0
    assert json.loads(file.read_text())["models"].keys() >= COMMITTED.keys()
    assert table(rows(), COMMITTED) in (tmp_path / "strangers.md").read_text()


@pytest.fixture(scope="module")
def processes():
    return Processes()


@pytest.mark.slow
@pytest.mark.parametrize("row", rows(), ids=lambda r: r.key)
def test_a_strangers_model(row, processes):
    if packages := absent(row.framework):
        pytest.skip(f"not installed: {packages}")
    record = processes.measure(row)
    if row.broken:
        assert record["failures"]
        return
    assert not record["failures"]
    for what in ("groups", "parameters", "layers", "fixed"):
        assert record[what] == COMMITTED.get(row.key, record)[what]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_the_page_runs(monkeypatch):
    for package in ("keras", "transformers", "haiku"):
        pytest.importorskip(package)
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    x = np.random.default_rng(0).normal(size=(20, 64)).astype("f4")
    import jax

    start = {"jax": jax, "jnp": jnp, "mcjax": mcjax, "x": x, "key": jax.random.key(0)}
    assert run_page(ROOT / "docs" / "other-frameworks.md", start) > 0


# -- the measurement itself fails where it should ------------------------------------------------


def small(hidden=7):
    rng = np.random.default_rng(0)
    params = {"w1": rng.normal(size=(3, hidden)), "b1": rng.normal(size=hidden),
              "w2": rng.normal(size=(hidden, 2))}  # fmt: skip
    apply_fn = lambda p, x: jnp.tanh(x @ p["w1"] + p["b1"]) @ p["w2"]
    params = {k: jnp.asarray(v, jnp.float32) for k, v in params.items()}
    return apply_fn, params, jnp.asarray(rng.normal(size=(4, 3)), jnp.float32)


def test_what_is_measured_of_a_model():
    record = measure.measure(Row("small", "here", small, {(7,): 1}))
    assert not record["failures"]
    assert record["recovered"]
    assert (record["groups"], record["units"], record["parameters"]) == ({"7": 1}, 7, 42)
    assert record["loss"][0] == pytest.approx(0, abs=1e-10)
    assert max(record["loss"]) > 1e-3


def test_groups_that_are_not_those_counted_are_said():
    (failure,) = measure.measure(Row("small", "here", small, {(8,): 1, (7,): 1}))["failures"]
    assert failure == "groups of shape (8,): 0 instead of 1"


def test_leaves_that_stay_are_said_unless_expected():
    def build():
        apply_fn, params, x = small()
        fixed = jnp.arange(7.0)
        return lambda p, x: apply_fn(p, x) + (fixed * p["b1"])[:2], params, x

    def shown():
        _, params, x = small()
        closed = jnp.arange(7.0)
        return lambda p, x: jnp.tanh(x @ p["w1"] + p["b1"] + closed) @ p["w2"], params, x

    for how in (build, shown):
        failures = measure.measure(Row("fixed", "here", how))["failures"]
        assert any("leaves are not permuted" in f for f in failures)
    expected = Row("fixed", "here", shown, still={"*": "a constant is added"})
    assert measure.measure(expected)["failures"] == ["no groups"]


def test_groups_of_attention_by_hand():
    assert attention(4, 8) == Counter({(4,): 1, (4, 8): 2})
    assert attention(4, 8, shared=2) == Counter({(2,): 1, (2, 2): 1, (2, 8): 2})
    assert attention(4, 8, shared=1, rotary=True) == Counter({(4,): 1, (8,): 1})


def test_a_readout_frees_the_units_of_outputs():
    network = mcjax.trace(*with_readout(small()))
    assert sorted(g.size for g in network.groups.values()) == [2, 7]


def test_channels_that_sums_cut_and_groups_block():
    channels = Channels()
    x, y, half = channels.new(3), channels.new(5), channels.new(4)
    channels.join(channels.new(8), half + half)  # a ghost's two halves, added to a stream
    channels.grouped(channels.new(6), 12, 3)
    channels.join(channels.new(7) + channels.new(2), channels.new(4) + channels.new(5))
    expected = {(4,): 2, (3,): 2, (2,): 1, (3, 2): 1, (3, 4): 1}
    assert channels.count(x + y) == expected
    assert channels.count(channels.taken(half + half, 6) + x + y) == {
        **expected, (4,): 1
    }  # fmt: skip
