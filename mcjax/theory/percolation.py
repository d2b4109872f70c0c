"""Site percolation in many dimensions, and the cells of a Lipschitz function (vrabel2024, C, D)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import _check

# Sites of a lattice: their numbers are 32-bit integers, and so are those of the edges' ends.
_MOST_SITES = 2**31


@dataclasses.dataclass(frozen=True)
class Percolation:
    """What clusters a random lattice has.

    - `dimension`, `side`, `p`: the lattice has side^dimension sites, each occupied with probability
      p; open boundaries
    - `occupied`: number of occupied sites
    - `sizes`: sizes of the clusters, falling
    """

    dimension: int
    side: int
    p: float
    occupied: int
    sizes: np.ndarray = dataclasses.field(repr=False)

    @property
    def largest(self) -> float:
        """The share of the occupied sites that are in the largest cluster (0 if there are none)."""
        return float(self.sizes[0] / self.occupied) if self.occupied else 0.0

    @property
    def joined(self) -> float:
        """The probability that two occupied sites, drawn apart, are in one cluster; NaN below 2."""
        n, sizes = self.occupied, self.sizes.astype(np.float64)
        return float(np.sum(sizes * (sizes - 1)) / (n * (n - 1))) if n > 1 else math.nan

    @property
    def q(self) -> float:
        """q = 2 p d (1 − 1/side): how many occupied neighbours a site has on average."""
        return 2 * self.p * self.dimension * (1 - 1 / self.side)


def percolate(dimension: int, side: int, p: float, *, seed: int) -> Percolation:
    """Clusters of occupied sites on a hypercubic lattice with open boundaries.

    Neighbours differ by 1 in one coordinate: 2 d of them inside the lattice, d on one of side 2.
    Occupied sites alone are numbered, so memory goes with p · side^d · (1 + p d).

    **Arguments:**
    - `dimension`: d ≥ 1; `side`: sites along each axis, ≥ 2; side^d < 2³¹
    - `p`: probability that a site is occupied, in [0, 1]
    - `seed`: of NumPy's generator

    **Raises:** `ValueError` for a dimension, side or p that is none of these.

        >>> from mcjax.theory import percolate
        >>> percolate(2, 8, 1.0, seed=0).sizes.tolist()
        [64]
        >>> found = percolate(20, 2, 0.15, seed=0)  # q = 3 occupied neighbours
        >>> round(found.q, 3), found.largest > 0.8
        (3.0, True)
    """
    _check.positive(dimension, "dimension")
    if _check.positive(side, "side") < 2:
        raise ValueError(f"side must be 2 sites or more, got {side}")
    _probability(p)
    if side**dimension >= _MOST_SITES:
        raise ValueError(
            f"a lattice of {side}^{dimension} sites is too large, expected fewer than 2^31"
        )
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    here = np.random.default_rng(seed).random(side**dimension, np.float32) < p
    number = np.cumsum(here, dtype=np.int32) - 1
    n = int(here.sum())
    ends: list[tuple[Any, Any]] = []
    for axis in range(dimension):
        stride = side**axis
        sites, numbers = (v.reshape(-1, side, stride) for v in (here, number))
        both = sites[:, :-1] & sites[:, 1:]
        ends.append((numbers[:, :-1][both], numbers[:, 1:][both]))
    rows, columns = (np.concatenate(v) for v in zip(*ends, strict=True))
    graph = coo_array((np.ones(len(rows), np.bool_), (rows, columns)), shape=(n, n))
    clusters = connected_components(graph, directed=False)[1] if n else np.zeros(0, int)
    return Percolation(dimension, side, float(p), n, np.sort(np.bincount(clusters))[::-1])


def infinite_cluster(q: Any) -> Any:
    """P = 1 − e^{−qP}, the largest root: the share of sites in the infinite cluster (Eq. 22).

    P = 1 + W₀(−q e^{−q}) / q for q > 1, else 0. It is the share among *occupied* sites of a graph
    without short loops in which a site has q occupied neighbours on average. The paper has q = p d;
    a site of the lattice has 2 d neighbours, q = 2 p d (d of them on a side of length 2).

    **Arguments:**
    - `q`: numbers ≥ 0

    **Raises:** `ValueError` for a q that is negative or no number.

        >>> from mcjax.theory import infinite_cluster
        >>> round(float(infinite_cluster(3.0)), 4), float(infinite_cluster(1.0))
        (0.9405, 0.0)
    """
    q = _degrees(q)
    from scipy.special import lambertw

    above = np.where(q > 1, q, 2.0)
    found = 1 + lambertw(-above * np.exp(-above)).real / above
    return np.where(q > 1, found, 0.0)


def outside_infinite_cluster(q: Any) -> Any:
    """Q = e^{−q} / (1 − q e^{−q}), the share outside to first order in Q (Eq. 23, corrected).

    From Q = e^{−q} e^{qQ} ≈ e^{−q} (1 + qQ); printed is e^{qQ} ≈ 1 − qQ and so a denominator
    1 + q e^{q}, which at q = 3 gives 0.0008 where 1 − `infinite_cluster` is 0.0595 and this 0.0585.
    It lies below the true value, as e^{qQ} > 1 + qQ.

    **Arguments:**
    - `q`: numbers > 1

    **Raises:** `ValueError` for q ≤ 1, where there is no infinite cluster.

        >>> from mcjax.theory import outside_infinite_cluster
        >>> round(float(outside_infinite_cluster(3.0)), 4)
        0.0585
    """
    q = _degrees(q)
    if not (q > 1).all():
        raise ValueError(f"q must be > 1 for an infinite cluster, got {q.min()}")
    return np.exp(-q) / (1 - q * np.exp(-q))


def lipschitz_bound(weights: Sequence[Any], slope: float = 1.0, final_slope: float = 1.0) -> float:
    """M = m_φ · m^{L−1} ∏ ‖W_l‖₂ of a fully connected network (Lemma D.1), an upper bound.

    ‖f(x) − f(x′)‖₂ ≤ M ‖x − x′‖₂ for f = φ(W_L σ(… σ(W_1 x))), whatever the biases.

    **Arguments:**
    - `weights`: the L matrices, first layer first, all (in, out) or all (out, in)
    - `slope`: m, a Lipschitz constant of the activation (1 for ReLU, tanh; 1.13 for GELU)
    - `final_slope`: m_φ, that of the last one (1 for none; 1/4 for a sigmoid, 1/2 for a softmax)

    **Raises:** `ValueError` for no weights, weights that are no finite matrices, or a bad slope.

        >>> import numpy as np
        >>> from mcjax.theory import lipschitz_bound
        >>> round(lipschitz_bound([2 * np.eye(3), np.ones((3, 1))]), 4)
        3.4641
    """
    if not len(weights):
        raise ValueError("weights: a network has one matrix at least")
    for name, value in (("slope", slope), ("final_slope", final_slope)):
        if not (value > 0 and math.isfinite(value)):
            raise ValueError(f"{name} must be positive and finite, got {value}")
    bound = np.float64(final_slope * slope ** (len(weights) - 1))
    for k, matrix in enumerate(weights):
        matrix = np.asarray(matrix, np.float64)
        if matrix.ndim != 2 or not matrix.size or not np.isfinite(matrix).all():
            raise ValueError(f"weights[{k}] must be a finite matrix, got shape {matrix.shape}")
        bound *= np.linalg.norm(matrix, 2)
    return float(bound)


def cell_side(bound: float, dimension: int, delta: float, similar: float = 0.0) -> float:
    """(δ − δ′) / (M √d): in a cube of this side the outputs differ by δ − δ′ at most (Eq. 14).

    **Arguments:**
    - `bound`: M, of `lipschitz_bound`; `dimension`: d of the inputs
    - `delta`: δ; `similar`: δ′ in [0, δ), how far the outputs of two similar inputs may differ

    **Raises:** `ValueError` for a bound or δ that is not positive, or a δ′ outside [0, δ).

        >>> from mcjax.theory import cell_side
        >>> cell_side(2.0, 4, 0.1)
        0.025
    """
    _check.positive(dimension, "dimension")
    if not (bound > 0 and math.isfinite(bound)):
        raise ValueError(f"bound must be positive and finite, got {bound}")
    if not 0 <= similar < delta:
        raise ValueError(f"delta and similar must be 0 ≤ similar < delta, got {delta}, {similar}")
    return float((delta - similar) / (bound * math.sqrt(dimension)))


def _probability(p: Any) -> None:
    if not 0 <= p <= 1:
        raise ValueError(f"p must be a probability in [0, 1], got {p}")


def _degrees(q: Any) -> np.ndarray:
    q = np.asarray(q, np.float64)
    if not (np.isfinite(q) & (q >= 0)).all():
        raise ValueError(f"q must hold finite numbers ≥ 0, got {q}")
    return q


__all__ = [
    "Percolation",
    "cell_side",
    "infinite_cluster",
    "lipschitz_bound",
    "outside_infinite_cluster",
    "percolate",
]
