"""`mcjax.save` and `mcjax.load`: parameters and results in safetensors files."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path as FilePath
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .. import _check
from .._static import is_array, pack, unpack
from .._tree import path_keys
from .._types import Params
from . import formats, tensors
from .like import Stand, check_like
from .records import Reader, Writer

# The version of what is written beside the arrays; a newer one is refused.
_VERSION = 1
_KEY = "mcjax"
# Names of more parts are not taken apart into nested dicts.
_DEEPEST = 100


@_check.on_host
def save(file: str | FilePath, value: Any) -> None:
    """Write parameters, a path, a curve or another result to a safetensors file, atomically.

    Parameters are any pytree; their leaves are named by their paths, so that other programs can
    read them. Paths (a user's own too), actions, permutations, matchings, curves, surfaces,
    connections, and dicts, lists and tuples of all of them come back as they were, to the bit.

    Left out, and taken from `like` by `mcjax.load`: functions and classes of other libraries in
    parameters (equinox modules, flax structs), the `Network` that a path belongs to, the functions
    of a task that is not mcjax's.

    **Raises:** `ValueError` naming what cannot be saved: a function, an array of strings or
    objects, a type without values.

        >>> import jax.numpy as jnp, mcjax, os, tempfile
        >>> file = os.path.join(tempfile.mkdtemp(), "path.safetensors")
        >>> mcjax.save(file, mcjax.path.Linear({"w": jnp.zeros(2)}, {"w": jnp.ones(2)}))
        >>> mcjax.load(file)(0.25)["w"].tolist()
        [0.25, 0.25]
    """
    _check_file(file, "save(file, value)")
    writer = Writer()
    record = writer.record(value)
    header = json.dumps({"version": _VERSION, "value": record}, allow_nan=False)
    tensors.write(file, writer.arrays, {_KEY: header})


@_check.on_host
def load(file: str | FilePath, like: Any = None) -> Any:
    """Read what `mcjax.save` has written, or another program's checkpoint.

    Nothing is unpickled and no module is imported: a path of a class of your own needs its module
    to be imported before. Arrays are JAX's or NumPy's as they were saved. Another program's gives
    NumPy arrays in nested dicts, names split at `/` (lists where keys count up).

    **Arguments:**
    - `file`: of `mcjax.save`; or one of these, told apart by content: safetensors, a
      `model.safetensors.index.json` of several, or the folder of either; NumPy's `.npz`; flax's
      msgpack (`flax.serialization.to_bytes`); a folder of orbax. Read array by array: memory holds
      the arrays, not the file beside them
    - `like`: what the file does not hold: parameters, or their types
      (`jax.eval_shape(model.init, …)`), a `Network`, a `Task`, another value that holds these, or
      a tuple of several. Parameters are given the structure of `like`, with all that is no array,
      and must have its shapes and dtypes

    **Raises:** `ValueError`, naming the file and the leaf, for a missing, cut-off or foreign file
    (a pickle is never opened), one that a newer mcjax has written, or one that does not fit `like`.

        >>> import equinox as eqx, jax, mcjax, os, tempfile
        >>> file = os.path.join(tempfile.mkdtemp(), "a.safetensors")
        >>> model = eqx.nn.MLP(2, 1, 3, 1, key=jax.random.key(0))
        >>> mcjax.save(file, model)
        >>> mcjax.load(file, like=model).activation is jax.nn.relu
        True
    """
    _check_file(file, "load(file)")
    with formats.named(file) as content:
        if content is None:
            tree = formats.tree(file)
            flat = {path_keys(p): v for p, v in jax.tree_util.tree_flatten_with_path(tree)[0]}
            return _foreign(flat, like, file, lambda: _lists(tree))
        arrays, metadata = content
        if _KEY in metadata:
            return _own(arrays, metadata[_KEY], like, file)
        if not arrays:
            raise ValueError(f"{file} holds no arrays")
        return _foreign(arrays, like, file, lambda: _nest(arrays))


def _own(arrays: Mapping[str, np.ndarray], header: str, like: Any, file: Any) -> Any:
    """What `save` has written."""
    record = _record(header, file)
    reader = Reader(arrays, like, file)
    try:
        leaves = _parameters(record)
        if leaves is not None and len(reader.like.trees) == 1:
            values = {keys: reader.value(r) for keys, r in leaves.items()}
            return _fill(reader.like.trees[0], values, file)
        return reader.value(record)
    except Exception as error:
        if isinstance(error, ValueError) and str(file) in str(error):
            raise
        raise ValueError(
            f"{file} does not hold what mcjax writes ({type(error).__name__}: {error}); was it "
            "changed by hand?"
        ) from error


def _check_file(file: Any, call: str) -> None:
    if not isinstance(file, str | os.PathLike):
        raise ValueError(
            f"file must be the name of a file, got a {type(file).__name__}; it is mcjax.{call}"
        )


def class_in(file: str | FilePath) -> str | None:
    """The name of mcjax's class that a file holds a value of; None for parameters and all else.

    **Raises:** `ValueError` for a missing, cut-off or foreign file.
    """
    with formats.named(file) as content:
        metadata = {} if content is None else content[1]
    record = _record(metadata[_KEY], file) if _KEY in metadata else None
    name = record.get("class") if isinstance(record, dict) else None
    return name if record is not None and name and _is_own(record) else None


def nested(file: str | FilePath) -> Any:
    """The arrays of any file in nested dicts of NumPy arrays, as other programs see it.

    **Raises:** `ValueError` for a missing, cut-off or foreign file.
    """
    with formats.named(file) as content:
        return _lists(formats.tree(file)) if content is None else _nest(content[0])


def _record(text: str, file: Any) -> Any:
    try:
        header = json.loads(text)
        version, record = header["version"], header["value"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{file} has mcjax's mark, but its header cannot be read") from error
    if version != _VERSION:
        raise ValueError(
            f"{file} has format {version}, and this mcjax reads format {_VERSION}: install a newer "
            "one"
        )
    return record


def _parameters(record: Any) -> dict[tuple[str, ...], Any] | None:
    """Keys of a leaf → its record, if a record is one of parameters; else None."""
    leaves: dict[tuple[str, ...], Any] = {}

    def walk(record: Any, at: tuple[str, ...]) -> bool:
        if isinstance(record, list):
            return all(walk(v, (*at, str(i))) for i, v in enumerate(record))
        if not isinstance(record, dict):  # a number or a string is not in the file, but in like
            return True
        kind = record["is"]
        if kind in ("jax", "numpy", "numpy scalar", "key"):
            leaves[at] = record
            return True
        if kind == "tuple":
            return walk(record["of"], at)
        if kind in ("dict", "OrderedDict"):
            return all(walk(v, (*at, str(k))) for k, v in record["of"])
        if kind == "tree":
            return all(walk(v, (*at, *keys)) for keys, v in record["leaves"])
        if kind == "object":
            fields = record["fields"].items()
            return not _is_own(record) and all(walk(v, (*at, k)) for k, v in fields)
        return kind in ("static", "left out", "float", "complex")

    return leaves if walk(record, ()) and leaves else None


def _is_own(record: Any) -> bool:
    """Whether a record is one of an object of mcjax's."""
    return record.get("is") == "object" and str(record.get("class")).startswith("mcjax.")


def _foreign(arrays: Mapping[Any, Any], like: Any, file: Any, plain: Callable[[], Any]) -> Any:
    """Another program's arrays, in the structure of `like`; without it, as they are.

    - `arrays`: by their names, or by the keys of their paths
    """
    trees = Stand(like).trees
    if len(trees) != 1:
        if like is not None:
            raise ValueError(f"like: {file} holds parameters, and like must be such or a network")
        return plain()
    names = {"/".join(k): k for k in _keys(trees[0])}
    found = {n if isinstance(n, tuple) else names.get(n, (n,)): v for n, v in arrays.items()}
    # Numbers that are no arrays (a step's) stay those of like, as other leaves that are none.
    flat = jax.tree_util.tree_flatten_with_path(trees[0])[0]
    kept = {path_keys(path) for path, leaf in flat if not is_array(leaf)}
    found = {k: v for k, v in found.items() if is_array(v) and k not in kept}
    return _fill(trees[0], found, file)


def _keys(tree: Any) -> list[tuple[str, ...]]:
    flat = jax.tree_util.tree_flatten_with_path(pack(tree, "like", native=False))[0]
    return [path_keys(path) for path, _ in flat]


def _fill(like: Params, values: dict[tuple[str, ...], Any], file: str | FilePath) -> Params:
    """The structure of `like` with the arrays of a file, by the keys of their leaves."""
    packed = pack(like, "like", native=False)
    leaves, treedef = jax.tree.flatten(packed)
    keys = _keys(like)
    missing = ["/".join(k) for k in keys if k not in values]
    unknown = ["/".join(k) for k in values if k not in set(keys)]
    if missing or unknown:
        where = f"leaf {missing[0]!r} is not in it" if missing else f"it has {unknown[0]!r}"
        raise ValueError(
            f"{file} holds other parameters than like: {where} ({len(missing)} leaves are missing, "
            f"{len(unknown)} are not in like)"
        )
    found = [_as_like(values[k], v, f"{file}: leaf {'/'.join(k)!r}") for k, v in zip(keys, leaves)]
    return unpack(jax.tree.unflatten(treedef, found))


def _as_like(value: Any, like: Any, name: str) -> Any:
    """A value of a file, checked; a key that another program has written as its data."""
    if jnp.issubdtype(like.dtype, jax.dtypes.prng_key) and value.dtype == np.uint32:
        impl = jax.random.key_impl(like) if isinstance(like, jax.Array) else None
        return jax.random.wrap_key_data(jnp.asarray(value), impl=impl)
    check_like(value, like, name)
    return value


def _nest(flat: Mapping[str, np.ndarray]) -> Any:
    """Nested dicts of names split at `/`; a name stays whole where a part of it is an array's, or
    it has very many."""
    tree: dict[str, Any] = {}
    for name in sorted(flat, key=lambda n: n.count("/")):
        *parents, last = name.split("/") if name.count("/") < _DEEPEST else [name]
        node: Any = tree
        for parent in parents:
            node = node.setdefault(parent, {}) if isinstance(node, dict) else None
        if isinstance(node, dict) and last not in node:
            node[last] = flat[name]
        else:
            tree[name] = flat[name]
    return _lists(tree)


def _lists(node: Any) -> Any:
    if not isinstance(node, dict):
        return node
    node = {k: _lists(v) for k, v in node.items()}
    if set(node) == {str(i) for i in range(len(node))}:
        return [node[str(i)] for i in range(len(node))]
    return node
