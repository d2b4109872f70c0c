"""Classes that files may hold: by name, taken apart into fields and put together again."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import pkgutil
import sys
from types import ModuleType
from typing import Any

import jax

_PACKAGE = __name__.partition(".")[0]


def fields_of(value: Any) -> tuple[str, ...] | None:
    """The attributes that make up a path, a namedtuple or a dataclass; None for anything else."""
    cls = type(value)
    if dataclasses.is_dataclass(cls) and not (_is_ours(cls) or is_family(cls)):
        # A user's dataclass that is a pytree holds parameters: it comes from another library.
        return _names(cls) if jax.tree_util.all_leaves([value]) else None
    return _names(cls) if is_kind(cls) else None


def _names(cls: Any) -> tuple[str, ...]:
    """The fields of a class of a kind that files may hold."""
    if is_family(cls):
        return (*cls.fields, *cls.static)
    if is_namedtuple(cls):
        return cls._fields
    if dataclasses.is_dataclass(cls):
        return tuple(f.name for f in dataclasses.fields(cls))
    return cls.__slots__


def _is_ours(cls: type) -> bool:
    return cls.__module__.partition(".")[0] == _PACKAGE


def _has_slots(cls: Any) -> bool:
    """Whether a class is one of ours that is made up of slots: an action."""
    return isinstance(cls, type) and _is_ours(cls) and bool(cls.__dict__.get("__slots__"))


def is_family(cls: Any) -> bool:
    """Whether a class is one of paths or other families: they say themselves what they are of."""
    parts = (getattr(cls, "fields", None), getattr(cls, "static", None))
    return isinstance(cls, type) and all(isinstance(p, tuple) for p in parts)


def is_namedtuple(cls: Any) -> bool:
    return isinstance(cls, type) and issubclass(cls, tuple) and hasattr(cls, "_fields")


def class_name(cls: type) -> str:
    """`mcjax.path.Linear` for one of ours, whatever its file; else `module:name`."""
    parts = cls.__module__.split(".")
    if parts[0] == _PACKAGE and "." not in cls.__qualname__:
        return ".".join([*parts[:2], cls.__name__])
    return f"{cls.__module__}:{cls.__qualname__}"


def class_of(name: str, file: Any) -> type:
    """The class of a name. A user's must have been imported: a file can import nothing."""
    found = _user_class(name) if ":" in name else _own_class(name)
    if isinstance(found, type) and is_kind(found):
        return found
    cure = "import its module before loading" if ":" in name else (
        "it was written by another version of mcjax"
    )  # fmt: skip
    raise ValueError(f"{file} holds a {name}, a class that is not known here: {cure}")


def function_name(value: Any) -> str | None:
    """`mcjax.transport.relaxation:sinkhorn` for a function of ours that stands in a module."""
    module, name = str(getattr(value, "__module__", "")), getattr(value, "__qualname__", "")
    ours = module.partition(".")[0] == _PACKAGE
    here = ours and getattr(sys.modules.get(module), name, None) is value
    return f"{module}:{name}" if here else None


def function_of(name: str, file: Any) -> Any:
    """The function of a name; a file can import nothing but modules of ours."""
    module, _, short = name.partition(":")
    if module.partition(".")[0] == _PACKAGE:
        with contextlib.suppress(ImportError):
            found = getattr(importlib.import_module(module), short, None)
            if function_name(found) == name:
                return found
    raise ValueError(
        f"{file} holds the function {name}, which is not known here: it was written by another "
        "version of mcjax"
    )


def is_kind(cls: type) -> bool:
    """Whether a class is of a kind that files may hold."""
    is_data = dataclasses.is_dataclass(cls) or is_namedtuple(cls)
    return is_family(cls) or is_data or _has_slots(cls)


def _user_class(name: str) -> Any:
    module, _, qualified = name.partition(":")
    found: Any = sys.modules.get(module)
    for part in qualified.split("."):
        found = getattr(found, part, None)
    return None if isinstance(found, ModuleType) else found


def _own_class(name: str) -> Any:
    """A class of ours, in whatever file of its package."""
    package, _, rest = name.partition(".")
    place, _, short = rest.partition(".")
    if package != _PACKAGE or place not in {m.name for m in pkgutil.iter_modules(_path())}:
        return None
    here = importlib.import_module(f"{_PACKAGE}.{place}")
    inside = [m for n, m in list(sys.modules.items()) if n.startswith(f"{here.__name__}.")]
    for module in (here, *inside):
        found = getattr(module, short, None)
        if isinstance(found, type) and found.__module__.startswith(here.__name__):
            return found
    return None


def _path() -> Any:
    return sys.modules[_PACKAGE].__path__


def made(cls: Any, fields: dict[str, Any], what: str) -> Any:
    """An instance with given fields."""
    names = _names(cls)
    if set(names) != set(fields):
        odd = sorted(set(names) ^ set(fields))[0]
        raise ValueError(f"{what} has other fields than the class here: {odd!r} is in one only")
    if is_family(cls):
        return cls._unflatten(tuple(fields[n] for n in cls.static), [fields[n] for n in cls.fields])
    if is_namedtuple(cls) or _is_plain_dataclass(cls):
        return cls(**fields)
    instance = object.__new__(cls)
    for name, value in fields.items():
        object.__setattr__(instance, name, value)
    return instance


def _is_plain_dataclass(cls: Any) -> bool:
    """Whether a dataclass is made by giving it its fields."""
    parameters = getattr(cls, "__dataclass_params__", None)
    return (
        parameters is not None and parameters.init and all(f.init for f in dataclasses.fields(cls))
    )
