"""Metrics along paths as a figure: a row a metric, a colour a method, test bold and train pale.

Where there are many methods, each family has a column of its own, the others faint behind.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .coinciding import coinciding, height_of, stripes
from .colours import colours_of
from .families import MOST, families_of
from .style import (
    FAINT,
    LARGEST,
    along_path,
    band,
    drawable,
    house_style,
    line,
    new_panels,
    readable,
    save_figure,
)

# Stripes of lines that coincide, in widths of the line.
_STRIPE = 4.0


def draw_curves(
    curves: Mapping[str, Mapping[str, Any]],
    path: str | Path | None = None,
    *,
    metrics: Sequence[str] | None = None,
    ends: Mapping[str, str] | None = None,
    ax: Any = None,
) -> np.ndarray:
    """Every metric along each path, axes named and scaled as the curves' task says.

    Beside test data, training data are pale and thin. Of several curves (pairs of networks) the
    mean is drawn, and their range as a band. Lines that coincide are striped in their colours; what
    is not finite, or above 1e300, is a gap.

    **Arguments:**
    - `curves`: method label → split → `mcjax.evaluation.Curve` (or what has `t`, `values`, `task`),
      or a sequence of them at the same t
    - `path`: picture file, its ending says the format; default: none is written
    - `metrics`: one panel each; default: all that a curve has
    - `ends`: method label → where its path ends, `"B"` or `"P·B"`; default: it is not said
    - `ax`: axes to draw on, one for each metric; default: those of a new figure, in which more
      than five methods are put in columns by family

    **Returns:** the axes: one for each metric, those of the first family first.

    **Raises:** `ValueError` if there is nothing to draw, no curve has a metric, or the number of
    axes is another.
    """
    drawn = {
        label: {split: _Drawn.of(c) for split, c in splits.items()}
        for label, splits in curves.items()
        if splits
    }
    every = [d for splits in drawn.values() for d in splits.values()]
    names = _metrics(every, metrics)
    given = None if ax is None else np.ravel(np.asarray(ax, object))
    if given is not None and len(given) != len(names):
        raise ValueError(
            f"ax: {len(given)} axes for {len(names)} metrics ({', '.join(names)}); say which "
            "metrics to draw"
        )
    families = families_of(drawn) if given is None and len(drawn) > MOST else {"": list(drawn)}
    style = _Style(drawn, dict(ends or {}))
    with house_style(given is None):
        if given is not None:
            panels, figure = given, given[0].figure
        elif len(families) > 1:
            panels, figure = _columns(names, families)
        else:
            # In a row, metrics beside each other; the names of methods right of the last.
            panels, figure = new_panels(len(names))
        for k, panel in enumerate(panels):
            family = list(families)[k // len(names)]
            style.panel(panel, names[k % len(names)], families[family])
            if len(families) > 1:
                panel.set_title("" if k % len(names) else _heading(family))
                panel.label_outer()
        style.names(panels, list(families.values()), len(names), own=given is None)
        if path is not None:
            save_figure(figure, path)
    return panels


@dataclasses.dataclass(frozen=True)
class _Drawn:
    """Curves of one method and split: their t, task, and values of every metric (curves, T)."""

    t: np.ndarray
    task: Any
    values: Mapping[str, np.ndarray]

    @classmethod
    def of(cls, curves: Any) -> _Drawn:
        many = list(curves) if isinstance(curves, Sequence) else [curves]
        first = many[0]
        values = {
            name: first.task.scale(name)
            * np.stack([np.asarray(c.values[name], float) for c in many])
            for name in first.values
        }
        values = {k: np.where(np.abs(v) < LARGEST, v, np.nan) for k, v in values.items()}
        return cls(np.asarray(first.t), first.task, values)


@dataclasses.dataclass(frozen=True)
class _Style:
    """How every method and split of a figure is drawn."""

    curves: Mapping[str, Mapping[str, _Drawn]]
    ends: Mapping[str, str]

    @property
    def colours(self) -> dict[str, str]:
        return colours_of(self.curves)

    @property
    def splits(self) -> list[str]:
        return list(dict.fromkeys(s for splits in self.curves.values() for s in splits))

    def how(self, split: str) -> dict[str, Any]:
        """Training data pale beside others; of other splits the first full, the next dashed."""
        if split == "train" and len(self.splits) > 1:
            return {"dim": True}
        rest = [s for s in self.splits if s != "train" or len(self.splits) == 1]
        return {"ls": ("-", "--", ":", "-.")[rest.index(split) % 4]}

    def panel(self, panel: Any, name: str, labels: Sequence[str]) -> None:
        """A metric of some methods, the others faint behind."""
        striped = self._striped(name, labels)
        for label, splits in self.curves.items():
            for split, drawn in splits.items():
                if label in labels:
                    how = self.how(split) | striped.get((label, split), {})
                    self._line(panel, name, label, split, drawn, how)
                elif name in drawn.values and not self.how(split).get("dim"):
                    panel.plot(drawn.t, drawn.values[name].mean(0), color=FAINT, lw=0.9, zorder=1.2)
        every = [d for splits in self.curves.values() for d in splits.values()]
        axes = dict.fromkeys(d.task.axis(name) for d in every if name in d.values)
        words = name.replace("_", " ")
        panel.set(title=f"{words[:1].upper()}{words[1:]}", ylabel=" / ".join(axes))
        where = list(dict.fromkeys(self.ends[v] for v in labels if v in self.ends))
        along_path(panel, " or ".join(where) or None)

    def _striped(self, name: str, labels: Sequence[str]) -> dict[tuple[str, str], dict[str, Any]]:
        """(Method, split) → the dashes of a line that coincides with others of its split."""
        found = {}
        every = [d for splits in self.curves.values() for d in splits.values()]
        height = height_of(d.values[name].mean(0) for d in every if name in d.values)
        for split in self.splits:
            lines = {
                v: (self.curves[v][split].t, self.curves[v][split].values[name].mean(0))
                for v in labels
                if split in self.curves[v] and name in self.curves[v][split].values
            }
            for label, (k, n) in zip(lines, coinciding([*lines.values()], height), strict=True):
                if n > 1 and self.how(split).get("ls", "-") == "-":
                    dashes = {"ls": stripes(k, n, _STRIPE), "dash_capstyle": "butt"}
                    found[label, split] = dashes
        return found

    def _line(
        self, panel: Any, name: str, label: str, split: str, drawn: _Drawn, how: dict[str, Any]
    ) -> None:
        if name not in drawn.values:
            return
        values, colour = drawn.values[name], self.colours[label]
        mean = values.mean(0)
        if len(values) > 1 and not how.get("dim"):
            band(panel, drawn.t, values.min(0), values.max(0), colour)
        marker = "o" if len(mean) == 1 else None
        line(panel, drawn.t, mean, colour, marker=marker, label=f"{label}, {split}", **how)

    def names(
        self, panels: Any, families: Sequence[Sequence[str]], rows: int, *, own: bool
    ) -> None:
        """The methods' names beside (or, of columns, below) the panels, by height in the middle."""
        from matplotlib.lines import Line2D

        said = len(self.curves) > 1 or len(self.splits) > 1
        if not said:
            return
        for k, labels in enumerate(families):
            mine = sorted(labels, key=self._height, reverse=True)
            handles = [Line2D([], [], color=self.colours[v], lw=2.2, label=self._name(v, labels))
                       for v in mine]  # fmt: skip
            if k == len(families) - 1 or len(families) == 1:
                handles += self._of_splits()
            panel = panels[0] if not own else panels[(k + 1) * rows - 1]
            place: dict[str, Any] = {}
            if own and len(families) > 1:
                place = {"loc": "upper left", "bbox_to_anchor": (-0.02, -0.28)}
            elif own:
                place = {"loc": "center left", "bbox_to_anchor": (1.01, 0.5)}
            legend = panel.legend(handles=handles, frameon=False, borderaxespad=0.4, **place)
            for text, v in zip(legend.get_texts(), mine, strict=False):
                text.set_color(readable(self.colours[v]))

    def _name(self, label: str, beside: Sequence[str]) -> str:
        differ = len({self.ends.get(v) for v in beside}) > 1
        return drawable(f"{label} → {self.ends[label]}" if differ and label in self.ends else label)

    def _of_splits(self) -> list[Any]:
        from matplotlib.lines import Line2D

        if len(self.splits) < 2:
            return []
        styles = {s: self.how(s) for s in self.splits}
        return [
            Line2D([], [], color="#AAAAAA" if how.get("dim") else "#444444",
                   lw=1.2 if how.get("dim") else 2, ls=how.get("ls", "-"), label=s)
            for s, how in styles.items()
        ]  # fmt: skip

    def _height(self, label: str) -> float:
        """The middle of the last metric drawn, of the split that is not pale."""
        splits = self.curves[label]
        drawn = splits[next((s for s in splits if not self.how(s).get("dim")), next(iter(splits)))]
        values = list(drawn.values.values())[-1].mean(0)
        height = float(values[len(values) // 2])
        return height if np.isfinite(height) else -np.inf


def _columns(names: Sequence[str], families: Mapping[str, Any]) -> tuple[np.ndarray, Any]:
    """Panels, a row a metric and a column a family, in the order of the families."""
    grid, figure = new_panels(
        len(names) * len(families), len(families), width=max(2.6, 3.4 - 0.15 * len(families)),
        height=2.7, sharey="row",
    )  # fmt: skip
    panels = np.ravel(grid.reshape(len(names), len(families)).T)
    return panels, figure


def _heading(family: str) -> str:
    return family.replace("; ", ";\n") if len(family) > 30 else family


def _metrics(every: Sequence[_Drawn], asked: Sequence[str] | None) -> list[str]:
    there = list(dict.fromkeys(name for d in every for name in d.values))
    names = there if asked is None else list(asked)
    unknown = [name for name in names if name not in there]
    if unknown:
        raise ValueError(f"unknown metric {unknown[0]!r}; there are {', '.join(there)}")
    if not names:
        raise ValueError("there are no curves to draw")
    return names


__all__ = ["draw_curves"]
