"""The pages: their Python compiles, their links lead somewhere; `python -m tests.documentation`
runs them."""

from __future__ import annotations

import re
import types

import pytest

from . import documentation
from .documentation import ROOT, blocks_of, run_block, run_page

PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_python_compiles_and_links_lead_somewhere(page):
    for block in blocks_of(page):
        compile(block.code, f"{page.name}:{block.line}", "exec")
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text())
    assert not [link for link in links if not (page.parent / link).exists()]


def test_every_page_is_in_the_table_of_contents():
    index = (ROOT / "docs" / "index.md").read_text()
    listed = [name for tree in re.findall(r"{toctree}.*?```", index, re.S)
              for name in re.findall(r"^[\w-]+$", tree, re.M)]  # fmt: skip
    assert sorted(["index", *listed]) == sorted(p.stem for p in (ROOT / "docs").glob("*.md"))


def test_a_block_that_fails_is_named_and_the_next_are_run(tmp_path, monkeypatch):
    monkeypatch.setattr(documentation, "ROOT", tmp_path)
    page = tmp_path / "page.md"
    page.write_text("""# Page

```python
a = n + 1

a.missing
```

```bash
exit 1
```

```python
b = a + 1
raise ValueError("b is %d" % b)
```

```python
c = b
```
""")
    count, failures = run_page(page, {"n": 1}, shown=True)
    assert count == 3
    assert failures == [
        "page.md:6: AttributeError: 'int' object has no attribute 'missing'",
        "page.md:15: ValueError: b is 3",
    ]


def test_a_block_without_an_end_is_refused(tmp_path, monkeypatch):
    page = tmp_path / "page.md"
    page.write_text("```python\na = 1\n")
    with pytest.raises(ValueError, match="the block of line 1 has no end"):
        list(blocks_of(page))
    monkeypatch.setattr(documentation, "ROOT", tmp_path)
    wrong = documentation.Block(page, 2, "a = (\n")
    assert "page.md:2: SyntaxError" in (run_block(wrong, types.ModuleType("m"), False) or "")
