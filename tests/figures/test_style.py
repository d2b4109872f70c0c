"""Labels that do not meet, and figures on everybody's axes."""

from __future__ import annotations

import inspect
import itertools
import pkgutil
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.text import Text
from scipy.optimize import minimize

import mcjax
from mcjax.figures import beside, end_labels, house_style, line, new_panels
from mcjax.figures.style import drawable, spread_out


@given(st.lists(st.floats(-1, 2), min_size=1, max_size=6), st.floats(0.01, 0.5))
def test_labels_keep_their_order_and_their_distance(wanted, gap):
    places = spread_out(wanted, gap)
    order = np.argsort(wanted, kind="stable")
    assert np.all(np.diff(np.array(places)[order]) >= gap - 1e-9)


def test_labels_are_as_near_as_can_be_to_their_lines():
    """Against a general solver of the same least squares."""
    rng = np.random.default_rng(0)
    for _ in range(5):
        wanted = np.sort(rng.uniform(size=5))
        bounds = [{"type": "ineq", "fun": lambda p, k=k: p[k + 1] - p[k] - 0.2} for k in range(4)]
        best = minimize(lambda p: ((p - wanted) ** 2).sum(), wanted, constraints=bounds).x
        np.testing.assert_allclose(spread_out(list(wanted), 0.2), best, atol=1e-4)


@pytest.mark.parametrize("names", [end_labels, beside])
def test_names_of_lines_do_not_meet(names):
    heights = [0.5, 0.501, 0.502, 0.9]
    with house_style():
        (panel,), figure = new_panels(1)
        for height in heights:
            line(panel, [0, 1], [0, height], "#0072B2")
        names(panel, {f"method {k}": (h, "#0072B2") for k, h in enumerate(heights)})
        figure.draw_without_rendering()
    legend = panel.get_legend()
    texts = panel.texts if legend is None else legend.get_texts()
    boxes = [Text.get_window_extent(text) for text in texts]  # of the letters alone
    assert len(boxes) == 4
    for one, other in itertools.combinations(boxes, 2):
        assert min(one.y1, other.y1) <= max(one.y0, other.y0) + 1
    assert all(box.x0 > panel.get_window_extent().x1 for box in boxes)
    assert all(box.x1 <= figure.bbox.x1 for box in boxes)


def test_names_of_two_lines_are_drawn_without_a_warning(caplog):
    assert drawable("γ,\n$t^2$") == "γ,\n$t^2$"
    assert drawable("a $ and\nno formula") == "a \\$ and\nno formula"
    assert not caplog.records


def plots() -> Iterator[tuple[str, type]]:
    """Every class of mcjax that can be drawn."""
    for info in pkgutil.walk_packages(mcjax.__path__, "mcjax."):
        if "torch" in info.name or "keras" in info.name or info.name.endswith("__main__"):
            continue
        module = __import__(info.name, fromlist=["_"])
        for name, value in vars(module).items():
            if inspect.isclass(value) and value.__module__ == info.name and "plot" in vars(value):
                yield f"{info.name}.{name}", value


def test_everything_that_is_drawn_takes_axes():
    found = dict(plots())
    assert len(found) >= 8
    for name, value in found.items():
        taken = inspect.signature(value.plot).parameters
        assert taken["ax"].kind is inspect.Parameter.KEYWORD_ONLY, name
        assert taken["ax"].default is None, name
