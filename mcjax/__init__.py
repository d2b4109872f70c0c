"""mcjax: connect, align, compare and merge trained networks, in JAX.

Its parts are imported when they are asked for, so that `import mcjax` takes no time and a study
loads what it uses.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import (
        adjust,
        align,
        attacks,
        evaluation,
        flows,
        inputs,
        interop,
        merge,
        methods,
        network,
        neurons,
        path,
        symmetry,
        tasks,
        testing,
        theory,
        training,
        transport,
    )
    from ._inputs import Shared
    from .evaluation import evaluate
    from .methods import connect
    from .network import Action, Network
    from .network.canonical import canonicalize
    from .network.trace import trace
    from .path import Path
    from .saving import load, save
    from .tasks import Task
    from .training import fit

    __version__: str

__all__ = [
    "Action",
    "Network",
    "Path",
    "Shared",
    "Task",
    "adjust",
    "align",
    "attacks",
    "canonicalize",
    "connect",
    "evaluate",
    "evaluation",
    "fit",
    "flows",
    "inputs",
    "interop",
    "load",
    "merge",
    "methods",
    "network",
    "neurons",
    "path",
    "save",
    "symmetry",
    "tasks",
    "testing",
    "theory",
    "trace",
    "training",
    "transport",
]

# Names that are no modules of their own → where they are.
_PLACES = {
    "Action": "network",
    "Network": "network",
    "Path": "path",
    "Shared": "_inputs",
    "Task": "tasks",
    "canonicalize": "network.canonical",
    "connect": "methods",
    "evaluate": "evaluation",
    "fit": "training",
    "load": "saving",
    "save": "saving",
    "trace": "network.trace",
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        value: Any = import_module("._version", __name__).installed()
    elif name in _PLACES:
        value = getattr(import_module(f".{_PLACES[name]}", __name__), name)
    else:
        try:
            value = import_module(f".{name}", __name__)
        except ModuleNotFoundError as error:
            if error.name != f"{__name__}.{name}":
                raise
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})
