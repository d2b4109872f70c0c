"""Random parameters and inputs of a model, near those that are given."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from .._lazy import lazily
from .._tree import at_least_single
from .program import Constant, Program

special = lazily("scipy.special")

# Random numbers are repeated from this many on: a prime, so that no two rows are alike.
_PERIOD = 1_048_583
_STRIDE = 611_953  # from one stream's place to the next one's
_BLOCK = 1 << 15  # numbers that are computed together: they stay in the processor's cache
# Sizes of the perturbation: of a leaf of rank one, and times 1 / √(rows) of others.
_FLOOR = 0.1
_VIEWS = {
    "reshape", "squeeze", "expand_dims", "broadcast_in_dim", "transpose", "slice", "concatenate",
    "convert_element_type", "select_n", "add", "clamp", "stop_gradient", "copy", "rev", "max",
    "min", "gather", "dynamic_slice", "split",
}  # fmt: skip


class Parameter:
    """Draws of a parameter near the given one, without zeros, ties or tiny scales.

    θ' = θ u + s w with u, w ~ U(0.4, 1.4) and s of the sign that the whole leaf has (else positive)
    and of the size that a weight or a bias has: positive leaves stay positive (a variance),
    negative ones negative (a decay). Of a leaf of which only the type is known, matrices are drawn
    as N(0, 1 / rows), vectors as u (a scale or a variance may be among them). Integers stay as
    they are.

    **Arguments:**
    - `leaf`: an array or its type
    - `number`: which leaf of the model it is
    """

    def __init__(self, leaf: Any, number: int) -> None:
        self.leaf, self.number = leaf, number

    def drawn(self, draw: int, turn: int | None = None) -> Any:
        """The numbers of a draw, of the whole leaf or at one index of its first axis (the same)."""
        if not jnp.issubdtype(self.leaf.dtype, jnp.inexact) or math.prod(self.leaf.shape) == 0:
            return self._given if turn is None else self._given[turn]
        shape = self.leaf.shape if turn is None else self.leaf.shape[1:]
        size, out = math.prod(shape), np.empty(math.prod(shape), self.leaf.dtype)
        first, fill = size * (turn or 0), self._filling(draw)
        for start in range(0, size, _BLOCK):
            fill(first + start, out[start : start + _BLOCK])
        return out.reshape(shape)

    @functools.cached_property
    def _given(self) -> Any:
        """What is given, on the host."""
        leaf, of_type = self.leaf, isinstance(self.leaf, jax.ShapeDtypeStruct)
        if jnp.issubdtype(leaf.dtype, jax.dtypes.extended):
            return jnp.broadcast_to(jax.random.key(0), leaf.shape) if of_type else leaf
        return np.zeros(leaf.shape, leaf.dtype) if of_type else np.asarray(_host(leaf), order="C")

    @functools.cached_property
    def _size(self) -> Any:
        """s."""
        flat = self._given.reshape(-1)
        size, negative = _size_of(flat, at_least_single(flat.dtype), self.leaf.shape)
        return -size if negative else size

    def _filling(self, draw: int) -> Callable[[int, np.ndarray], None]:
        """A function that writes the entries from one on, at most a block."""
        shape, single = self.leaf.shape, at_least_single(self.leaf.dtype)
        whole = math.prod(shape)
        if isinstance(self.leaf, jax.ShapeDtypeStruct):
            uniform = _Uniform(whole, single, draw, self.number)
            rows = math.sqrt(math.prod(shape[:-1]) or 1)

            def random(start: int, out: np.ndarray) -> None:
                u = uniform.part(start, out.size)
                out[...] = special.ndtri(u - 0.4) / rows if len(shape) > 1 else u

            return random
        flat, size = self._given.reshape(-1), self._size
        u, w = (_Uniform(whole, single, draw, 2 * self.number + k) for k in (0, 1))
        block, shift = np.empty(_BLOCK, single), np.empty(_BLOCK, size.dtype)

        def near(start: int, out: np.ndarray) -> None:
            values = block[: out.size]
            values[...] = flat[start : start + out.size]
            values *= u.part(start, out.size)
            values += np.multiply(w.part(start, out.size), size, shift[: out.size])
            out[...] = values

        return near


def _size_of(flat: np.ndarray, single: Any, shape: tuple[int, ...]) -> tuple[Any, bool]:
    """Of the perturbation, and whether no value is positive and some are negative."""
    squares, largest, least = 0.0, -math.inf, math.inf
    for start in range(0, flat.size, _BLOCK):
        values = flat[start : start + _BLOCK].astype(single, copy=False)
        squares += float(np.vdot(values, values).real)
        if values.dtype.kind == "f" and not largest > 0:
            largest, least = max(largest, values.max()), min(least, values.min())
    size = max(0.05 * math.sqrt(squares / flat.size), _scale(shape))
    return np.real(np.zeros((), single)).dtype.type(size), largest <= 0 and least < 0


def _host(array: Any) -> np.ndarray:
    return np.asarray(jax.device_get(array))


class _Uniform:
    """Numbers from U(0.4, 1.4) for an array: the draw's, from a place of the stream's own on."""

    def __init__(self, size: int, dtype: Any, draw: int, stream: int) -> None:
        self.numbers = _numbers(draw, np.zeros((), dtype).real.dtype)
        self.first = stream * _STRIDE % (_PERIOD if size > _PERIOD else _PERIOD - size + 1)

    def part(self, start: int, size: int) -> np.ndarray:
        """Those of `size` entries, at most a block, from one on."""
        first = (self.first + start) % _PERIOD
        return self.numbers[first : first + size]


@functools.lru_cache(maxsize=8)
def _numbers(draw: int, dtype: Any) -> np.ndarray:
    """A period, and the beginning of the next one."""
    drawn = np.random.default_rng(draw).uniform(0.4 + 1e-6, 1.4 - 1e-6, _PERIOD).astype(dtype)
    return np.concatenate([drawn, drawn[:_BLOCK]])


def _root_mean_square(values: np.ndarray) -> float:
    return float(np.linalg.norm(values.ravel())) / math.sqrt(values.size)


def _scale(shape: tuple[int, ...]) -> float:
    rows = math.prod(shape[:-1]) if len(shape) > 1 else 1
    return _FLOOR / math.sqrt(max(rows, 1))


# -- inputs --------------------------------------------------------------------------------


def draw_inputs(leaves: Sequence[Any], vocabularies: Mapping[int, int], draw: int) -> list[Any]:
    """Inputs of the types given: draw 0 is near what is given, its zeros and masks stay; others are
    random.

    **Arguments:**
    - `leaves`: arrays or their types
    - `vocabularies`: number of an integer input → how many values it may take; of others the
      values given are taken for all that there are
    """
    rng = np.random.default_rng((1, draw))
    return [_input(v, vocabularies.get(i), draw, rng) for i, v in enumerate(leaves)]


def _input(value: Any, vocabulary: int | None, draw: int, rng: np.random.Generator) -> Any:
    known = not isinstance(value, jax.ShapeDtypeStruct)
    if jnp.issubdtype(value.dtype, jax.dtypes.extended):
        return value if known else jnp.broadcast_to(jax.random.key(0), value.shape)
    array = _host(value) if known else np.zeros(value.shape, value.dtype)
    if not jnp.issubdtype(value.dtype, jnp.inexact):
        if known and draw == 0 and array.min(initial=0) != array.max(initial=0):
            return array
        if array.dtype == bool:
            return rng.random(array.shape) < 0.7
        low = min(int(array.min(initial=0)), 0) if vocabulary is None else 0
        high = vocabulary or max(int(array.max(initial=0)) + 1, 2)
        return rng.integers(low, high, array.shape).astype(array.dtype)
    wide = np.promote_types(at_least_single(array.dtype), np.float64)
    values = array.astype(wide)
    size = _root_mean_square(values) if values.size else 1.0
    size = size if 0 < size < math.inf else 1.0
    if draw == 0 and known:
        near = values * rng.uniform(0.8, 1.2, values.shape) + 0.05 * size * rng.random(values.shape)
        # A mask makes ties, by its zeros or its ones, that no random numbers do.
        zero = values == 0
        kept = (zero | (values == 1)).all() if zero.any() else False
        return np.where(zero | kept, values, near) if not zero.all() else near
    if draw == 1 or (known and values.dtype.kind == "f" and values.min(initial=0) < 0):
        return (size * rng.normal(size=values.shape)).astype(wide)
    return (size * rng.uniform(0.1, 1.0, values.shape)).astype(wide)  # for logarithms and roots


def vocabularies(program: Program, n_leaves: int) -> dict[int, int]:
    """Number of an integer input → how many values it may take: the shortest axis that it indexes
    by `gather`, or that its one-hot vectors have."""
    inputs = {v: i for i, v in enumerate(program.inputs[n_leaves:])}
    source = {v: i for v, i in inputs.items()
              if jnp.issubdtype(program.avals[v].dtype, jnp.integer)}  # fmt: skip
    found: dict[int, int] = {}

    def note(i: int, n: int) -> None:
        found[i] = min(n, found.get(i, n))

    for equation in program.equations:
        index = [source.get(o) if isinstance(o, int) else None for o in equation.inputs]
        if equation.name == "gather" and index[1] is not None:
            dims = equation.params["dimension_numbers"]
            shape = program.shape(equation.inputs[0])
            if len(dims.start_index_map) == 1:
                note(index[1], shape[dims.start_index_map[0]])
        known = {i for i in index if i is not None}
        if equation.name == "eq" and len(known) == 1 and None in index:
            positions = equation.inputs[index.index(None)]
            n = max(program.shape(positions), default=0)
            if not isinstance(positions, Constant) and n > 1:
                note(next(iter(known)), n)
        if equation.name in _VIEWS and len(known) == 1:
            source |= dict.fromkeys(equation.outputs, known.pop())
    return found
