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
