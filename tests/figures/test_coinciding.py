"""Lines that coincide are all seen: in the pixels of a figure, and of a report's charts."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import colors

from mcjax.evaluation import Curve
from mcjax.figures import colours_of
from mcjax.figures.coinciding import coinciding, stripes
from mcjax.figures.curves import draw_curves
from mcjax.report_html import Chart, Line

T = np.linspace(0, 1, 9)
BUMP = 4 * T * (1 - T)


def pixels(panel, colour):
    """How many pixels of a figure have a colour."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(panel.figure)
    canvas.draw()
    image = np.asarray(canvas.buffer_rgba())[..., :3].astype(int)
    wanted = np.round(255 * np.asarray(colors.to_rgb(colour))).astype(int)
    box = panel.get_window_extent()
    inside = image[:, int(box.x0) : int(box.x1)]
    return int((np.abs(inside - wanted).max(-1) < 20).sum())


@pytest.mark.parametrize("values", [[BUMP, BUMP], [BUMP, BUMP + 1e-4, BUMP, 0.5 * BUMP]])
def test_all_lines_of_a_figure_are_seen(values):
    names = ["Linear", "OT", "Weight matching", "Arc"][: len(values)]
    curves = {
        n: {"test": Curve(T, {"loss": v}, np.ones(8))} for n, v in zip(names, values, strict=True)
    }
    (panel,) = draw_curves(curves, metrics=["loss"])
    seen = [pixels(panel, colour) for colour in colours_of(names).values()]
    assert min(seen) > 0.5 * max(seen) / len(values)


def test_all_lines_of_a_chart_are_seen():
    """Of every place on the line one of the dashes, and one only, is there."""
    lines = [Line(n, f"#{k}00000", T, BUMP) for k, n in enumerate("abc")]
    other = Line("d", "#000000", T, -BUMP)
    drawn = Chart("", "", [*lines, other], {0.0: "A", 1.0: "B"}).html(0)
    found = re.findall(r"stroke-dasharray:(\S+) (\S+?);stroke-dashoffset:([^;]+)", drawn)
    assert len(found) == 3
    at = np.arange(0, 200, 0.5) + 0.25
    there = [(at + float(start)) % (float(on) + float(off)) < float(on) for on, off, start in found]
    np.testing.assert_array_equal(np.sum(there, 0), 1)
    assert "Striped" in drawn
    assert "Striped" not in Chart("", "", [lines[0], other], {0.0: "A", 1.0: "B"}).html(0)


def test_lines_of_other_points_are_compared_between_them():
    fine = np.linspace(0, 1, 81)
    line = (T, np.abs(T - 0.5)), (fine, np.abs(fine - 0.5)), (fine, np.abs(fine - 0.4))
    assert coinciding(line) == [(0, 2), (1, 2), (0, 1)]


def test_gaps_and_what_is_nowhere():
    gap = np.where(T > 0.5, np.nan, BUMP)
    nowhere = np.full(9, np.nan)
    lines = [(T, v) for v in (gap, BUMP, gap, nowhere, nowhere)]
    assert coinciding(lines) == [(0, 2), (0, 1), (1, 2), (0, 1), (0, 1)]
    assert coinciding([(T, np.full(9, 1.7e308)), (T, np.full(9, -1.7e308))]) == [(0, 1), (0, 1)]


@given(st.integers(2, 6), st.floats(0.5, 20))
def test_dashes_share_the_line(n, length):
    at = (np.arange(50) + 0.5) * length
    shares = []
    for k in range(n):
        start, (on, off) = stripes(k, n, length)
        shares.append((at + start) % (on + off) < on)
    np.testing.assert_array_equal(np.sum(shares, 0), 1)
