"""Parameters in files: safetensors, read and written without pickle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from ._files import write_atomically
from ._tree import named_leaves
from ._types import Params


def save(path: str | Path, params: Params) -> None:
    """Write a parameter tree as safetensors, leaves named by their paths; atomically.

    >>> import numpy as np, tempfile, os
    >>> from mcjax import checkpoints
    >>> file = os.path.join(tempfile.mkdtemp(), "a.safetensors")
    >>> checkpoints.save(file, {"w": np.ones(2)})
    >>> checkpoints.load(file)["w"].tolist()
    [1.0, 1.0]
    """
    from safetensors.numpy import save as to_bytes

    arrays = {name: np.ascontiguousarray(leaf) for name, leaf in named_leaves(params)}
    write_atomically(path, to_bytes(arrays))


def load(path: str | Path) -> Params:
    """Read a safetensors file into nested dicts, split at `/` (lists where keys count up).

    **Raises:** `ValueError` for a missing, cut-off or foreign file; a pickle is never opened.
    """
    from safetensors import SafetensorError, deserialize

    path = Path(path)
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    content = path.read_bytes()
    if content[:1] == b"\x80" or content[:2] == b"PK":
        raise ValueError(
            f"{path} is a pickled checkpoint; mcjax never unpickles (it would run code). Save the "
            "parameters as safetensors instead"
        )
    try:
        flat = {
            name: np.frombuffer(v["data"], _dtype(v["dtype"])).reshape(v["shape"])
            for name, v in deserialize(content)
        }
    except (SafetensorError, ValueError, TypeError) as error:
        raise ValueError(f"{path} is no whole safetensors file: {error}") from error
    if not flat:
        raise ValueError(f"{path} holds no arrays")
    return _nest(flat)


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
