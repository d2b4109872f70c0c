"""Run the documentation: `python -m tests.documentation [PAGE…]`, every Python block of the pages.

The blocks of a page run one after the other, in a folder of their own, in one module that holds
what `docs/index.md` promises: two networks and their data. README.md starts from nothing. A block
that fails is named, with its line in the page, and the next ones are run.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import importlib.util
import io
import os
import sys
import tempfile
import time
import traceback
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

import mcjax

ROOT = Path(__file__).parents[1]
# Pages that need a package which is no dependency.
NEEDS = {"pytorch": ["torchax"], "other-frameworks": ["keras", "transformers", "haiku"]}
_FENCE = "```"


@dataclasses.dataclass(frozen=True)
class Block:
    """A Python block of a page; `line`: that of its first statement, from 1."""

    page: Path
    line: int
    code: str


def blocks_of(page: Path) -> Iterator[Block]:
    """The Python blocks of a page, in order.

    **Raises:** `ValueError` for a block without an end.
    """
    language, start, inside = None, 0, []
    for number, line in enumerate(page.read_text().splitlines(), 1):
        if not line.startswith(_FENCE):
            inside.append(line)
        elif language is None:
            language, start, inside = line.strip("`").strip(), number, []
        else:
            if language == "python":
                yield Block(page, start + 1, "\n".join(inside) + "\n")
            language = None
    if language is not None:
        raise ValueError(f"{page}: the block of line {start} has no end")


def prelude() -> dict[str, Any]:
    """What `docs/index.md` says that every page starts from."""
    data = mcjax.data.load("digits").flat()
    x, y = data.x_train, data.y_train
    model = mcjax.models.MLP((32, 32))
    protocol = mcjax.training.Protocol(epochs=2, batch=32)
    a, b, c = mcjax.training.train_networks(
        model.apply, lambda key: model.init(key, x[:1]), (x, y), seeds=(0, 1, 2), protocol=protocol
    )
    network = mcjax.trace(model.apply, a, x[:2])
    matching = mcjax.align.match_activations(network, a, b, x)
    return {
        "jax": jax, "jnp": jax.numpy, "mcjax": mcjax, "model": model, "apply_fn": model.apply,
        "network": network, "a": a, "b": b, "c": c, "x": x, "y": y,
        "test": (data.x_test, data.y_test), "protocol": protocol, "key": jax.random.key(0),
        "matching": matching, "aligned_b": matching.action(network)(b),
    }  # fmt: skip


def run_page(page: Path, start: dict[str, Any], shown: bool) -> tuple[int, list[str]]:
    """(how many blocks there are, what went wrong in those that failed)."""
    module = types.ModuleType(f"documentation_{page.stem.replace('-', '_')}")
    module.__dict__.update(start)
    sys.modules[module.__name__] = module  # classes of a page are found by their module
    count, failures = 0, []
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        for block in blocks_of(page):
            count += 1
            failure = run_block(block, module, shown)
            failures += [failure] if failure else []
    return count, failures


def run_block(block: Block, module: types.ModuleType, shown: bool) -> str | None:
    """What went wrong, None if nothing has."""
    name = str(block.page.relative_to(ROOT))
    said = io.StringIO()
    code = "\n" * (block.line - 1) + block.code  # so that a traceback has the page's lines
    try:
        with contextlib.redirect_stdout(sys.stdout if shown else said):
            exec(compile(code, name, "exec"), module.__dict__)
    except Exception as error:
        lines = [f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == name]
        line = getattr(error, "lineno", None) or (lines or [block.line])[-1]
        return f"{name}:{line}: {type(error).__name__}: {error}"
    return None


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m tests.documentation")
    parser.add_argument("pages", nargs="*", type=Path, help="README.md and docs/*.md if none")
    parser.add_argument("--show", action="store_true", help="show what the blocks print")
    options = parser.parse_args()
    pages = [p.resolve() for p in options.pages]
    pages = pages or [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    os.environ.setdefault("MPLBACKEND", "Agg")
    start = prelude() if any(p.parent != ROOT for p in pages) else {}
    wrong = 0
    for page in pages:
        missing = [p for p in NEEDS.get(page.stem, ()) if importlib.util.find_spec(p) is None]
        if missing:
            print(f"{page.relative_to(ROOT)}: not run, {', '.join(missing)} not installed")
            continue
        begun = time.perf_counter()
        count, failures = run_page(page, {} if page.parent == ROOT else start, options.show)
        wrong += len(failures)
        seconds = time.perf_counter() - begun
        print(f"{page.relative_to(ROOT)}: {count - len(failures)} of {count} blocks run, "
              f"{seconds:.0f} s", *failures, sep="\n  ", flush=True)  # fmt: skip
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
