"""Sphinx: a page for each committed result, under a title, with the picture of the same name.

`experiments/PAPER/results/NAME.md` are tables as experiments write them, most without a title;
`README.md` beside them says what was run, and here leads to them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sphinx.application import Sphinx


def as_page(app: Sphinx, page: str, source: list[str]) -> None:
    place = Path(page)
    if place.parent.name != "results":
        return
    if place.name == "README":
        others = sorted(f.stem for f in (app.srcdir / place.parent).glob("*.md"))
        links = [f"[{name}]({name}.md)" for name in others if name != "README"]
        source[0] += f"\n\nTables and figures: {', '.join(links)}.\n"
    if not source[0].startswith("# "):
        source[0] = f"# {place.parts[-3]}: {place.name}\n\n{source[0]}"
    picture = f"{place.name}.png"
    if (app.srcdir / place.parent / picture).exists() and picture not in source[0]:
        source[0] += f"\n\n![]({picture})\n"


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("source-read", as_page)
    return {"parallel_read_safe": True}
