"""A report is one file that needs no other, and shows names as they are."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from mcjax.report import Table
from mcjax.report_html import Chart, Line, Report
from mcjax.report_html.charts import limits_of, ticks_between

VOID = {"meta", "br", "img", "link", "input", "hr"}
HOSTILE = '<script>document.title="taken"</script><img src=x onerror=alert(1)>"\'&</script>'


class Checked(HTMLParser):
    """Elements that are opened and closed in order; what they refer to; text by element."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.stack, self.links, self.elements = [], [], []
        self.feed(text)
        assert self.stack == []

    def handle_starttag(self, tag, attrs):
        self.elements.append(tag)
        self.links += [v for k, v in attrs if k in ("src", "href", "action", "data", "poster")]
        assert not any(k.startswith("on") for k, _ in attrs)
        if tag not in VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.stack.pop()

    def handle_endtag(self, tag):
        assert self.stack.pop() == tag


def chart(name: str = "Linear", **how) -> Chart:
    x = np.linspace(0, 1, 5)
    lines = [Line(name, "#D55E00", x, [1, 2, np.nan, 2, 1]), Line("b", "#00304F", x, x + 0.5)]
    return Chart("Loss", "cross-entropy", lines, {0.0: "A", 1.0: "P·B"}, **how)


@pytest.fixture
def hostile() -> str:
    report = Report(HOSTILE, {HOSTILE: HOSTILE, "methods": {HOSTILE: [HOSTILE]}})
    report.table(HOSTILE, Table(["method", HOSTILE], [[HOSTILE, "1"]], None, [HOSTILE]))
    report.charts(HOSTILE, [chart(HOSTILE)], HOSTILE)
    report.images(HOSTILE, {HOSTILE: [(np.zeros((2, 2)), HOSTILE)]})
    return report.html()


def test_names_are_text(hostile):
    parsed = Checked(hostile)
    assert parsed.elements.count("script") == 2
    assert parsed.elements.count("img") == 1
    assert "<script>document" not in hostile


def test_nothing_outside_is_needed(hostile):
    assert all(link.startswith("data:") for link in Checked(hostile).links)
    # Names of namespaces are no addresses that are opened.
    text = hostile.replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"(https?:)?//[a-z]", text)
    assert "url(" not in text
    assert "@import" not in text


def test_the_numbers_are_those_of_the_lines():
    found = Report("t")
    found.charts("c", [chart()])
    text = found.html()
    (written,) = re.findall(r'id="numbers">(.*?)</script>', text, re.S)
    (record,) = json.loads(written)
    assert record["lines"][0]["y"] == [1, 2, None, 2, 1]
    assert record["lines"][1]["x"] == [0, 0.25, 0.5, 0.75, 1]
    # A gap where a value is not finite, and the end of the line where the axis is.
    (drawn,) = re.findall(r'class="line" style="--light:#D55E00[^"]*" d="([^"]*)"', text)
    assert drawn.count("M") == 2
    left, _, right, _ = record["box"]
    assert drawn.startswith(f"M{left:.1f} ")
    assert f"L{right:.1f} " in drawn


def test_places_on_a_logarithmic_axis():
    line = Line("a", "#000000", [0, 0.5, 1], [1e-3, 1e-1, 10])
    record = Chart("", "", [line], {0.0: "", 1.0: ""}, (1e-3, 10), True).record()
    places = Chart("", "", [line], {0.0: "", 1.0: ""}, (1e-3, 10), True)._place(line.x, line.y)
    _, top, _, bottom = record["box"]
    np.testing.assert_allclose(places[:, 1], [bottom, (top + bottom) / 2, top])


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-3.2, 7.1), (0.9973, 0.9989), (1e-7, 2e-7)])
def test_ticks_are_a_few_round_numbers_inside(low, high):
    ticks = ticks_between(low, high)
    assert 3 <= len(ticks) <= 8
    assert low <= ticks[0] <= ticks[-1] <= high
    steps = np.diff(ticks)
    np.testing.assert_allclose(steps, steps[0], rtol=1e-4)


def test_limits_of_lines_that_are_flat_or_nowhere():
    flat = Chart("", "", [Line("a", "#000000", [0, 1], [2, 2])], {0.0: "", 1.0: ""})
    low, high = limits_of([flat])
    assert low < 2 < high
    gone = Chart("", "", [Line("a", "#000000", [0, 1], [np.nan] * 2)], {0.0: "", 1.0: ""})
    assert limits_of([gone]) == (0, 1)
    assert "<svg" in gone.html(0)
    assert "no finite value" in gone.html(0)


HARD = {
    "largest": [1.7e308] * 3, "from end to end": [-1.7e308, 0, 1.7e308], "one": [1, 1.7e308, 1],
    "least": [0, 5e-324, 1e-323], "tiny": [1e-200, 3e-200, 2e-200], "equal": [1, 1 + 2e-16, 1],
    "inf": [1, np.inf, 2], "never": [np.inf, -np.inf, np.nan], "nothing": [0, 0, 0],
}  # fmt: skip


@pytest.mark.parametrize("values", HARD.values(), ids=HARD)
@pytest.mark.parametrize("logarithmic", [False, True])
def test_any_numbers_are_a_chart_or_a_sentence(values, logarithmic):
    """What is finite stands in the box, in the order of its values; no place is nowhere."""
    chart = Chart("", "", [Line("a", "#000000", [0, 0.5, 1], values)], {0.0: "A", 1.0: "B"},
                  logarithmic=logarithmic)  # fmt: skip
    drawn = chart.html(0)
    assert "nan" not in drawn.replace("no finite", "")
    assert "inf" not in drawn.replace("finite", "")
    low, high = chart.record()["y"]
    assert -np.inf < low < high < np.inf
    json.dumps(chart.record(), allow_nan=False)
    known = np.isfinite(values) & ((np.asarray(values) > 0) | (not logarithmic))
    assert ("no finite value" in drawn) == (not known.any())
    heights = chart._place([0, 0.5, 1], values)[known, 1]
    assert np.isfinite(heights).all()
    order = np.argsort(np.asarray(values)[known], kind="stable")
    assert (np.diff(heights[order]) <= 1e-6).all()


def test_cells_of_sentences_are_broken():
    report = Report("t")
    report.table("made", Table(["method", "as"], [["Fisher", "Fisher(labels='model')"]]))
    report.table("numbers", Table(["method", "loss"], [["Fisher", "0.1234 ± 0.0005"]]))
    assert report.html().count('<td class="words">') == 1
