"""One HTML file of a run, from facts, tables, figures and images."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
from collections.abc import Mapping, Sequence
from html import escape
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from .._files import write_atomically
from ..report import Table
from .charts import Chart, on_dark

# Nothing is loaded, whatever a name or a value would have a browser do.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"

# Letters of a cell that is not broken.
_SHORT = 20


@dataclasses.dataclass
class Report:
    """Sections under a title, in the order they were added, then what was run.

    - `title`: as text, as all that is added: names of methods and files may be anybody's
    - `facts`: what was run: name → value; nested mappings become lists

        >>> from mcjax.report import Table
        >>> from mcjax.report_html import Report
        >>> report = Report("a to b", {"command": "mcjax connect", "seeds": [0, 1]})
        >>> report.table("Barriers", Table(["method", "barrier"], [["<mine>", "0.01"]]))
        >>> "&lt;mine&gt;" in report.html()
        True
    """

    title: str
    facts: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        self._sections: list[str] = []
        self._charts: list[Chart] = []

    def table(self, title: str, table: Table, colours: Mapping[str, str] | None = None) -> None:
        """A table, its notes below; `colours`: label of a row → the colour of a mark before it."""
        self._sections.append(_section(title, _table(table, colours or {})))

    def charts(self, title: str, charts: Sequence[Chart], note: str = "") -> None:
        """Charts beside each other, as many as the window is wide."""
        first = len(self._charts)
        self._charts += charts
        drawn = "".join(chart.html(first + k) for k, chart in enumerate(charts))
        said = f"<p>{escape(note)}</p>" if note else ""
        self._sections.append(_section(title, f'{said}<div class="charts">{drawn}</div>'))

    def images(self, title: str, rows: Mapping[str, Sequence[tuple[np.ndarray, str]]]) -> None:
        """Rows of images: name of the row → (image in [0, 1], what is written below it)."""
        drawn = "".join(
            f'<div class="images"><b>{escape(name)}</b>'
            + "".join(
                f'<figure><img alt="{escape(text, quote=True)}" src="{_png(image)}">'
                f"<figcaption>{escape(text)}</figcaption></figure>"
                for image, text in images
            )
            + "</div>"
            for name, images in rows.items()
        )
        self._sections.append(_section(title, drawn))

    def html(self) -> str:
        """The whole file."""
        here = resources.files("mcjax.report_html")
        css, script = ((here / name).read_text("utf-8") for name in ("style.css", "hover.js"))
        data = json.dumps([c.record() for c in self._charts], allow_nan=False)
        data = data.replace("<", "\\u003c")  # no name ends the script
        title = escape(self.title)
        run = _section("What was run", _facts(self.facts)) if self.facts else ""
        return (
            '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f'<meta name="color-scheme" content="light dark"><title>{title} · mcjax</title>'
            f"<style>{css}</style></head><body><main><h1>{title}</h1>"
            f"{''.join(self._sections)}{run}</main>"
            f'<div id="tip" hidden></div><script type="application/json" id="numbers">{data}'
            f"</script><script>{script}</script></body></html>\n"
        )

    def write(self, file: str | Path) -> None:
        """Write it, whole or not at all."""
        write_atomically(file, self.html().encode())


def _section(title: str, content: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{content}</section>"


def _table(table: Table, colours: Mapping[str, str]) -> str:
    def row(cells: Sequence[str], kind: str = "td") -> str:
        mark = ""
        if cells[0] in colours and kind == "td":
            colour = colours[cells[0]]
            mark = f'<i class="mark" style="--light:{colour};--dark:{on_dark(colour)}"></i>'
        first, *rest = (escape(cell) for cell in cells)
        numbers = "".join(f"<{kind}{_words(cell, kind)}>{cell}</{kind}>" for cell in rest)
        return (
            f'<tr><th scope="{"col" if kind == "th" else "row"}">{mark}{first}</th>{numbers}</tr>'
        )

    last = "" if table.last is None else f"<tfoot>{row(table.last)}</tfoot>"
    notes = "".join(f'<p class="note">{escape(note)}</p>' for note in table.notes)
    return (
        f'<div class="wide"><table><thead>{row(table.columns, "th")}</thead>'
        f"<tbody>{''.join(map(row, table.rows))}</tbody>{last}</table></div>{notes}"
    )


def _words(cell: str, kind: str) -> str:
    """Cells of sentences are broken and begin at the left, numbers are not."""
    return ' class="words"' if kind == "td" and len(cell) > _SHORT else ""


def _facts(facts: Mapping[str, Any]) -> str:
    items = "".join(f"<dt>{escape(str(k))}</dt><dd>{_value(v)}</dd>" for k, v in facts.items())
    return f"<dl>{items}</dl>"


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return _facts(value)
    if isinstance(value, list | tuple):
        return escape(", ".join(map(str, value)))
    return escape("–" if value is None else str(value))


def _png(image: np.ndarray) -> str:
    """An image of (height, width) or (height, width, 3) in [0, 1], inside the file."""
    from matplotlib.image import imsave

    buffer = io.BytesIO()
    imsave(buffer, np.clip(image, 0, 1), cmap="gray", vmin=0, vmax=1, format="png")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


__all__ = ["Report"]
