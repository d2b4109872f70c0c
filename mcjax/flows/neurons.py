"""A flow fitted to any rows, and rows drawn from it."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import _check
from .architecture import Architecture, arrays_of, build, skeleton, standardised
from .model import from_latent
from .training import AdamProtocol, Likelihood, Plan, checked


def fit_rows(
    rows: Any, architecture: Architecture, protocol: AdamProtocol, key: jax.Array
) -> list[jax.Array]:
    """The arrays of ν of greatest likelihood of rows (n, d), by Adam."""
    _check.random_key(key)
    neurons = jnp.asarray(rows, jnp.float32)
    arrays = arrays_of(standardised(build(architecture, neurons.shape[1], key), neurons))
    skeleton(architecture, neurons.shape[1])
    plan = Plan(architecture, checked(protocol), key, lambda step, loss: None)
    objective = Likelihood(architecture, neurons.shape[1], protocol.batch)
    return plan.minimise(objective, arrays, neurons, lambda keys: keys, None)[0]


def draw_rows(
    architecture: Architecture, arrays: list[jax.Array], dim: int, count: int, key: jax.Array
) -> np.ndarray:
    """(count, dim) rows ν⁻¹(z) of standard normal z."""
    z = jax.random.normal(key, (count, dim))
    return np.asarray(from_latent(architecture, arrays, z), np.float64)


__all__ = ["draw_rows", "fit_rows"]
