"""Sphinx: pictures of several panels are of the class `wide`, which narrow screens scroll."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx

# Pixels; a figure of one panel has fewer.
_WIDE = 1000


def width_of(file: Path) -> int:
    """In pixels, of a PNG; 0 of anything else."""
    with file.open("rb") as opened:
        start = opened.read(24)
    return struct.unpack(">I", start[16:20])[0] if start.startswith(b"\x89PNG\r\n") else 0


def mark(app: Sphinx, document: nodes.document, page: str) -> None:
    for image in document.findall(nodes.image):
        file = Path(app.srcdir, image["uri"])
        if file.is_file() and width_of(file) > _WIDE:
            image["classes"].append("wide")


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("doctree-resolved", mark)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
