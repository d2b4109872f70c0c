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
from .network.action import Action
from .network.network import Network
from .network.trace import trace
from .path import Path
from .tasks import Task
from .training import fit

if TYPE_CHECKING:
    from . import flows, testing

__version__ = installed()

__all__ = [
    "Action",
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
    "testing",
    "theory",
    "trace",
    "training",
    "transport",
]


def __getattr__(name: str) -> Any:
    """Imported when asked for: `mcjax.flows`, as flowjax takes a while, and `mcjax.testing`."""
    if name in ("flows", "testing"):
        from importlib import import_module

        return import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
