"""Objects that a command line names as `package.module:object`."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any


def load_object(name: str, option: str) -> Any:
    """The object `package.module:object`, also of a module in the current folder.

    **Raises:** `ValueError`, naming the option, if there is none, or the module cannot be run.
    """
    module, separator, path = name.partition(":")
    if not separator or not module or not path:
        raise ValueError(f"{option} must be package.module:object, got {name!r}")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        found: Any = importlib.import_module(module)
    except (Exception, SystemExit) as error:  # whatever a user's module does
        kind = "" if isinstance(error, ImportError) else f"{type(error).__name__}: "
        raise ValueError(f"{option}: cannot import {module!r}: {kind}{error}") from error
    for part in path.split("."):
        if not hasattr(found, part):
            raise ValueError(f"{option}: {module!r} has no {path!r}")
        found = getattr(found, part)
    return found
