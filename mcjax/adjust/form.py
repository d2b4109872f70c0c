"""A layer read as matrices: outputs = inputs · weights, for each index of a batch.

The batch holds what weight and data share (experts, the groups of a convolution); samples are
everything else on the data's side (images, positions, tokens), inputs what is contracted (units,
or the patches of a convolution), outputs the weight's remaining axes.
"""

from __future__ import annotations

import abc
import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..network.host import HOST
from ..network.layers import VIEWS, Contraction
from ..network.network import Layer
from ..network.program import Equation, Program, used
from . import gram
from .patches import Sliding

_IDENTITIES = {"convert_element_type", "reduce_precision", "copy", "copy_p", "stop_gradient"}


@dataclasses.dataclass(frozen=True, eq=False)
class WeightForm:
    """W (batch, inputs, outputs) of a layer.

    - `index`: (batch, inputs, outputs) where each entry of W stands in the flattened weight leaf
    """

    index: np.ndarray

    def place(self, leaf: Any, weights: np.ndarray) -> np.ndarray:
        """The weight leaf with W written into it."""
        flat = np.array(leaf).reshape(-1)
        flat[self.index] = weights
        return flat.reshape(np.shape(leaf))


@dataclasses.dataclass(frozen=True, eq=False)
class MatrixForm(WeightForm, abc.ABC):
    """Y = X W of a layer, with X (batch, samples, inputs) and W as in `WeightForm`.

    - `key`: layers with the same key have the same X
    """

    key: Any

    @abc.abstractmethod
    def inputs(self, x: jax.Array) -> jax.Array:
        """X, from what the layer reads."""

    @abc.abstractmethod
    def outputs(self, y: jax.Array) -> jax.Array:
        """Y (batch, samples, outputs), from the layer's own output (before its bias)."""

    def moments(
        self, x: jax.Array, ys: Sequence[jax.Array]
    ) -> tuple[list[jax.Array], list[jax.Array]]:
        """Tiles of XᵀX (batch, rows, columns) at `places()`, and XᵀY for each Y (`outputs`)."""
        inputs = gram.wide(self.inputs(x))
        return gram.tiles(inputs), [jnp.einsum("bsi,bso->bio", inputs, y) for y in ys]

    def places(self) -> list[gram.Place]:
        """Where the tiles of XᵀX lie in it."""
        return gram.places(self.index.shape[1])

    def whole(self, tiles: Sequence[np.ndarray]) -> np.ndarray:
        """XᵀX (batch, inputs, inputs) in float64, from its tiles."""
        return gram.whole(tiles, self.places())


@dataclasses.dataclass(frozen=True, eq=False)
class _Dense(MatrixForm):
    data_order: tuple[int, ...]  # (batch, samples, contracted)
    output_order: tuple[int, ...]  # (batch, samples, outputs)

    @classmethod
    def of(cls, program: Program, c: Contraction, index: np.ndarray) -> _Dense:
        weight = _weight_position(c)
        contracting, batching = c.equation.params["dimension_numbers"]

        def split(position: int, rank: int):
            batch, contracted = batching[position], contracting[position]
            free = [d for d in range(rank) if d not in (*batch, *contracted)]
            return list(batch), free, list(contracted)

        batch, free, contracted = split(weight, index.ndim)
        sizes = [math.prod(index.shape[d] for d in dims) for dims in (batch, contracted, free)]
        matrix = np.transpose(index, [*batch, *contracted, *free]).reshape(sizes)
        x_batch, x_free, x_contracted = split(
            1 - weight, len(program.shape(c.equation.inputs[1 - weight]))
        )
        data_order = (*x_batch, *x_free, *x_contracted)
        # The primitive's output has the batch first, then the left and the right free axes.
        n, left = len(batch), len(free if weight == 0 else x_free)
        rank = n + len(free) + len(x_free)
        lefts, rights = range(n, n + left), range(n + left, rank)
        order = (*range(n), *rights, *lefts) if weight == 0 else tuple(range(rank))
        return cls(matrix, (c.input, data_order, n, len(contracted)), data_order, order)

    def inputs(self, x: jax.Array) -> jax.Array:
        n, width, _ = self.index.shape
        return jnp.transpose(x, self.data_order).reshape(n, -1, width)

    def outputs(self, y: jax.Array) -> jax.Array:
        n, _, width = self.index.shape
        return jnp.transpose(y, self.output_order).reshape(n, -1, width)


@dataclasses.dataclass(frozen=True, eq=False)
class _Convolution(MatrixForm):
    """Inputs are patches: positions in the window before channels."""

    sliding: Sliding
    rows: int  # of positions
    data_order: tuple[int, ...]  # (examples, positions…, channels)
    output_order: tuple[int, ...]

    @classmethod
    def of(cls, program: Program, c: Contraction, index: np.ndarray) -> _Convolution:
        params = c.equation.params
        spec, groups = params["dimension_numbers"], params["feature_group_count"]
        out, channels, *axes = spec.rhs_spec
        fields = ("window_strides", "padding", "lhs_dilation", "rhs_dilation")
        window = tuple(index.shape[a] for a in axes)
        sliding = Sliding(window, *(tuple(params[name]) for name in fields))
        order = sliding.rows_first()
        sliding = sliding.ordered(order)
        moved = np.transpose(index, (out, *(axes[a] for a in order), channels))
        matrix = np.swapaxes(moved.reshape(groups, moved.shape[0] // groups, -1), 1, 2)

        def ordered(batch: int, channels: int, *axes: int) -> tuple[int, ...]:
            return (batch, *(axes[a] for a in order), channels)

        key, outputs = (c.input, groups, sliding), ordered(*spec.out_spec)
        shape = [program.shape(c.equation.outputs[0])[a] for a in outputs]
        return cls(matrix, key, sliding, shape[1], ordered(*spec.lhs_spec), outputs)

    @property
    def shares(self) -> bool:
        """Whether patches share products, groups of channels having none of their own."""
        return len(self.index) == 1 and self.sliding.shares(self.rows)

    def inputs(self, x: jax.Array) -> jax.Array:
        x = self.sliding.padded(jnp.transpose(x, self.data_order))
        patches, (groups, width, _) = self.sliding.patches(x), self.index.shape
        window = math.prod(self.sliding.window)
        patches = patches.reshape(-1, window, groups, width // window)
        return jnp.moveaxis(patches, 2, 0).reshape(groups, -1, width)

    def outputs(self, y: jax.Array) -> jax.Array:
        n, _, width = self.index.shape
        return jnp.moveaxis(jnp.transpose(y, self.output_order).reshape(-1, n, width), 1, 0)

    def moments(
        self, x: jax.Array, ys: Sequence[jax.Array]
    ) -> tuple[list[jax.Array], list[jax.Array]]:
        if not self.shares:
            return super().moments(x, ys)
        x = jnp.transpose(x, self.data_order)
        ys = [y.reshape(len(x), self.rows, -1, y.shape[-1]) for y in ys]
        tiles, crosses = self.sliding.moments(x, ys)
        return [tile[None] for tile in tiles], [cross[None] for cross in crosses]

    def places(self) -> list[gram.Place]:
        width = self.index.shape[1]
        return self.sliding.places(width) if self.shares else super().places()


def matrix_form(program: Program, layer: Layer, c: Contraction) -> MatrixForm:
    """The form of a layer in a program, where `c` is its contraction.

    **Raises:** `ValueError` saying why the layer's weights cannot be solved for.
    """
    if c.input is None:
        raise ValueError(f"layer {layer.name!r} looks up rows: it has no inputs to solve on")
    index = leaf_index(program, layer, c)
    if c.kind == "dense":
        return _Dense.of(program, c, index)
    if c.equation.params["batch_group_count"] != 1:
        raise ValueError(f"layer {layer.name!r} is a convolution with batch groups")
    return _Convolution.of(program, c, index)


def _weight_position(c: Contraction) -> int:
    return 1 if c.equation.inputs[0] == c.input else 0


def leaf_index(program: Program, layer: Layer, c: Contraction) -> np.ndarray:
    """Where each entry of the weight operand stands in the flattened leaf.

    **Raises:** `ValueError` for layers inside loops, of complex numbers, and weights with other
    uses.
    """
    if c.equation not in program.equations:
        raise ValueError(f"layer {layer.name!r} is inside a loop: each turn has other inputs")
    if jnp.issubdtype(program.aval(c.equation.outputs[0]).dtype, jnp.complexfloating):
        raise ValueError(f"layer {layer.name!r} is of complex numbers: only real ones are solved")
    leaf, operand = program.inputs[c.weight], c.equation.inputs[_weight_position(c)]
    chain = used(program.equations, (operand,))
    views = {leaf, *(o for e in chain for o in e.outputs)}
    elsewhere = any(
        views.intersection(e.inputs)
        for e in program.equations
        if e is not c.equation and e not in chain
    )
    if elsewhere or views.intersection(program.outputs) or any(e.name not in VIEWS for e in chain):
        raise ValueError(f"the weight of layer {layer.name!r} has other uses in the model")
    shape = program.shape(leaf)
    env: dict[Any, Any] = {leaf: np.arange(math.prod(shape), dtype=np.int32).reshape(shape)}
    for equation in chain:
        env.update(_view(equation, env[equation.inputs[0]]))
    index = np.asarray(env[operand])
    seen = np.zeros(math.prod(shape), bool)
    seen[index] = True
    if np.count_nonzero(seen) != index.size:
        raise ValueError(f"the weight of layer {layer.name!r} is used more than once in it")
    return index


def _view(equation: Equation, source: np.ndarray) -> dict[int, np.ndarray]:
    """A view of an index array; changes of type leave it as it is."""
    if equation.name in _IDENTITIES:
        return {equation.outputs[0]: source}
    # In NumPy where it can be: JAX compiles a program for each shape.
    results = HOST[equation.name](equation, source) if equation.name in HOST else NotImplemented
    if results is NotImplemented:
        with jax.ensure_compile_time_eval():
            results = equation.primitive.bind(jnp.asarray(source), **equation.params)
    results = results if equation.primitive.multiple_results else [results]
    return dict(zip(equation.outputs, map(np.asarray, results), strict=True))
