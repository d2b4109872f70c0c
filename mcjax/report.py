"""Tables: for the terminal, for Markdown, as plain text."""

from __future__ import annotations

import dataclasses
import textwrap
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
        """A `rich` table for a terminal of this width, its notes as the caption.

        What is too wide has its names and deviations broken into lines, no number, and may
        still be wider.
        """
        from rich.markup import escape
        from rich.table import Table as RichTable

        table = RichTable(
            title=escape(title), title_justify="left", header_style="bold",
            caption=escape("\n".join(self.notes)) or None, caption_justify="left",
        )  # fmt: skip
        shown = self._folded() if self._width() > width else self
        table.add_column(escape(shown.columns[0]), no_wrap=True)
        for column in shown.columns[1:]:
            table.add_column(escape(column), justify="right", no_wrap=True)
        for row in shown.rows:
            table.add_row(*map(escape, row))
        if shown.last is not None:
            table.add_section()
            table.add_row(*map(escape, shown.last), style="dim")
        return table

    def _folded(self) -> Table:
        """The table with lines in its cells: as narrow as its numbers and words are."""
        last = None if self.last is None else _folded(self.last)
        made = dataclasses.replace(self, rows=[*map(_folded, self.rows)], last=last)
        lines = [[line for row in made._all() for line in row[i].split("\n")]
                 for i in range(len(self.columns))]  # fmt: skip
        columns = [
            "\n".join(
                textwrap.wrap(
                    name, max(map(len, ["…", *cells, *name.split()])), break_on_hyphens=False
                )
            )
            for name, cells in zip(self.columns, lines, strict=True)
        ]
        return dataclasses.replace(made, columns=columns)

    def _width(self) -> int:
        """How many columns of a terminal the table takes unless cells are broken."""
        rows = [self.columns, *self._all()]
        return 1 + sum(3 + max(len(row[i]) for row in rows) for i in range(len(self.columns)))


def _folded(row: Sequence[str]) -> list[str]:
    """A row whose deviations and ends of intervals stand on lines of their own, signs with them."""
    first, *rest = row
    return [first, *(cell.replace(" ± ", "\n± ").replace(" to ", "\nto ") for cell in rest)]


__all__ = ["Table"]
