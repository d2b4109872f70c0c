"""`Curve`: metrics along a path, the result of `mcjax.evaluate`."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .._json import numbers, plain, write_json
from .._readonly import make_read_only
from ..tasks import CLASSIFICATION, Task, from_dict
from .barrier import barrier


@dataclasses.dataclass(frozen=True, eq=False)
class Curve:
    """Metrics along a path: the result of `mcjax.evaluate`.

    - `t`: (T,) points in [0, 1]
    - `values`: metric name → (T,) means over the data; `curve.loss` is `curve.values["loss"]`
    - `lengths`: (T − 1,) distances ‖θ(t_{i+1}) − θ(t_i)‖ in parameter space
    - `task`: says which values are the bad ones
    - `metadata`: what produced it: `"task"`, `"statistics"` (whose statistics of batch
      normalisation), `"examples"`, `"form"` of the network where it was one, versions

    **Raises:** `ValueError` for arrays of other shapes.

        >>> import numpy as np, mcjax
        >>> curve = mcjax.evaluation.Curve(
        ...     np.array([0, 0.5, 1]), {"loss": np.array([1.0, 4.0, 2.0])}, np.ones(2))
        >>> curve.worst("loss"), curve.barrier(), curve.mean()
        (4.0, 2.5, 2.75)
    """

    t: np.ndarray
    values: Mapping[str, np.ndarray]
    lengths: np.ndarray
    task: Task = CLASSIFICATION
    metadata: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        n = len(self.t)
        wanted = {"t": n, "lengths": max(n - 1, 0)} | dict.fromkeys(self.values, n)
        for name, array in ({"t": self.t, "lengths": self.lengths} | dict(self.values)).items():
            if np.shape(array) != (wanted[name],):
                shape = np.shape(array)
                raise ValueError(
                    f"{name}: expected shape ({wanted[name]},) for {n} points, got {shape}"
                )
        make_read_only(self, "t", "values", "lengths", "metadata")

    def __repr__(self) -> str:
        return f"Curve({len(self.t)} points; {self.task.name}: {', '.join(self.values)})"

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
        """How far a metric gets worse along the path (default: the task's loss).

        Of a metric of which low values are the bad ones, how far it falls. See
        `mcjax.evaluation.barrier`.

        **Raises:** `ValueError` for a metric of unknown direction, and unless t goes from 0 to 1.
        """
        metric = self.task.loss if metric is None else metric
        values = self._get(metric)
        values = -values if self.task.direction(metric) == "low" else values
        return barrier(self.t, values, convention)

    def worst(self, metric: str | None = None) -> float:
        """The worst value of a metric along the path, in the task's sense.

        **Arguments:**
        - `metric`: default: the accuracy if the task has one, else its loss
        """
        metric = self.task.headline if metric is None else metric
        return self.task.worst(metric, self._get(metric))

    def mean(self, metric: str | None = None) -> float:
        """∫ m(θ(t)) ‖θ'(t)‖ dt / ∫ ‖θ'(t)‖ dt by the trapezoidal rule (tatro2020, Eq. 1)."""
        values = np.asarray(self._get(self.task.loss if metric is None else metric), np.float64)
        total = self.lengths.sum()
        if values.size < 2 or total == 0:
            return float(values.mean())
        return float(np.sum(self.lengths * (values[1:] + values[:-1]) / 2) / total)

    def summary(self) -> str:
        """The curve in a few lines of text: values, and what they are values of."""
        examples = self.metadata.get("examples")
        on = f", {examples:,} examples" if isinstance(examples, int) else ""
        lines = [f"{len(self.t)} points, length {self.lengths.sum():.4g}; {self.task.name}{on}"]
        for name in ("form", "statistics", "attack"):
            if self.metadata.get(name) and self.metadata[name] not in ("plain", "none"):
                lines.append(f"{name:>10}: {self.metadata[name]}")
        lines += [f"{name:>10}: {self._in_words(name)}" for name in self.values]
        spans = len(self.t) > 1 and self.t[0] == 0 and self.t[-1] == 1
        if spans and self.task.loss in self.values:
            chord, endpoint = self.barrier(), self.barrier("endpoint")
            lines.append(f"   barrier: {chord:.4f} above the chord, {endpoint:.4f} above the ends")
        return "\n".join(lines)

    def _in_words(self, name: str) -> str:
        values = self.values[name]
        if name in self.task.worse:
            extreme = f"worst {self.worst(name):.4f}"
        else:
            extreme = f"lowest {np.min(values):.4f}, highest {np.max(values):.4f}"
        return (
            f"{values[0]:.4f} at t={self.t[0]:g}, {values[-1]:.4f} at t={self.t[-1]:g}, {extreme}, "
            f"mean {self.mean(name):.4f}"
        )

    def to_dict(self) -> dict[str, Any]:
        """The curve as plain lists and numbers; a NaN is the string "NaN" (`float` reads it)."""
        return plain({
            "t": self.t,
            **self.values,
            "lengths": self.lengths,
            "task": self.task.to_dict(),
            "metadata": self.metadata,
        })  # fmt: skip

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], task: Task | None = None) -> Curve:
        """The curve that `to_dict` wrote.

        **Arguments:**
        - `task`: default: that of `mcjax.tasks.TASKS` which was written, or else one that knows
          names and directions but cannot compute its metrics
        """
        if task is None:
            task = from_dict(values["task"]) if "task" in values else CLASSIFICATION
        arrays = {k: numbers(v) for k, v in values.items() if k not in ("task", "metadata")}
        t, lengths = (arrays.pop(k) for k in ("t", "lengths"))
        return cls(t, arrays, lengths, task, dict(values.get("metadata", {})))

    def to_json(self, file: str | Path) -> None:
        """Export the curve for other programs: `to_dict` as JSON, written atomically.

        `mcjax.save` keeps it to the bit, with its task.
        """
        write_json(file, self.to_dict())

    def plot(
        self,
        path: str | Path | None = None,
        *,
        metrics: Sequence[str] | None = None,
        ax: Any = None,
    ) -> Any:
        """Draw every metric along the path.

        **Arguments:**
        - `path`: picture file; default: none is written
        - `metrics`: which; default: all
        - `ax`: matplotlib axes to draw on, one for each metric; default: a new figure

        **Returns:** the axes, an array with one for each metric.
        """
        from ..figures.curves import draw_curves

        return draw_curves({"path": {"data": self}}, path, metrics=metrics, ax=ax)
