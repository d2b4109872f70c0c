"""mcjax: connect, align, compare and merge trained networks, in JAX."""

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from . import (
    adjust,
    align,
    checkpoints,
    ensemble,
    evaluation,
    inputs,
    path,
    recipes,
    symmetry,
    theory,
)
from ._inputs import Shared
from .evaluation import evaluate
from .fitting import fit
from .network.trace import trace
from .recipes import connect

if TYPE_CHECKING:
    from . import flows

try:
    __version__ = version("mcjax")
except PackageNotFoundError:  # run from a source tree
    __version__ = "0+source"

__all__ = [
    "Shared",
    "adjust",
    "align",
    "checkpoints",
    "connect",
    "ensemble",
    "evaluate",
    "evaluation",
    "fit",
    "flows",
    "inputs",
    "path",
    "recipes",
    "symmetry",
    "theory",
    "trace",
]


def __getattr__(name: str) -> Any:
    """`mcjax.flows` is imported when asked for: flowjax takes a while."""
    if name == "flows":
        from importlib import import_module

        return import_module(".flows", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
