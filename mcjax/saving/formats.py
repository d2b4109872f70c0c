"""Checkpoints of every format that is read: which one it is, and what is in it.

Of arrays by name (safetensors, sharded or not, and .npz) or in nested dicts (flax's msgpack,
orbax's folders). Nothing is ever unpickled.
"""

from __future__ import annotations

import contextlib
import math
import os
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from . import msgpack, tensors

_INDEX = ".safetensors.index.json"
_ORBAX = "_METADATA"


def found(file: str | Path) -> tuple[str, Path]:
    """(format, the file or folder itself): `"safetensors"`, `"sharded"`, `"npz"`, `"msgpack"` or
    `"orbax"`, by content.

    **Raises:** `ValueError` for what is not there, a pickle, or a folder of something else.
    """
    file = Path(file).expanduser()
    if os.path.isdir(file):
        return _in_folder(file)
    if not os.path.isfile(file):  # no error for names that no file can have
        raise ValueError(f"there is no file {file}")
    if file.name.endswith(".index.json"):
        return "sharded", file
    with open(file, "rb") as content:
        start = content.read(9)
    # A safetensors file starts with a length, which may begin like a pickle; then comes "{".
    if start[8:9] == b"{":
        return "safetensors", file
    if start[:2] == b"PK":
        return "npz", file
    if start[:1] == b"\x80":
        raise _pickled(file, "a pickled checkpoint")
    is_map = start and (0x81 <= start[0] <= 0x8F or start[0] in (0xDE, 0xDF))
    return ("msgpack" if is_map and file.suffix != ".safetensors" else "safetensors"), file


def _in_folder(folder: Path) -> tuple[str, Path]:
    indices, whole = (
        sorted(f for f in folder.glob(f"*{end}") if f.is_file()) for end in (_INDEX, ".safetensors")
    )
    if len(indices) == 1:
        return "sharded", indices[0]
    if len(whole) == 1 and not indices:
        return "safetensors", whole[0]
    if (folder / _ORBAX).exists():
        return "orbax", folder
    inside = sorted(f.parent for f in folder.glob(f"*/{_ORBAX}")) or sorted(
        f.parent for f in folder.glob(f"*/*/{_ORBAX}")
    )
    several = [str(f) for f in (*indices, *whole, *inside)]
    hint = f": name one of {', '.join(several[:5])}" if several else ""
    raise ValueError(
        f"{folder} is a folder, no file, and none that holds one checkpoint of orbax or of "
        f"safetensors{hint}"
    )


def _pickled(file: Path, kind: str) -> ValueError:
    return ValueError(
        f"{file} is {kind}, no safetensors file; mcjax never unpickles (it would run code). Save "
        "the parameters with mcjax.save or safetensors"
    )


@contextlib.contextmanager
def named(file: str | Path) -> Iterator[tuple[Mapping[str, np.ndarray], dict[str, str]] | None]:
    """(name → array, the text beside them) of a format with names; None of the others."""
    kind, file = found(file)
    readers = {"safetensors": tensors.opened, "sharded": tensors.sharded, "npz": _archive}
    if kind not in readers:
        yield None
        return
    with readers[kind](file) as content:
        yield content


def tree(file: str | Path) -> Any:
    """The nested dicts of a format without names."""
    kind, file = found(file)
    return msgpack.read(file) if kind == "msgpack" else _orbax(file)


@contextlib.contextmanager
def _archive(file: Path) -> Iterator[tuple[Mapping[str, np.ndarray], dict[str, str]]]:
    try:
        archive = zipfile.ZipFile(file)
    except Exception as error:  # zipfile raises many kinds
        raise ValueError(
            f"{file} is no whole .npz file: {error} (a zip archive of PyTorch's is pickled, and "
            "mcjax never unpickles)"
        ) from None
    with archive:
        names = archive.namelist()
        if not all(name.endswith(".npy") for name in names):
            raise _pickled(file, "a zip archive, but none of NumPy's (PyTorch's is pickled)")
        if len(set(names)) < len(names):
            twice = next(n for n in names if names.count(n) > 1).removesuffix(".npy")
            raise ValueError(f"{file}: leaf {twice!r} stands there twice")
        yield _Archive(archive, file), {}


class _Archive(Mapping[str, np.ndarray]):
    """Name → array of an .npz file, each read when it is asked for."""

    def __init__(self, archive: zipfile.ZipFile, file: Path) -> None:
        self._archive, self._file = archive, file

    def __getitem__(self, name: str) -> np.ndarray:
        where = f"{self._file}: leaf {name!r}"
        try:
            with self._archive.open(f"{name}.npy") as member:
                array = np.lib.format.read_array(member, allow_pickle=False)
        except Exception as error:  # zipfile, its decompressors and NumPy raise many kinds
            said = (str(error).strip().splitlines() or [type(error).__name__])[0]
            if "Object arrays" in said:  # NumPy says how to open it all the same
                said = "holds pickled objects, which are never opened"
            raise ValueError(f"{where}: {said}") from None
        if array.dtype.kind not in "biufc":
            raise ValueError(
                f"{where} is of type {array.dtype}, expected numbers (.npz keeps NumPy's own types "
                "alone, no bfloat16)"
            )
        return tensors.native(array)

    def __iter__(self) -> Iterator[str]:
        return (name.removesuffix(".npy") for name in self._archive.namelist())

    def __len__(self) -> int:
        return len(self._archive.namelist())


def _orbax(folder: Path) -> Any:
    """The tree of an orbax checkpoint, as NumPy arrays."""
    import jax
    import orbax.checkpoint as ocp  # it takes a second

    try:
        with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as checkpointer:
            types = checkpointer.metadata(folder.absolute()).item_metadata.tree
            _check_memory(jax.tree.leaves(types))
            as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), types)
            args = ocp.args.PyTreeRestore(restore_args=as_numpy)
            return checkpointer.restore(folder.absolute(), args=args)
    except Exception as error:  # orbax and what it stands on raise many kinds
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{folder} is no whole checkpoint of orbax: {line}") from error


def _check_memory(types: list[Any]) -> None:
    """Raise if a checkpoint's arrays cannot be: tensorstore would end the process."""
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    arrays = [t for t in types if getattr(t, "shape", None) is not None]
    needed = sum(math.prod(t.shape) * np.dtype(t.dtype).itemsize for t in arrays)
    if needed > there:
        raise ValueError(
            f"its arrays take {needed / 2**30:,.0f} GiB of memory, and this machine has "
            f"{there / 2**30:,.0f}"
        )
