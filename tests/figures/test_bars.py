"""Bars: names that anybody may have given, and axes that are none."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from mcjax.figures.bars import draw_bars
from mcjax.figures.curves import draw_curves
from mcjax.tasks import CLASSIFICATION

NAMES = ("$a_$", "$\\frac{$", "a $ and $ b^", "_mine", "<b>")


def test_names_that_are_no_formulas_are_drawn_as_they_are(tmp_path):
    bars = dict.fromkeys(NAMES, 1.0)
    draw_bars(bars, "loss", tmp_path / "bars.png", lines={"$x_$": 0.5})
    t = np.linspace(0, 1, 3)
    values = {"loss": np.ones(3), "accuracy": np.ones(3)}
    curve = SimpleNamespace(t=t, values=values, task=CLASSIFICATION)
    draw_curves({n: {"test": curve} for n in NAMES}, tmp_path / "curves.png")
    assert {f.name for f in tmp_path.iterdir()} == {"bars.png", "curves.png"}


def test_whiskers_reach_as_far_as_they_say():
    """To both sides of a value; not of one that is not known."""
    wide = {"a": 0.25, "b": 0.5}
    ax = draw_bars({"a": 2.0, "b": np.nan, "c": 1.0}, "loss", spread=wide)
    (whisker,) = ax.containers[1:]
    (segments,) = (bar.get_segments() for bar in whisker.lines[2])
    np.testing.assert_allclose(segments[0], [(1.75, 0), (2.25, 0)])


def test_several_axes_are_refused_in_words():
    with pytest.raises(ValueError, match="ax must be one of matplotlib's axes, got a ndarray of 2"):
        draw_bars({"a": 1.0}, "loss", ax=np.array([None, None]))
