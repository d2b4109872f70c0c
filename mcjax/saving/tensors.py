"""Named arrays and a text in a safetensors file; nothing is ever unpickled."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

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
        contiguous[name] = np.asarray(native(array), order="C")
    write_atomically(file, save(contiguous, dict(metadata)))


def native(array: np.ndarray) -> np.ndarray:
    """The same values in this machine's byte order: JAX takes no other."""
    return array.astype(array.dtype.newbyteorder("="), copy=False)


class Tensors(Mapping[str, np.ndarray]):
    """Name → array, each read when it is asked for: memory holds the arrays, never the file too."""

    def __init__(self, file: IO[bytes], name: Path, header: dict[str, Any], start: int) -> None:
        self._file, self._name, self._header, self._start = file, name, header, start

    def __getitem__(self, name: str) -> np.ndarray:
        entry, where = self._header[name], f"{self._name}: leaf {name!r}"
        self._file.seek(self._start + entry["data_offsets"][0])
        return read_array(self._file, entry["shape"], _dtype(entry["dtype"], where), where)

    def __iter__(self) -> Iterator[str]:
        return iter(self._header)

    def __len__(self) -> int:
        return len(self._header)


def read_array(file: IO[bytes], shape: list[int], dtype: np.dtype, name: str) -> np.ndarray:
    """An array of the next bytes of a file.

    **Raises:** `ValueError`, naming the leaf, if the file ends before, or no array is of its shape.
    """
    try:
        array = np.empty(shape, dtype)
        octets = array.reshape(-1).view(np.uint8).data
    except (ValueError, OverflowError, TypeError) as error:  # more than 64 axes; 2⁶³ by none
        raise ValueError(f"{name} is of a shape or type that no array has: {error}") from None
    done = 0
    while done < len(octets):  # one read gives 2 GiB at most
        count = file.readinto(octets[done : done + 2**30])  # type: ignore[attr-defined]
        if not count:
            raise ValueError(f"{name} is cut off")
        done += count
    return array


@contextlib.contextmanager
def opened(file: Path) -> Iterator[tuple[Tensors, dict[str, str]]]:
    """(name → array, the text beside them), of a file that stays open meanwhile.

    **Raises:** `ValueError` for a cut-off or foreign file.
    """
    from safetensors import SafetensorError, safe_open

    with open(file, "rb") as content:
        try:
            with safe_open(file, framework="numpy"):  # checks the header, and the file's length
                size = int.from_bytes(content.read(8), "little")
                header = json.loads(content.read(size), object_pairs_hook=_once)
        except (SafetensorError, ValueError, TypeError) as error:
            raise ValueError(f"{file} is no whole safetensors file: {error}") from error
        metadata = header.pop("__metadata__", None) or {}
        yield Tensors(content, file, header, 8 + size), metadata


@contextlib.contextmanager
def sharded(index: Path) -> Iterator[tuple[Mapping[str, np.ndarray], dict[str, str]]]:
    """Name → array of the files that an index (`model.safetensors.index.json`) lists.

    **Raises:** `ValueError` for what is no index, naming a file or a leaf that is not there, or
    leaving out a leaf of its files.
    """
    try:
        places = dict(json.loads(index.read_bytes(), object_pairs_hook=_once)["weight_map"])
        files = {name: index.parent / place for name, place in places.items()}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{index} is no index of safetensors files: it has no weight_map that "
                         "says in which file each leaf is") from error  # fmt: skip
    with contextlib.ExitStack() as stack:
        shards: dict[Path, Tensors] = {}
        for file in dict.fromkeys(files.values()):
            if file.parent != index.parent or not os.path.isfile(file):
                raise ValueError(f"{index} lists a file that is not beside it: {file}")
            shards[file], _ = stack.enter_context(opened(file))
        for name, file in files.items():
            if name not in shards[file]:
                raise ValueError(f"{index}: leaf {name!r} is not in {file}, where it should be")
        for file, shard in shards.items():
            if lost := next((n for n in shard if files.get(n) != file), None):
                raise ValueError(f"{index} does not list leaf {lost!r} of {file}; write an index "
                                 "that lists every leaf of its files")  # fmt: skip
        yield _Shards({name: shards[file] for name, file in files.items()}), {}


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, whose names must differ: which of two places is a leaf's?"""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name stands twice in one object")
    return found


class _Shards(Mapping[str, np.ndarray]):
    """Name → array of several files."""

    def __init__(self, of: Mapping[str, Tensors]) -> None:
        self._of = of

    def __getitem__(self, name: str) -> np.ndarray:
        return self._of[name][name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._of)

    def __len__(self) -> int:
        return len(self._of)


def _dtype(name: str, leaf: str) -> np.dtype:
    """NumPy's dtype for a safetensors one: `F32`, `BF16`, `I64`, `BOOL`, …"""
    special = {"BF16": jnp.bfloat16, "BOOL": jnp.bool_, "F8_E4M3": jnp.float8_e4m3fn,
               "F8_E5M2": jnp.float8_e5m2}  # fmt: skip
    if name in special:
        return jnp.dtype(special[name])
    kinds = {"F": "float", "I": "int", "U": "uint", "C": "complex"}
    kind, bits = name.rstrip("0123456789"), name.lstrip("FIUC")
    if kinds.get(kind, "") + bits not in NATIVE:
        raise ValueError(f"{leaf} is of type {name}, which mcjax does not know")
    return np.dtype(kinds[kind] + bits)
