"""The modes that JAX can be in."""

from __future__ import annotations

import jax

MODES = {
    "disable_jit": lambda: jax.disable_jit(),
    "transfer_guard": lambda: jax.transfer_guard("disallow"),
    "rank_promotion": lambda: jax.numpy_rank_promotion("raise"),
    "strict_promotion": lambda: jax.numpy_dtype_promotion("strict"),
    "x64": lambda: jax.enable_x64(True),
    "debug_nans": lambda: jax.debug_nans(True),
}
