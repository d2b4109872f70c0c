"""Lines over one axis as SVG; what a reader points at is shown by `hover.js` from the same numbers.

Places in a drawing are in units of its view box, which is as wide as a narrow window.
"""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np

from ..figures.coinciding import coinciding, stripes
from ..figures.colours import shade

_WIDTH, _HEIGHT = 420, 270
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 14, 12, 40
# Parts of an axis, about so many.
_TICKS = 5
# Letters that fit beside the axis.
_FITTING = 6
# Stripes of lines that coincide, as long as this.
_STRIPE = 9.0
# What is drawn lies between; differences below the least are none.
_LEAST, _MOST = 1e-300, sys.float_info.max


@dataclasses.dataclass(frozen=True)
class Line:
    """A line of a chart.

    - `name`, `colour`: as text, and `"#rrggbb"`
    - `x`, `y`: (T,) numbers; what is not finite is a gap
    - `dim`: pale and thin, beside what is shown; `faint`: behind it, not pointed at
    - `named`: whether its name stands below the chart
    - `low`, `high`: (T,) of a band around it, or None
    """

    name: str
    colour: str
    x: Any
    y: Any
    dim: bool = False
    faint: bool = False
    named: bool = True
    low: Any = None
    high: Any = None


@dataclasses.dataclass(frozen=True)
class Chart:
    """Lines over one axis, with their names below them.

    - `title`, `y_label`: as text; `lines`: in the order of their names
    - `ticks`: x → what is written there; the axis ends at the first and the last
    - `limits`: of y, shared with charts beside this one; default: those of its lines
    - `logarithmic`: whether y is
    - `digits`: significant digits of values that are pointed at
    """

    title: str
    y_label: str
    lines: Sequence[Line]
    ticks: dict[float, str]
    limits: tuple[float, float] | None = None
    logarithmic: bool = False
    digits: int = 4

    def html(self, number: int) -> str:
        """A figure; `number`: of the chart in its report, by which the script finds its numbers."""
        names = "".join(self._name(line) for line in self.lines if line.named and not line.faint)
        if self._stripes():
            names += "<span>Striped: lines that coincide.</span>"
        return (
            f'<figure class="chart" data-chart="{number}"><h3>{escape(self.title)}</h3>'
            f'{self._drawing()}<figcaption class="names">{names}</figcaption></figure>'
        )

    def record(self) -> dict[str, Any]:
        """What the script needs: where values stand, and the values as they are."""
        low, high = self._limits()
        shown = [line for line in self.lines if not line.faint]
        return {
            "box": [_LEFT, _TOP, _WIDTH - _RIGHT, _HEIGHT - _BOTTOM], "width": _WIDTH,
            "x": [min(self.ticks), max(self.ticks)], "y": [low, high], "log": self.logarithmic,
            "digits": self.digits,
            "lines": [
                {"name": v.name, "light": v.colour, "dark": on_dark(v.colour), "dim": v.dim,
                 "x": _plain(v.x), "y": _plain(v.y)}
                for v in shown
            ],
        }  # fmt: skip

    def _limits(self) -> tuple[float, float]:
        if self.limits is not None:
            return self.limits
        return limits_of([self], self.logarithmic)

    def _place(self, x: Any, y: Any) -> np.ndarray:
        """(T, 2) places of points; NaN where there is none."""
        low, high = self._limits()
        first, last = min(self.ticks), max(self.ticks)
        x, y = np.asarray(x, float), np.asarray(y, float)
        with np.errstate(divide="ignore", invalid="ignore"):
            if self.logarithmic:
                low, high, y = np.log10(low), np.log10(high), np.log10(y)
            # Halves, as the difference of numbers near the largest there is may be none.
            share = np.clip((y / 2 - low / 2) / (high / 2 - low / 2), -0.02, 1.02)
            share = np.where(np.isfinite(y), share, np.nan)
        across = _LEFT + (x - first) / (last - first) * (_WIDTH - _LEFT - _RIGHT)
        return np.stack([across, _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)], -1)

    def _drawing(self) -> str:
        order = sorted(self.lines, key=lambda line: (not line.faint, not line.dim))
        bands = "".join(self._band(v) for v in order if v.low is not None)
        striped = self._stripes()
        lines = "".join(self._line(v, striped.get(id(v), "")) for v in order)
        if not any(map(self._known, self.lines)):
            above = " above 0" if self.logarithmic else ""
            lines += (
                f'<text x="{(_LEFT + _WIDTH - _RIGHT) / 2}" y="{_HEIGHT / 2}" '
                f'text-anchor="middle">no finite value{above}</text>'
            )
        label = escape(f"{self.title}: {self.y_label}", quote=True)
        return (
            f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}">'
            f'{self._axes()}{bands}{lines}<g class="pointed"></g></svg>'
        )

    def _known(self, line: Line) -> bool:
        """Whether there is anything of a line to draw."""
        y = np.asarray(line.y, float)
        return bool((np.isfinite(y) & ((y > 0) | (not self.logarithmic))).any())

    def _name(self, line: Line) -> str:
        kind, gone = "dim" if line.dim else "line", "" if self._known(line) else ": no finite value"
        name = escape(line.name + gone)
        return f'<span {_colours(line.colour)}><i class="{kind}"></i>{name}</span>'

    def _stripes(self) -> dict[int, str]:
        """Line (by identity) → the dashes that let lines be seen with which it coincides."""
        found = {}
        for dim in (False, True):
            lines = [v for v in self.lines if v.dim == dim and not v.faint and self._known(v)]
            places = coinciding([tuple(self._place(v.x, v.y).T) for v in lines], _HEIGHT)
            for line, (k, n) in zip(lines, places, strict=True):
                if n > 1:
                    start, (drawn, left_out) = stripes(k, n, _STRIPE)
                    found[id(line)] = (
                        f";stroke-dasharray:{drawn:g} {left_out:g};stroke-dashoffset:{start:g}"
                        ";stroke-linecap:butt"
                    )
        return found

    def _line(self, line: Line, more: str = "") -> str:
        kind = "faint" if line.faint else "dim" if line.dim else "line"
        drawn = _path(self._place(line.x, line.y))
        return f'<path class="{kind}" {_colours(line.colour, more)} d="{drawn}"/>'

    def _band(self, line: Line) -> str:
        there = np.isfinite(np.asarray(line.low, float)) & np.isfinite(np.asarray(line.high, float))
        x = np.asarray(line.x, float)[there]
        up, down = (self._place(x, np.asarray(v, float)[there]) for v in (line.high, line.low))
        outline = _path(np.concatenate([up, down[::-1]]))
        return f'<path class="band" {_colours(line.colour)} d="{outline}Z"/>'

    def _axes(self) -> str:
        bottom, parts = _HEIGHT - _BOTTOM, []
        low, high = self._limits()
        for value in ticks_between(low, high, self.logarithmic):
            y, digits = self._place(min(self.ticks), value)[1], 3 if self.logarithmic else 10
            text = f"{value:.{digits}g}".replace("e+", "e")
            kind = ' class="long"' if len(text) > _FITTING else ""
            parts.append(
                f'<path class="grid" d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}"/>'
                f'<text x="{_LEFT - 7}" y="{y + 4:.1f}" text-anchor="end"{kind}>{text}</text>'
            )
        for value, text in self.ticks.items():
            x = self._place(value, high)[0]
            anchor = "end" if value == max(self.ticks) and len(text) > 1 else "middle"
            parts.append(
                f'<path class="grid" d="M{x:.1f} {_TOP}V{bottom}"/>'
                f'<text x="{x:.1f}" y="{bottom + 17}" text-anchor="{anchor}">{escape(text)}</text>'
            )
        middle = (_TOP + bottom) / 2
        parts.append(
            f'<path class="axis" d="M{_LEFT} {_TOP}V{bottom}H{_WIDTH - _RIGHT}"/>'
            f'<text class="label" x="{(_LEFT + _WIDTH - _RIGHT) / 2}" y="{_HEIGHT - 6}" '
            f'text-anchor="middle">t</text><text class="label" text-anchor="middle" '
            f'transform="translate(12 {middle}) rotate(-90)">{escape(self.y_label)}</text>'
        )
        return "".join(parts)


def limits_of(charts: Sequence[Chart], logarithmic: bool = False) -> tuple[float, float]:
    """The least and the greatest value of all lines, with air around them."""
    values = [np.asarray(v, float).ravel() for c in charts for line in c.lines
              for v in (line.y, line.low, line.high) if v is not None]  # fmt: skip
    flat = np.concatenate(values) if values else np.zeros(0)
    known = flat[np.isfinite(flat) & ((flat > 0) | (not logarithmic))]
    if not known.size:
        return (1.0, 10.0) if logarithmic else (0.0, 1.0)
    low, high = float(known.min()), float(known.max())
    if logarithmic:
        low = max(low / 1.3, _LEAST)
        return low, min(max(high * 1.3, low * 2), _MOST)
    half, size = high / 2 - low / 2, max(abs(low), abs(high))
    air = next(v for v in (0.1 * half, 0.05 * size, 0.5) if v > max(_LEAST, 1e-7 * size))
    return max(low - air, -_MOST), min(high + air, _MOST)


def ticks_between(low: float, high: float, logarithmic: bool = False) -> list[float]:
    """Round numbers between two, about five; of a logarithmic axis powers of ten.

    >>> ticks_between(0.12, 0.91)
    [0.2, 0.4, 0.6, 0.8]
    >>> ticks_between(0.002, 3, logarithmic=True)
    [0.01, 0.1, 1.0]
    """
    if logarithmic:
        powers = range(math.ceil(math.log10(low)), math.floor(math.log10(high)) + 1)
        every = max(1, -(-len(powers) // _TICKS))
        return [10.0**k for k in powers][::every] or [low, high]
    rough = high / _TICKS - low / _TICKS
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(s * unit for s in (1, 2, 2.5, 5, 10) if s * unit >= 0.9 * rough)
    every = range(math.ceil(low / step), math.floor(high / step) + 1)
    return [float(f"{k * step:.12g}") for k in every]


def on_dark(colour: str) -> str:
    """A colour light enough for a dark page."""
    for k in range(8):
        lighter = shade(colour, 0.1 * k) if k else colour
        red, green, blue = (int(lighter[i : i + 2], 16) / 255 for i in (1, 3, 5))
        if 0.2126 * red**2.2 + 0.7152 * green**2.2 + 0.0722 * blue**2.2 > 0.2:
            return lighter
    return shade(colour, 0.7)


def _colours(colour: str, more: str = "") -> str:
    return f'style="--light:{colour};--dark:{on_dark(colour)}{more}"'


def _path(places: np.ndarray) -> str:
    """A polyline; gaps where a place is not finite."""
    out, pen = [], "M"
    for x, y in places:
        if not (math.isfinite(x) and math.isfinite(y)):
            pen = "M"
            continue
        out.append(f"{pen}{x:.1f} {y:.1f}")
        pen = "L"
    return "".join(out)


def _plain(values: Any) -> list[float | None]:
    return [float(v) if math.isfinite(v) else None for v in np.asarray(values, float)]


__all__ = ["Chart", "Line", "limits_of", "on_dark", "ticks_between"]
