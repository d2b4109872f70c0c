"""The house rules: imports go down the list of levels, between files too, and `import mcjax` is
light."""

from __future__ import annotations

import ast
import graphlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import mcjax

PACKAGE = Path(mcjax.__file__).parent
REPOSITORY = PACKAGE.parent
# Lowest first; a module may import its own level and those before it.
LEVELS = [
    {
        "_types",
        "_tree",
        "_static",
        "_inputs",
        "_check",
        "_check_model",
        "_files",
        "_modules",
        "_readonly",
        "_reasons",
        "_stream",
        "_loops",
        "_threads",
        "_compiled",
        "_survivors",
        "_lazy",
        "_version",
        "_json",
        "_task",
    }
    | {"tasks", "figures"},
    {"symmetry"},
    {"network"},
    {"transport", "path", "attacks"},
    {"evaluation", "adjust", "training"},
    {"flows", "align"},
    {"methods", "merge", "theory", "inputs", "neurons"},
    {
        "data",
        "interop",
        "models",
        "study",
        "study_pairs",
        "study_inputs",
        "study_merging",
        "report",
        "report_html",
        "saving",
        "cli",
        "__main__",
    },
]
FREE = {"testing"}  # the contract tests may use all of it, and nothing but tests uses them


def module_of(file: Path) -> str:
    parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_of(f): f for f in sorted(PACKAGE.rglob("*.py"))}


def imported(module: str, file: Path) -> Iterator[str]:
    """The files of mcjax that a file imports, inside functions and for types too."""
    package = module.split(".") if file.name == "__init__.py" else module.split(".")[:-1]
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names if a.name in FILES)
        if not isinstance(node, ast.ImportFrom):
            continue
        base = package[: len(package) - node.level + 1] if node.level else []
        source = ".".join([*base, *([node.module] if node.module else [])])
        for alias in node.names:
            if f"{source}.{alias.name}" in FILES:
                yield f"{source}.{alias.name}"
            elif source in FILES:
                yield from defined_in(source, alias.name)


def defined_in(source: str, name: str) -> Iterator[str]:
    """The file that a name comes from, where a package's `__init__` only hands it on."""
    file = FILES[source]
    if file.name == "__init__.py" and source != "mcjax":
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and name in [
                a.asname or a.name for a in node.names
            ]:
                base = source.split(".")[: len(source.split(".")) - node.level + 1]
                yield from defined_in(".".join([*base, node.module or ""]), name)
                return
    yield source


GRAPH = {m: sorted(set(imported(m, f)) - {"mcjax", m}) for m, f in FILES.items() if m != "mcjax"}


def place(module: str) -> str:
    return module.split(".")[1]


def level(module: str) -> int:
    (found,) = [i for i, names in enumerate(LEVELS) if place(module) in names]
    return found


def test_imports_go_down():
    pairs = [(m, n) for m, used in GRAPH.items() for n in used if place(m) not in FREE]
    assert len(pairs) > 100
    assert not [(m, n) for m, n in pairs if place(n) in FREE or level(n) > level(m)]


def test_the_map_has_every_place_on_its_level():
    """CONTRIBUTING.md: rows `| level | places | …`, in order."""
    rows = re.findall(
        r"^\| ([0-9–]) \| (.*?) \|", (REPOSITORY / "CONTRIBUTING.md").read_text(), re.M
    )
    found = [(number, name) for number, names in rows for name in re.findall("`(.*?)`", names)]
    places = {place(module) for module in GRAPH}
    expected = [(str(i), name) for i, names in enumerate(LEVELS) for name in names & places]
    assert sorted(found) == sorted(expected + [("–", name) for name in FREE])
    assert [number for number, _ in rows] == sorted(number for number, _ in rows)


def test_no_cycles_between_files():
    list(graphlib.TopologicalSorter(GRAPH).static_order())


def test_experiments_and_docs_use_public_names():
    files = [*(REPOSITORY / "experiments").rglob("*.py"), *(REPOSITORY / "docs").glob("*.py")]
    private = []
    for file in files:
        for node in ast.walk(ast.parse(file.read_text())):
            names = []
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [f"{node.module}.{a.name}" for a in node.names]
            elif isinstance(node, ast.Import):
                names = [a.name for a in node.names]
            for name in names:
                parts = name.split(".")
                if parts[0] == "tests" or (
                    parts[0] == "mcjax" and any(p.startswith("_") for p in parts)
                ):
                    private.append((file.name, name))
    assert not private


def test_import_is_light():
    """Whatever is asked of mcjax (but flows), other packages are loaded when they are used."""
    heavy = [
        "tensorflow_datasets", "matplotlib", "ott", "flowjax", "sklearn", "orbax", "flax",
        "equinox", "optax", "safetensors", "scipy", "threadpoolctl", "rich", "tyro", "jax.extend",
    ]  # fmt: skip
    code = f"""
import sys, mcjax
assert "jax" not in sys.modules
[getattr(mcjax, n) for n in mcjax.__all__ if n != "flows"]
print([m for m in {heavy} if m in sys.modules])
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_every_public_name_is_there():
    for name in [*mcjax.__all__, "__version__", "data", "models", "study"]:
        assert getattr(mcjax, name) is not None
    assert set(mcjax.__all__) <= set(dir(mcjax))
    with pytest.raises(AttributeError, match="has no attribute 'checkpoints'"):
        mcjax.checkpoints  # noqa: B018
