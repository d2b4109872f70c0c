"""`--html` in a browser: the script runs, and what is pointed at is what was measured."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path

import pytest

from mcjax.cli.command import run
from mcjax.report import Table
from mcjax.report_html import Report

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
# Points at every t of every chart and writes down what is said, and every mistake.
PROBE = """<script>
const told = [], wrong = [];
addEventListener("error", (e) => wrong.push(e.message));
addEventListener("securitypolicyviolation", (e) => wrong.push(e.violatedDirective));
addEventListener("load", () => {
  document.querySelectorAll("[data-chart]").forEach((figure, n) => {
    const drawing = figure.querySelector("svg"), chart = charts[n];
    const box = drawing.getBoundingClientRect();
    for (const t of chart.lines[0].x) {
      const [left, , right] = chart.box, [first, last] = chart.x;
      const x = left + (t - first) / (last - first) * (right - left);
      const at = {clientX: box.left + x / chart.width * box.width, clientY: box.top + 20};
      drawing.dispatchEvent(new PointerEvent("pointermove", at));
      const rows = [...tip.querySelectorAll("div")].map((row) =>
        [row.children[0].textContent, row.children[1].dataset.value, row.children[1].textContent]);
      told.push({chart: figure.querySelector("h3").textContent, t, rows, shown: !tip.hidden});
      drawing.dispatchEvent(new PointerEvent("pointerleave"));
    }
  });
  const out = document.createElement("pre");
  out.id = "out";
  out.textContent = JSON.stringify({told, wrong, wide: document.documentElement.scrollWidth,
                                    title: document.title});
  document.body.replaceChildren(out);
});
</script>"""


def browsed(file: Path, width: int) -> dict:
    """What the probe saw in a window of this width."""
    probed = file.with_name("probed.html")
    text = file.read_text()
    assert text.count("</body>") == 1
    probed.write_text(text.replace("</body>", f"{PROBE}</body>"))
    return dumped(probed, width)


def dumped(file: Path, width: int, *options: str) -> dict:
    """What a page's script has written in a window of this width."""
    made = subprocess.run(
        [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--window-size={width},900",
         f"--user-data-dir={file.parent / 'profile'}", "--virtual-time-budget=10000", "--dump-dom",
         *options, file.resolve().as_uri()],
        capture_output=True, text=True, timeout=180, check=True,
        env={**os.environ, "HOME": str(file.parent)},
    )  # fmt: skip
    (found,) = re.findall(r'<pre id="out">(.*?)</pre>', made.stdout, re.S)
    return json.loads(unescape(found))


def test_what_is_pointed_at_is_what_was_measured(here, capsys):
    if BROWSER is None:
        pytest.skip("no chromium is found")
    own = ["connect", "a.safetensors", "b.safetensors", "--model", f"{here}:apply_fn", "--inputs",
           "data.npz", "--methods", "linear", "ot", "--points", "5", "--html", "--out",
           "out"]  # fmt: skip
    assert run(own) == 0
    assert "report.html" in capsys.readouterr().out
    measured = json.loads(Path("out/results.json").read_text())["methods"].values()
    seen = browsed(Path("out/report.html"), 1300)
    assert seen["wrong"] == []
    compared = 0
    for told in seen["told"]:
        assert told["shown"]
        assert len(told["rows"]) == 2
        metric, scale = {"Loss": ("loss", 1), "Accuracy": ("accuracy", 100)}[told["chart"]]
        for name, value, text in told["rows"]:
            (method,) = (m for m in measured if m["label"] == name)
            curve = method["curves"]["train"]
            wanted = scale * curve[metric][curve["t"].index(told["t"])]
            assert float(value) == pytest.approx(wanted, rel=1e-12)
            assert float(text) == pytest.approx(wanted, rel=1e-3)
            compared += 1
    assert compared == 2 * 5 * 2


FRAME = """<!DOCTYPE html><body style="margin:0"><iframe src="{}" style="width:{}px;border:0">
</iframe><script>
onload = () => {{
  const shown = document.querySelector("iframe").contentDocument;
  const boxes = [...shown.querySelectorAll(".wide")].map((box) =>
    [box.clientWidth, box.scrollWidth, box.querySelector("th").offsetWidth,
     getComputedStyle(box).overflowX]);
  const out = document.createElement("pre");
  out.id = "out";
  out.textContent = JSON.stringify({{wide: shown.documentElement.scrollWidth, boxes}});
  document.body.replaceChildren(out);
}};
</script></body>"""


def test_tables_of_a_telephone(tmp_path):
    """The usual table fits; of a wider one the columns behind long names can be scrolled to."""
    if BROWSER is None:
        pytest.skip("no chromium is found")
    numbers = ["worst train %", "worst test %", "barrier (chord)", "barrier (ends)"]
    report = Report("a telephone")
    rows = [["Activation matching, full", "99.37", "98.33", "0.0164", "0.0161"]]
    report.table("usual", Table(["method", *numbers], rows))
    rows = [["my_package.my_module:" + "MyMethod" * 9, *["99.372 ± 0.001"] * 8]]
    report.table("wide", Table(["method", *numbers, *numbers], rows))
    report.write(tmp_path / "report.html")
    frame = tmp_path / "frame.html"
    frame.write_text(FRAME.format("report.html", 390))
    seen = dumped(frame, 900, "--allow-file-access-from-files")
    assert seen["wide"] <= 390
    (inside, content, _, _), (box, wider, name, how) = seen["boxes"]
    assert content <= inside
    assert wider > box
    assert how == "auto"
    assert name < box / 2


def test_nothing_is_wider_than_a_narrow_window(here):
    if BROWSER is None:
        pytest.skip("no chromium is found")
    own = ["connect", "a.safetensors", "b.safetensors", "--model", f"{here}:apply_fn", "--inputs",
           "data.npz", "--methods", "linear", "ot", "--points", "3", "--html", "--out", "out",
           "--quiet"]  # fmt: skip
    assert run(own) == 0
    seen = browsed(Path("out/report.html"), 500)  # the least that the browser's window has
    assert seen["wrong"] == []
    assert seen["wide"] <= 500
