"""mcjax: connect, align, compare and merge trained networks, in JAX."""

from importlib.metadata import PackageNotFoundError, version

from . import adjust, align, checkpoints, evaluation, path, recipes, symmetry
from .evaluation import evaluate
from .fitting import fit
from .network.trace import trace
from .recipes import connect

try:
    __version__ = version("mcjax")
except PackageNotFoundError:  # run from a source tree
    __version__ = "0+source"

__all__ = [
    "adjust",
    "align",
    "checkpoints",
    "connect",
    "evaluate",
    "evaluation",
    "fit",
    "path",
    "recipes",
    "symmetry",
    "trace",
]
