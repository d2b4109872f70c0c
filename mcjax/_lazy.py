"""Packages that are imported when they are first used: `import mcjax` stays light."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any


class _Lazy(ModuleType):
    """A module that is not imported yet; whatever is asked of it is asked of the module itself."""

    def __getattr__(self, name: str) -> Any:
        if name == "__wrapped__":  # `inspect` asks every object, of packages that are not there too
            raise AttributeError(name)
        return getattr(importlib.import_module(self.__name__), name)

    def __dir__(self) -> list[str]:
        return dir(importlib.import_module(self.__name__))


def lazily(name: str) -> Any:
    """The module of that name, imported at the first use of one of its attributes.

    >>> from mcjax._lazy import lazily
    >>> lazily("scipy.special").comb(4, 2, exact=True)
    6
    """
    return _Lazy(name)
