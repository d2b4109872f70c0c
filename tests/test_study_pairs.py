"""Every two of N networks compared: means over pairs, methods that fail, the matrices drawn."""

from __future__ import annotations

import itertools
import json
import re

import jax
import numpy as np
import pytest
from matplotlib.figure import Figure

import mcjax
from mcjax.figures.matrix import draw_matrices
from mcjax.report import Table
from mcjax.study_pairs import compare_pairs


class Moody:
    """Fails between networks whose first weights differ much."""

    label = "Moody"

    def connect(self, problem):
        if abs(problem.a["w1"][0, 0] - problem.b["w1"][0, 0]) > 2:
            raise ValueError("too far")
        return mcjax.connect(problem.network, problem.a, problem.b, "linear")


def model(params, x):
    return jax.nn.relu(x @ params["w1"]) @ params["w2"]


@pytest.fixture(scope="module")
def networks():
    """Two in another order, and two of their own."""
    rng = np.random.default_rng(0)
    draw = lambda *shape: rng.normal(size=shape).astype(np.float32)
    first, third = ({"w1": draw(4, 6), "w2": draw(6, 3)} for _ in range(2))
    order = rng.permutation(6)
    second = {"w1": first["w1"][:, order], "w2": first["w2"][order]}
    far = {"w1": third["w1"] + 5, "w2": third["w2"]}
    return [first, second, third, far]


@pytest.fixture(scope="module")
def compared(networks):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(50, 4)).astype(np.float32)
    y = np.asarray(model(networks[0], x)).argmax(-1)
    network = mcjax.trace(model, networks[0], x)
    methods = ["linear", "weight-matching", Moody()]
    return (x, y), compare_pairs(network, networks, (x, y), methods=methods, t=5)


def test_pairs_that_no_method_joins_do_not_take_the_others_away(networks, compared):
    (x, y), _ = compared
    found = compare_pairs(model_network(networks, x), networks, (x, y), methods=[Moody()], t=5)
    barriers = found.barriers("Moody")
    assert np.isnan(barriers[:3, 3]).all()
    known = [c for c in found.comparisons.values() if c.splits]
    assert 0 < len(known) < len(found.comparisons)
    ends = found.endpoints("train", "accuracy")
    assert np.isnan(ends[3])
    assert ends[0] == 1  # its own labels
    assert "Moody failed: too far" in found.table().text()
    assert "nan" not in found.table().text()
    json.dumps(found.to_dict(), allow_nan=False)
    with pytest.raises(ValueError, match="every method failed; Moody: too far"):
        compare_pairs(model_network(networks, x), networks[::3], (x, y), methods=[Moody()], t=5)


def model_network(networks, x):
    return mcjax.trace(model, networks[0], x)


def losses(a, b, x, y):
    """Cross entropy on the segment, in NumPy."""
    out = []
    for t in np.linspace(0, 1, 5):
        w1, w2 = ((1 - t) * a[k].astype(float) + t * b[k] for k in ("w1", "w2"))
        logits = np.maximum(x @ w1, 0) @ w2
        out.append(np.mean(np.log(np.exp(logits).sum(1)) - logits[np.arange(len(y)), y]))
    return np.array(out)


def test_means_over_pairs(networks, compared):
    (x, y), found = compared
    chord, highest = [], []
    for a, b in itertools.combinations(networks, 2):
        loss = losses(a, b, x, y)
        chord.append((loss - np.linspace(loss[0], loss[-1], 5)).max())
        highest.append(loss.max())
    upper = np.triu_indices(4, 1)
    assert min(chord) >= 0
    assert max(chord) > 0.1
    np.testing.assert_allclose(found.barriers("linear")[upper], chord, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found.worst("linear", "train", "loss")[upper], highest, rtol=1e-4)
    own = np.diag(found.worst("linear", "train", "loss"))
    np.testing.assert_allclose(own, [losses(n, n, x, y)[0] for n in networks], rtol=1e-4)
    # Two are the same up to the order, which matching finds.
    assert found.barriers("weight-matching")[0, 1] == pytest.approx(0, abs=1e-5)
    row = found.table().rows[0]
    assert f"{np.mean(chord):.4f} ± {np.std(chord, ddof=1):.4f}" in row
    json.dumps(found.to_dict(), allow_nan=False)


def test_a_method_that_fails_on_some_pairs(compared):
    _, found = compared
    assert np.isnan(found.barriers("Moody")[:3, 3]).all()
    assert np.isfinite(found.barriers("Moody")[:3, :3]).all()
    assert found.failed == {"Moody": "too far"}
    table = found.table()
    assert set(table.rows[2][1:]) == {"–"}
    assert "Moody failed: too far" in table.notes
    with pytest.raises(ValueError, match="method must be one of linear, weight-matching, Moody"):
        found.barriers("ot")


def test_one_network_has_no_pairs(networks):
    network = mcjax.trace(model, networks[0], np.ones((2, 4), np.float32))
    with pytest.raises(ValueError, match="at least two are needed, got 1"):
        compare_pairs(network, networks[:1], (np.ones((2, 4)), np.zeros(2, int)))


def test_matrices_are_drawn_in_one_scale(compared, tmp_path):
    _, found = compared
    axes = found.plot(tmp_path / "matrix.png", names=["a", "b", "c", "d"])
    assert (tmp_path / "matrix.png").read_bytes().startswith(b"\x89PNG")
    assert [panel.get_title() for panel in axes] == list(found.labels.values())
    assert len({panel.images[0].get_clim() for panel in axes}) == 1
    assert [label.get_text() for label in axes[0].get_xticklabels()] == ["a", "b", "c", "d"]
    assert len(axes[0].texts) == 12
    assert len(axes[2].texts) == 6  # what failed has no number
    own = Figure().subplots(1, len(found.labels))
    assert list(found.plot(ax=own)) == list(own)
    with pytest.raises(ValueError, match="ax: 1 axes for"):
        found.plot(ax=own[0])
    with pytest.raises(ValueError, match="names: 1 for 4 networks"):
        found.plot(names=["a"])
    with pytest.raises(ValueError, match="matrices: there are none"):
        draw_matrices({}, "loss")


@pytest.mark.parametrize("count", [2, 3])
def test_few_networks_leave_room_for_the_label(count, tmp_path):
    matrix = 1 - np.eye(count)
    label = "barrier above the chord, training cross-entropy"
    draw_matrices({"Linear": matrix, "OT": matrix}, label, tmp_path / "matrix.png")  # no warning


@pytest.mark.parametrize("width", [80, 200])
def test_deviations_stay_with_their_sign_in_a_narrow_terminal(width, capsys):
    from rich.console import Console

    names = ["worst train loss", "worst test loss", "worst test accuracy", "barrier", "interval"]
    row = ["0.1234 ± 0.0123", "0.2345 ± 0.0234", "97.12 ± 0.31", "0.0123 ± 0.0012",
           "0.0100 to 0.0150"]  # fmt: skip
    table = Table(["Method", *names], [["OT + WA", *row]], ["End points", *row])
    Console(width=width).print(table.terminal("a title", width))
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= width
    for sign, count in (("± ", 8), ("to ", 2)):
        assert len(re.findall(sign + r"\d", shown)) == count
