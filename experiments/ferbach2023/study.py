"""What every experiment on ferbach2023 needs."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mcjax.theory import Rate

from ..common import write
from ..figures import Seeded


@dataclasses.dataclass
class Options(Seeded):
    """An experiment on ferbach2023."""


def folder_of(options: Options, name: str) -> Path:
    """Where the results go."""
    return options.results(options.working("ferbach2023", name), __file__)


def seeds_of(options: Options, count: int) -> range:
    """Seeds of as many networks, between every two of which something is measured."""
    if count < 2:
        raise ValueError(f"networks must be at least 2, to have pairs, got {count}")
    return range(options.seed, options.seed + count)


def kept(file: Path, make: Callable[[], Any]) -> Any:
    """What is in the file, made and written if it is not there: a run goes on where it stopped."""
    if not file.exists():
        write(file, {"found": make()})
    return json.loads(file.read_text())["found"]


def slope(rate: Rate) -> str:
    """An exponent and its interval, for a table."""
    return f"{rate.exponent:.3f} [{rate.low:.3f}, {rate.high:.3f}]"


def guide(axes: Any, x: Sequence[float], y: Sequence[float], exponent: float, **style: Any) -> None:
    """A power law through the last of some points."""
    x_ = np.asarray(x, float)
    axes.plot(x_, y[-1] * (x_ / x_[-1]) ** exponent, **style)


def ticks_at(axis: Any, values: Sequence[float]) -> None:
    """A logarithmic axis with these values on it, and no others, as plain numbers."""
    from matplotlib.ticker import NullLocator

    axis.set_ticks(values, [f"{v:g}" for v in values])
    axis.set_minor_locator(NullLocator())


def plain_ticks(axis: Any) -> None:
    """A logarithmic axis with ticks at 1, 2 and 5 times powers of ten, as plain numbers."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())
