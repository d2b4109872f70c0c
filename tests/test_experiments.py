"""Tables and figures of the papers: smoke runs, and what they are computed by."""

from __future__ import annotations

import dataclasses
import importlib
import json
from pathlib import Path

import jax
import numpy as np
import pytest

import mcjax
from experiments.anokhin2020 import architectures, figure5, figure7, table1, table2
from experiments.common import digits
from experiments.ferbach2023 import drawn, dropout, rates, widths
from experiments.ferbach2023 import figure2 as matchers
from experiments.ferbach2023.correlation import Cells, concordant, rank_correlation
from experiments.ferbach2023.networks import Warmed, data_of, networks
from experiments.merging import layers, table
from experiments.merging import networks as merged
from experiments.symmetry import diagnosis, gpt, vit
from experiments.symmetry.endpoints import AdamW
from experiments.symmetry.models import ViT
from experiments.tatro2020 import figure1, figure2, figure3, figure4
from experiments.tatro2020 import table1 as curves_table
from experiments.tatro2020 import table2 as losses_table
from experiments.tatro2020 import table3 as rates_table
from experiments.tatro2020.study import Options
from experiments.vrabel2024 import endpoints as inputs_endpoints
from experiments.vrabel2024 import figure5 as statistics
from experiments.vrabel2024 import figure9 as evolution
from experiments.vrabel2024 import figure12 as examples
from experiments.vrabel2024 import pictures
from experiments.vrabel2024 import table1 as detection
from experiments.vrabel2024.endpoints import Pairs
from experiments.zhao2025 import figure1 as components
from experiments.zhao2025 import figure2 as segments
from experiments.zhao2025 import figure3 as approximate
from experiments.zhao2025 import figure4 as rescaled
from experiments.zhao2025 import heads, traced
from experiments.zhao2025.study import Options as ZhaoOptions

ZHAO = (components, segments, approximate, rescaled, traced, heads)
TATRO = (figure1, figure2, figure3, figure4, curves_table, losses_table)
# They share a network, trained in seconds.
VRABEL = ("figure1", "figure2", "figure3", "figure5", "figure6", "figure7", "figure9", "figure12",
          "figure_percolation", "table1")  # fmt: skip


# Rows of each kind; tests/methods has every method, tests/flows trains what is learned.
ROWS = (("linear", "ot", "garipov-3"), ("arc", "arc+butterfly", "ot+wa"))
LONGER = ("realnvp-bijection", "iaf-flow", "garipov-5")


@pytest.mark.parametrize(
    "options",
    [table1.Table1(smoke=True, pairs=1, methods=ROWS[0]),
     table2.Table2(smoke=True, pairs=1, methods=ROWS[1]),
     figure5.Figure5(smoke=True), figure7.Figure7(smoke=True),
     architectures.Architectures(smoke=True),
     pytest.param(table1.Table1(smoke=True, pairs=1, methods=LONGER), marks=pytest.mark.slow)],
    ids=lambda o: type(o).__name__,
)  # fmt: skip
def test_smoke_of_anokhin2020(options, tmp_path, capsys):
    options = dataclasses.replace(options, out=tmp_path)
    importlib.import_module(type(options).__module__).main(options)
    assert_files_said(capsys.readouterr().out, tmp_path)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    return tmp_path_factory.mktemp("smoke")


@pytest.mark.parametrize("module", [*TATRO, rates_table], ids=lambda m: m.__name__.split(".")[-1])
def test_smoke_of_tatro2020(module, shared, capsys):
    kind = rates_table.Table3 if module is rates_table else Options
    module.main(kind(smoke=True, out=shared))
    assert_files_said(capsys.readouterr().out, shared)


@pytest.mark.parametrize("module", ZHAO, ids=lambda m: m.__name__.split(".")[-1])
def test_smoke_of_zhao2025(module, shared, capsys):
    kind = heads.Heads if module is heads else ZhaoOptions
    module.main(kind(smoke=True, out=shared / "zhao2025"))
    assert_files_said(capsys.readouterr().out, shared / "zhao2025")


@pytest.mark.parametrize("name", VRABEL)
def test_smoke_of_vrabel2024(name, shared, capsys):
    module = importlib.import_module(f"experiments.vrabel2024.{name}")
    kinds = {"figure5": statistics.Figure5, "figure9": evolution.Figure9,
             "figure12": examples.Figure12, "table1": detection.Table1}  # fmt: skip
    kind = kinds.get(name, inputs_endpoints.Trained)
    module.main(kind(smoke=True, out=shared / "vrabel2024"))
    assert_files_said(capsys.readouterr().out, shared / "vrabel2024")


@pytest.mark.parametrize("module", [table, layers], ids=["table", "layers"])
def test_smoke_of_merging(module, shared, capsys):
    kind = table.Table if module is table else layers.Layers
    module.main(kind(smoke=True, sets=1, out=shared / "merging"))
    assert_files_said(capsys.readouterr().out, shared / "merging")


def test_what_is_learned_for_merging_computes_what_it_did(tmp_path):
    """Two ViTs brought to a first one by elements of the whole group, in absorbed form."""
    model, x = ViT(4, width=8, depth=1, heads=2), digits(smoke=True).x_train
    y = np.arange(len(x)) % 10
    given = [model.init(jax.random.key(k), x[:1]) for k in range(3)]
    brief = AdamW(1, 32)
    of = merged.Setting("vit", model, (x, y), (x, y), 1, brief, brief, brief, (), 64, brief)
    network = mcjax.trace(model.apply, given[0], x[:2])
    absorbed, found = merged.learned(network, given, of, 0, tmp_path)
    assert absorbed.absorption is not None
    for before, after in zip(given, found, strict=True):
        want, got = model.apply(before, x[:8]), model.apply(after, x[:8])
        np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-4)


def test_cells_of_the_merging_table():
    """Means and deviations over sets; what a method needs where it failed."""

    def one(accuracy, error=None):
        values = {} if error else {"test": {"accuracy": accuracy}}
        return {"case": {"methods": {"m": {"error": error, "needs": "a base", "values": values}}}}

    assert table.cell([one(0.5), one(0.7)], "case", "m", "accuracy") == "60.0 ± 14.1"
    assert table.cell([one(0.5)], "case", "m", "accuracy") == "50.0"
    assert table.cell([one(0.5, "no")], "case", "m", "accuracy") == "needs a base"


def test_images_of_a_record_are_those_given_to_half_a_step():
    """Pixels outside [0, 1], a signed image, one that is zero."""
    rng = np.random.default_rng(0)
    image = rng.uniform(-0.2, 1.5, (4, 5, 3))
    for made, given in (
        (pictures.as_record(image), image),
        (pictures.as_record(image.clip(0.3, 0.4)), image.clip(0.3, 0.4)),
        (pictures.signed_record(image - 5), (image - 5).mean(-1, keepdims=True)),
        (pictures.signed_record(np.zeros((2, 2, 1))), np.zeros((2, 2, 1))),
    ):
        read, (low, high) = pictures.as_image(json.loads(json.dumps(made))), made["range"]
        assert read.shape == given.shape
        assert np.abs(read - given).max() <= 0.51 * (high - low) / 255
    assert pictures.as_record(np.array([[[0.0], [1.0]]]))["range"] == [0.0, 1.0]


def test_pairs_with_different_losses_are_left_out():
    """Of every seven pairs of a class the two whose ends' losses differ most."""
    y = np.repeat([3, 5], 7)
    pairs = Pairs(np.zeros((14, 1)), np.ones((14, 1)), y)
    rng = np.random.default_rng(0)
    first, second = rng.random((2, 14))
    rows = statistics.kept(pairs, first, second)
    apart = np.abs(first - second)
    for k in (3, 5):
        mine = set(np.flatnonzero(y == k))
        out = mine - set(rows)
        assert len(out) == 2
        assert min(apart[list(out)]) >= max(apart[list(mine - out)])


@pytest.mark.parametrize(
    "kind",
    [rates.Options, matchers.Figure2, widths.Widths, dropout.Dropout, drawn.Drawn],
    ids=lambda k: k.__name__,
)  # fmt: skip
def test_smoke_of_ferbach2023(kind, shared, capsys):
    module = rates if kind is rates.Options else importlib.import_module(kind.__module__)
    module.main(kind(smoke=True, out=shared / "ferbach2023"))
    assert_files_said(capsys.readouterr().out, shared / "ferbach2023")


def test_more_networks_than_seeds(tmp_path):
    """One network has no pairs, a seed is one network, and those kept are the ones they were."""
    data, protocol = data_of(matchers.Figure2(smoke=True)), Warmed(1, 32, 0.1, weight_decay=0)
    with pytest.raises(ValueError, match="networks must be at least 2"):
        matchers.of_rate(matchers.Figure2(networks=1, work=tmp_path), 0.1, data, (12,))
    with pytest.raises(ValueError, match=r"not one twice, got \[0, 0\]"):
        networks((4,), data, (0, 0), protocol, tmp_path)
    assert not list(tmp_path.iterdir())
    alone = networks((4,), data, (1,), protocol, tmp_path)
    more = networks((4,), data, (0, 1, 2), protocol, tmp_path)
    again = networks((4,), data, (2, 1), protocol, tmp_path / "other")
    for one, other in ((alone[0], more[1]), (more[2], again[0]), (more[1], again[1])):
        for v, w in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
            np.testing.assert_allclose(v, w, atol=1e-5)
    assert not np.allclose(*(jax.tree.leaves(p)[1] for p in more[:2]))


@pytest.mark.parametrize(
    "options",
    [gpt.GPTOptions, pytest.param(vit.ViTOptions, marks=pytest.mark.slow)],  # the same rows
    ids=lambda o: getattr(o, "__name__", None),
)
def test_smoke_of_symmetry(options, tmp_path, capsys):
    """Rows without training; the absorbed form is the same function at both ends."""
    rows = ("segment", "weights", "absorbed-weights")
    module = importlib.import_module(options.__module__)
    module.main(options(smoke=True, out=tmp_path, rows=rows))
    assert_files_said(capsys.readouterr().out, tmp_path)
    (file,) = tmp_path.glob("*.json")
    found = json.loads(file.read_text())["results"]
    assert list(found) == list(rows)
    ends = [found["segment"]["curve"]["loss"][i] for i in (0, -1)]
    for row in found.values():
        assert [row["curve"]["loss"][i] for i in (0, -1)] == pytest.approx(ends, rel=1e-4)


@pytest.mark.slow
def test_smoke_of_the_diagnosis(tmp_path, capsys):
    rows = ("full", "activations-full")
    diagnosis.main(diagnosis.Diagnosis(smoke=True, out=tmp_path, rows=rows))
    assert_files_said(capsys.readouterr().out, tmp_path)


@pytest.mark.parametrize("shared_by_all", [True, False])
def test_most_that_rotations_can(shared_by_all):
    """Planted rotations are found; one for all places is as good where they are the same."""
    rng = np.random.default_rng(0)
    rotations = [np.linalg.qr(rng.normal(size=(5, 5)))[0] for _ in range(2)]
    za = {place: rng.normal(size=(40, 5)) for place in "ab"}
    zb = {p: za[p] @ rotations[0 if shared_by_all else i] for i, p in enumerate(za)}
    found = diagnosis.most(za, zb)
    assert list(found["one for each place"].values()) == pytest.approx([1, 1])
    together = np.mean(list(found["one rotation"].values()))
    assert together == pytest.approx(1) if shared_by_all else together < 0.95
    as_they_are = np.mean([diagnosis.cosine(za[p], zb[p]) for p in za])
    assert as_they_are < together + 1e-12


def test_one_part_half_way():
    leaves = ("Embed_0/embedding", "positions", "Block_0/LayerNorm_0/scale", "Block_0/Dense_1/bias")
    names = [f"params/{leaf}" for leaf in leaves]
    assert [diagnosis.part_of(n) for n in names] == [
        "embedding", "embedding", "Block_0 attention", "Block_0 MLP"
    ]  # fmt: skip
    a = {"params": {"positions": np.zeros(2), "Dense_0": {"bias": np.zeros(2)}}}
    b = {"params": {"positions": np.ones(2), "Dense_0": {"bias": np.full(2, 3.0)}}}
    found = diagnosis.halfway(a, b)
    moved = {k: [v["positions"][0], v["Dense_0"]["bias"][0]] for k, v in
             ((k, v["params"]) for k, v in found.items())}  # fmt: skip
    assert moved == {"embedding": [0.5, 0], "output": [0, 1.5]}


def assert_files_said(shown, folder):
    """The last line names the files, they are there, and JSON is JSON."""
    line = shown.strip().splitlines()[-1]
    files = [Path(f) for f in line.removeprefix("Written: ").split(", ")]
    assert line.startswith("Written: ")
    assert files
    for file in files:
        assert file.parent == folder
        assert file.stat().st_size
        if file.suffix == ".json":
            json.loads(file.read_text(), parse_constant=lambda c: pytest.fail(f"bare {c}"))


def test_rank_correlation_over_cells():
    """Of networks that are all alike the bootstrap has no width; ranks by hand."""
    dimensions, losses = np.array([1, 2, 3, 4, 6, 5.0]), np.array([1, 2, 3, 5, 4, 6.0])
    cells = Cells(
        [*"aaabbb"], [1, 2, 3, 1, 2, 3],
        np.tile(losses[:, None, None], (1, 4, 4)), np.tile(dimensions[:, None], (1, 4)),
    )  # fmt: skip
    found = rank_correlation(cells)
    expected = 1 - 6 * 6 / (6 * 35)  # 1 − 6 Σ d² / (n (n² − 1)), d = 0, 0, 0, 1, −2, 1
    assert found.value == pytest.approx(expected)
    assert (found.least, found.most) == pytest.approx((expected, expected))
    assert found.low < expected < found.high < 1
    assert rank_correlation(cells.where("a")).value == pytest.approx(1)
    assert concordant(cells) == (3, 3)
    pairs = Cells(["a"], [1], np.arange(9.0).reshape(1, 3, 3), np.array([[1, 2, 3.0]]))
    assert pairs.means(np.array([1, 2, 0])) == (1, pytest.approx(5 / 3))  # of (0, 1) alone
