"""Rank correlations over cells (matcher × rate), with intervals."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy.stats import norm, spearmanr

_DRAWS = 2000


@dataclasses.dataclass(frozen=True)
class Cells:
    """What is known of each cell.

    - `names`, `rates`: of C cells
    - `errors`: (C, N, N) between every two of N networks
    - `dimensions`: (C, N) of every network
    """

    names: Sequence[str]
    rates: Sequence[float]
    errors: np.ndarray
    dimensions: np.ndarray

    def where(self, name: str) -> Cells:
        """The cells of one matcher."""
        some = [k for k, n in enumerate(self.names) if n == name]
        rates = [self.rates[k] for k in some]
        return Cells([name] * len(some), rates, self.errors[some], self.dimensions[some])

    def mean_dimension(self, name: str, rate: float) -> float:
        """Over networks."""
        return float(self.dimensions[[*zip(self.names, self.rates, strict=True)]
                                     .index((name, rate))].mean())  # fmt: skip

    def means(self, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Errors (C,) over pairs and dimensions (C,) over networks, network i taken m_i times."""
        i, j = np.triu_indices(len(times), 1)
        weights = times[i] * times[j]
        return (self.errors[:, i, j] @ weights / weights.sum(),
                self.dimensions @ times / times.sum())  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Correlation:
    """Spearman's ρ over cells.

    - `low`, `high`: ends of the 95 % interval of Bonett and Wright, cells as a sample
    - `least`, `most`: of that over networks (percentiles of a bootstrap); NaN for fewer than 3
    """

    cells: int
    value: float
    low: float
    high: float
    least: float
    most: float


def rank_correlation(cells: Cells) -> Correlation:
    """ρ of errors and dimensions, tanh(artanh ρ ± 1.96 √((1 + ρ²/2) / (C − 3))).

    The seeds of all cells are the same ones, so they are drawn for all cells together.
    """
    count, networks = cells.dimensions.shape
    value = _spearman(*cells.means(np.ones(networks)))
    low = high = least = most = float("nan")
    if count > 3 and abs(value) < 1:
        around = norm.ppf(0.975) * np.sqrt((1 + value**2 / 2) / (count - 3))
        low, high = (float(np.tanh(np.arctanh(value) + s * around)) for s in (-1, 1))
    if networks > 2:
        share = np.full(networks, 1 / networks)
        draws = np.random.default_rng(0).multinomial(networks, share, size=_DRAWS)
        some = [_spearman(*cells.means(m)) for m in draws if (m > 0).sum() > 1]
        least, most = map(float, np.quantile(some, (0.025, 0.975)))
    return Correlation(count, value, low, high, least, most)


def _spearman(x: np.ndarray, y: np.ndarray) -> float:
    return float(spearmanr(x, y).statistic) if len(x) > 1 else float("nan")  # type: ignore[union-attr]


def concordant(cells: Cells) -> tuple[int, int]:
    """Of two matchers at one rate: how often lower error and lower dimension meet, of how many."""
    errors, dimensions = cells.means(np.ones(cells.dimensions.shape[1]))
    found = [
        (errors[i] - errors[j]) * (dimensions[i] - dimensions[j]) > 0
        for i in range(len(errors))
        for j in range(i)
        if cells.rates[i] == cells.rates[j]
    ]
    return int(np.sum(found)), len(found)
