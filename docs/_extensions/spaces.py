"""Sphinx: a number and its unit, a relation and its number stay on one line."""

from __future__ import annotations

import re

from docutils import nodes
from sphinx.application import Sphinx

_TOGETHER = re.compile(r"(?<=\d) (?=(?:%|(?:s|ms|min|GB|MB|GFLOP)\b))|(?<=[≤≥<>≈]) (?=\d)")
# Code, and what formulas are read from, keep the spaces that were written.
_AS_WRITTEN = (nodes.literal, nodes.FixedTextElement, nodes.math, nodes.math_block, nodes.raw)


def bind(app: Sphinx, document: nodes.document) -> None:
    for text in list(document.findall(nodes.Text)):
        above = text.parent
        while above is not None and not isinstance(above, _AS_WRITTEN):
            above = above.parent
        bound = _TOGETHER.sub("\N{NO-BREAK SPACE}", text)
        if above is None and bound != text:
            text.parent.replace(text, nodes.Text(bound))


def setup(app: Sphinx) -> dict[str, bool]:
    app.connect("doctree-read", bind)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
