"""Averages over pairs of networks, with the uncertainty that comes of the networks."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

_DRAWS = 10_000
# The fewest networks that a bootstrap is of.
_FEWEST = 3


@dataclasses.dataclass(frozen=True)
class PairMean:
    """A mean over pairs of networks.

    - `mean`, `deviation`: over pairs; the deviation divides by pairs − 1, NaN for one pair
    - `low`, `high`: ends of an interval for the mean over all networks there could be, of
      confidence `level`; NaN for two networks, which tell nothing of others
    """

    mean: float
    deviation: float
    low: float
    high: float
    level: float

    def __str__(self) -> str:
        text = f"{self.mean:.4g} ± {self.deviation:.4g}"
        if np.isnan(self.low):
            return text
        return f"{text}, {100 * self.level:g} % interval {self.low:.4g} to {self.high:.4g}"


def mean_over_pairs(
    matrix: Any, level: float = 0.95, *, draws: int = _DRAWS, seed: int = 0
) -> PairMean:
    """The mean of what is known of every pair of N networks, and how sure it is.

    Pairs that share a network are not independent, so networks are drawn anew and not pairs
    (Snijders and Borgatti 1999): of N networks drawn with replacement, network i m_i times, the
    mean is Σ_{i<j} m_i m_j v_ij / Σ_{i<j} m_i m_j. The interval is that of the percentiles: right
    for many networks, rather narrow for a handful.

    **Arguments:**
    - `matrix`: (N, N), of which the part above the diagonal is used
    - `level`: of confidence, in (0, 1)
    - `draws`: of N networks
    - `seed`: of the draws

    **Raises:** `ValueError` for a matrix of another shape, N = 1, or a level outside (0, 1).

        >>> import numpy as np, mcjax
        >>> found = mcjax.evaluation.mean_over_pairs(np.array([[0, 1, 2], [0, 0, 3], [0, 0, 0]]))
        >>> found.mean, found.deviation, found.low, found.high
        (2.0, 1.0, 1.0, 3.0)
    """
    values = np.asarray(matrix, np.float64)
    if values.ndim != 2 or values.shape[0] != values.shape[1] or len(values) < 2:
        raise ValueError(f"matrix: expected (N, N) with N ≥ 2 networks, got {values.shape}")
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, got {level}")
    i, j = np.triu_indices(len(values), 1)
    of_pairs = values[i, j]
    mean = float(of_pairs.mean())
    deviation = float(of_pairs.std(ddof=1)) if len(of_pairs) > 1 else np.nan
    low = high = np.nan
    if len(values) >= _FEWEST:
        times = np.random.default_rng(seed).multinomial(
            len(values), np.full(len(values), 1 / len(values)), size=draws
        )
        weights = times[:, i] * times[:, j]
        weights = weights[weights.any(1)]  # one network N times makes no pair
        ends = np.quantile(weights @ of_pairs / weights.sum(1), [(1 - level) / 2, (1 + level) / 2])
        low, high = map(float, ends)
    return PairMean(mean, deviation, low, high, level)


__all__ = ["PairMean", "mean_over_pairs"]
