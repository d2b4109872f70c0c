"""Sphinx: a page's ```python fences are run, one kernel a page, and shown with what they give.

The fences stay plain Markdown for readers of the sources. Before a page is parsed it becomes a
notebook of myst-nb: a cell of setup that nobody sees, then its fences as cells. The setup names
the sources of mcjax, so myst-nb's cache runs a page again when it or mcjax has changed.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.util import logging

ROOT = Path(__file__).parents[2]
_HEAD = """---
file_format: mystnb
kernelspec: {name: python3}
language_info: {name: python, pygments_lexer: python}
---
```{code-cell} python
:tags: [remove-cell]
# %s
%s
```

"""
_FENCE = re.compile(r"^```python$", re.M)
# A block of Python, and below it what it gives, for readers of the sources.
_TOLD = re.compile(r"(^```python$.*?^```\n)\n*^```text$.*?^```\n", re.M | re.S)


def sources() -> str:
    """A digest of everything that a page's code may depend on."""
    digest = hashlib.sha256()
    for file in sorted([*ROOT.glob("mcjax/**/*.py"), *ROOT.glob("docs/_kernel/*.py")]):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def as_notebook(app: Sphinx, page: str, source: list[str]) -> None:
    """A page with Python fences becomes a notebook."""
    if _FENCE.search(source[0]) and "/api/" not in page:
        setup = (
            "import shown" if page in app.config.pages_from_nothing else "from prepared import *"
        )
        runs = app.config.nb_execution_mode != "off"
        cells = _TOLD.sub(r"\1", source[0]) if runs else source[0]
        cells = _FENCE.sub("```{code-cell} python", cells)
        source[0] = _HEAD % (app.mcjax_sources, setup) + cells  # type: ignore[attr-defined]


def prepare(app: Sphinx, config: Any) -> None:
    """What kernels inherit; pages whose packages are missing are not run, and said."""
    app.mcjax_sources = sources()  # type: ignore[attr-defined]
    paths = [str(Path(__file__).parents[1] / "_kernel"), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(p for p in paths if p)
    os.environ.setdefault("JAX_PPRINT_USE_COLOR", "false")
    os.environ.setdefault("PYTHONWARNINGS", "ignore:IProgress not found")  # tqdm, of its bars
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path(app.outdir).parent / ".jax_cache"))
    for page, packages in config.pages_need.items():
        missing = [name for name in packages if importlib.util.find_spec(name) is None]
        if missing and config.nb_execution_mode != "off":
            logging.getLogger(__name__).info("%s: not run, without %s", page, ", ".join(missing))
            config.nb_execution_excludepatterns = [
                *config.nb_execution_excludepatterns, f"{page}.md",
            ]  # fmt: skip


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_config_value("pages_need", {}, "env")
    app.add_config_value("pages_from_nothing", [], "env")
    app.connect("config-inited", prepare, priority=1)
    app.connect("source-read", as_notebook)
    return {"parallel_read_safe": True}
