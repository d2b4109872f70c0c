"""Which versions produced a result."""

from __future__ import annotations

from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version

import jax


@lru_cache(maxsize=1)
def installed() -> str:
    """The version of mcjax."""
    try:
        return version("mcjax")
    except PackageNotFoundError:  # run from a source tree
        return "0+source"


def versions() -> dict[str, str]:
    """Those that a result's metadata hold."""
    return {"mcjax": installed(), "jax": jax.__version__}
