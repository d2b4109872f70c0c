"""Biases before dense layers, moved into their own: W (h + β) + b = W h + (b + W β)."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterable
from typing import Any

from ..layers import VIEWS, Contraction
from ..program import Equation, Operand
from ..sides import Dims, contraction_dims, weight_position
from .flow import Flow

# Views of a part of an array.
_PARTS = {"slice", "split", "unstack"}


@dataclasses.dataclass(frozen=True)
class Fold:
    """A bias β that a dense layer reads, moved into the layer's own: b + Wᵀβ.

    - `source`, `weight`, `target`: numbers of the leaves β, W, b
    - `summed`, `written`: the axes of W that stand on β's, and on b's, in their order
    - `stacked`: whether axis 0 of all three are the layers of a loop
    """

    source: int
    weight: int
    target: int
    summed: tuple[int, ...]
    written: tuple[int, ...]
    stacked: bool

    def apply(self, source: Any, weight: Any, target: Any) -> Any:
        """What becomes of b."""
        n = source.shape[0] if self.stacked else 1
        ones = [d for d in range(self.stacked, weight.ndim) if d not in self.summed + self.written]
        order = (*range(self.stacked), *self.summed, *self.written, *ones)
        beta = source.reshape(n, 1, -1)
        matrix = weight.transpose(order).reshape(n, beta.shape[-1], -1)
        return target + (beta @ matrix).reshape(target.shape)


def folds(flow: Flow, leaf: int) -> tuple[Fold, ...]:
    """How the layers that read a bias take it up; none where one of them cannot."""
    added = _added(flow, leaf)
    if added is None:
        return ()
    layers = _layers(flow, added.outputs[0])
    found = [f for f in (_fold(flow, leaf, added, layer) for layer in layers) if f is not None]
    apart = len({f.target for f in found}) == len(found) == len(layers)
    return tuple(found) if apart else ()


def _added(flow: Flow, leaf: int) -> Equation | None:
    """The one equation that adds a leaf to data."""
    value = flow.program.inputs[leaf]
    while True:
        readers, inside = flow.readers.get(value, []), flow.inside.get(value, [])
        if len(readers) != 1 or value in flow.leaving:
            return None
        (equation,) = readers
        if equation.name == "scan" and len(inside) == 1:
            value = inside[0]
        elif equation.name in VIEWS - _PARTS:
            value = equation.outputs[0]
        else:
            both = equation.name in ("add", "add_any")
            return equation if both and any(o in flow.data for o in equation.inputs) else None


def _layers(flow: Flow, value: int) -> list[Contraction]:
    """The dense layers that read a value; none if something else does."""
    found, pending = [], [value]
    while pending:
        value = pending.pop()
        if value in flow.leaving:
            return []
        for equation in flow.readers.get(value, []):
            layer = flow.layers.get(equation.index)
            if layer is not None and layer.input == value and layer.kind == "dense":
                found.append(layer)
            elif equation.name in VIEWS - _PARTS:
                pending += equation.outputs
            else:
                return []
    return found


def _fold(flow: Flow, leaf: int, added: Equation, layer: Contraction) -> Fold | None:
    position = weight_position(layer)
    equation, output = layer.equation, layer.output
    sides = contraction_dims(flow.program, equation, position)
    sums = _sum(flow, output)
    if sides is None or sums is None or equation.params["dimension_numbers"][1][0]:
        return None  # with a batch dimension each weight reads its own part
    own, total = sums
    source = _shown(flow, next(o for o in added.inputs if o not in flow.data))
    weight, target = _shown(flow, equation.inputs[position]), _shown(flow, own)
    data = _view(flow, equation.inputs[1 - position], added.outputs[0])
    made = _view(flow, total, output)
    if source is None or weight is None or target is None or data is None or made is None:
        return None
    out, summed = sides
    read = equation.params["dimension_numbers"][0][1 - position]
    lies = _flat(source.dims[e] for d in read for e in data[d])
    reads = _flat(weight.dims[d] for d in summed)
    writes = [_flat(weight.dims[out[e]] for e in dims if e in out) for dims in made]
    pairs = zip(writes, target.dims, strict=True)
    alike = all(_size(weight, w) == _size(target, t) for w, t in pairs)
    if (
        source.number != leaf
        or lies != source.axes
        or _size(source, lies) != _size(weight, reads)
        or not alike
        or sorted((*reads, *_flat(writes))) != list(weight.axes)
        or _flat(target.dims) != target.axes
        or len({source.stacked, weight.stacked, target.stacked}) > 1
        or _added(flow, target.number) is None
    ):
        return None
    both = (reads, _flat(writes))
    return Fold(leaf, weight.number, target.number, *both, source.stacked)


def _sum(flow: Flow, output: int) -> tuple[Operand, int] | None:
    """(the operand first added to a layer's output, what it is added to)."""
    value = output
    while True:
        readers = flow.readers.get(value, [])
        if len(readers) != 1 or value in flow.leaving:
            return None
        (equation,) = readers
        if equation.name in ("add", "add_any"):
            others = [o for o in equation.inputs if o != value]
            return (others[0], value) if len(others) == 1 else None
        if equation.name not in VIEWS - _PARTS:
            return None
        value = equation.outputs[0]


@dataclasses.dataclass(frozen=True)
class _Shown:
    """A leaf as a program reads it, all of it or in a loop a layer's slice.

    - `dims`: for each dimension of what is read, the axes of the leaf that lie there
    - `axes`: those of more than one entry, in order, without that of the loop
    """

    number: int
    shape: tuple[int, ...]
    dims: Dims
    axes: tuple[int, ...]
    stacked: bool


def _shown(flow: Flow, operand: Operand) -> _Shown | None:
    found = flow.origins.of(operand)
    if found is None or not _entire(flow, operand):
        return None
    number, dims = found
    if number >= len(flow.network.leaf_types):
        return None
    shape = flow.network.leaf_types[number].shape
    here = _flat(dims)
    long = [d for d, n in enumerate(shape) if n != 1]
    missing = [d for d in long if d not in here]
    if len(set(here)) < len(here) or missing not in ([], [0]):
        return None
    axes = tuple(d for d in long if d not in missing)
    return _Shown(number, shape, dims, axes, bool(missing))


def _view(flow: Flow, operand: Operand, end: int) -> Dims | None:
    """The dimensions of a value that lie on each dimension of a view of it."""
    found = flow.origins.back(operand, {end}) if _entire(flow, operand, end) else None
    return None if found is None else found[1]


def _entire(flow: Flow, operand: Operand, end: int | None = None) -> bool:
    """Whether a view shows all entries."""
    while isinstance(operand, int) and operand != end:
        if operand in flow.origins.scanned:
            operand = flow.origins.scanned[operand][0]
        elif (equation := flow.origins.producers.get(operand)) is not None:
            if equation.name in _PARTS:
                return False
            operand = equation.inputs[0]
        else:
            break
    return True


def _flat(parts: Iterable[Iterable[int]]) -> tuple[int, ...]:
    return tuple(itertools.chain.from_iterable(parts))


def _size(shown: _Shown, axes: Iterable[int]) -> int:
    return math.prod(shown.shape[d] for d in axes)


__all__ = ["Fold", "folds"]
