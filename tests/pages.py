"""A page's Python blocks run as a test: those of frameworks, where the site's build lacks them."""

from __future__ import annotations

import contextlib
import re
import sys
import tempfile
import types
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def run_page(page: Path, start: dict[str, Any]) -> int:
    """How many blocks of Python a page has; they run in order, in a folder and a module of theirs.

    - `start`: the names that the page takes for granted

    A block that raises does so here, with the page's line in the traceback.
    """
    module = types.ModuleType(f"page_{page.stem.replace('-', '_')}")
    module.__dict__.update(start)
    sys.modules[module.__name__] = module  # classes of a page are found by their module
    text = page.read_text()
    blocks = list(re.finditer(r"^```python\n(.*?)^```", text, re.S | re.M))
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for block in blocks:
            above = "\n" * text.count("\n", 0, block.start(1))
            exec(compile(above + block[1], str(page), "exec"), module.__dict__)
    return len(blocks)
