"""Results that nobody changes by accident: their mappings and NumPy arrays cannot be written to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

import jax
import numpy as np


@jax.tree_util.register_pytree_with_keys_class
class ReadOnly(dict):
    """A dict that cannot be changed; a pytree as a dict is one.

    No `types.MappingProxyType`: JAX takes that for a leaf, and it can be neither copied nor
    pickled. `dict(it)`, `it | {…}` and `it.copy()` are dicts that can be changed.
    """

    def _refuse(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise TypeError(
            "results cannot be changed; change a copy: dict(…), or {**…, name: value}, and arrays "
            "of it by .copy()"
        )

    __setitem__ = __delitem__ = clear = pop = popitem = _refuse
    setdefault: Any = _refuse
    update: Any = _refuse

    def __ior__(self, other: Any) -> Any:
        return self | other

    def __reduce__(self) -> Any:
        return type(self), (dict(self),)

    def tree_flatten_with_keys(self) -> tuple[Any, Any]:
        names = tuple(sorted(self))
        return [(jax.tree_util.DictKey(n), self[n]) for n in names], names

    @classmethod
    def tree_unflatten(cls, names: Any, values: Any) -> ReadOnly:
        return cls(zip(names, values, strict=True))


def read_only(value: Any) -> Any:
    """Mappings as `ReadOnly` and NumPy arrays as views that cannot be written to, in lists and
    tuples too; anything else as it is."""
    if isinstance(value, Mapping):
        return ReadOnly({k: read_only(v) for k, v in value.items()})
    if type(value) in (list, tuple):
        return type(value)(map(read_only, value))
    if isinstance(value, np.ndarray):
        value = value.view()
        value.flags.writeable = False
    return value


def make_read_only(result: Any, *fields: str) -> None:
    """Fields of a frozen dataclass, for its `__post_init__`."""
    for name in fields:
        object.__setattr__(result, name, read_only(getattr(result, name)))
