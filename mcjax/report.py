"""Tables: for the terminal, for Markdown, as plain text."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any


@dataclasses.dataclass(frozen=True)
class Table:
    """Cells as text, and what they mean.

    - `columns`: their names, that of the labels first
    - `rows`: as many cells each; `last`: the row below the line, or None
    - `notes`: lines below the table
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    last: Sequence[str] | None = None
    notes: Sequence[str] = ()

    def _all(self) -> list[Sequence[str]]:
        return [*self.rows, *([] if self.last is None else [self.last])]

    def markdown(self) -> str:
        """The table in Markdown, its notes below."""
        first, *rows = (
            "| " + " | ".join(cell.replace("|", r"\|") for cell in row) + " |"
            for row in (self.columns, *self._all())
        )
        lines = [first, "|---|" + "---:|" * (len(self.columns) - 1), *rows]
        return "\n".join([*lines, *(line for note in self.notes for line in ("", note))])

    def text(self) -> str:
        """The table as lines of plain text."""
        rows = [self.columns, *self._all()]
        widths = [max(len(row[i]) for row in rows) for i in range(len(self.columns))]
        lines = [
            "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip()
            for row in rows
        ]
        return "\n".join([*lines, *self.notes])

    def terminal(self, title: str, width: int = 80) -> Any:
        """A `rich` table for a terminal of this width, its notes as the caption."""
        from rich.markup import escape
        from rich.table import Table as RichTable

        table = RichTable(
            title=escape(title), title_justify="left", header_style="bold",
            caption=escape("\n".join(self.notes)) or None, caption_justify="left",
        )  # fmt: skip
        table.add_column(self.columns[0], no_wrap=True)
        for column in self.columns[1:]:
            table.add_column(column, justify="right")
        fold = self._width() > width
        for row in self.rows:
            table.add_row(*map(escape, _folded(row) if fold else row))
        if self.last is not None:
            table.add_section()
            last = _folded(self.last) if fold else self.last
            table.add_row(*map(escape, last), style="dim")
        return table

    def _width(self) -> int:
        """How many columns of a terminal the table takes unless cells are broken."""
        rows = [self.columns, *self._all()]
        return 1 + sum(3 + max(len(row[i]) for row in rows) for i in range(len(self.columns)))


def _folded(row: Sequence[str]) -> list[str]:
    """A row whose deviations and ends of intervals stand on lines of their own, signs with them."""
    first, *rest = row
    return [first, *(cell.replace(" ± ", "\n± ").replace(" to ", "\nto ") for cell in rest)]


__all__ = ["Table"]
