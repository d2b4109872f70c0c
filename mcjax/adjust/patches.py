"""Second moments of a convolution's patches, without the patches.

Positions lie in rows, along the first of their axes. A window of k rows, dilated by e, takes strips
Z of k rows of the data: X has rows (Z[p], Z[p + e], …), and its Gram matrix the blocks

    G[i, j] = Σ_p Z[p + ie]ᵀ Z[p + je],

sums of R_{j−i}[q] = Z[q]ᵀ Z[q + (j − i)e] over as many rows q, from ie on: k products instead of
k(k + 1)/2. The rows that all blocks share are summed once; those before and behind, few of them,
are added to the blocks that have them. Nothing is subtracted: what is zero in every window has
moments that are exactly zero.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..network import chunks
from .gram import Place, wide

# Of strips at a time: each is read some 2k times, and should be in the processor's cache till then.
_CACHED_BYTES = 1 << 17


@dataclasses.dataclass(frozen=True)
class Sliding:
    """How the window of a convolution slides over data (examples, positions…, channels).

    All of them by axis of positions: `window` (its shape), `strides`, `padding` (before, behind),
    `holes` (how far apart the data is put) and `dilation` (of the window).
    """

    window: tuple[int, ...]
    strides: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    holes: tuple[int, ...]
    dilation: tuple[int, ...]

    def ordered(self, axes: Sequence[int]) -> Sliding:
        """The same with the axes of positions in another order."""
        fields = (getattr(self, f.name) for f in dataclasses.fields(self))
        return Sliding(*(tuple(field[a] for a in axes) for field in fields))

    def rows_first(self) -> tuple[int, ...]:
        """An order of the axes of positions: the first is the one that saves most products."""
        axes = range(len(self.window))
        worth = [self.window[a] * (self.strides[a] == 1) for a in axes]
        return tuple(sorted(axes, key=lambda a: -worth[a]))

    def padded(self, x: jax.Array) -> jax.Array:
        """Data with the zeros around it, and in its holes."""
        pairs = zip(self.padding, self.holes, strict=True)
        config = [(0, 0, 0), *((low, high, d - 1) for (low, high), d in pairs), (0, 0, 0)]
        return jax.lax.pad(x, jnp.zeros((), x.dtype), config)

    def patches(self, x: jax.Array) -> jax.Array:
        """Patches of padded data: (examples, positions…, window and channels)."""
        return self._taken(x, 0)

    def strips(self, x: jax.Array) -> jax.Array:
        """What patches take of each row of padded data: (examples, rows, positions, strip)."""
        taken = self._taken(x, 1)
        positions = math.prod(taken.shape[2:-1])
        return taken.reshape(*taken.shape[:2], positions, taken.shape[-1])

    def _taken(self, x: jax.Array, first: int) -> jax.Array:
        """What a window takes along the axes of positions from a first one on."""
        axes, kept = range(first, len(self.window)), x.shape[: 1 + first]
        reach = [self.dilation[a] * (self.window[a] - 1) for a in axes]
        steps = [self.strides[a] for a in axes]
        spans = [x.shape[1 + a] - r for a, r in zip(axes, reach, strict=True)]
        pieces = []
        for offsets in itertools.product(*(range(self.window[a]) for a in axes)):
            starts = [o * self.dilation[a] for o, a in zip(offsets, axes, strict=True)]
            ends = [i + span for i, span in zip(starts, spans, strict=True)]
            low, high = [0] * len(kept) + [*starts, 0], [*kept, *ends, x.shape[-1]]
            pieces.append(jax.lax.slice(x, low, high, [1] * len(kept) + [*steps, 1]))
        return jnp.concatenate(pieces, -1)

    # -- moments -----------------------------------------------------------------------------

    @property
    def apart(self) -> int:
        """How many rows behind its first one a window's last row is."""
        return self.dilation[0] * (self.window[0] - 1)

    def shares(self, rows: int) -> bool:
        """Whether windows at so many rows of positions share products."""
        return self.strides[0] == 1 and 0 < self.apart < rows

    @property
    def blocks(self) -> list[tuple[int, int]]:
        """(i, j) of the blocks on and above the diagonal."""
        return list(itertools.combinations_with_replacement(range(self.window[0]), 2))

    def places(self, width: int) -> list[Place]:
        """Where the blocks lie in the Gram matrix of patches of a width."""
        strip = width // self.window[0]
        spans = [(i * strip, (i + 1) * strip) for i in range(self.window[0])]
        return [(spans[i], spans[j]) for i, j in self.blocks]

    def moments(
        self, x: jax.Array, ys: Sequence[jax.Array]
    ) -> tuple[list[jax.Array], list[jax.Array]]:
        """The blocks of XᵀX of patches X of x, and XᵀY for each Y, where windows share products.

        **Arguments:**
        - `x`: (examples, positions…, channels)
        - `ys`: each (examples, rows, positions, outputs)
        """
        apart, rows, positions = self.apart, ys[0].shape[1], math.prod(ys[0].shape[1:3])
        offsets = range(0, apart + 1, self.dilation[0])  # of the rows of a window

        def of_some(x: jax.Array, *ys: jax.Array) -> list[jax.Array]:
            """(Z[q], and each Y[q])ᵀ Z[q + offset] over the rows q that all blocks share."""
            z = self.strips(self.padded(wide(x))[:, apart:])
            read = jnp.concatenate([z[:, : rows - apart], *(y[:, apart:] for y in ys)], -1)
            return [_product(read, z[:, i : i + rows - apart]) for i in offsets]

        strip = math.prod(self.window[1:]) * x.shape[-1]
        # Products of fewer samples than they have columns would be read and written, not computed.
        at_once = max(_CACHED_BYTES // (4 * positions * strip), -(-strip // positions))
        shared = _by_examples(of_some, (x, *ys), at_once)
        x = self.padded(x)
        z = self.strips(wide(x[:, : 2 * apart]))
        before, behind = self._ends(x, 0), self._ends(x, rows)
        grams: list[Any] = [sum([*before[j - i][i:], *behind[j - i][:i]], shared[j - i][:strip])
                 for i, j in self.blocks]  # fmt: skip
        lasts, crosses = strip + np.cumsum([y.shape[-1] for y in ys]), []
        for y, last in zip(ys, lasts, strict=True):
            parts = [_product(z[:, i : i + apart], y[:, :apart]) + s[last - y.shape[-1] : last].T
                     for i, s in zip(offsets, shared, strict=True)]  # fmt: skip
            crosses.append(jnp.concatenate(parts))
        return grams, crosses

    def _ends(self, x: jax.Array, start: int) -> list[list[Any]]:
        """For each d, sums of R_d over the rows from ae to (a + 1)e behind a start, a < k − 1."""
        k, e, (low, high) = self.window[0], self.dilation[0], self.padding[0]
        end = x.shape[1] - max(high, 0)
        z = self.strips(wide(x[:, start : start + 2 * self.apart]))

        def product(a: int, d: int) -> Any:
            first = max(a * e, low - start)  # what is padded is zero
            last = min((a + 1) * e, end - start - d * e)
            if first >= last:
                return 0.0
            return _product(z[:, first:last], z[:, first + d * e : last + d * e])

        return [[product(a, d) for a in range(k - 1)] for d in range(k)]


def _product(a: jax.Array, b: jax.Array) -> jax.Array:
    return jnp.einsum("nrsi,nrsj->ij", a, b)


def _by_examples(function: Callable, arrays: Sequence[jax.Array], at_once: int) -> Any:
    """The sum of a function of examples over all of them, on a CPU some at a time."""
    if jax.default_backend() != "cpu":
        return function(*arrays)
    types = jax.eval_shape(function, *arrays)
    total, first = jax.tree.map(lambda t: jnp.zeros(t.shape, t.dtype), types), 0
    for size, number in chunks.sizes(len(arrays[0]), at_once):

        def step(total: Any, i: Any, first: int = first, size: int = size) -> tuple[Any, None]:
            some = [jax.lax.dynamic_slice_in_dim(v, first + i * size, size) for v in arrays]
            return jax.tree.map(jnp.add, total, function(*some)), None

        total = jax.lax.scan(step, total, jnp.arange(number))[0]
        first += size * number
    return total
