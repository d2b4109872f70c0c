"""Comparisons as tables: for the terminal and for Markdown."""

from __future__ import annotations

from rich.table import Table

from .study import Comparison

_COLUMNS = ("worst train %", "worst test %", "barrier (chord)", "barrier (ends)")


def _cells(comparison: Comparison) -> list[tuple[str, ...]]:
    def percent(value: float | None) -> str:
        return "–" if value is None else f"{value:.2f}"

    rows = [
        (
            row.label,
            percent(row.worst("train")),
            percent(row.worst("test")),
            f"{row.barrier('chord'):.4f}",
            f"{row.barrier('endpoint'):.4f}",
        )
        for row in comparison.rows
    ]
    ends = (percent(comparison.endpoints("train")), percent(comparison.endpoints("test")))
    return [*rows, ("End points", *ends, "", "")]


def terminal_table(comparison: Comparison, title: str) -> Table:
    """A `rich` table: a row a method, the end points last."""
    table = Table(title=title, title_justify="left", header_style="bold")
    table.add_column("method", no_wrap=True)
    for column in _COLUMNS:
        table.add_column(column, justify="right")
    cells = _cells(comparison)
    for row in cells[:-1]:
        table.add_row(*row)
    table.add_section()
    table.add_row(*cells[-1], style="dim")
    return table


def markdown_table(comparison: Comparison) -> str:
    """The same table in Markdown."""
    lines = ["| method | " + " | ".join(_COLUMNS) + " |", "|---|" + "---:|" * len(_COLUMNS)]
    return "\n".join([*lines, *("| " + " | ".join(r) + " |" for r in _cells(comparison))])
