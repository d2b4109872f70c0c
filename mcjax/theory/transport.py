"""Distances between neuron measures, their rates, and what they say of linear connectivity.

Ferbach et al. 2023: two networks whose neurons are independent draws of one distribution are
connected by a segment after a permutation, since their empirical measures are close.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import _check
from ..network.network import Network
from ..transport import Exact, Problem, Solution, Solver, solve
from ..transport.problem import finite, real
from .mean_field import require_mean_field


@dataclasses.dataclass(frozen=True, eq=False)
class Wasserstein:
    """W_p between two empirical measures: `distance`, and the `solution` whose cost is W_p^p.

    The distance is that of the solution's coupling: W_p itself where its status is `"optimal"`,
    else no less.
    """

    distance: float
    solution: Solution


@_check.on_host
def wasserstein(
    x: Any, y: Any, *, a: Any = None, b: Any = None, p: float = 2.0, solver: Solver = Exact()
) -> Wasserstein:
    """W_p(µ, ν) = (min_Π Σ_ij Π_ij ‖x_i − y_j‖^p)^{1/p} of µ = Σ a_i δ_{x_i}, ν = Σ b_j δ_{y_j}.

    Of as many points with uniform weights an assignment (a permutation attains it: Birkhoff, and
    ferbach2023, Lemma B.3), of others a linear program.

    **Arguments:**
    - `x`, `y`: points, (m, d) and (n, d)
    - `a`, `b`: weights, (m,) and (n,), that sum to one; default: uniform
    - `p`: at least 1
    - `solver`: as of `mcjax.transport.solve`

    **Raises:** `ValueError` for empty measures, points of different dimension, NaN, weights that
    do not sum to one and p below 1.

        >>> import mcjax
        >>> found = mcjax.theory.wasserstein([[0.0], [3.0]], [[3.0], [1.0]])
        >>> round(found.distance, 4), found.solution.permutation.tolist()
        (0.7071, [1, 0])
    """
    points = points_of(x, "x"), points_of(y, "y")
    if points[0].shape[1] != points[1].shape[1]:
        dims = [v.shape[1] for v in points]
        raise ValueError(f"x and y must have one dimension, got points of {dims[0]} and {dims[1]}")
    if not p >= 1:
        raise ValueError(f"p must be at least 1, got {p!r}")
    for name, weights in (("a", a), ("b", b)):
        if weights is not None and not math.isclose(total := real(weights, name).sum(), 1):
            raise ValueError(f"{name} must sum to one, got {total:.6g}")
    from scipy.spatial.distance import cdist

    scale = max(float(np.abs(v).max()) for v in points) or 1.0  # no square overflows or vanishes
    distances = cdist(points[0] / scale, points[1] / scale)
    found = solve(Problem(distances**p, a, b), solver)
    least = max(found.value, 0.0)
    with np.errstate(over="ignore", under="ignore"):
        value = float(np.float64(scale) ** p * least)
    return Wasserstein(float(scale * least ** (1 / p)), dataclasses.replace(found, value=value))


def points_of(value: Any, name: str) -> np.ndarray:
    points = real(value, name)
    if points.ndim != 2 or not points.size:
        raise ValueError(f"{name} must be points (m, d) with m, d ≥ 1, got shape {points.shape}")
    finite(points, name)
    return points


@dataclasses.dataclass(frozen=True)
class Rate:
    """A power law constant · m^exponent.

    - `low`, `high`: ends of an interval for the exponent, of confidence `level`
    """

    exponent: float
    low: float
    high: float
    constant: float
    level: float

    def __str__(self) -> str:
        return (
            f"{self.constant:.3g} · m^{self.exponent:.3f} "
            f"({100 * self.level:g} % interval {self.low:.3f} to {self.high:.3f})"
        )


def fit_rate(sizes: Sequence[int] | np.ndarray, values: Any, level: float = 0.95) -> Rate:
    """The power law of values against sizes: least squares of log v = log c + r log m.

    The interval is Student's, for errors of log v that are independent, of one variance and about
    normal; a curve that is no power law (a logarithm, a change of slope) is not seen by it.

    **Arguments:**
    - `sizes`: m, (K,), positive, two different ones at least
    - `values`: (K,) or (K, repetitions), positive
    - `level`: of confidence, in (0, 1)

    **Raises:** `ValueError` for shapes that do not fit, fewer than three values, sizes that are all
    the same, and what is not positive and finite.

        >>> import numpy as np, mcjax
        >>> m = np.array([8, 16, 32, 64])
        >>> round(mcjax.theory.fit_rate(m, 3 / np.sqrt(m)).exponent, 6)
        -0.5
    """
    m, v = real(sizes, "sizes"), real(values, "values")
    if m.ndim != 1 or v.ndim not in (1, 2) or len(v) != len(m):
        raise ValueError(
            f"sizes and values: expected (K,) and (K,) or (K, repetitions), got {m.shape} and "
            f"{v.shape}"
        )
    for name, array in (("sizes", m), ("values", v)):
        finite(array, name)
        if not (array > 0).all():
            raise ValueError(f"{name} must be positive, got {array.min():.6g}")
    if v.size < 3 or len(np.unique(m)) < 2:
        raise ValueError(
            f"a slope with an interval needs three values and two sizes, got {v.size} values of "
            f"{len(np.unique(m))} sizes"
        )
    if not 0 < level < 1:
        raise ValueError(f"level must lie between 0 and 1, got {level}")
    from scipy.stats import linregress, t

    v = v.reshape(len(m), -1)
    fit: Any = linregress(np.log(np.repeat(m, v.shape[1])), np.log(v.ravel()))
    around = t.ppf((1 + level) / 2, v.size - 2) * fit.stderr
    slope = float(fit.slope)
    return Rate(slope, slope - around, slope + around, float(np.exp(fit.intercept)), level)


def worst_case_exponent(dimension: int) -> float:
    """r of E W₂(µ_m, µ) = O(m^r), for every µ with enough moments (Fournier and Guillin 2015).

    −¼ up to dimension 4 (there with a factor √log m), −1/d beyond. The distance between two
    empirical measures is at most twice as large.

    **Raises:** `ValueError` for a dimension that is no positive integer.

        >>> from mcjax.theory import worst_case_exponent
        >>> worst_case_exponent(1), worst_case_exponent(8)
        (-0.25, -0.125)
    """
    return -1 / max(_check.positive(dimension, "dimension"), 4)


def gaussian_exponent(dimension: int) -> float:
    """r of E W₂(µ_m, µ) ≈ m^r for Gaussian µ, up to logarithms of m.

    −½ for dimension 1 and 2 (there with a logarithm), −1/d from 3 on (Ledoux 2019; and see
    Bobkov and Ledoux 2019 for one dimension).

    **Raises:** `ValueError` for a dimension that is no positive integer.

        >>> from mcjax.theory import gaussian_exponent
        >>> gaussian_exponent(1), gaussian_exponent(4)
        (-0.5, -0.25)
    """
    return -1 / max(_check.positive(dimension, "dimension"), 2)


def two_layer_bound(
    distance: float, *, lipschitz: float | None = None, smoothness: float | None = None,
    t: float = 0.5, network: Network | None = None, anyway: bool = False,
) -> float:  # fmt: skip
    """sup_x |(1 − t) f_A(x) + t f_B(x) − f((1 − t) A + t P B)(x)| of mean-field networks, bounded.

    For f(x) = 1/m Σ_i g(x; θ_i) with m units and the permutation P that attains W_p between
    the two networks' neurons (as in ferbach2023, Thm 3.1). Derived here: with Δ_i = θ_i^A −
    θ_{P(i)}^B, unit i errs by at most

    - 2 t (1 − t) L ‖Δ_i‖ where θ ↦ g(x; θ) is L-Lipschitz for all x (triangle inequality), so
      f by 2 t (1 − t) L W₁, and W₁ ≤ W₂;
    - ½ t (1 − t) H ‖Δ_i‖² where its gradient is H-Lipschitz (the error of linear interpolation),
      so f by ½ t (1 − t) H W₂².

    Nothing holds for g that is neither, over the parameters and inputs that there are: a ReLU unit
    with an outgoing weight is Lipschitz on bounded parameters and inputs only, and has no smooth
    gradient.

    **Arguments:**
    - `distance`: W₁ or W₂ for `lipschitz`, W₂ for `smoothness`
    - `lipschitz`, `smoothness`: L or H; one of them
    - `t`: in [0, 1]
    - `network`: if given, it is an error that it violates what Thm 3.1 assumes
      (`mcjax.theory.mean_field_violations`), unless `anyway`: then L or H must hold on the
      parameters and inputs that there are

    **Raises:** `ValueError` for negative numbers, t outside [0, 1], unless one of L and H is given,
    and for a network that violates the assumptions.

        >>> from mcjax.theory import two_layer_bound
        >>> two_layer_bound(0.2, lipschitz=1.0), two_layer_bound(0.2, smoothness=1.0)
        (0.1, 0.005000000000000001)
    """
    if (lipschitz is None) == (smoothness is None):
        raise ValueError("give one of lipschitz and smoothness")
    require_mean_field(network, anyway)
    _check.interval(t)
    _nonnegative(distance=distance)
    if lipschitz is not None:
        _nonnegative(lipschitz=lipschitz)
        return 2 * t * (1 - t) * lipschitz * distance
    assert smoothness is not None
    _nonnegative(smoothness=smoothness)
    return t * (1 - t) / 2 * smoothness * distance**2


@_check.on_host
def relu_bound(distance: float, a: Any, b: Any, t: float = 0.5) -> float:
    """E_x ‖(1 − t) f_A(x) + t f_B(x) − f((1 − t) A + t P B)(x)‖ of one hidden ReLU layer, bounded.

    Where `two_layer_bound` has nothing to say: units that are not bounded, with outgoing weights of
    their own. Derived here. f(x) = Σ_i v_i relu(z_i(x)), Δ = B's minus A's of matched units. A ReLU
    deviates from linear interpolation by at most t (1 − t) |Δz_i|, outgoing weights add
    t (1 − t) ‖Δv_i‖ |Δz_i|; by Cauchy and Schwarz, over units and inputs,

        error ≤ t (1 − t) (Σ_i (‖(1 − t) v_i^A + t v_i^B‖ + ‖Δv_i‖)²)^½ (E_x Σ_i Δz_i²)^½.

    The last factor is the distance W₂ of incoming weights in the metric of the inputs' second
    moment, once units are matched by it. Cross-entropy is convex and √2-Lipschitz in the logits,
    so its barrier above the chord is at most √2 times this.

    **Arguments:**
    - `distance`: (E_x Σ_i Δz_i²)^½ of matched units, over the inputs of the error's mean
    - `a`, `b`: outgoing weights of A and of P B, (units, outputs)
    - `t`: in [0, 1]

    **Raises:** `ValueError` for negative numbers, t outside [0, 1] and weights of different shapes.

        >>> from mcjax.theory import relu_bound
        >>> relu_bound(2.0, [[1.0]], [[1.0]])  # relu(1 + x) and relu(-1 + x) at x = 0: 1/2, and 0
        0.5
    """
    _check.interval(t)
    _nonnegative(distance=distance)
    va, vb = points_of(a, "a"), points_of(b, "b")
    if va.shape != vb.shape:
        raise ValueError(f"b: outgoing weights of shape {vb.shape}, expected A's, {va.shape}")
    sizes = np.linalg.norm((1 - t) * va + t * vb, axis=1) + np.linalg.norm(vb - va, axis=1)
    return float(t * (1 - t) * np.linalg.norm(sizes) * distance)


def layer_errors(
    distances: Sequence[float], widths: Sequence[float], c1: float, c2: float, first: float = 0.0,
    *, network: Network | None = None, anyway: bool = False,
) -> np.ndarray:  # fmt: skip
    """E_{ℓ+1} = 2 C₂ E_ℓ + 2 C₁ m̃_ℓ Ē_ℓ: errors from layer to layer (ferbach2023, Lemma 4.1).

    **Unverified:** the recursion and its factors are second-hand (a reading note of version 2 of
    the paper), not derived here. Only its shape should be relied on.

    **Arguments:**
    - `distances`: Ē_ℓ, squared distances of the matched neurons of each layer, (L,)
    - `widths`: m̃_ℓ, (L,)
    - `c1`, `c2`: constants of the activation and of the weights
    - `first`: E_0
    - `network`: if given, it is an error that it violates what the statement assumes
      (`mcjax.theory.mean_field_violations(network, deep=True)`), unless `anyway`

    **Returns:** (L + 1,) errors, E_0 first.

    **Raises:** `ValueError` for different lengths, negative numbers, and a network that violates
    the assumptions.

        >>> from mcjax.theory import layer_errors
        >>> layer_errors([0.5, 0.25], [2, 4], c1=1.0, c2=0.5).tolist()
        [0.0, 2.0, 4.0]
    """
    require_mean_field(network, anyway, deep=True)
    if len(distances) != len(widths):
        raise ValueError(
            f"distances and widths: one of each for a layer, got {len(distances)} and {len(widths)}"
        )
    _nonnegative(c1=c1, c2=c2, first=first)
    errors = [float(first)]
    for k, (distance, width) in enumerate(zip(distances, widths, strict=True)):
        _nonnegative(**{f"distances[{k}]": distance, f"widths[{k}]": width})
        errors.append(2 * c2 * errors[-1] + 2 * c1 * width * distance)
    return np.array(errors)


def sufficient_width(
    error: float, inputs: int, scale: float = 1.0, *, network: Network | None = None,
    anyway: bool = False,
) -> float:  # fmt: skip
    """(T / ε)^{m̃}: how wide a layer of m̃ inputs should be, up to logarithms (ferbach2023, Thm 5.2).

    **Unverified:** T is a constant that the theorem leaves to the layer, and factors are left out;
    the growth with ε is what it says, a lower bound of the same kind is Thm 5.3.

    **Arguments:**
    - `error`: ε > 0
    - `inputs`: m̃, the width of the layer before, or the dimension of a subspace that the incoming
      weights are near to (Thm 5.4)
    - `scale`: T > 0
    - `network`, `anyway`: as of `layer_errors`

    **Returns:** a number of units, infinite beyond float64.

    **Raises:** `ValueError` for what is not positive, and a network that violates the assumptions.

        >>> from mcjax.theory import sufficient_width
        >>> round(sufficient_width(0.1, 3))
        1000
    """
    require_mean_field(network, anyway, deep=True)
    for name, value in (("error", error), ("scale", scale)):
        if not 0 < value < math.inf:
            raise ValueError(f"{name} must be positive and finite, got {value!r}")
    exponent = _check.positive(inputs, "inputs") * (math.log(scale) - math.log(error))
    return math.exp(exponent) if exponent < math.log(np.finfo(float).max) else math.inf


def _nonnegative(**values: float) -> None:
    for name, value in values.items():
        if not value >= 0:
            raise ValueError(f"{name} must be at least 0, got {value!r}")


__all__ = [
    "Rate",
    "Wasserstein",
    "fit_rate",
    "gaussian_exponent",
    "layer_errors",
    "sufficient_width",
    "two_layer_bound",
    "wasserstein",
    "worst_case_exponent",
]
