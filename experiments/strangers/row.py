"""What a row of the table is: somebody else's model, and what a person expects of it."""

from __future__ import annotations

import dataclasses
import zlib
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Shape = tuple[int, ...]
Groups = Mapping[Shape, int]
# (apply_fn, params, x): what `mcjax.trace` takes.
Model = tuple[Callable[[Any, Any], Any], Any, Any]


@dataclasses.dataclass(frozen=True)
class Row:
    """A published architecture.

    - `name`: as its package calls it
    - `framework`: what it is written in, or the package that has it
    - `build`: () → (apply_fn, params, x) with random weights; nothing is downloaded
    - `groups`: shape of groups → how many, counted from the architecture without mcjax (or a
      function that counts them); None where they are only compared with those of the committed
      table
    - `still`: pattern of leaves that nothing permutes → why that is so. Every other float leaf
      must be permuted on some axis
    - `left`: what a person may expect to be permuted and is not, and why; empty if there is nothing
    - `broken`: why it cannot work, where the fault is not mcjax's
    - `seconds`: of CPU time, after which it counts as failed
    """

    name: str
    framework: str
    build: Callable[[], Model]
    groups: Groups | Callable[[], Groups] | None = None
    still: Mapping[str, str] = dataclasses.field(default_factory=dict)
    left: str = ""
    broken: str = ""
    seconds: float = 900.0

    @property
    def key(self) -> str:
        return f"{self.framework}: {self.name}"


def together(*parts: Groups) -> Counter[Shape]:
    """The groups of several parts of a model."""
    total: Counter[Shape] = Counter()
    for part in parts:
        total.update(part)
    return total


def times(count: int, part: Groups) -> Counter[Shape]:
    """The groups of a part that stands `count` times in a model."""
    return Counter({shape: count * n for shape, n in part.items()})


def attention(heads: int, size: int, shared: int = 0, rotary: bool = False) -> Counter[Shape]:
    """The groups of an attention: its heads; in each, queries with keys, and values.

    **Arguments:**
    - `shared`: heads of keys and values, each for heads / shared of the queries' (0: as many)
    - `rotary`: planes are rotated by different angles, so that queries and keys stay
    """
    inside = 1 if rotary else 2
    if shared == 1:
        return Counter({(heads,): 1, (size,): inside})
    if shared in (0, heads):
        return Counter({(heads,): 1, (heads, size): inside})
    return together({(shared,): 1}, {(shared, heads // shared): 1}, {(shared, size): inside})


def block(heads: int, size: int, hidden: int, **options: Any) -> Counter[Shape]:
    """The groups of a transformer's block, but for its stream: attention and hidden units."""
    return together(attention(heads, size, **options), {(hidden,): 1})


def resnet(blocks: tuple[int, ...], bottleneck: bool) -> Counter[Shape]:
    """The groups of a ResNet: the stages' streams and what is inside blocks; and the stem where the
    first block has a projection (the shallow ones add the stem itself to the first stream)."""
    groups: Counter[Shape] = Counter({(64,): int(bottleneck)})
    for stage, count in enumerate(blocks):
        inner = 64 * 2**stage
        groups[4 * inner if bottleneck else inner,] += 1
        groups[inner,] += (2 if bottleneck else 1) * count
    return groups


def with_readout(model: Model, classes: int = 5) -> Model:
    """A backbone with a linear layer on the mean of what it gives out for an example.

    Its outputs' units are hidden ones then, which can be permuted.
    """
    apply_fn, params, x = model
    found = jax.eval_shape(lambda p, x: _first(apply_fn(p, x)), params, x)
    seed = zlib.crc32(repr(found).encode())
    weight = np.random.default_rng(seed).normal(size=(found.shape[-1], classes)).astype("f4")

    def read(p: Any, x: Any) -> jax.Array:
        h = _first(apply_fn(p["model"], x))
        return h.mean(tuple(range(1, h.ndim - 1))) @ p["readout"]

    return read, {"model": params, "readout": jnp.asarray(weight)}, x


def _first(outputs: Any) -> jax.Array:
    return jax.tree.leaves(outputs)[0]
