"""Values as JSON with references to arrays, and back: what `mcjax.save` writes beside the arrays.

Containers and numbers are kept as they are, mcjax's own values and a user's paths and dataclasses
as their class's name and their fields. What no file can hold is left out and taken from `like`
when the record is read: functions, nodes of other libraries (equinox modules), networks, tasks of
the user's. Reading imports nothing but mcjax's own modules.
"""

from __future__ import annotations

import collections
import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._readonly import ReadOnly
from .._static import Static, is_array, pack, unpack
from .._tree import is_held, path_keys
from ..network.network import Network
from ..tasks import TASKS, Task
from .classes import (
    class_name,
    class_of,
    fields_of,
    function_name,
    function_of,
    is_kind,
    made,
)
from .like import Stand, check_like
from .tensors import NATIVE

# -- writing -------------------------------------------------------------------------------


class Writer:
    """Turns values into records; `arrays` collects the arrays by name."""

    def __init__(self) -> None:
        self.arrays: dict[str, np.ndarray] = {}

    def record(self, value: Any, at: tuple[str, ...] = ()) -> Any:
        """The record of a value that stands at a place."""
        if value is None or type(value) in (bool, int, str):
            return value
        if type(value) is float:
            return value if math.isfinite(value) else {"is": "float", "of": repr(value)}
        if type(value) is complex:
            return {"is": "complex", "of": [repr(value.real), repr(value.imag)]}
        if is_array(value):
            return self._array(value, at)
        if isinstance(value, Static):
            return {"is": "static", "of": self._if_possible(value.value, at)}
        if type(value) is list:
            return [self.record(v, (*at, str(i))) for i, v in enumerate(value)]
        if type(value) in (tuple, frozenset, set):
            items = value if isinstance(value, tuple) else sorted(value, key=repr)
            of = [self.record(v, (*at, str(i))) for i, v in enumerate(items)]
            return {"is": type(value).__name__, "of": of}
        if type(value) in (dict, collections.OrderedDict, ReadOnly) or _is_unknown_mapping(value):
            kind = "OrderedDict" if type(value) is collections.OrderedDict else "dict"
            of = [[self.record(k), self.record(v, (*at, str(k)))] for k, v in value.items()]
            return {"is": kind, "of": of}
        return self._object(value, at)

    def _if_possible(self, value: Any, at: tuple[str, ...]) -> Any:
        """The record of what is no array in parameters: a number, or a function left out."""
        try:
            return self.record(value, at)
        except ValueError:
            return {"is": "left out", "at": list(at), "what": _describe(value)}

    def _or_none(self, value: Any, at: tuple[str, ...]) -> Any:
        """The record of a value, or of None if it cannot be saved."""
        try:
            record = self.record(value, at)
        except ValueError:
            return None
        return None if _is(record, "left out") else record

    def _array(self, value: Any, at: tuple[str, ...]) -> Any:
        data: Any = value
        if isinstance(value, jax.ShapeDtypeStruct):
            raise ValueError(f"{_where(at)} is a jax.ShapeDtypeStruct, a type without values")
        record = {"is": "jax" if isinstance(value, jax.Array) else "numpy"}
        if isinstance(value, np.generic):
            record = {"is": "numpy scalar"}
        if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
            record = {"is": "key", "impl": str(jax.random.key_impl(data))}
            data = jax.random.key_data(data)
        array = np.asarray(data)
        if array.dtype.kind in "OSUMm" or array.dtype.names is not None:
            raise ValueError(f"{_where(at)} is an array of {array.dtype}, expected numbers")
        if array.dtype.name not in NATIVE:
            record["dtype"] = array.dtype.name
            # A last axis of bytes: an array of no axes has one byte string.
            array = np.frombuffer(array.tobytes(), np.uint8).reshape(*array.shape, -1)
        name, again = "/".join(at), 2
        while name in self.arrays:
            name, again = f"{'/'.join(at)}#{again}", again + 1
        self.arrays[name] = array
        return {**record, "array": name}

    def _object(self, value: Any, at: tuple[str, ...]) -> Any:
        if isinstance(value, Network):
            return {"is": "network", **_fingerprint(value)}
        if isinstance(value, type) and is_kind(value):
            return {"is": "class", "class": class_name(value)}
        if isinstance(value, Task):
            return {"is": "task", "name": value.name, "known": value in TASKS.values()}
        names = fields_of(value)
        if names is not None:
            optional = _optional(type(value))
            fields = {
                n: self._or_none(getattr(value, n), (*at, n))
                if n in optional
                else self.record(getattr(value, n), (*at, n))
                for n in names
            }
            return {"is": "object", "class": class_name(type(value)), "fields": fields}
        if not jax.tree_util.all_leaves([value]):
            flat = jax.tree_util.tree_flatten_with_path(pack(value, "value", native=False))[0]
            keys = [path_keys(path) for path, _ in flat]
            leaves = [[k, self.record(v, (*at, *k))] for k, (_, v) in zip(keys, flat)]
            return {"is": "tree", "class": _describe(value), "at": list(at), "leaves": leaves,
                    "packed": unpack(value) is not value}  # fmt: skip
        name = function_name(value)
        if name is not None:
            return {"is": "function", "name": name}
        if at and callable(value):
            return {"is": "left out", "at": list(at), "what": _describe(value)}
        raise ValueError(f"{_where(at)} is a {_describe(value)}, which mcjax cannot save")


def _is(record: Any, kind: str) -> bool:
    return isinstance(record, dict) and record.get("is") == kind


def _is_unknown_mapping(value: Any) -> bool:
    """Whether a value is a mapping (a read-only view of a dict, say) that is no pytree."""
    return isinstance(value, Mapping) and jax.tree_util.all_leaves([value])


def _optional(cls: type) -> set[str]:
    """The fields of a class that a file may lack."""
    if not dataclasses.is_dataclass(cls):
        return set()
    return {f.name for f in dataclasses.fields(cls) if f.metadata.get("saved") == "if possible"}


def _fingerprint(network: Network) -> dict[str, Any]:
    """What a network must have in common with the one of a file."""
    leaves = [
        [name, list(leaf.shape), str(leaf.dtype)]
        for name, leaf in zip(network.leaf_names, network.leaf_types, strict=True)
    ]
    groups = [[g.name, list(g.shape)] for g in network.groups.values()]
    identity = getattr(network, "identity", None)
    program = None if identity is None else identity.digest.hex()
    return {"leaves": leaves, "groups": groups, "program": program, "jax": jax.__version__}


def _describe(value: Any) -> str:
    name = getattr(value, "__qualname__", None)
    if name is not None and callable(value):
        return f"function {getattr(value, '__module__', '?')}.{name}"
    return f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")


def _where(at: tuple[str, ...]) -> str:
    return f"value: {'/'.join(at)!r}" if at else "value"


# -- reading -------------------------------------------------------------------------------


_METHODS = {
    kind: f"_{kind.replace(' ', '_')}"
    for kind in ("object", "function", "class", "network", "task", "tree", "left out")
}


class Reader:
    """Turns records into values.

    **Arguments:**
    - `arrays`: name → array
    - `like`: what stands in for what the file does not hold; see `mcjax.load`
    - `file`: named in errors
    """

    def __init__(self, arrays: Mapping[str, np.ndarray], like: Any, file: Any) -> None:
        self.arrays, self.file, self.like = arrays, file, Stand(like)
        self.taken: set[str] = set()

    def value(self, record: Any) -> Any:
        """The value of a record.

        **Raises:** `ValueError` for what is not known, or `like` does not hold.
        """
        if record is None or isinstance(record, bool | int | float | str):
            return record
        if isinstance(record, list):
            return [self.value(v) for v in record]
        kind = record["is"]
        if kind in ("jax", "numpy", "numpy scalar", "key"):
            return self._array(record)
        if kind in ("float", "complex"):
            return float(record["of"]) if kind == "float" else complex(*map(float, record["of"]))
        if kind in ("tuple", "frozenset", "set"):
            return {"tuple": tuple, "frozenset": frozenset, "set": set}[kind](
                self.value(v) for v in record["of"]
            )
        if kind in ("dict", "OrderedDict"):
            pairs = [(self.value(k), self.value(v)) for k, v in record["of"]]
            return dict(pairs) if kind == "dict" else collections.OrderedDict(pairs)
        if kind == "static":
            found = self.value(record["of"])
            return found if isinstance(found, Static) else Static(found)
        if kind not in _METHODS:
            raise KeyError(kind)
        return getattr(self, _METHODS[kind])(record)

    def _array(self, record: Mapping[str, Any]) -> Any:
        name = record["array"]
        if name in self.taken:  # a small file could ask for any number of copies
            raise ValueError(f"{self.file}: array {name!r} stands for several values")
        self.taken.add(name)
        array = self.arrays[name]
        if "dtype" in record:
            dtype = jnp.dtype(record["dtype"])
            array = np.frombuffer(array.tobytes(), dtype).reshape(array.shape[:-1])
        kind = record["is"]
        if kind == "key":
            return jax.random.wrap_key_data(jnp.asarray(array), impl=record["impl"])
        if kind == "numpy scalar":
            return array[()]
        # Without x64 JAX would round 64 bits: what it cannot hold stays with NumPy.
        fits = kind == "jax" and is_held(array.dtype)
        return jnp.asarray(array) if fits else array

    def _object(self, record: Mapping[str, Any]) -> Any:
        cls = class_of(record["class"], self.file)
        fields = {n: self.value(v) for n, v in record["fields"].items()}
        return made(cls, fields, f"{self.file}: a {record['class']}")

    def _function(self, record: Mapping[str, Any]) -> Any:
        return function_of(record["name"], self.file)

    def _class(self, record: Mapping[str, Any]) -> type:
        return class_of(record["class"], self.file)

    def _network(self, record: Mapping[str, Any]) -> Network:
        if not self.like.networks:
            raise ValueError(
                f"{self.file} holds what belongs to a network, which is not in the file: pass "
                "like=network, made by mcjax.trace(apply_fn, params, x)"
            )
        differences = [_difference(record, _fingerprint(n)) for n in self.like.networks]
        for network, difference in zip(self.like.networks, differences, strict=True):
            if not difference:
                return network
        raise ValueError(f"{self.file} belongs to another network than like: {differences[0]}")

    def _task(self, record: Mapping[str, Any]) -> Task:
        name = record["name"]
        for task in (*self.like.tasks, *TASKS.values()):
            if task.name == name and (task not in TASKS.values() or record["known"]):
                return task
        raise ValueError(
            f"{self.file} was made for the task {name!r}, whose functions are not in the file: "
            "pass like=task"
        )

    def _tree(self, record: Mapping[str, Any]) -> Any:
        where = f"{self.file}: {'/'.join(record['at']) or 'the value'} is a {record['class']}"
        found = self.like.tree(record["at"])
        if found is None:
            raise ValueError(
                f"{where}, whose class the file does not hold: pass parameters of the same kind "
                "(or a network traced with such) as like=…"
            )
        leaves = {tuple(k): v for k, v in record["leaves"]}
        flat, treedef = jax.tree_util.tree_flatten_with_path(pack(found, "like", native=False))
        keys = [path_keys(path) for path, _ in flat]
        if set(keys) != set(leaves):
            odd = "/".join(next(iter(set(keys) ^ set(leaves))))
            raise ValueError(f"{where} with other leaves than that of like: {odd!r} is in one only")
        values = [self.value(leaves[k]) for k in keys]
        for key, value, (_, type_) in zip(keys, values, flat, strict=True):
            check_like(value, type_, f"{self.file}: leaf {'/'.join(key)!r}")
        tree = jax.tree.unflatten(treedef, values)
        return tree if record["packed"] else unpack(tree)

    def _left_out(self, record: Mapping[str, Any]) -> Any:
        found = self.like.static(record["at"])
        if found is None:
            raise ValueError(
                f"{self.file}: {'/'.join(record['at'])} is a {record['what']}, which is not in the "
                "file: pass parameters that hold it (or a network traced with such) as like=…"
            )
        return found


def _difference(record: Mapping[str, Any], ours: Mapping[str, Any]) -> str:
    """What tells two networks apart; the program only where the same JAX has written it."""
    for part in ("leaves", "groups"):
        if record[part] != ours[part]:
            pairs = zip(record[part], ours[part])
            first = next((p for p in pairs if p[0] != p[1]), None)
            if first is None:
                return f"{len(record[part])} {part} in the file, {len(ours[part])} in like"
            return f"{part}: {first[0]} in the file, {first[1]} in like"
    same_jax = record["jax"] == ours["jax"] and None not in (record["program"], ours["program"])
    if same_jax and record["program"] != ours["program"]:
        return "the same parameters, but another program"
    return ""
