"""A few dimensions and noise in all of them: how many, and how much (ferbach2023, Thm 5.4)."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from .. import _check
from .transport import points_of

_QUANTILE = 2.0234  # 99 % of the Tracy–Widom law of order 1 (Bejan 2005)


@dataclasses.dataclass(frozen=True)
class LowRankNoise:
    """X ≈ a matrix of rank k + σ Z, Z of independent entries of variance one.

    - `rank`: k, how many singular values noise alone does not explain
    - `noise`: σ, the standard deviation of an entry of the noise
    - `misfit`: greatest distance between the distribution of the other squared singular values and
      that of noise (Kolmogorov and Smirnov's, from 0 to 1; NaN without noise). Where it is not
      small there is no noise of this kind, and k and σ say little.
    """

    rank: int
    noise: float
    misfit: float


@_check.on_host
def low_rank_noise(cloud: Any) -> LowRankNoise:
    """Neurons near a k-dimensional subspace: k, and the level η = σ of what is outside it.

    Without a low-rank part the squared singular values of X = σ Z, (n, d), over max(n, d) σ² follow
    the law of Marchenko and Pastur (1967) of ratio β = min(n, d) / max(n, d). So

    - σ² = median(s²) / (max(n, d) µ_β), µ_β the law's median (Gavish and Donoho 2014);
    - k is the number of s² > σ² (µ + 2.02 ξ), what the greatest of noise alone exceeds in one case
      of a hundred (Johnstone 2001, constants by Ma 2012): µ = (√(n − ½) + √(d − ½))²,
      ξ = √µ (1/√(n − ½) + 1/√(d − ½))^{1/3};
    - both again of what is left, a matrix of (n − k, d − k), until no more are found.

    With S = XᵀX / n that is S ≈ low rank + σ² 1. The points are not centred: a mean is one of the
    k dimensions. The median must be of noise, so k is found up to half of min(n, d) only; and a
    direction of less variance than about σ² √(d/n) beside the noise is not told from it.

    **Arguments:**
    - `cloud`: points X, (n, d), such as `NeuronClouds.weights`; in the metric of inputs noise is
      not alike in all directions, and `misfit` will say so

    **Raises:** `ValueError` for no points, other shapes, and what is not finite.

        >>> import numpy as np, mcjax
        >>> rng = np.random.default_rng(0)
        >>> plane = rng.normal(size=(300, 2)) @ rng.normal(size=(2, 40))
        >>> found = mcjax.theory.low_rank_noise(plane + 0.1 * rng.normal(size=(300, 40)))
        >>> found.rank, round(found.noise, 2)
        (2, 0.1)
    """
    x = points_of(cloud, "cloud")
    scale = np.abs(x).max() or 1.0  # no square overflows or vanishes
    s = np.linalg.svd(x / scale, compute_uv=False)
    s[s <= np.finfo(float).eps * max(x.shape) * s[0]] = 0  # rounding, and not noise
    squares, rank = s**2, 0
    while True:
        n, d = (size - rank for size in x.shape)
        law = _marchenko_pastur(min(n, d) / max(n, d))
        rest = squares[rank:] / max(n, d)
        noise = np.median(rest) / np.interp(0.5, law[1], law[0])
        more = int((rest * max(n, d) > noise * _greatest(n, d)).sum())
        if not more:
            break
        rank += more
    if not noise:
        return LowRankNoise(rank, 0.0, np.nan)
    from scipy.stats import kstest

    misfit = kstest(rest / noise, lambda v: np.interp(v, *law)).statistic
    return LowRankNoise(rank, float(scale * np.sqrt(noise)), float(misfit))


def _marchenko_pastur(ratio: float) -> tuple[np.ndarray, np.ndarray]:
    """x and F(x) of the law of this ratio: x = 1 + β + 2 √β cos θ makes its density smooth."""
    ends = np.linspace(np.pi, 0, 4001)
    at = lambda theta: 1 + ratio + 2 * np.sqrt(ratio) * np.cos(theta)  # noqa: E731
    middles = (ends[1:] + ends[:-1]) / 2
    distribution = np.cumsum(np.append(0, np.sin(middles) ** 2 / at(middles)))
    return at(ends), distribution / distribution[-1]


def _greatest(n: int, d: int) -> float:
    """What the greatest eigenvalue of ZᵀZ, (n, d), exceeds in one case of a hundred."""
    a, b = np.sqrt(n - 0.5), np.sqrt(d - 0.5)
    return float((a + b) ** 2 + _QUANTILE * (a + b) * (1 / a + 1 / b) ** (1 / 3))


__all__ = ["LowRankNoise", "low_rank_noise"]
