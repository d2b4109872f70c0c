"""mcjax: connect, align, compare and merge trained networks, in JAX."""

from typing import TYPE_CHECKING, Any

from . import (
    adjust,
    align,
    attacks,
    checkpoints,
    evaluation,
    merge,
    methods,
    path,
    symmetry,
    tasks,
    theory,
    training,
    transport,
)
from ._inputs import Shared
from ._version import installed
from .evaluation import evaluate
from .methods import connect
from .network.network import Network
from .network.trace import trace
from .path import Path
from .tasks import Task
from .training import fit

if TYPE_CHECKING:
    from . import flows

__version__ = installed()

__all__ = [
    "Network",
    "Path",
    "Shared",
    "Task",
    "adjust",
    "align",
    "attacks",
    "checkpoints",
    "connect",
    "evaluate",
    "evaluation",
    "fit",
    "flows",
    "merge",
    "methods",
    "path",
    "symmetry",
    "tasks",
    "theory",
    "trace",
    "training",
    "transport",
]


def __getattr__(name: str) -> Any:
    """`mcjax.flows` is imported when asked for: flowjax takes a while."""
    if name == "flows":
        from importlib import import_module

        return import_module(".flows", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
