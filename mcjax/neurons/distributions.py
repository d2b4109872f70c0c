"""Distributions fitted to neurons, and drawn from."""

from __future__ import annotations

import abc
import dataclasses
import warnings
from typing import TYPE_CHECKING

import jax
import numpy as np

from .. import _check

if TYPE_CHECKING:
    from ..flows import AdamProtocol, Architecture


class Distribution(abc.ABC):
    """What is fitted to the rows of a layer's neurons. One's own needs `draw` alone."""

    @abc.abstractmethod
    def draw(self, rows: np.ndarray, count: int, key: jax.Array) -> np.ndarray:
        """Independent draws, (count, d), from what is fitted to the rows, (n, d) in float64."""


@dataclasses.dataclass(frozen=True)
class Empirical(Distribution):
    """The neurons themselves, drawn with replacement: µ = 1/n Σ δ_{θ_i}.

    What all others are to be compared with: it loses nothing but independence.

        >>> import jax, mcjax, numpy as np
        >>> rows = np.array([[1.0, 2.0], [3.0, 4.0]])
        >>> mcjax.neurons.Empirical().draw(rows, 3, jax.random.key(0)).shape
        (3, 2)
    """

    def draw(self, rows: np.ndarray, count: int, key: jax.Array) -> np.ndarray:
        return rows[_generator(key).integers(len(rows), size=count)]


@dataclasses.dataclass(frozen=True)
class Gaussian(Distribution):
    """The Gaussian of the neurons' mean and covariance (of greatest likelihood, so 1/n).

    A draw is mean + n^{−1/2} Σ_j g_j (θ_j − mean), g standard normal: no covariance is formed, and
    with fewer neurons than coordinates it stays within their span.

        >>> import jax, mcjax, numpy as np
        >>> rows = np.array([[1.0, 2.0], [3.0, 4.0]])
        >>> drawn = mcjax.neurons.Gaussian().draw(rows, 3, jax.random.key(0))
        >>> (drawn[:, 1] - drawn[:, 0]).round(6).tolist()
        [1.0, 1.0, 1.0]
    """

    def draw(self, rows: np.ndarray, count: int, key: jax.Array) -> np.ndarray:
        weights = np.ones((len(rows), 1))
        return _mixture(rows, weights, count, _generator(key))


@dataclasses.dataclass(frozen=True)
class Mixture(Distribution):
    """A mixture of Gaussians (scikit-learn): how much each component has of each neuron.

    The components are found among the first principal coordinates, where there are neurons enough
    for it; mean and covariance of each are then those of all coordinates, neurons weighted by
    r_ic (one more step of expectation maximisation).

    **Arguments:**
    - `components`: at most as many as neurons
    - `coordinates`: principal ones, in which they are found

    **Raises:** `ValueError` for numbers that are no positive integers.

        >>> import jax, mcjax, numpy as np
        >>> rows = np.repeat([[0.0, 0.0], [9.0, 9.0]], 4, 0)
        >>> drawn = mcjax.neurons.Mixture(2).draw(rows, 5, jax.random.key(0))
        >>> sorted(set(drawn.ravel().round().tolist()))
        [0.0, 9.0]
    """

    components: int = 16
    coordinates: int = 16

    def __post_init__(self) -> None:
        _check.positive(self.components, "components")
        _check.positive(self.coordinates, "coordinates")

    def draw(self, rows: np.ndarray, count: int, key: jax.Array) -> np.ndarray:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.mixture import GaussianMixture

        generator = _generator(key)
        centred = rows - rows.mean(0)
        u, s, _ = np.linalg.svd(centred, full_matrices=False)
        main = (u * s)[:, : self.coordinates]
        scale = s[0] / np.sqrt(len(rows)) or 1.0
        found = GaussianMixture(
            min(self.components, len(rows)), random_state=int(generator.integers(2**31))
        )
        with warnings.catch_warnings():
            # Fewer distinct neurons than components: some have none, which does no harm.
            warnings.simplefilter("ignore", ConvergenceWarning)
            weights = found.fit(main / scale).predict_proba(main / scale)
        return _mixture(rows, weights, count, generator)


@dataclasses.dataclass(frozen=True)
class Flow(Distribution):
    """ν⁻¹(z), z standard normal, ν a flow of `mcjax.flows` of greatest likelihood of the neurons.

    Rows of few neurons and many coordinates are learned by heart: look at the loss of what is
    drawn, not at the likelihood.

    **Arguments:**
    - `architecture`: of ν; default: a RealNVP of six small blocks
    - `protocol`: default: 1000 steps of Adam of 256 neurons, rate 1e-3
    """

    architecture: Architecture | None = None
    protocol: AdamProtocol | None = None

    def draw(self, rows: np.ndarray, count: int, key: jax.Array) -> np.ndarray:
        from ..flows import AdamProtocol, Architecture  # flowjax is loaded on use
        from ..flows.neurons import draw_rows, fit_rows

        architecture = self.architecture or Architecture("realnvp", blocks=6, width=64, depth=1)
        protocol = self.protocol or AdamProtocol(1000, 256, 1e-3)
        fit, drawn = jax.random.split(key)
        arrays = fit_rows(rows, architecture, protocol, fit)
        return draw_rows(architecture, arrays, rows.shape[1], count, drawn)


def _mixture(
    rows: np.ndarray, weights: np.ndarray, count: int, generator: np.random.Generator
) -> np.ndarray:
    """Draws from Σ_c π_c N(µ_c, S_c), the moments of neurons with weights r_ic, (n, C)."""
    masses = weights.sum(0)
    chosen = generator.choice(len(masses), size=count, p=masses / masses.sum())
    shares = weights / np.maximum(masses, np.finfo(float).tiny)
    out = np.empty((count, rows.shape[1]))
    for c in np.unique(chosen):
        where, share = chosen == c, shares[:, c]
        mean = share @ rows
        normal = generator.normal(size=(where.sum(), len(rows))) * np.sqrt(share)
        out[where] = mean + normal @ (rows - mean)
    return out


def _generator(key: jax.Array) -> np.random.Generator:
    return np.random.default_rng(np.asarray(_check.key_data(_check.random_key(key))).tolist())


__all__ = ["Distribution", "Empirical", "Flow", "Gaussian", "Mixture"]
