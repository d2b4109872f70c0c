"""Sphinx: where a page first uses a word of the field, the word leads to the glossary.

Words that mean here what they mean elsewhere (a layer, a path) stay as they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

_GLOSSARY = "docs/glossary"
_EVERYDAY = {
    "action", "connection", "end points", "family", "head", "layer", "leaf", "length", "mode",
    "matching", "path", "permutation", "role", "statistics", "status", "swap", "symmetry", "task",
    "tied", "trace", "unit", "verification", "worst",
}  # fmt: skip
_NO_PROSE = (nodes.reference, nodes.literal, nodes.title, nodes.math, nodes.caption)


def pattern(term: str) -> re.Pattern[str]:
    """The term as a word, one or several; names (OT, PAM) in capitals alone."""
    word = re.escape(term[:-1]) + "(?:y|ies)" if term.endswith("y") else re.escape(term) + "s?"
    return re.compile(rf"(?<![\w·-]){word}(?![\w·-])", 0 if term[:2].isupper() else re.I)


def _prose(document: nodes.document) -> Iterator[nodes.Text]:
    """The texts of paragraphs, but for what is a link, code or a formula."""
    for paragraph in document.findall(nodes.paragraph):
        for text in list(paragraph.findall(nodes.Text)):
            around, node = [], text.parent
            while node is not paragraph:
                around, node = [*around, node], node.parent
            if not any(isinstance(n, _NO_PROSE) for n in around):
                yield text


def _link(text: nodes.Text, found: re.Match[str], uri: str) -> None:
    """A part of a text becomes a link."""
    whole, link = text.astext(), nodes.reference(refuri=uri, internal=True, classes=["term"])
    link += nodes.inline("", found[0])
    parts = [nodes.Text(whole[: found.start()]), link, nodes.Text(whole[found.end() :])]
    text.parent.replace(text, parts)


def lead(app: Sphinx, document: nodes.document, page: str) -> None:
    """On pages of prose, the first use of each word of the glossary."""
    if page == _GLOSSARY or not re.fullmatch(r"docs/[\w-]+|README", page):
        return
    objects = app.env.get_domain("std").objects
    at = app.builder.get_relative_uri(page, _GLOSSARY)
    for kind, name in sorted(objects, key=lambda key: -len(key[1])):
        if kind != "term" or name in _EVERYDAY:
            continue
        for text in _prose(document):
            if found := pattern(name).search(text.astext()):
                _link(text, found, f"{at}#{objects[kind, name][1]}")
                break


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("doctree-resolved", lead)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
