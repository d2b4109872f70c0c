"""Named arrays and a text in a safetensors file; nothing is ever unpickled."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from .._files import write_atomically

# NumPy's names for what safetensors has types for; anything else goes as bytes.
_BITS = {"float": (16, 32, 64), "int": (8, 16, 32, 64), "uint": (8, 16, 32, 64), "complex": (64,)}
NATIVE = {"bool", "bfloat16", *(f"{kind}{n}" for kind, bits in _BITS.items() for n in bits)}


def write(file: str | Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> None:
    """Write arrays of native types, and text beside them, atomically."""
    from safetensors.numpy import save

    contiguous = {}
    for name, array in arrays.items():
        native = array.astype(array.dtype.newbyteorder("="), copy=False)
        contiguous[name] = np.asarray(native, order="C")
    write_atomically(file, save(contiguous, dict(metadata)))


def read(file: str | Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """(name → array, the text beside them).

    **Raises:** `ValueError` for a missing, cut-off or foreign file.
    """
    from safetensors import SafetensorError, deserialize

    file = Path(file).expanduser()
    if not file.is_file():
        kind = "is a folder, no file" if file.is_dir() else "there is no file"
        raise ValueError(f"{file} {kind}" if file.is_dir() else f"{kind} {file}")
    content = file.read_bytes()
    try:
        arrays = {
            name: np.frombuffer(v["data"], _dtype(v["dtype"])).reshape(v["shape"]).copy()
            for name, v in deserialize(content)
        }
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    except (SafetensorError, ValueError, TypeError) as error:
        # A safetensors file starts with a length, which may begin like a pickle; then comes "{".
        if content[8:9] != b"{" and (content[:1] == b"\x80" or content[:2] == b"PK"):
            raise ValueError(
                f"{file} is {_kind(content)}, no safetensors file; mcjax never unpickles (it would "
                "run code). Save the parameters with mcjax.save or safetensors"
            ) from None
        raise ValueError(f"{file} is no whole safetensors file: {error}") from error
    return arrays, header.get("__metadata__") or {}


def _kind(content: bytes) -> str:
    return "a pickled checkpoint" if content[:1] == b"\x80" else "a zip archive (.npz or PyTorch's)"


def _dtype(name: str) -> np.dtype:
    """NumPy's dtype for a safetensors one: `F32`, `BF16`, `I64`, `BOOL`, …"""
    special = {"BF16": jnp.bfloat16, "BOOL": jnp.bool_, "F8_E4M3": jnp.float8_e4m3fn,
               "F8_E5M2": jnp.float8_e5m2}  # fmt: skip
    if name in special:
        return jnp.dtype(special[name])
    kinds = {"F": "float", "I": "int", "U": "uint", "C": "complex"}
    kind, bits = name.rstrip("0123456789"), name.lstrip("FIUC")
    if kind not in kinds or not bits.isdigit():
        raise ValueError(f"it holds an array of type {name}, which mcjax does not know")
    return np.dtype(kinds[kind] + bits)
