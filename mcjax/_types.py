"""Names for what the whole library passes around."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax

Params = Any  # any pytree of arrays
ApplyFn = Callable[[Params, Any], Any]  # (params, x batched on axis 0) → outputs
LossFn = Callable[[Params, Any], jax.Array]  # (params, batch) → scalar
Metric = Callable[[Any, Any], jax.Array]  # (outputs, y) → one value per example
Permutations = Mapping[str, Any]  # group name → index array of the group's shape
