"""Linear layers merged by least squares on what they read (Jin et al. 2023)."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from .. import _check
from .._static import pack, unpack
from .._types import Params
from ..adjust.form import matrix_form
from ..adjust.second_moments import LayerMoment, second_moments
from ..adjust.solve import Normal, solve
from ..network.network import Network
from .problem import Method, Problem, weighted_sum


@dataclasses.dataclass(frozen=True)
class RegMean(Method):
    """Of each layer W = (Σ_i w_i G_i)⁻¹ Σ_i w_i G_i W_i, G_i = α M_i + (1 − α) diag M_i.

    M_i = E[x xᵀ] is of what the layer reads in network i, so that W is nearest to what all layers
    W_i write, Σ_i w_i E ‖(W − W_i)ᵀ x‖² for α = 1. Of many such W (where layers have not read all
    directions) it is the one nearest to the mean of the weights, inputs scaled to second moment
    one. Biases, scales, embeddings and all other leaves are averaged.
    Convolutions are layers that read patches. Give every network its own inputs by `Each`, as the
    paper does.

    - `alpha`: α in [0, 1]: off-diagonal entries are made smaller

    Layers that cannot be read as matrices (in loops, tied weights) are averaged, with a warning.
    """

    alpha: float = 0.9

    label = "RegMean"
    source = "Jin et al. 2023, Sec. 3"
    needs_inputs = True

    def __post_init__(self) -> None:
        _check.real(self.alpha, "alpha", 0.0, 1.0)

    def __call__(self, problem: Problem) -> Params:
        network, layers = problem.network, solvable(problem.network)
        packed = [pack(p) for p in problem.networks]
        read = [
            second_moments(network, p, problem.data(i)[0], layers) for i, p in enumerate(packed)
        ]
        trees, mean = [jax.tree.leaves(p) for p in packed], pack(problem.mean())
        leaves = jax.tree.leaves(mean)
        for k, moments in zip(layers, zip(*read, strict=True), strict=True):
            number = network.layers[k].contraction.weight
            mine = [m.weights(tree[number]) for m, tree in zip(moments, trees, strict=True)]
            weights = merged(moments, mine, problem.weights, self.alpha)
            placed = moments[0].form.place(leaves[number], weights)
            leaves[number] = jnp.asarray(placed, leaves[number].dtype)
        return unpack(jax.tree.unflatten(network.treedef, leaves))


def solvable(network: Network) -> list[int]:
    """The layers that are matrices; a warning names the others, if they are no look-ups."""
    found, refused = [], {}
    for k, layer in enumerate(network.layers):
        if layer.contraction.input is None:
            continue
        try:
            matrix_form(network.analysis.program, layer, layer.contraction)
        except ValueError as error:
            refused[layer.name] = str(error)
        else:
            found.append(k)
    if refused:
        name, why = next(iter(refused.items()))
        more = f" (and {len(refused) - 1} more)" if len(refused) > 1 else ""
        warnings.warn(f"layer {name!r}{more} is averaged: {why}", stacklevel=2)
    return found


def merged(
    moments: Sequence[LayerMoment],
    weights: Sequence[np.ndarray],
    shares: Sequence[float],
    alpha: float,
) -> np.ndarray:
    """W (batch, inputs, outputs), from the layer's moments and weights in each network."""
    mean = weighted_sum(shares, weights)
    out = []
    for b, start in enumerate(mean):
        grams = [_damped(share * m.moment[b], alpha)
                 for share, m in zip(shares, moments, strict=True)]  # fmt: skip
        # From the mean on: what nobody has read stays as it is.
        cross = [g @ (w[b] - start) for g, w in zip(grams, weights, strict=True)]
        normal = Normal(np.sum(grams, 0), np.sum(cross, 0), 0.0)
        out.append(start + solve(normal).weights)
    return np.stack(out)


def _damped(moment: np.ndarray, alpha: float) -> np.ndarray:
    return alpha * moment + (1 - alpha) * np.diag(np.diagonal(moment))


__all__ = ["RegMean", "merged", "solvable"]
