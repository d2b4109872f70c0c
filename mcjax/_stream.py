"""Data in blocks: arrays, memory maps or batches, of which a device holds a little at a time.

A block is what is moved to the device at once; inside, compiled loops go through it chunk by
chunk. All blocks have one shape, so that nothing is compiled twice: where the last has too few
examples of its own, others stand in, of weight 0.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import numpy as np

from . import _check
from ._inputs import batched_leaves, is_shared, on_auto_axes, per_example
from ._static import is_array

# Of data on a device at a time.
BLOCK_BYTES = 64 << 20
# Chunks in a block of batches, whose number nobody knows: a last block has idle ones.
_CHUNKS = 8


@dataclasses.dataclass(frozen=True)
class Block:
    """Some of the data.

    - `data`: (x, y) of `len(weights)` examples
    - `weights`: (examples,) 1 for those that count here, 0 for those that fill up
    - `n`: how many count
    - `start`: number of the first in the whole data
    """

    data: Any
    weights: np.ndarray
    n: int
    start: int


class Stream:
    """Labelled data as blocks of one shape.

    **Arguments:**
    - `data`: (x, y), pytrees of arrays batched on axis 0 (NumPy's, JAX's, memory maps), or an
      iterable of such pairs of any lengths
    - `chunk`: examples that are worked on at a time; a block has a multiple of it
    - `limit`: bytes of a block (one chunk it has at least)
    - `mark`: function of every x
    - `name`: of the argument

    **Raises:** `ValueError` for what is no data, an empty batch, or x and y of different lengths.

        >>> import numpy as np
        >>> from mcjax._stream import Stream
        >>> x, y = np.zeros((5, 2)), np.arange(5)
        >>> [(b.data[1].tolist(), b.n) for b in Stream((x, y), chunk=2, limit=1).blocks()]
        [([0, 1], 2), ([2, 3], 2), ([3, 4], 1)]
        >>> batches = [(x[:3], y[:3]), (x[3:], y[3:])]
        >>> [(b.data[1].tolist(), b.n) for b in Stream(batches, chunk=5).blocks()]
        [([0, 1, 2, 3, 4], 5)]
    """

    def __init__(
        self,
        data: Any,
        chunk: int,
        *,
        limit: int = BLOCK_BYTES,
        mark: Callable[[Any], Any] = lambda x: x,
        name: str = "data",
    ) -> None:
        self.chunk, self.limit, self.mark, self.name = chunk, limit, mark, name
        self.arrays = None
        self.once = False  # whether it can be gone through only once
        if _is_pair(data):
            x, y = data
            (x, y), self.n = _check.labelled((mark(_arrays(x)), _arrays(y)))
            self.arrays = (x, y)
            return
        arrays = isinstance(data, tuple) and any(map(is_array, data))
        if (
            arrays
            or isinstance(data, dict | str | bytes)
            or is_array(data)
            or not isinstance(data, Iterable)
        ):
            _check.labelled(data)  # says what it should be
        self.n = None  # not known before the end
        self.batches = data
        self.once = isinstance(data, Iterator)
        batches = iter(data)
        first = next(batches, None)
        if first is None:
            raise ValueError(f"{name} is an iterable that holds no batches")
        # What the first pass goes on with: batches, then blocks once the first is asked for.
        self._begun: Any = itertools.chain([first], batches)
        self._first_block: Block | None = None

    def first(self) -> Block:
        """The first block; all others are like it."""
        if self.arrays is not None:
            return next(self.blocks())
        if self._first_block is None:
            begun = self._from(self._begun)
            self._first_block = next(begun)
            self._begun = itertools.chain([self._first_block], begun)
        return self._first_block

    def passes(self, needed: int, what: str) -> None:
        """Raise unless the data can be gone through so often."""
        if self.once and needed > 1:
            raise ValueError(
                f"{self.name} is an iterator, which gives its batches only once, and {what} needs "
                f"{needed} passes: pass batches whose __iter__ starts again (no generator)"
            )

    def blocks(self) -> Iterator[Block]:
        """The blocks, from the beginning."""
        if self.arrays is not None:
            yield from self._slices(self.arrays)
            return
        self.first()
        begun, self._begun = self._begun, None
        if begun is None:
            self.passes(2, "what is asked for")
        yield from begun if begun is not None else self._from(iter(self.batches))

    def _slices(self, arrays: Any) -> Iterator[Block]:
        n = self.n
        assert n is not None
        size = _size(arrays, n, self.chunk, self.limit)
        for begin in range(0, n, size):
            first = min(begin, n - size)
            weights = np.ones(size, np.float32)
            weights[: begin - first] = 0
            part = arrays if size == n else per_example(lambda v, i=first: v[i : i + size], arrays)
            yield Block(part, weights, size - (begin - first), first)

    def _from(self, batches: Iterator[Any]) -> Iterator[Block]:
        """Batches of any lengths, put together and cut again."""
        held: list[Any] = []
        count, size, found = 0, None, 0
        for number, batch in enumerate(batches):
            pair, n = self._batch(batch, number)
            if size is None:
                most = max(1, self.limit // max(1, _bytes(pair, n)) // self.chunk)
                size = self.chunk * min(_CHUNKS, most)
            held.append(pair)
            count += n
            while count >= size:
                whole = _join(held)
                yield Block(_cut(whole, 0, size), np.ones(size, np.float32), size, found)
                held, count, found = [_cut(whole, size, count)], count - size, found + size
        if count:
            tail = _cut(_join(held), 0, count)
            if found:  # as the blocks before it
                assert size is not None
                tail = per_example(lambda v: _filled(v, size), tail)
            length = size if found else count
            assert length is not None
            weights = (np.arange(length) < count).astype(np.float32)
            yield Block(tail, weights, count, found)

    def _batch(self, batch: Any, number: int) -> tuple[Any, int]:
        try:
            if not isinstance(batch, tuple | list) or len(batch) != 2:
                raise ValueError(f"a batch must be (x, y), got a {type(batch).__name__}")
            x, y = (_arrays(v) for v in batch)
            return _check.labelled((self.mark(x), y))
        except ValueError as error:
            raise ValueError(f"{self.name}, batch {number}: {error}") from None


class Inputs:
    """Inputs without labels, each example once, in blocks of which a device holds one at a time.

    **Arguments:**
    - `x`: a pytree of arrays (memory maps too), or an iterable of such batches of any lengths: a
      generator, a loader; not a list or a tuple, which are trees
    - `chunk`: examples that are worked on at a time
    - `mark`: function of every x
    - `name`: of the argument

    **Raises:** `ValueError` for what is no inputs, or an empty batch.

        >>> import numpy as np
        >>> from mcjax._stream import Inputs
        >>> x = np.arange(5.0)
        >>> [block.tolist() for block in Inputs(iter([x[:2], x[2:]]), chunk=5).blocks()]
        [[0.0, 1.0, 2.0, 3.0, 4.0]]
    """

    def __init__(
        self,
        x: Any,
        chunk: int,
        *,
        mark: Callable[[Any], Any] = lambda x: x,
        name: str = "x",
    ) -> None:
        if is_batches(x):
            data: Any = _Unlabelled(x) if not isinstance(x, Iterator) else iter(_Unlabelled(x))
        else:
            x = mark(_arrays(x))
            data, mark = (x, np.zeros(_check.batched(x, name), bool)), lambda x: x
        self.chunk = chunk
        self._stream = Stream(data, chunk, limit=BLOCK_BYTES, mark=mark, name=name)
        self.n = self._stream.n  # not known of batches before the end
        self.passes = self._stream.passes

    def first(self) -> Any:
        """The first block (or types like it)."""
        return self._stream.first().data[0]

    def blocks(self) -> Iterator[Any]:
        """The blocks, from the beginning."""
        n = 0
        for block in self._stream.blocks():
            x, begin = block.data[0], int(np.argmax(block.weights > 0))
            n += block.n
            whole = block.n == len(block.weights)
            yield x if whole else _cut(x, begin, begin + block.n)
        self.n = n


@dataclasses.dataclass(frozen=True)
class _Unlabelled:
    """Batches of inputs as pairs."""

    batches: Iterable[Any]

    def __iter__(self) -> Iterator[Any]:
        for x in self.batches:
            leaves = batched_leaves(x)
            yield x, np.zeros(len(leaves[0][1]) if leaves else 0, bool)


def is_batches(x: Any) -> bool:
    """Whether inputs are an iterable of batches: no pytree, and no array of any library."""
    opaque = jax.tree_util.all_leaves([x]) and not is_array(x) and not hasattr(x, "__array__")
    return opaque and isinstance(x, Iterable) and not isinstance(x, str | bytes)


def _is_pair(data: Any) -> bool:
    """Whether data are (x, y), and not two batches of it."""
    if isinstance(data, tuple):
        return len(data) == 2
    # Batches of a data loader may be lists, too.
    batches = isinstance(data, list) and all(_is_batch(v) for v in data)
    return isinstance(data, list) and len(data) == 2 and not batches


def _is_batch(value: Any) -> bool:
    """Whether a value is (x, y), or a list of two arrays."""
    if not isinstance(value, tuple | list) or len(value) != 2:
        return False
    return isinstance(value, tuple) or all(hasattr(v, "shape") for v in value)


def _arrays(tree: Any) -> Any:
    """What other libraries call arrays (tensors on a CPU), as NumPy's; no explicit axes."""
    return jax.tree.map(
        lambda v: np.asarray(v) if hasattr(v, "__array__") and not is_array(v) else v,
        on_auto_axes(tree),
    )


def _bytes(data: Any, n: int) -> int:
    """Of one example."""
    leaves = [v for _, v in batched_leaves(data)]
    return sum(int(np.prod(v.shape)) * v.dtype.itemsize for v in leaves) // n


def _size(arrays: Any, n: int, chunk: int, limit: int) -> int:
    """Examples of a block: all, if they fit or are on the device already; else even parts."""
    leaves = [v for _, v in batched_leaves(arrays)]
    if all(isinstance(v, jax.Array) for v in leaves):
        return n
    most = max(chunk, limit // max(1, _bytes(arrays, n)) // chunk * chunk)
    blocks = math.ceil(n / most)
    return n if blocks == 1 else math.ceil(math.ceil(n / blocks) / chunk) * chunk


def _cut(tree: Any, begin: int, end: int) -> Any:
    return per_example(lambda v: v[begin:end], tree)


def _join(parts: list[Any]) -> Any:
    """Batches one after the other; what all examples share is taken from the first."""
    if len(parts) == 1:
        return parts[0]

    def join(*leaves: Any) -> Any:
        shared = is_shared(leaves[0]) or not np.shape(leaves[0])
        if shared:
            return leaves[0]
        others = {np.shape(v)[1:] for v in leaves}
        if len(others) > 1:
            raise ValueError(
                "data: examples of different batches have different shapes: "
                f"{' and '.join(map(str, sorted(others)))}"
            )
        return np.concatenate([np.asarray(v) for v in leaves])

    return jax.tree.map(join, *parts, is_leaf=is_shared)


def _filled(v: Any, size: int) -> np.ndarray:
    """Examples and copies of the last one."""
    v = np.asarray(v)
    return np.concatenate([v, np.repeat(v[-1:], size - len(v), axis=0)])
