"""The versions that a result was made with."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

import jax
import numpy as np

try:
    __version__ = version("mcjax")
except PackageNotFoundError:  # run from a source tree
    __version__ = "0+source"


def versions() -> dict[str, str]:
    """mcjax, JAX and NumPy, for a result's record."""
    return {"mcjax": __version__, "jax": jax.__version__, "numpy": np.__version__}
