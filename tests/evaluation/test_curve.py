"""What a curve says of itself."""

from __future__ import annotations

import json

import numpy as np
import pytest

import mcjax
from mcjax.figures import colours_of, shade
from mcjax.figures.curves import draw_curves


def test_a_metric_of_unknown_direction_has_no_worst_value():
    curve = mcjax.evaluation.Curve(
        np.array([0.0, 0.5, 1.0]), {"mse": np.array([0.5, 7.0, 0.25])}, np.ones(2)
    )
    assert "lowest 0.2500, highest 7.0000" in curve.summary()
    assert "worst" not in curve.summary()
    with pytest.raises(ValueError, match=r"whether 'mse' should be high or low"):
        curve.worst("mse")


def test_summary_of_a_part_of_the_path_names_its_ends():
    curve = mcjax.evaluation.Curve(
        np.array([0.25, 0.5]), {"loss": np.array([1.0, 2.0])}, np.ones(1)
    )
    assert "1.0000 at t=0.25, 2.0000 at t=0.5" in curve.summary()


def example(**values):
    return mcjax.evaluation.Curve(
        np.array([0.0, 0.5, 1.0]), {k: np.array(v) for k, v in values.items()}, np.ones(2),
        metadata={"statistics": "none", "examples": 7},
    )  # fmt: skip


def test_worst_and_barrier_follow_the_task():
    curve = example(loss=[1.0, 5.0, 3.0], accuracy=[0.9, 0.2, 0.7])
    assert curve.worst() == 0.2
    assert curve.worst("loss") == 5.0
    assert curve.barrier() == 3.0
    assert curve.barrier(metric="accuracy") == pytest.approx(0.8 - 0.2)
    assert curve.barrier("endpoint", "accuracy") == pytest.approx(0.7 - 0.2)
    assert "classification, 7 examples" in curve.summary()


def test_files_have_no_bare_nan_and_come_back(tmp_path):
    curve = example(loss=[1.0, np.nan, np.inf], accuracy=[0.1, 0.2, -np.inf])
    curve.to_json(tmp_path / "curve.json")
    text = (tmp_path / "curve.json").read_text()

    def bare(name):
        raise AssertionError(f"{name} is no JSON")

    values = json.loads(text, parse_constant=bare)
    assert values["loss"] == [1.0, "NaN", "Infinity"]
    again = mcjax.evaluation.Curve.from_dict(values)
    for name in ("t", "lengths", "loss", "accuracy"):
        np.testing.assert_array_equal(getattr(again, name), getattr(curve, name))
    assert again.task is mcjax.tasks.CLASSIFICATION
    assert again.metadata == curve.metadata


def test_a_file_of_an_own_task_knows_its_directions():
    task = mcjax.Task("own", {"score": lambda out, y: out}, {"score": "low"}, loss="score")
    curve = mcjax.evaluation.Curve(np.zeros(1), {"score": np.ones(1)}, np.zeros(0), task)
    assert mcjax.evaluation.Curve.from_dict(curve.to_dict()).task.direction("score") == "low"
    assert mcjax.evaluation.Curve.from_dict(curve.to_dict(), task).task is task


def test_arrays_of_other_lengths_are_refused():
    with pytest.raises(ValueError, match=r"loss: expected shape \(3,\) for 3 points, got \(2,\)"):
        mcjax.evaluation.Curve(np.linspace(0, 1, 3), {"loss": np.ones(2)}, np.ones(2))
    with pytest.raises(ValueError, match=r"lengths: expected shape \(2,\)"):
        mcjax.evaluation.Curve(np.linspace(0, 1, 3), {"loss": np.ones(3)}, np.ones(3))


# -- figures -------------------------------------------------------------------------------


def test_a_panel_for_each_metric_and_none_empty():
    both = example(loss=[1.0, 5.0, 3.0], accuracy=[0.9, 0.2, 0.7])
    loss, accuracy = both.plot()
    assert (loss.get_ylabel(), accuracy.get_ylabel()) == ("cross-entropy", "accuracy (%)")
    np.testing.assert_allclose(accuracy.lines[0].get_ydata(), [90, 20, 70])
    one = mcjax.evaluation.Curve(
        both.t, {"loss": both.loss, "absolute_error": both.loss}, both.lengths,
        mcjax.tasks.REGRESSION,
    )  # fmt: skip
    panels = one.plot()
    assert [p.get_ylabel() for p in panels] == ["mean squared error", "mean absolute error"]
    assert all(p.lines for p in panels[0].figure.axes)
    (only,) = one.plot(metrics=["absolute_error"])
    assert only.get_title("left") == "Absolute error"


def test_on_axes_of_the_users(tmp_path):
    from matplotlib.figure import Figure

    curve = example(loss=[1.0, 5.0, 3.0], accuracy=[0.9, 0.2, 0.7])
    left, right = Figure().subplots(1, 2)
    assert curve.plot(metrics=["loss"], ax=left)[0] is left
    assert not right.lines
    curve.plot(tmp_path / "both.pdf", ax=[left, right])
    assert (tmp_path / "both.pdf").read_bytes().startswith(b"%PDF")
    with pytest.raises(ValueError, match="ax: 1 axes for 2 metrics"):
        curve.plot(ax=left)
    with pytest.raises(ValueError, match="unknown metric 'recall'; there are loss, accuracy"):
        curve.plot(metrics=["recall"])


def test_names_stand_beside_the_curves_in_their_order_and_colours():
    low, high = (
        example(loss=[1.0, v, 3.0], accuracy=[0.9, a, 0.7]) for v, a in ((5, 0.2), (2, 0.8))
    )
    curves = {"Linear": {"train": low, "test": low}, "OT": {"test": high}}
    panels = draw_curves(curves, ends={"Linear": "B", "OT": "P·B"})
    assert [len(p.lines) for p in panels] == [3, 3]
    legend = panels[-1].get_legend()
    names = [t.get_text() for t in legend.get_texts()]
    assert names == ["OT → P·B", "Linear → B", "train", "test"]
    assert [t.get_text() for t in panels[0].get_xticklabels()][::4] == ["A", "B or P·B"]
    known = colours_of(curves)
    of = {line.get_label(): line for line in panels[0].lines}
    assert of["OT, test"].get_color() == known["OT"]
    # Training data are pale and thin beside test data.
    assert of["Linear, test"].get_color() == known["Linear"]
    assert of["Linear, train"].get_color() == shade(known["Linear"], 0.55)
    assert of["Linear, train"].get_linewidth() < of["Linear, test"].get_linewidth()
    with pytest.raises(ValueError, match="no curves to draw"):
        draw_curves({})


def test_where_a_path_ends_is_not_guessed():
    panels = example(loss=[1.0, 5.0, 3.0], accuracy=[0.9, 0.2, 0.7]).plot()
    assert [t.get_text() for t in panels[0].get_xticklabels()][::4] == ["0", "1"]


def test_the_mean_and_the_range_of_several_pairs():
    pairs = [example(loss=[1.0, v, 3.0], accuracy=[0.9, v / 10, 0.7]) for v in (2, 3, 7)]
    loss, accuracy = draw_curves({"Linear": {"test": pairs}})
    np.testing.assert_allclose(loss.lines[0].get_ydata(), [1, 4, 3])
    np.testing.assert_allclose(accuracy.lines[0].get_ydata(), [90, 40, 70])
    (band,) = loss.collections
    at_half = {y for x, y in band.get_paths()[0].vertices if x == 0.5}
    assert at_half == {2, 7}


def test_many_methods_have_columns_by_family_with_the_others_behind():
    curve = example(loss=[1.0, 5.0, 3.0], accuracy=[0.9, 0.2, 0.7])
    methods = ["linear", "arc", "ot", "linear+wa", "arc+wa", "ot+wa", "mine"]
    panels = draw_curves({m: {"train": curve, "test": curve} for m in methods})
    titles = [p.get_title("left") for p in panels[::2]]
    assert titles == ["One motion", "Layer by layer, adjusted;\nothers"]
    # Two lines for each method of the family, one faint for each other.
    assert [len(p.lines) for p in panels] == [3 * 2 + 4] * 2 + [4 * 2 + 3] * 2
    assert {p.get_ylabel() for p in panels[:2]} == {"cross-entropy", "accuracy (%)"}


@pytest.mark.parametrize("values", [np.ones((3, 3)), np.eye(3) + np.diag([np.nan, 0, 0])])
def test_surfaces_that_are_flat_or_not_finite(values, tmp_path):
    x = np.linspace(0, 1, 3)
    corners = np.array([[0, 0], [1, 0], [0, 1.0]])
    surface = mcjax.evaluation.Surface(
        x, x, {"loss": values, "absolute_error": values}, corners, mcjax.tasks.REGRESSION
    )
    panel = surface.plot(tmp_path / "plane.png")
    assert panel.child_axes[0].get_ylabel() == "mean squared error"  # of the colour bar
    again = mcjax.evaluation.Surface.from_dict(surface.to_dict())
    np.testing.assert_array_equal(again.values["loss"], values)
    assert again.task is mcjax.tasks.REGRESSION
    with pytest.raises(ValueError, match="loss is not finite at any point"):
        mcjax.evaluation.Surface(x, x, {"loss": np.nan * values}, corners).plot(metric="loss")
