"""The public names of mcjax: which module says them first, and how else they are spelled."""

from __future__ import annotations

import builtins
import dataclasses
import functools
import importlib
import inspect
import pkgutil
from typing import Any

import mcjax

# No interface in Python.
COMMANDS = {"mcjax.cli"}
# What `inspect.getdoc` finds for a `__call__`, or for a property in place of an attribute, that
# has no docstring.
_PYTHONS = {inspect.getdoc(value) for value in (type.__call__, *vars(builtins).values())}


def _modules(package: Any) -> list[str]:
    """Public modules of a package; of one that names modules only, these."""
    found = []
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        if module.name.rpartition(".")[2].startswith("_") or module.name in COMMANDS:
            continue
        loaded = importlib.import_module(module.name)
        told = getattr(loaded, "__all__", ())
        if told and all(inspect.ismodule(getattr(loaded, name, None)) for name in told):
            found += _modules(loaded)
        else:
            found.append(module.name)
    return found


# An object is described where it is named first: in `mcjax`, if it is there.
MODULES = ("mcjax", *_modules(mcjax))


@dataclasses.dataclass(frozen=True)
class Name:
    """A public name: `place`, the full name under which it is described; `value`, the object."""

    place: str
    value: Any


def names_of(module: Any) -> list[str]:
    """What a module says is public: `__all__`, or what it defines itself."""
    told = getattr(module, "__all__", None)
    if told is None:
        told = [
            name
            for name, value in vars(module).items()
            if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
        ]
    return [n for n in told if not inspect.ismodule(getattr(module, n))]


def documentation(value: Any) -> str:
    """A docstring, its examples as blocks of Python; none where it would be one of Python's own."""
    text = inspect.getdoc(value) or ""
    if text in _PYTHONS:
        return ""
    lines, indent = [], None
    for line in text.splitlines():
        if indent is None and line.lstrip().startswith(">>>"):
            indent = len(line) - len(line.lstrip())
            lines.append("```pycon")
        elif indent is not None and not (line.strip() and line.startswith(" " * indent)):
            lines, indent = [*lines, "```"], None
        lines.append(line if indent is None else line[indent:])
    return "\n".join(lines if indent is None else [*lines, "```"])


def is_property(value: Any) -> bool:
    """Whether an attribute of a class is read without a call."""
    return isinstance(value, (property, functools.cached_property))


def members(kind: type) -> dict[str, Any]:
    """Public methods and properties with a docstring, and `__call__`, of the class and of its
    unnamed bases."""
    found: dict[str, Any] = {}
    for base in inspect.getmro(kind):
        private = base is kind or base.__name__.startswith("_")
        if not (private and base.__module__.startswith("mcjax")):
            continue
        for name, value in vars(base).items():
            shown = not name.startswith("_") or name == "__call__"
            plain = value.__func__ if isinstance(value, (classmethod, staticmethod)) else value
            # Other descriptors are what frameworks put into classes, as flax `parent`.
            ours = inspect.isroutine(plain) or is_property(plain)
            if shown and ours and (name == "__call__" or documentation(plain)):
                found.setdefault(name, value)
    return found


def public() -> tuple[dict[str, Name], dict[str, str]]:
    """(every public name → where it is described, module-qualified spelling → that place)."""
    described: dict[str, Name] = {}
    spelled: dict[str, str] = {module: module for module in MODULES}
    places: dict[int, str] = {}
    for module in MODULES:
        loaded = importlib.import_module(module)
        for name in names_of(loaded):
            value, full = getattr(loaded, name), f"{module}.{name}"
            place = places.setdefault(id(value), full)
            spelled[full] = place
            if (at := getattr(value, "__module__", None)) and hasattr(value, "__qualname__"):
                spelled.setdefault(f"{at}.{value.__qualname__}", place)
            if place == full:
                described[full] = Name(full, value)
            if inspect.isclass(value):
                spelled |= {f"{full}.{m}": f"{place}.{m}" for m in members(value)}
    return described, spelled


def short(spelled: dict[str, str]) -> dict[str, str]:
    """Last parts of names that say what is meant: of one place, and no everyday words."""
    found: dict[str, set[str]] = {}
    for full, place in spelled.items():
        last = full.rpartition(".")[2]
        if (
            full.rpartition(".")[0] in MODULES
            and full not in MODULES
            and ("_" in last or not last.islower())
        ):
            found.setdefault(last, set()).add(place)
    return {last: places.pop() for last, places in found.items() if len(places) == 1}
