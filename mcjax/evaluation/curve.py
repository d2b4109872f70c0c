"""`Curve`: metrics along a path, the result of `mcjax.evaluate`."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path as FilePath
from typing import Any

import numpy as np

from .._files import write_atomically
from ..tasks import CLASSIFICATION, Task
from .barrier import barrier


@dataclasses.dataclass(frozen=True)
class Curve:
    """Metrics along a path: the result of `mcjax.evaluate`.

    - `t`: (T,) points in [0, 1]
    - `values`: metric name → (T,) means over the data
    - `lengths`: (T − 1,) distances ‖θ(t_{i+1}) − θ(t_i)‖ in parameter space
    - `task`: says which values are the bad ones
    - `metadata`: what produced it (number of examples, versions, …)
    """

    t: np.ndarray
    values: Mapping[str, np.ndarray]
    lengths: np.ndarray
    task: Task = CLASSIFICATION
    metadata: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __getattr__(self, name: str) -> np.ndarray:
        values = self.__dict__.get("values", {})
        if name in values:
            return values[name]
        raise AttributeError(f"this curve has no {name!r}; it has {', '.join(values)}")

    def _get(self, metric: str) -> np.ndarray:
        if metric not in self.values:
            raise ValueError(f"unknown metric {metric!r}; the curve has {', '.join(self.values)}")
        return self.values[metric]

    def barrier(self, convention: str = "chord", metric: str | None = None) -> float:
        """The barrier of a metric of which high values are bad (default: the task's loss).

        See `mcjax.evaluation.barrier`.
        """
        metric = self.task.loss if metric is None else metric
        values = self._get(metric)
        if self.task.worse[metric] == "low":
            values = -values
        return barrier(self.t, values, convention)

    def worst(self, metric: str = "accuracy") -> float:
        """The lowest accuracy, the highest loss: the worst value of a metric along the path."""
        return self.task.worst(metric, self._get(metric))

    def mean(self, metric: str | None = None) -> float:
        """∫ m(θ(t)) ‖θ'(t)‖ dt / ∫ ‖θ'(t)‖ dt by the trapezoidal rule (tatro2020, Eq. 1)."""
        values = np.asarray(self._get(self.task.loss if metric is None else metric), np.float64)
        total = self.lengths.sum()
        if values.size < 2 or total == 0:
            return float(values.mean())
        return float(np.sum(self.lengths * (values[1:] + values[:-1]) / 2) / total)

    def summary(self) -> str:
        """The curve in a few lines of text."""
        lines = [f"{len(self.t)} points, length {self.lengths.sum():.4g}"]
        for name, values in self.values.items():
            lines.append(
                f"{name:>10}: {values[0]:.4f} at t={self.t[0]:g}, {values[-1]:.4f} at "
                f"t={self.t[-1]:g}, worst {self.worst(name):.4f}, mean {self.mean(name):.4f}"
            )
        if len(self.t) > 1 and self.t[0] == 0 and self.t[-1] == 1:
            chord, endpoint = self.barrier(), self.barrier("endpoint")
            lines.append(f"   barrier: {chord:.4f} above the chord, {endpoint:.4f} above the ends")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """The curve as plain lists and numbers."""
        return {
            "t": self.t.tolist(),
            **{k: v.tolist() for k, v in self.values.items()},
            "lengths": self.lengths.tolist(),
            "metadata": dict(self.metadata),
        }

    def save(self, path: str | FilePath) -> None:
        """Write the curve as JSON, atomically."""
        write_atomically(path, json.dumps(self.to_dict(), indent=1).encode())

    def plot(self, path: str | FilePath) -> None:
        """Draw loss and accuracy along the path into a picture file."""
        from ..figures.curves import draw_curves

        draw_curves({"path": {"data": self}}, path)
