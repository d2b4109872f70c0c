"""What `flax.serialization.to_bytes` writes (msgpack), read array by array.

Flax's own reader takes the whole file as bytes first and copies each array out of them; here every
array is read from the file into its place.
"""

from __future__ import annotations

import math
import os
import struct
from pathlib import Path
from typing import IO, Any

import jax.numpy as jnp
import numpy as np

from .tensors import read_array

_NDARRAY, _COMPLEX, _SCALAR = 1, 2, 3  # flax's numbers for its types
_CHUNKED = "__msgpack_chunked_array__"  # how flax marks an array that it has cut into pieces
_DEEPEST = 100
_FIXED = {0xC0: None, 0xC2: False, 0xC3: True}
_NUMBERS = {
    0xCA: ">f", 0xCB: ">d", 0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q",
    0xD0: ">b", 0xD1: ">h", 0xD2: ">i", 0xD3: ">q",
}  # fmt: skip
# First byte → what follows it: how long, in how many bytes, by msgpack's specification.
_LENGTHS = {
    0xC4: "B", 0xC5: "H", 0xC6: "I", 0xC7: "B", 0xC8: "H", 0xC9: "I", 0xD9: "B", 0xDA: "H",
    0xDB: "I", 0xDC: "H", 0xDD: "I", 0xDE: "H", 0xDF: "I",
}  # fmt: skip
_KINDS = {
    "bytes": (0xC4, 0xC5, 0xC6), "extension": (0xC7, 0xC8, 0xC9), "text": (0xD9, 0xDA, 0xDB),
    "list": (0xDC, 0xDD), "map": (0xDE, 0xDF),
}  # fmt: skip


def read(file: Path) -> Any:
    """The nested dicts of NumPy arrays of a file.

    **Raises:** `ValueError` for a file that is cut off or no such one.
    """
    with open(file, "rb") as content:
        reader = _Reader(content, file)
        value = reader.value(())
        if content.read(1):
            raise reader.wrong("it goes on after its end", ())
    return value


class _Reader:
    def __init__(self, file: IO[bytes], name: Path) -> None:
        self.file, self.name = file, name
        self.size = os.fstat(file.fileno()).st_size

    def wrong(self, what: str, at: tuple[str, ...]) -> ValueError:
        where = f" (leaf {'/'.join(at)!r})" if at else ""
        return ValueError(f"{self.name} is no whole msgpack file of flax's: {what}{where}")

    def take(self, count: int, at: tuple[str, ...]) -> bytes:
        if count > self.size - self.file.tell():
            raise self.wrong("it is cut off", at)
        return self.file.read(count)

    def head(self, at: tuple[str, ...]) -> tuple[str, Any]:
        """(kind, length) of what comes, or ("value", itself)."""
        first = self.take(1, at)[0]
        if first <= 0x7F or first >= 0xE0:
            return "value", first if first <= 0x7F else first - 256
        for start, end, kind in ((0x80, 0x8F, "map"), (0x90, 0x9F, "list"), (0xA0, 0xBF, "text")):
            if start <= first <= end:
                return kind, first - start
        if first in _FIXED:
            return "value", _FIXED[first]
        if first in _NUMBERS:
            form = _NUMBERS[first]
            return "value", struct.unpack(form, self.take(struct.calcsize(form), at))[0]
        if 0xD4 <= first <= 0xD8:
            return "extension", 1 << (first - 0xD4)
        for kind, firsts in _KINDS.items():
            if first in firsts:
                form = ">" + _LENGTHS[first]
                return kind, struct.unpack(form, self.take(struct.calcsize(form), at))[0]
        raise self.wrong(f"byte {first:#x} means nothing there", at)

    def value(self, at: tuple[str, ...]) -> Any:
        if len(at) > _DEEPEST:
            raise self.wrong("its values are nested too deep", at)
        kind, length = self.head(at)
        if kind == "value":
            return length
        if kind in ("text", "bytes"):
            taken = self.take(length, at)
            return taken.decode("utf-8", "surrogateescape") if kind == "text" else taken
        if kind == "extension":
            return self.extension(at)
        if length > self.size:
            raise self.wrong("its values are too many", at)
        if kind == "list":
            return [self.value((*at, str(i))) for i in range(length)]
        return self.mapping(length, at)

    def mapping(self, length: int, at: tuple[str, ...]) -> Any:
        found: dict[str, Any] = {}
        for _ in range(length):
            key = self.value((*at, "a key"))
            if not isinstance(key, str | int):
                raise self.wrong(f"a key is a {type(key).__name__}", at)
            if str(key) in found:
                raise self.wrong(f"the key {str(key)!r} stands there twice", at)
            found[str(key)] = self.value((*at, str(key)))
        if _CHUNKED not in found:
            return found
        return self.joined(found, at)

    def joined(self, found: dict[str, Any], at: tuple[str, ...]) -> np.ndarray:
        """An array of more than 1 GiB, which flax writes in pieces."""
        try:
            shape, pieces = found["shape"], found["chunks"]
            flat = np.concatenate([pieces[str(i)] for i in range(len(pieces))])
            return flat.reshape([shape[str(i)] for i in range(len(shape))])
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise self.wrong(f"an array's pieces do not fit together ({error})", at) from None

    def extension(self, at: tuple[str, ...]) -> Any:
        code, inside = self.take(1, at)[0], (*at, "its values")
        if code == _COMPLEX:
            parts = self.value(inside)
            if not isinstance(parts, list) or [type(v) for v in parts] != [float, float]:
                raise self.wrong("a complex number is not two numbers", at)
            return complex(*parts)
        if code not in (_NDARRAY, _SCALAR):
            raise self.wrong(f"it holds a value of type {code}, which flax does not write", at)
        if self.head(at) != ("list", 3):
            raise self.wrong("an array has no shape, type and values", at)
        shape, dtype = self.value(inside), self.dtype(self.value(inside), at)
        kind, length = self.head(at)
        sizes = isinstance(shape, list) and all(isinstance(n, int) and n >= 0 for n in shape)
        if kind != "bytes" or not sizes or length != dtype.itemsize * math.prod(shape):
            raise self.wrong("an array has not as many values as its shape says", at)
        if length > self.size - self.file.tell():
            raise self.wrong("it is cut off", at)
        array = read_array(self.file, shape, dtype, f"{self.name}: leaf {'/'.join(at)!r}")
        return array if code == _NDARRAY else array[()]

    def dtype(self, name: Any, at: tuple[str, ...]) -> np.dtype:
        try:
            dtype = jnp.dtype(name if isinstance(name, str) else name.decode())
        except (TypeError, AttributeError, ValueError):
            raise self.wrong(f"it holds an array of type {name!r}", at) from None
        if dtype.hasobject:
            raise self.wrong("it holds an array of objects", at)
        return dtype
