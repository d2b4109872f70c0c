"""All rows, and the table of what came of them."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterable, Mapping
from typing import Any

from .row import Row

# Framework → module of its rows, packages that they need.
PLACES = {
    "Keras applications": ("keras_applications", ("keras",)),
    "KerasHub": ("keras_hub_models", ("keras_hub",)),
    "Hugging Face Flax": ("huggingface", ("transformers", "flax")),
    "kimm": ("kimm_models", ("kimm",)),
    "haiku": ("haiku_models", ("haiku",)),
    "jraph": ("graphs", ("jraph", "haiku")),
    "equimo": ("equimo_models", ("equimo",)),
    "torchvision": ("torchvision_models", ("torchvision", "torchax")),
    "written here": ("written_here", ("flax",)),
}
HEADER = ("model", "parameters", "groups", "units", "works", "trace", "match", "peak", "remarks")


def rows(installed: bool = False, framework: str | None = None) -> list[Row]:
    """The rows of all frameworks, or of one.

    **Arguments:**
    - `installed`: only of frameworks whose packages are installed
    """
    out: list[Row] = []
    for name, (module, _) in PLACES.items():
        if framework in (None, name) and not (installed and absent(name)):
            out += importlib.import_module(f".{module}", __package__).ROWS
    return out


def absent(framework: str) -> str:
    """Which packages a framework's rows are skipped for; empty if all are installed."""
    needs = (n for n in PLACES[framework][1] if importlib.util.find_spec(n) is None)
    return ", ".join(needs)


def works(record: Mapping[str, Any]) -> bool:
    return not record["failures"]


def table(rows: Iterable[Row], records: Mapping[str, Mapping[str, Any]]) -> str:
    """Markdown, a section a framework."""
    every = list(rows)
    rows = [r for r in every if r.key in records]
    good = sum(works(records[r.key]) for r in rows)
    seconds = sum(sum(records[r.key].get("seconds", {}).values()) for r in rows)
    lines = [f"{good} of {len(rows)} models work. Measuring all of them takes {seconds / 60:.0f} "
             "minutes of CPU time.", ""]  # fmt: skip
    for framework in dict.fromkeys(r.framework for r in rows):
        part = [r for r in rows if r.framework == framework]
        good = sum(works(records[r.key]) for r in part)
        lines += [f"## {framework}: {good} of {len(part)}", "", "| " + " | ".join(HEADER) + " |",
                  "|---|" + "---:|" * 3 + "---|" + "---:|" * 3 + "---|"]  # fmt: skip
        lines += ["| " + " | ".join(_cells(r, records[r.key])) + " |" for r in part]
        lines.append("")
    missing = [r.key for r in every if r.key not in records]
    if missing:
        lines += ["## Not measured yet", "", ", ".join(missing), ""]
    return "\n".join(lines)


def _cells(row: Row, record: Mapping[str, Any]) -> tuple[str, ...]:
    left = f"stays: {row.left}" if row.left else ""
    remarks = [row.broken or "; ".join(record["failures"]), left]
    seconds = record.get("seconds", {})
    times = [f"{seconds[k]:.1f} s" if k in seconds else "" for k in ("trace", "match")]
    peak = record.get("peak GB")
    return (
        row.name, _number(record.get("parameters")),
        _number(record.get("group count")) + ("" if row.groups is None else " ✓"),
        _number(record.get("units")), "yes" if works(record) else "**no**",
        *times, f"{peak:.1f} GB" if peak else "",
        "; ".join(r for r in remarks if r).replace("|", "\\|"),
    )  # fmt: skip


def _number(value: int | None) -> str:
    return "" if value is None else f"{value:,}"
