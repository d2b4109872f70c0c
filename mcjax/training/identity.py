"""What a run is: digests of data, model, parameters and functions, and what of two differs.

Everything here ends as JSON. Numbers stay readable; arrays become their type, shape and a digest
of their bytes, functions a digest of their code and of what it closes over.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import re
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._inputs import per_example, type_of
from .._static import pack
from .._tree import named_leaves
from .._types import ApplyFn, Params
from ..network.identity import identity_of
from ..network.model import Model
from ..tasks import Task
from .protocol import Protocol

# Bytes hashed at a time: a memory map is never read whole.
_STREAM = 2**24
# The name of a length on which every step depends: a run of another length is another run.
FALLING = "{}, over all of which the learning rate falls"


def of_data(data: Any) -> dict[str, str]:
    """Name of a leaf → its type, shape and digest."""
    return {name: of_array(leaf) for name, leaf in named_leaves(data)}


def of_array(array: Any) -> str:
    """Type, shape and digest of the bytes; a memory map is streamed."""
    if isinstance(array, jax.Array) and jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
        array = jax.random.key_data(array)
    array = array if isinstance(array, np.ndarray) else np.asarray(array)
    digest = hashlib.sha256()
    if array.ndim == 0 or not array.size:
        digest.update(array.tobytes())
    else:
        rows = max(1, _STREAM // max(1, array.nbytes // len(array)))
        for first in range(0, len(array), rows):
            part = np.ascontiguousarray(array[first : first + rows])
            digest.update(part.view(np.uint8).data if part.dtype.hasobject is False else b"")
    return f"{array.dtype} {tuple(array.shape)} {digest.hexdigest()[:16]}"


def of_params(params: Params) -> str:
    """A digest of parameters: structure, types, values."""
    params = pack(params)
    text = [_plain(str(jax.tree.structure(params)))]
    text += [f"{name} {of_array(leaf)}" for name, leaf in named_leaves(params)]
    return _digest("\n".join(text))


def of_model(apply_fn: ApplyFn, params: Params, x: Any) -> str:
    """A digest of the program that a model is for parameters and inputs of these types."""
    program = Model.of(apply_fn, params, jax.tree.map(type_of, x)).program
    return identity_of(program).digest.hex()[:16]


def of_training(
    apply_fn: ApplyFn, params: Params, x: Any, y: Any, task: Task, protocol: Protocol,
    optimizer: Any = None,
) -> dict[str, Any]:  # fmt: skip
    """What every training on data is: data, model, task, protocol.

    The number of epochs only where the rate depends on it: with more of them it is the same run.

    **Arguments:**
    - `optimizer`: in place of the protocol's, None for that
    """
    rule = {k: v for k, v in describe(protocol).items() if k != "epochs"}
    if optimizer is None and not protocol.extendable:
        rule[FALLING.format("epochs")] = protocol.epochs
    return {
        "data": of_data({"x": x, "y": y}),
        "model": of_model(apply_fn, params, per_example(lambda v: type_of(v[:1]), x)),
        "task": describe(task),
        "protocol": rule,
        "optimizer, with its schedule": describe(optimizer or "the protocol's"),
    }


# -- any value ---------------------------------------------------------------------------------


def describe(value: Any, inside: tuple[int, ...] = ()) -> Any:
    """A value in JSON's types: equal for values that do the same, as far as can be told.

    A function is its code, its defaults, what it closes over and the globals of its module that
    it reads; whatever is callable and has a `name` is that name.
    """
    if value is None or isinstance(value, bool | int | float | str):
        return value if not isinstance(value, float) or np.isfinite(value) else repr(value)
    if isinstance(value, np.generic) and value.dtype != object:
        return describe(value.item())
    if isinstance(value, jax.Array | np.ndarray):
        return of_array(value)
    if id(value) in inside:
        return "..."
    deeper = functools.partial(describe, inside=(*inside, id(value)))
    if callable(value) and isinstance(getattr(value, "name", None), str):
        return f"{type(value).__qualname__} {value.name}"
    if isinstance(value, types.FunctionType):
        return f"{_qualified(value)} {_digest(repr(_code(value, deeper)))}"
    if isinstance(value, types.MethodType):
        return [deeper(value.__func__), deeper(value.__self__)]
    if isinstance(value, functools.partial):
        return ["partial", deeper(value.func), deeper(value.args), deeper(value.keywords)]
    if isinstance(value, Mapping):
        return {str(k): deeper(v) for k, v in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [f.name for f in dataclasses.fields(value) if f.repr or f.compare]
        return {"type": _qualified(type(value)),
                **{n: deeper(getattr(value, n, None)) for n in fields}}  # fmt: skip
    if isinstance(value, Sequence | set | frozenset) and not isinstance(value, bytes):
        parts = [deeper(v) for v in value]
        return sorted(parts, key=repr) if isinstance(value, set | frozenset) else parts
    wrapped = getattr(value, "__wrapped__", None)
    if wrapped is not None:  # jax.jit, functools.wraps
        return deeper(wrapped)
    if isinstance(value, type | types.BuiltinFunctionType | types.ModuleType):
        return _qualified(value)
    if hasattr(value, "__dict__"):
        return {"type": _qualified(type(value)), **deeper(vars(value))}
    return _plain(repr(value))


def _code(function: types.FunctionType, deeper: Any) -> list[Any]:
    cells = []
    for cell in function.__closure__ or ():
        try:
            cells.append(deeper(cell.cell_contents))
        except ValueError:  # not assigned yet
            cells.append(None)
    return [
        _instructions(function.__code__),
        deeper(function.__defaults__), deeper(function.__kwdefaults__), cells,
        [deeper(v) for v in _globals_of(function)],
    ]  # fmt: skip


def _instructions(code: types.CodeType) -> list[Any]:
    constants = [
        _instructions(c) if isinstance(c, types.CodeType) else repr(c) for c in code.co_consts
    ]
    return [code.co_code.hex(), constants, code.co_names, code.co_varnames]


def _globals_of(function: types.FunctionType) -> Iterator[Any]:
    """The functions, numbers and arrays of its own module that a function reads."""
    plain = (bool, int, float, str, tuple, np.ndarray, jax.Array)
    for name in function.__code__.co_names:
        value = function.__globals__.get(name)
        own = isinstance(value, types.FunctionType) and value.__module__ == function.__module__
        if own or isinstance(value, plain):
            yield value


def _qualified(value: Any) -> str:
    module = getattr(value, "__module__", None)
    name = getattr(value, "__qualname__", getattr(value, "__name__", repr(value)))
    return name if module in (None, "builtins") else f"{module}.{name}"


def _plain(text: str) -> str:
    """Text without addresses."""
    return re.sub(r"0x[0-9a-fA-F]+", "", text)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


# -- two runs ----------------------------------------------------------------------------------


def differences(there: Any, here: Any, name: str = "") -> list[str]:
    """What of two identities differs, by name: `protocol/epochs: 30 there, 20 here`."""
    if isinstance(there, dict) and isinstance(here, dict):
        found = []
        for key in dict.fromkeys((*there, *here)):
            inner = f"{name}/{key}" if name else str(key)
            missing = [side for side, v in (("there", there), ("here", here)) if key not in v]
            if missing:
                found.append(f"{inner} is not {missing[0]}")
            else:
                found += differences(there[key], here[key], inner)
        return found
    return [] if there == here else [f"{name}: {_short(there)} there, {_short(here)} here"]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:76]} …"
