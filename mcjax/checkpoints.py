"""Parameters in files: safetensors, no pickle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from . import _check
from ._files import write_atomically
from ._static import pack, unpack
from ._tree import named_leaves
from ._types import Params


def save(path: str | Path, params: Params) -> None:
    """Write a parameter tree as safetensors, leaves named by their paths; atomically.

    Typed random keys are written as their data. What is no array (functions and numbers in
    equinox modules) is not written: `load(path, like=…)` takes it from a tree of the same kind.

    **Raises:** `ValueError` for types without values, or two leaves of the same name.

        >>> import numpy as np, tempfile, os
        >>> from mcjax import checkpoints
        >>> file = os.path.join(tempfile.mkdtemp(), "a.safetensors")
        >>> checkpoints.save(file, {"w": np.ones(2)})
        >>> checkpoints.load(file)["w"].tolist()
        [1.0, 1.0]
    """
    from safetensors.numpy import save as to_bytes

    params = pack(params)
    _check.has_values(params, "params")
    arrays: dict[str, np.ndarray] = {}
    for name, leaf in named_leaves(params):
        if name in arrays:
            raise ValueError(f"params: two leaves are named {name!r}; rename one of their keys")
        arrays[name] = np.asarray(_key_data(leaf), order="C")
    write_atomically(path, to_bytes(arrays))


def load(path: str | Path, like: Params | None = None) -> Params:
    """Read a safetensors file into nested dicts, split at `/` (lists where keys count up).

    **Arguments:**
    - `like`: parameters (or their types, `jax.eval_shape(model.init, …)`) whose structure the
      result is to have, with all that is no array; default: nested dicts

    **Raises:** `ValueError` for a missing, cut-off or foreign file (a pickle is never opened), or
    one that does not hold the leaves of `like`, with their shapes and dtypes.

        >>> import equinox as eqx, jax, tempfile, os
        >>> from mcjax import checkpoints
        >>> file = os.path.join(tempfile.mkdtemp(), "a.safetensors")
        >>> model = eqx.nn.MLP(2, 1, 3, 1, key=jax.random.key(0))
        >>> checkpoints.save(file, model)
        >>> checkpoints.load(file, like=model).activation is jax.nn.relu
        True
    """
    flat = _read(Path(path))
    return _nest(flat) if like is None else _fill(pack(like, "like"), flat, path)


def _read(path: Path) -> dict[str, np.ndarray]:
    """Name → array."""
    from safetensors import SafetensorError, deserialize

    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    content = path.read_bytes()
    try:
        flat = {
            name: np.frombuffer(v["data"], _dtype(v["dtype"])).reshape(v["shape"])
            for name, v in deserialize(content)
        }
    except (SafetensorError, ValueError, TypeError) as error:
        # A safetensors file starts with a length, which may begin like a pickle; then comes "{".
        if content[8:9] != b"{" and (content[:1] == b"\x80" or content[:2] == b"PK"):
            raise ValueError(
                f"{path} is a pickled checkpoint; mcjax never unpickles (it would run code). Save "
                "the parameters as safetensors instead"
            ) from None
        raise ValueError(f"{path} is no whole safetensors file: {error}") from error
    if not flat:
        raise ValueError(f"{path} holds no arrays")
    return flat


def _fill(like: Params, flat: dict[str, np.ndarray], path: str | Path) -> Params:
    """The structure of packed parameters with the arrays of a file."""
    named = named_leaves(like)
    missing = [n for n, _ in named if n not in flat]
    unknown = [n for n in flat if n not in dict(named)]
    if missing or unknown:
        where = f"leaf {missing[0]!r} is not in it" if missing else f"it has {unknown[0]!r}"
        raise ValueError(
            f"{path} holds other parameters than like: {where} ({len(missing)} leaves are missing, "
            f"{len(unknown)} are not in like)"
        )
    leaves = [_as_like(flat[n], v, f"{path}: leaf {n!r}") for n, v in named]
    return unpack(jax.tree.unflatten(jax.tree.structure(like), leaves))


def _as_like(array: np.ndarray, like: Any, name: str) -> Any:
    if jnp.issubdtype(like.dtype, jax.dtypes.prng_key):
        impl = jax.random.key_impl(like) if isinstance(like, jax.Array) else None
        return jax.random.wrap_key_data(jnp.asarray(array), impl=impl)
    if array.shape != np.shape(like) or jnp.result_type(array) != jnp.result_type(like):
        raise ValueError(
            f"{name} is {array.dtype} of shape {array.shape}, expected {like.dtype} of shape "
            f"{np.shape(like)} as in like"
        )
    return array


def _key_data(leaf: Any) -> Any:
    is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return jax.random.key_data(leaf) if is_key else leaf


def _dtype(name: str) -> np.dtype:
    """NumPy's dtype for a safetensors one: `F32`, `BF16`, `I64`, `BOOL`, …"""
    if name in ("BF16", "BOOL"):
        return jnp.dtype({"BF16": jnp.bfloat16, "BOOL": jnp.bool_}[name])
    kinds = {"F": "float", "I": "int", "U": "uint", "C": "complex"}
    kind, bits = name.rstrip("0123456789"), name.lstrip("FIUC")
    if kind not in kinds or not bits.isdigit():
        raise ValueError(f"it holds an array of type {name}, which mcjax does not know")
    return np.dtype(kinds[kind] + bits)


def _nest(flat: dict[str, np.ndarray]) -> Any:
    tree: dict[str, Any] = {}
    for name, array in flat.items():
        *parents, last = name.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = array
    return _lists(tree)


def _lists(node: Any) -> Any:
    if not isinstance(node, dict):
        return node
    node = {k: _lists(v) for k, v in node.items()}
    if set(node) == {str(i) for i in range(len(node))}:
        return [node[str(i)] for i in range(len(node))]
    return node
