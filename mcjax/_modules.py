"""Objects that are named: presets, and `package.module:object` on a command line."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def preset(name: str, presets: Mapping[str, Any], module: str) -> Any:
    """The method of a name.

    **Raises:** `ValueError` for an unknown one (near ones first); `module`: where objects are.
    """
    if name in presets:
        return presets[name]
    near = difflib.get_close_matches(name.lower(), presets, n=3, cutoff=0.5)
    names = [*near, *(other for other in presets if other not in near)]
    raise ValueError(
        f"unknown method {name!r}"
        + (f", did you mean {near[0]!r}?" if near else ";")
        + f" There are {', '.join(map(repr, names))}; or pass an object of {module}, or your own"
    )


def by_name(
    methods: Sequence[Any] | Mapping[str, Any],
    presets: Mapping[str, Any],
    method_of: Callable[[Any], Any],
    traits_of: Callable[[Any], Any],
) -> dict[str, Any]:
    """Name → method: a preset's name, or what the method calls itself.

    - `presets`, `method_of`, `traits_of`: of methods that join networks, or of those that merge
      them

    **Raises:** `ValueError` for what is no sequence or mapping of methods, and for none.
    """
    if isinstance(methods, str) or not isinstance(methods, Sequence | Mapping):
        raise ValueError(
            "methods must be a sequence of names and method objects, or map names to them, got "
            f"{methods!r}"
        )
    if not methods:
        raise ValueError("methods is empty")
    if isinstance(methods, Mapping):
        return {name: method_of(method) for name, method in methods.items()}
    found: dict[str, Any] = {}
    for entry in methods:
        method, count = method_of(entry), 1
        known = [name for name, preset in presets.items() if preset == method]
        first = name = entry if isinstance(entry, str) else [*known, traits_of(method).label][0]
        while name in found and found[name] != method:  # the same one twice is one
            count += 1
            name = f"{first} ({count})"
        found[name] = method
    return found


def built(build: Callable[[], Any], name: str) -> Any:
    """What a user's function, or class, makes without arguments.

    **Raises:** `ValueError`, in one line, if it fails; `name`: what it is called.
    """
    try:
        return build()
    except (Exception, SystemExit) as error:  # anything may go wrong in it
        raise ValueError(f"{name}() fails: {type(error).__name__}: {error}") from error


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
        hint = ""
        if "/" in module or module.endswith(".py"):  # a file's name, where a module's belongs
            dotted = module.removesuffix(".py").strip("./").replace("/", ".")
            hint = f" (as a module: {dotted}:{path})"
        raise ValueError(f"{option}: cannot import {module!r}: {kind}{error}{hint}") from error
    for part in path.split("."):
        if not hasattr(found, part):
            raise ValueError(f"{option}: {module!r} has no {path!r}")
        found = getattr(found, part)
    return found
