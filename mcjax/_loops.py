"""Whether a training step may run inside XLA's loops."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax


def slow_in_loops(function: Callable, *arguments: Any) -> bool:
    """Whether steps along the gradient of a function are better run one by one from the host.

    On a CPU XLA's gradients of convolutions are some 16 times slower inside a loop or a vmap.
    """
    if jax.default_backend() != "cpu":
        return False
    return "conv_general_dilated" in str(jax.make_jaxpr(function)(*arguments))
