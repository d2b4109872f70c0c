"""Every two of N networks, several methods: what `mcjax connect` shows of more than two seeds."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path as FilePath
from typing import Any

import numpy as np

from ._json import plain
from ._readonly import make_read_only
from ._types import Params
from .evaluation import PairMean, mean_over_pairs
from .network.network import Network
from .report import Table
from .study import Comparison, Data, EveryMethodFailedError, compare
from .tasks import Task

_CONVENTIONS = ("chord", "endpoint")


@dataclasses.dataclass(frozen=True, eq=False)
class PairwiseComparison:
    """Several methods on every two of N networks.

    - `networks`: N
    - `comparisons`: (i, j), i < j → the `Comparison` of networks i and j, its connections left out
    """

    networks: int
    comparisons: Mapping[tuple[int, int], Comparison]

    def __post_init__(self) -> None:
        make_read_only(self, "comparisons")

    @property
    def _first(self) -> Comparison:
        """Of the pairs that some method joins."""
        return next(c for c in self.comparisons.values() if c.splits)

    @property
    def task(self) -> Task:
        return self._first.task

    @property
    def labels(self) -> dict[str, str]:
        """Method → as tables show it."""
        return {row.method: row.label for row in self._first.rows}

    @property
    def failed(self) -> dict[str, str]:
        """Method → why it failed on one of the pairs, the first."""
        comparisons = reversed(list(self.comparisons.values()))
        return {m: why for c in comparisons for m, why in c.failed.items()}

    def barriers(self, method: str, convention: str = "chord") -> np.ndarray:
        """(N, N), symmetric: barriers of the training loss; NaN where the method failed."""
        return self._matrix(method, lambda row: row.barrier(convention))

    def worst(self, method: str, split: str, metric: str) -> np.ndarray:
        """(N, N), symmetric: the worst value of a metric on the path of every pair.

        The diagonal has the networks' own values.
        """
        out = self._matrix(method, lambda row: row.worst(split, metric))
        np.fill_diagonal(out, self.endpoints(split, metric))
        return out

    def _matrix(self, method: str, of: Callable[[Any], float | None]) -> np.ndarray:
        if method not in self.labels:
            raise ValueError(f"method must be one of {', '.join(self.labels)}, got {method!r}")
        out = np.zeros((self.networks, self.networks))
        for (i, j), comparison in self.comparisons.items():
            value = of(next(row for row in comparison.rows if row.method == method))
            out[i, j] = out[j, i] = np.nan if value is None else value
        return out

    def endpoints(self, split: str, metric: str) -> np.ndarray:
        """(N,) values of the networks themselves; NaN of one that no method joins to another."""
        out = np.full(self.networks, np.nan)
        for pair, comparison in self.comparisons.items():
            if not comparison.splits:
                continue
            values = next(r.curves[split] for r in comparison.rows if r.curves).values[metric]
            out[list(pair)] = values[0], values[-1]
        return out

    def table(self) -> Table:
        """Means ± standard deviations over pairs, a row a method, the networks last."""
        first = self._first
        wanted = [(s, m) for s in first.splits for m in first.shown()]
        columns = [*first.table().columns[:-1], "95 % interval"]
        rows = []
        for method, label in self.labels.items():
            barrier = mean_over_pairs(self.barriers(method))
            cells = [self._cell(m, mean_over_pairs(self.worst(method, s, m))) for s, m in wanted]
            known = np.isfinite(barrier.low)
            interval = f"{barrier.low:.4f} to {barrier.high:.4f}" if known else "–"
            rows.append([label, *cells, self._cell("", barrier), interval])
        joined = sorted({i for pair, c in self.comparisons.items() if c.splits for i in pair})
        last = ["End points"]
        for split, metric in wanted:
            of = self.endpoints(split, metric)[joined]
            last.append(self._cell(metric, PairMean(of.mean(), of.std(ddof=1), 0, 0, 0.95)))
        notes = [
            f"Means ± standard deviations over the {len(self.comparisons)} pairs of "
            f"{self.networks} networks (end points: over networks). Worst: the worst value on a "
            "path. Barrier: how far the training loss rises above the line between its values at "
            "the ends (chord); the interval is of its mean, networks drawn anew (bootstrap).",
            *first.whose_statistics(),
            *(f"{self.labels[m]} failed: {why}" for m, why in self.failed.items()),
        ]
        return Table(columns, rows, [*last, "", ""], notes)

    def _cell(self, metric: str, of: PairMean) -> str:
        if np.isnan(of.mean):
            return "–"
        scale = self.task.scale(metric) if metric else 1
        digits = 2 if scale == 100 else 4
        return f"{scale * of.mean:.{digits}f} ± {scale * of.deviation:.{digits}f}"

    def summary(self) -> str:
        """The table as plain text."""
        return self.table().text()

    def plot(
        self, file: str | FilePath | None = None, *, names: Sequence[str] | None = None,
        ax: Any = None,
    ) -> np.ndarray:  # fmt: skip
        """Draw the barriers (chord) of every method, a matrix each, all in one colour scale.

        **Arguments:**
        - `file`: picture file, its ending says the format; default: none is written
        - `names`: of the networks; default: 0, 1, …
        - `ax`: axes to draw on, one for each method; default: those of a new figure

        **Returns:** the axes.
        """
        from .figures.matrix import draw_matrices

        matrices = {label: self.barriers(method) for method, label in self.labels.items()}
        label = f"barrier above the chord, training {self.task.axis(self.task.loss)}"
        return draw_matrices(matrices, label, file, names=names, ax=ax)

    def to_dict(self) -> dict[str, Any]:
        """Every number, as plain lists and numbers; NaN and infinities are strings."""
        means = {
            method: {c: dataclasses.asdict(mean_over_pairs(self.barriers(method, c)))
                     for c in _CONVENTIONS}
            for method in self.labels
        }  # fmt: skip
        pairs = {f"{i}-{j}": c.to_dict() for (i, j), c in self.comparisons.items()}
        return plain({"networks": self.networks, "barriers": means, "pairs": pairs})


def compare_pairs(
    network: Network,
    networks: Sequence[Params],
    train: Data,
    test: Data | None = None,
    **options: Any,
) -> PairwiseComparison:  # fmt: skip
    """`mcjax.study.compare` on every two of N networks, what it made left out.

    **Arguments:**
    - `network`: the traced network
    - `networks`: N ≥ 2 parameter trees
    - `train`, `test`, and `options`: as of `mcjax.study.compare`

    **Returns:** a `PairwiseComparison`.

    **Raises:** `ValueError` for fewer than two networks, as `compare`, and if every method fails on
    every pair.

        >>> import jax, jax.numpy as jnp, mcjax
        >>> from mcjax.study_pairs import compare_pairs
        >>> f = lambda p, x: jax.nn.relu(x @ p["w1"]) @ p["w2"]
        >>> orders = [jnp.array(o) for o in ([0, 1, 2], [2, 1, 0], [1, 2, 0])]
        >>> networks = [{"w1": jnp.eye(3)[:, o], "w2": jnp.eye(3)[o]} for o in orders]
        >>> network = mcjax.trace(f, networks[0], jnp.eye(3))
        >>> found = compare_pairs(network, networks, (jnp.eye(3), jnp.arange(3)),
        ...                       methods=["linear", "ot"], t=3)
        >>> found.barriers("ot").round(4).tolist()
        [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]]
    """
    networks = list(networks)
    if len(networks) < 2:
        raise ValueError(f"networks: at least two are needed, got {len(networks)}")
    found: dict[tuple[int, int], Comparison] = {}
    nothing = None
    for i, j in zip(*(v.tolist() for v in np.triu_indices(len(networks), 1)), strict=True):
        try:
            comparison = compare(network, networks[i], networks[j], train, test, **options)
        except EveryMethodFailedError as error:  # on this pair: others may be joined, or have been
            comparison, nothing = error.comparison, nothing or error
        rows = tuple(dataclasses.replace(row, connection=None) for row in comparison.rows)
        found[i, j] = dataclasses.replace(comparison, rows=rows)
    if nothing is not None and not any(c.splits for c in found.values()):
        raise nothing
    return PairwiseComparison(len(networks), found)


__all__ = ["PairwiseComparison", "compare_pairs"]
