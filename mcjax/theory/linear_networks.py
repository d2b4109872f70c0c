"""The minimum of deep linear networks: its components, paths inside one, permutations between two.

Columns are examples, as in the paper: L(W₁, …, W_l) = ‖Y − W_l ⋯ W₁ X‖² with square invertible
matrices. Weights are sequences (W₁, …, W_l) of (h, h) arrays.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import _check
from ..path import Path
from ..path._base import ended
from ..symmetry import Logarithm, log
from ..symmetry.logarithm import require_invertible

# Products of the two ends may differ by this fraction: they come from training.
_TOLERANCE = 1e-4


def component_count(layers: int) -> int:
    """2^{l − 1}: the components of the minimum of l layers, of any width (zhao2025, Cor. 4.2).

    >>> component_count(3)
    4
    """
    return 2 ** (_check.positive(layers, "layers") - 1)


@_check.on_host
def component_label(weights: Sequence[Any], x: Any = None) -> tuple[int, ...]:
    """(sign det W₁X, sign det W₂, …, sign det W_{l−1}): in which component a minimum lies.

    Two minima lie in one component if and only if their labels are the same (zhao2025,
    Prop. 4.1: (W₁X, W₂, …, W_{l−1}) is a homeomorphism onto GL(h)^{l−1}).

    **Arguments:**
    - `weights`: (W₁, …, W_l), each (h, h)
    - `x`: X, (h, h), invertible; default: the identity. It is the same for both minima, so it
      changes what a label is but not whether two are the same

    **Raises:** `ValueError` for matrices of other shapes, or singular to rounding.

        >>> import numpy as np
        >>> component_label([np.eye(2), np.diag([-1.0, 1.0]), np.eye(2)])
        (1, -1)
    """
    matrices = _matrices(weights, "weights")
    if x is not None:
        (given,) = _matrices([x], "x", size=len(matrices[0]))
        matrices[0] = matrices[0] @ given
    return tuple(int(np.linalg.slogdet(w)[0]) for w in matrices[:-1])


class LinearMinimum(Path):
    """A path inside the minimum of a linear network.

    W_i(t) = h_i(t) W_i^A for i < l, with h_i(t) = exp(t log Q) exp(t log S) of the polar form of
    W_i^B (W_i^A)⁻¹ = Q S, and W_l(t) = W_l^A ⋯ W_1^A (W_{l−1}(t) ⋯ W_1(t))⁻¹. Made by
    `connect_minima`.
    """

    a: tuple
    b: tuple
    logarithms: tuple[Logarithm, ...]
    inverses: tuple
    product: Any

    def at(self, t: Any) -> tuple:
        hidden, last = [], self.product
        for w, inverse, g in zip(self.a[:-1], self.inverses, self.logarithms, strict=True):
            hidden.append(g.power(t) @ w)
            last = last @ inverse @ g.inverse_power(t)
        return ended(t, self.a, (*hidden, last), self.b)


@_check.on_host
def connect_minima(a: Sequence[Any], b: Sequence[Any]) -> LinearMinimum:
    """The explicit path between two minima of one component (zhao2025, Prop. 4.1, Cor. 4.2).

    **Arguments:**
    - `a`, `b`: (W₁, …, W_l), each (h, h), of equal products W_l ⋯ W₁ = Y X⁻¹ and equal labels

    **Returns:** a `LinearMinimum`, along which the product stays the same.

    **Raises:** `ValueError` for other shapes, singular matrices, products that differ by more than
    1e-4 of their size, or labels that differ (`connecting_permutations` makes them equal).

        >>> import numpy as np
        >>> path = connect_minima([np.eye(2), np.eye(2)], [-np.eye(2), -np.eye(2)])
        >>> w1, w2 = path(0.5)
        >>> bool(np.allclose(w2 @ w1, np.eye(2), atol=1e-6))
        True
    """
    first, second = _two(a, b)
    labels = [component_label(w) for w in (first, second)]
    if labels[0] != labels[1]:
        raise ValueError(
            f"a and b lie in different components, {labels[0]} and {labels[1]}: apply "
            "connecting_permutations(a, b) to a first"
        )
    pairs = list(zip(first[:-1], second[:-1], strict=True))
    logs = tuple(log(w_b @ np.linalg.inv(w_a), f"b[{i}] a[{i}]⁻¹")
                 for i, (w_a, w_b) in enumerate(pairs))  # fmt: skip
    dtype = jnp.result_type(*map(jnp.asarray, (*a, *b)), 0.0)
    ends = (
        tuple(jnp.asarray(w, dtype) for w in first),
        tuple(jnp.asarray(w, dtype) for w in second),
    )
    logs = jax.tree.map(lambda v: v.astype(dtype), logs)
    inverses = tuple(jnp.asarray(np.linalg.inv(w), dtype) for w in first[:-1])
    return LinearMinimum(*ends, logs, inverses, jnp.asarray(_product(first), dtype))


@_check.on_host
def connecting_permutations(a: Sequence[Any], b: Sequence[Any]) -> list[np.ndarray]:
    """Permutations of a's hidden units that bring it into b's component (zhao2025, Prop. 5.2).

    With the action W_i ↦ P_i W_i P_{i−1}⁻¹, P₀ = P_l = I, their parities are
    det P_i = s_i det P_{i−1}, s_i = 1 where the labels of a and b agree on layer i, else −1. Lemma
    5.1 is l = 2. In print the action is W_i ↦ P_{i−1}⁻¹ W_i P_i, which does not fit the order of
    the factors in L and does not keep the product; here it is the one of Section 4.1.

    **Arguments:**
    - `a`, `b`: minima as in `connect_minima`

    **Returns:** l − 1 index arrays (h,), the identity or the swap of the first two units.

    **Raises:** `ValueError` as `connect_minima`, and where one unit needs an odd one.

        >>> import numpy as np
        >>> flip = np.diag([-1.0, 1.0])
        >>> [p.tolist() for p in connecting_permutations([np.eye(2), np.eye(2)], [flip, flip])]
        [[1, 0]]
    """
    first, second = _two(a, b)
    width, parity, found = len(first[0]), 1, []
    for s_a, s_b in zip(component_label(first), component_label(second), strict=True):
        parity *= s_a * s_b
        if parity < 0 and width < 2:
            raise ValueError("one hidden unit has no odd permutation: a and b stay apart")
        order = np.arange(width)
        if parity < 0:
            order[:2] = (1, 0)
        found.append(order)
    return found


def permute_linear(permutations: Sequence[Any], weights: Sequence[Any]) -> tuple:
    """(P₁W₁, P₂W₂P₁⁻¹, …, W_lP_{l−1}⁻¹): unit p[i] comes to stand at i. The product stays.

    >>> import numpy as np
    >>> first, last = permute_linear([[1, 0]], [np.diag([1.0, 2.0]), np.eye(2)])
    >>> first.tolist(), (last @ first).tolist()
    ([[0.0, 2.0], [1.0, 0.0]], [[1.0, 0.0], [0.0, 2.0]])
    """
    if len(permutations) != len(weights) - 1:
        raise ValueError(
            f"permutations: expected {len(weights) - 1} for {len(weights)} layers, got "
            f"{len(permutations)}"
        )
    made = list(weights)
    for i, order in enumerate(permutations):
        order = np.asarray(order)
        made[i] = made[i][order]
        made[i + 1] = made[i + 1][:, order]
    return tuple(made)


def _two(a: Sequence[Any], b: Sequence[Any]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    first = _matrices(a, "a")
    second = _matrices(b, "b", size=len(first[0]))
    if len(first) != len(second):
        raise ValueError(f"b: expected {len(first)} layers as a has, got {len(second)}")
    one, other = _product(first), _product(second)
    off = np.linalg.norm(one - other) / np.linalg.norm(one)
    if off > _TOLERANCE:
        raise ValueError(
            f"a and b are not minima of one loss: their products differ by {off:.3g} of their size"
        )
    return first, second


def _product(weights: Sequence[np.ndarray]) -> np.ndarray:
    product = weights[0]
    for w in weights[1:]:
        product = w @ product
    return product


def _matrices(weights: Sequence[Any], name: str, size: int | None = None) -> list[np.ndarray]:
    """Square invertible matrices of one size, in float64."""
    if not len(weights):
        raise ValueError(f"{name}: expected at least one matrix")
    found = []
    for i, w in enumerate(weights):
        matrix = np.asarray(w)
        size = len(np.atleast_1d(matrix)) if size is None else size
        if matrix.shape != (size, size):
            raise ValueError(f"{name}[{i}]: expected shape {(size, size)}, got {matrix.shape}")
        require_invertible(matrix, f"{name}[{i}]")  # the proposition is of GL(h)
        found.append(matrix.astype(np.float64))
    return found


__all__ = [
    "LinearMinimum",
    "component_count",
    "component_label",
    "connect_minima",
    "connecting_permutations",
    "permute_linear",
]
