"""Results as JSON that every reader takes: plain lists, no bare NaN."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ._files import write_atomically

# JSON has no names for these; `float` of the strings gives them back.
_NAMES = {math.inf: "Infinity", -math.inf: "-Infinity"}


def plain(value: Any) -> Any:
    """The value in dicts, lists, strings and numbers; NaN and infinities are strings.

    >>> plain({"loss": np.array([0.5, np.nan])})
    {'loss': [0.5, 'NaN']}
    """
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if value is None or isinstance(value, bool | str):
        return value
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return plain(np.asarray(value).tolist())
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else _NAMES.get(value, "NaN")
    return str(value)


def numbers(value: Any) -> np.ndarray:
    """The float64 array that `plain` has written."""
    if isinstance(value, list | tuple):
        return np.array([numbers(v) for v in value], np.float64)
    return np.asarray(float(value))


def write_json(path: str | Path, value: Any) -> None:
    """Write a value as JSON, atomically."""
    write_atomically(path, json.dumps(plain(value), indent=1, allow_nan=False).encode())
