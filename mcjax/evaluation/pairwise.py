"""`PairwiseCurves`: metrics between every two of N networks, the result of `evaluate_pairs`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from .._json import numbers, plain, write_json
from ..tasks import CLASSIFICATION, Task, from_dict
from .curve import Curve
from .over_networks import PairMean, mean_over_pairs


@dataclasses.dataclass(frozen=True, eq=False)
class PairwiseCurves:
    """Metrics along the paths between every two of N networks: the result of `evaluate_pairs`.

    - `networks`: N
    - `t`: (T,) points in [0, 1]
    - `values`: metric name → (pairs, T); pairs (i, j) with i < j, in the order of `pairs`
    - `distances`: (pairs,) ‖θ_i − θ_j‖ between the ends of each segment
    - `task`, `metadata`: as in `Curve`

    **Raises:** `ValueError` for arrays of other shapes.

        >>> import numpy as np, mcjax
        >>> found = mcjax.evaluation.PairwiseCurves(
        ...     3, np.array([0, 0.5, 1]), {"loss": np.array([[0, 1, 0], [0, 2, 0], [0, 3.0, 0]])},
        ...     np.ones(3))
        >>> found.barriers().tolist()
        [[0.0, 1.0, 2.0], [1.0, 0.0, 3.0], [2.0, 3.0, 0.0]]
    """

    networks: int
    t: np.ndarray
    values: Mapping[str, np.ndarray]
    distances: np.ndarray
    task: Task = CLASSIFICATION
    metadata: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.networks < 2:
            raise ValueError(f"networks: at least two are needed, got {self.networks}")
        n = self.networks * (self.networks - 1) // 2
        shapes = {"distances": (n,)} | dict.fromkeys(self.values, (n, len(self.t)))
        for name, array in ({"distances": self.distances} | dict(self.values)).items():
            if np.shape(array) != shapes[name]:
                raise ValueError(
                    f"{name}: expected shape {shapes[name]} for {self.networks} networks and "
                    f"{len(self.t)} points, got {np.shape(array)}"
                )

    def __repr__(self) -> str:
        size = f"{self.networks} networks, {len(self.t)} points"
        return f"PairwiseCurves({size}; {self.task.name}: {', '.join(self.values)})"

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """(i, j), i < j: (0, 1), (0, 2), …, (1, 2), …"""
        return list(zip(*(v.tolist() for v in np.triu_indices(self.networks, 1)), strict=True))

    def curve(self, i: int, j: int) -> Curve:
        """The curve from network i to network j.

        **Raises:** `ValueError` for networks that are not there, or the same.
        """
        pair = (min(i, j), max(i, j))
        if pair not in self.pairs:
            raise ValueError(
                f"no curve from {i} to {j}: there are networks 0 to {self.networks - 1}"
            )
        k = self.pairs.index(pair)
        t, of_pair = self.t, {m: v[k] for m, v in self.values.items()}
        if i > j:
            t, of_pair = 1 - t[::-1], {m: v[::-1] for m, v in of_pair.items()}
        metadata = {**self.metadata, "pair": (i, j)}
        return Curve(t, of_pair, self.distances[k] * np.diff(t), self.task, metadata)

    def barriers(self, convention: str = "chord", metric: str | None = None) -> np.ndarray:
        """(N, N), symmetric: how far a metric gets worse between two networks, 0 on the diagonal.

        **Arguments:** as `Curve.barrier`.
        """
        return self._matrix(c.barrier(convention, metric) for c in self._curves())

    def at_middle(self, metric: str | None = None) -> np.ndarray:
        """(N, N): a metric at t = ½ (default: the loss), and of the networks on the diagonal.

        What ferbach2023 calls the error of linear connectivity, a loss and no barrier.

        **Raises:** `ValueError` unless 0, ½ and 1 are among the t.
        """
        metric = self.task.loss if metric is None else metric
        places = [np.flatnonzero(self.t == t) for t in (0, 0.5, 1)]
        if metric not in self.values or not all(map(len, places)):
            raise ValueError(
                f"{metric!r} at t = 0, ½ and 1: there are {', '.join(self.values)}, "
                f"t = {', '.join(f'{t:g}' for t in self.t)}"
            )
        first, middle, last = (self.values[metric][:, p[0]] for p in places)
        out, n = self._matrix(middle), self.networks
        out[np.arange(n), np.arange(n)] = [*first[:1], *last[: n - 1]]
        return out

    def mean_barrier(
        self, convention: str = "chord", metric: str | None = None, level: float = 0.95
    ) -> PairMean:
        """The mean of the barriers over pairs, with an interval over networks.

        See `mcjax.evaluation.mean_over_pairs`.
        """
        return mean_over_pairs(self.barriers(convention, metric), level)

    def _curves(self) -> Iterator[Curve]:
        return (self.curve(i, j) for i, j in self.pairs)

    def _matrix(self, of_pairs: Any) -> np.ndarray:
        out = np.zeros((self.networks, self.networks))
        upper = np.triu_indices(self.networks, 1)
        out[upper] = list(of_pairs)
        return out + out.T

    def summary(self) -> str:
        """Barriers over pairs in a few lines of text, and what they are of."""
        n, examples = len(self.distances), self.metadata.get("examples")
        on = f", {examples:,} examples" if isinstance(examples, int) else ""
        lines = [f"{self.networks} networks, {n} pairs, {len(self.t)} points; {self.task.name}{on}"]
        for name in ("statistics", "aligned"):
            if self.metadata.get(name, "none") != "none":
                lines.append(f"{name:>10}: {self.metadata[name]}")
        lines.append(f"  distance: {self.distances.mean():.4g} on average")
        spans = len(self.t) > 1 and self.t[0] == 0 and self.t[-1] == 1
        for convention, words in (("chord", "above the chord"), ("endpoint", "above the ends")):
            if spans and self.task.loss in self.values:
                lines.append(f"   barrier: {self.mean_barrier(convention)} {words}")
        for name in self.task.worse:
            worst = [c.worst(name) for c in self._curves()]
            lines.append(f"{name:>10}: worst {np.mean(worst):.4f} on average over pairs")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """All of it as plain lists and numbers; a NaN is the string "NaN" (`float` reads it)."""
        return plain({
            "networks": self.networks,
            "t": self.t,
            "values": self.values,
            "distances": self.distances,
            "task": self.task.to_dict(),
            "metadata": self.metadata,
        })  # fmt: skip

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], task: Task | None = None) -> PairwiseCurves:
        """What `to_dict` wrote; `task` as in `Curve.from_dict`."""
        task = from_dict(values["task"]) if task is None else task
        t, distances = (numbers(values[k]) for k in ("t", "distances"))
        found = {k: numbers(v) for k, v in values["values"].items()}
        metadata = dict(values.get("metadata", {}))
        return cls(int(values["networks"]), t, found, distances, task, metadata)

    def to_json(self, file: str | Path) -> None:
        """Export for other programs: `to_dict` as JSON, written atomically.

        `mcjax.save` keeps it to the bit, with its task.
        """
        write_json(file, self.to_dict())

    def plot(
        self,
        path: str | Path | None = None,
        *,
        convention: str = "chord",
        metric: str | None = None,
        names: list[str] | None = None,
        ax: Any = None,
    ) -> Any:
        """Draw the matrix of barriers.

        **Arguments:**
        - `path`: picture file; default: none is written
        - `convention`, `metric`: as `barriers`
        - `names`: of the networks; default: 0, 1, …
        - `ax`: matplotlib axes to draw on; default: a new figure

        **Returns:** the axes.
        """
        from ..figures.matrix import draw_matrix

        name = self.task.loss if metric is None else metric
        words = {"chord": "above the chord", "endpoint": "above the ends"}
        matrix = self.task.scale(name) * self.barriers(convention, metric)
        label = f"barrier {words[convention]}, {self.task.axis(name)}"
        return draw_matrix(matrix, label, path, names=names, ax=ax)


__all__ = ["PairwiseCurves"]
