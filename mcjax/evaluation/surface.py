"""`Surface`: metrics on a grid of a plane, the result of `evaluate_plane`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .._json import numbers, plain, write_json
from .._readonly import make_read_only
from ..tasks import CLASSIFICATION, Task, from_dict


@dataclasses.dataclass(frozen=True, eq=False)
class Surface:
    """Metrics on a grid of a plane: the result of `evaluate_plane`.

    - `x`: (X,), `y`: (Y,) coordinates; `values`: metric name → (Y, X)
    - `corners`: (3, 2) coordinates of the plane's networks
    - `task`, `metadata`: as in `Curve`
    """

    x: np.ndarray
    y: np.ndarray
    values: Mapping[str, np.ndarray]
    corners: np.ndarray
    task: Task = CLASSIFICATION
    metadata: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        wanted = (len(self.y), len(self.x))
        for name, array in self.values.items():
            if np.shape(array) != wanted:
                raise ValueError(f"{name}: expected shape {wanted}, got {np.shape(array)}")
        make_read_only(self, "x", "y", "values", "corners", "metadata")

    def __repr__(self) -> str:
        size = f"{len(self.x)} × {len(self.y)}"
        return f"Surface({size} points; {self.task.name}: {', '.join(self.values)})"

    def summary(self) -> str:
        """The surface in a few lines of text."""
        lines = [f"{len(self.x)} × {len(self.y)} points of a plane; {self.task.name}"]
        if self.metadata.get("statistics", "none") != "none":
            lines.append(f"statistics: {self.metadata['statistics']}")
        for name, values in self.values.items():
            lines.append(f"{name:>10}: from {np.min(values):.4f} to {np.max(values):.4f}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """The surface as plain lists and numbers; a NaN is the string "NaN" (`float` reads it)."""
        return plain({
            "x": self.x,
            "y": self.y,
            "values": self.values,
            "corners": self.corners,
            "task": self.task.to_dict(),
            "metadata": self.metadata,
        })  # fmt: skip

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], task: Task | None = None) -> Surface:
        """The surface that `to_dict` wrote; `task` as in `Curve.from_dict`."""
        if task is None:
            task = from_dict(values["task"]) if "task" in values else CLASSIFICATION
        x, y, corners = (numbers(values[k]) for k in ("x", "y", "corners"))
        found = {k: numbers(v) for k, v in values["values"].items()}
        return cls(x, y, found, corners, task, dict(values.get("metadata", {})))

    def to_json(self, file: str | Path) -> None:
        """Export the surface for other programs: `to_dict` as JSON, written atomically.

        `mcjax.save` keeps it to the bit, with its task.
        """
        write_json(file, self.to_dict())

    def plot(
        self,
        path: str | Path | None = None,
        metric: str | None = None,
        *,
        names: tuple[str, str, str] = ("A", "B", "C"),
        paths: Mapping[str, np.ndarray] | None = None,
        ax: Any = None,
    ) -> Any:
        """Draw a metric as filled contours, the networks, and paths.

        **Arguments:**
        - `path`: picture file; default: none is written
        - `metric`: default: the accuracy if the task has one, else its loss
        - `names`: of the plane's networks
        - `paths`: label → (points, 2) coordinates, as `Plane.coordinates_along` gives them
        - `ax`: matplotlib axes to draw on; default: a new figure

        **Returns:** the axes.

        **Raises:** `ValueError` for an unknown metric, or one that is nowhere finite.
        """
        from ..figures.plane import draw_plane

        return draw_plane(self, path, metric, names=names, paths=paths, ax=ax)
