"""The house rules: imports go down the list of levels, and `import mcjax` is light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import mcjax

ROOT = Path(mcjax.__file__).parent
# Lowest first; a module may import its own place and those before it.
LEVELS = [
    {"_types", "_tree", "_static", "_inputs", "_check", "_files", "_loops"},
    {"metrics", "checkpoints"},
    {"network"},
    {"symmetry"},
    {"align", "path"},
    {"inputs"},
    {"adjust"},
    {"recipes", "fitting", "evaluation", "flows", "protocol", "ensemble", "theory"},
    {"data", "models", "train", "study"},
    {"report", "cli"},
]
# Imports inside functions, where a result draws itself: report is loaded only when asked.
LAZY = {("evaluation", "report")}


def place(parts: tuple[str, ...]) -> str:
    return parts[0].removesuffix(".py") if parts else "__init__"


def level(name: str) -> int:
    (found,) = [i for i, names in enumerate(LEVELS) if name in names]
    return found


def imports():
    for file in ROOT.rglob("*.py"):
        relative = file.relative_to(ROOT)
        here = place(relative.parts)
        if here == "__init__":
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level:
                base = (*relative.parts[:-1],)
                base = base[: len(base) - (node.level - 1)]
                names = [*base, *(node.module or "").split(".")]
                targets = [names] if node.module else [[*base, a.name] for a in node.names]
                for target in targets:
                    target = [t for t in target if t]
                    if target and target[0] != "__version__":
                        yield relative, here, target[0]


def test_imports_go_down():
    found = list(imports())
    assert len(found) > 50
    upward = [
        (str(file), there)
        for file, here, there in found
        if here != there and level(there) > level(here) and (here, there) not in LAZY
    ]
    assert not upward


def test_import_is_light():
    heavy = ["tensorflow_datasets", "matplotlib", "ott", "flowjax", "sklearn", "orbax", "flax"]
    code = f"import mcjax, sys; print([m for m in {heavy} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
