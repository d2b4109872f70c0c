"""Curves of actions from the identity, t ↦ exp(t log g), and what no curve reaches.

Elements by factor and permutations, as an `Action` holds them; `action.py` wraps them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import _check
from ..symmetry.logarithm import Logarithm, log
from .elements import Elements, Key, factor_of
from .network import Network

Permutations = Mapping[str, Any]


@_check.on_host
def split(
    network: Network, permutations: Permutations, elements: Elements
) -> tuple[tuple[Permutations, Elements], tuple[Permutations, Elements]]:
    """((permutations, elements) of the connected part, those of the discrete part)."""
    stay = network.identity_permutations()
    discrete = {n: np.asarray(p) for n, p in permutations.items()}
    connected: dict[Key, Any] = {}
    others: dict[Key, Any] = {}
    for key, value in elements.items():
        factor = factor_of(network, key)
        if factor.kind == "sign":
            others[key] = value
        elif factor.matrices:
            kind = jnp.asarray if isinstance(value, jax.Array) else np.asarray
            left, discrete[key[0]] = _oriented(np.asarray(value), discrete[key[0]])
            connected[key] = kind(left)
        else:
            connected[key] = value
    return (stay, connected), (discrete, others)


def _oriented(g: np.ndarray, p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """g P as (g′, p′) with det g′ > 0.

    Where det g < 0 two units are exchanged, g′ = g T and P′ = T P (no group is of a single one: an
    axis of length 1 has no units).
    """
    negative = np.linalg.slogdet(g)[0] < 0
    if not negative.any():
        return g, p
    n = g.shape[-1]
    exchanged = np.arange(n)
    exchanged[:2] = 1, 0
    columns = np.where(negative[..., None], exchanged, np.arange(n))
    left = np.take_along_axis(g, np.broadcast_to(columns[..., None, :], g.shape), -1)
    return left, np.take_along_axis(p, columns, -1)


@_check.on_host
def logarithms(network: Network, permutations: Permutations, elements: Elements) -> dict[Key, Any]:
    """Factor → log c, or the `Logarithm` of its matrices.

    **Raises:** `ValueError` where no curve joins the identity to the element.
    """
    for name, p in permutations.items():
        if (np.asarray(p) != np.arange(np.shape(p)[-1])).any():
            raise ValueError(_no_curve(name, "permutes its units"))
    found: dict[Key, Any] = {}
    for key, value in elements.items():
        factor = factor_of(network, key)
        if factor.matrices:
            found[key] = log(value, f"the {factor.kind} element of group {key[0]!r}")
        elif factor.kind == "positive":
            found[key] = jnp.log(jnp.asarray(value))
        elif (np.asarray(value) < 0).any():
            raise ValueError(_no_curve(key[0], "changes signs of its units"))
    return found


def _no_curve(name: str, what: str) -> str:
    return (
        f"no curve of actions joins the identity to one that {what} (group {name!r}): take the "
        "connected part, action.split()[0], and apply the other first"
    )


def powers(logs: Mapping[Key, Any], t: Any) -> dict[Key, Any]:
    """exp(t log g) of every factor."""
    return {k: v.power(t) if isinstance(v, Logarithm) else jnp.exp(t * v) for k, v in logs.items()}


def inverse_powers(logs: Mapping[Key, Any], t: Any) -> dict[Key, Any]:
    """The inverses of `powers`, of matrices alone: nothing is solved."""
    return {k: v.inverse_power(t) for k, v in logs.items() if isinstance(v, Logarithm)}


__all__ = ["inverse_powers", "logarithms", "powers", "split"]
