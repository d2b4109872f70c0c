"""On which side of its layers an axis of a parameter stands: what it writes, what it reads."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Sequence

from .axes import Atom
from .layers import VIEWS, Contraction, units
from .program import Equation, Operand, Program, scan_counts
from .structure import Structure
from .taps import observed

# For each dimension of an array, the dimensions of another one that it was made of.
Dims = tuple[tuple[int, ...], ...]


@dataclasses.dataclass(frozen=True)
class Use:
    """A contraction that a leaf is, or goes into, the weight of.

    - `writes`, `reads`: the atoms on its output, and on what it is applied to
    - `out`, `summed`: the axes of the leaf that stand on its output and those summed over (a
      batch axis is among both); None where the leaf is not the weight as it is
    """

    writes: frozenset[Atom]
    reads: frozenset[Atom]
    out: frozenset[int] | None = None
    summed: frozenset[int] | None = None


def uses(network: Structure) -> dict[int, list[Use]]:
    """Leaf by number → its uses."""
    analysis, n = network.analysis, len(network.leaf_types)
    origins = Origins(analysis.program)
    found: dict[int, list[Use]] = {}

    def ends(equation: Equation, data: Operand | None) -> tuple[frozenset[Atom], frozenset[Atom]]:
        read = units(analysis, data) if isinstance(data, int) else ()
        return frozenset(units(analysis, equation.outputs[0])), frozenset(read)

    for layer in network.layers:
        c = layer.contraction
        use = Use(*ends(c.equation, c.input), *_weight_axes(origins, c))
        found.setdefault(c.weight, []).append(use)
    # A weight may be computed of several leaves: LoRA, weight normalisation.
    seen = observed(analysis.program, n)
    known = {layer.contraction.equation.index for layer in network.layers}
    for equation in seen.contractions:
        pair = [o for o in equation.inputs[:2] if isinstance(o, int)]
        weights, data = ([o for o in pair if (o in seen.data) is side] for side in (False, True))
        if equation.index in known or not weights:
            continue
        use = Use(*ends(equation, data[0] if data and equation.name != "gather" else None))
        for leaf in origins.leaves(weights[0]):
            if leaf < n:
                found.setdefault(leaf, []).append(use)
    return found


def sides_of(uses: Sequence[Use], atom: Atom, axis: int) -> tuple[bool, bool]:
    """(written, read): whether what is on an axis of a leaf writes its units, and reads them.

    Both, for a table that embeds and classifies, and for experts, whose weights act on each of
    them. What no contraction knows is written: a bias, a scale, a position embedding.
    """
    written = any(atom in u.writes and (u.out is None or axis in u.out) for u in uses)
    read = any(atom in u.reads and (u.summed is None or axis in u.summed) for u in uses)
    return written or not read, read


def _weight_axes(
    origins: Origins, c: Contraction
) -> tuple[frozenset[int] | None, frozenset[int] | None]:
    """The axes of a weight leaf on the output of its layer, and those summed over."""
    position = weight_position(c)
    sides = contraction_dims(origins.program, c.equation, position)
    source = origins.of(c.equation.inputs[position])
    if source is None or sides is None:
        return None, None
    both = (sides[0].values(), sides[1])
    out, summed = (frozenset(a for d in dims for a in source[1][d]) for dims in both)
    return out, summed


def weight_position(c: Contraction) -> int:
    """Which operand of a layer's contraction is its weight."""
    return next(i for i, o in enumerate(c.equation.inputs) if isinstance(o, int) and o != c.input)


def contraction_dims(
    program: Program, equation: Equation, position: int
) -> tuple[dict[int, int], tuple[int, ...]] | None:
    """Dimensions of an operand of a contraction; None if they are not known.

    **Returns:** (dimension of the output → dimension of the operand, dimensions summed over); a
    batch dimension is in both.
    """
    if equation.name == "dot_general":
        summed, batch = equation.params["dimension_numbers"]
        free = [
            [d for d in range(len(program.shape(o))) if d not in (*summed[i], *batch[i])]
            for i, o in enumerate(equation.inputs)
        ]
        first = len(batch[0]) + (len(free[0]) if position else 0)
        out = dict(enumerate(batch[position])) | dict(enumerate(free[position], first))
        return out, (*summed[position], *batch[position])
    if equation.name == "conv_general_dilated" and position == 1:
        numbers = equation.params["dimension_numbers"]
        return {numbers.out_spec[1]: numbers.rhs_spec[0]}, (numbers.rhs_spec[1],)
    return None


class Origins:
    """What the arrays of a program are views of."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.producers = {o: e for e in program.all_equations() for o in e.outputs}
        self.scanned: dict[int, tuple[Operand, bool]] = {}  # what a body is given; one slice of it
        for equation in program.all_equations():
            if equation.name == "scan":
                n_const, n_carry = scan_counts(program, equation)
                pairs = zip(equation.inputs, equation.bodies[0].inputs, strict=True)
                for i, (outer, inner) in enumerate(pairs):
                    if not n_const <= i < n_const + n_carry:
                        self.scanned[inner] = outer, i >= n_const

    def of(self, operand: Operand) -> tuple[int, Dims] | None:
        """(input by number, its axes for each dimension) of a view of an input, else None."""
        found = self.back(operand, self.program.inputs)
        return None if found is None else (self.program.inputs.index(found[0]), found[1])

    def back(self, operand: Operand, ends: Collection[int]) -> tuple[int, Dims] | None:
        """(end, its axes for each dimension of the operand) of a view of one of these values."""
        if not isinstance(operand, int):
            return None
        dims: Dims = tuple((d,) for d in range(len(self.program.shape(operand))))
        while operand not in ends:
            if operand in self.scanned:
                outer, sliced = self.scanned[operand]
                rank = len(self.program.shape(operand))
                step = tuple((d + sliced,) for d in range(rank))
            else:
                equation = self.producers.get(operand)
                if equation is None or equation.name not in VIEWS:
                    return None
                outer, step = equation.inputs[0], view_dims(self.program, equation)
            if not isinstance(outer, int):
                return None
            dims = tuple(tuple(dict.fromkeys(e for d in ds for e in step[d])) for ds in dims)
            operand = outer
        return operand, dims

    def leaves(self, operand: Operand) -> set[int]:
        """Numbers of the inputs that a value is computed from."""
        found: set[int] = set()
        todo, seen = [operand], set()
        while todo:
            value = todo.pop()
            if not isinstance(value, int) or value in seen:
                continue
            seen.add(value)
            if value in self.program.inputs:
                found.add(self.program.inputs.index(value))
            elif value in self.scanned:
                todo.append(self.scanned[value][0])
            elif value in self.producers:
                todo += self.producers[value].inputs
        return found


def view_dims(program: Program, equation: Equation) -> Dims:
    """For each dimension of a view, the dimensions of its operand that it was made of."""
    before, after = program.shape(equation.inputs[0]), program.shape(equation.outputs[0])
    name, params = equation.name, equation.params
    if name == "transpose":
        return tuple((d,) for d in params["permutation"])
    if name == "broadcast_in_dim":
        where = {d: i for i, d in enumerate(params["broadcast_dimensions"])}
        kept = [where.get(d) for d in range(len(after))]
        return tuple(() if i is None or before[i] != n else (i,)
                     for i, n in zip(kept, after, strict=True))  # fmt: skip
    if name == "unstack":
        return tuple((d,) for d in range(len(before)) if d != params["axis"])
    if len(before) == len(after) and name != "reshape":
        return tuple((d,) for d in range(len(after)))
    return _reshaped(before, after)


def _reshaped(before: tuple[int, ...], after: tuple[int, ...]) -> Dims:
    """Dimensions that are merged or split belong together, those of size one to none."""
    out: list[tuple[int, ...]] = [()] * len(after)
    left = [(d, n) for d, n in enumerate(before) if n != 1]
    new = [(d, n) for d, n in enumerate(after) if n != 1]
    while left and new:
        first, second = [left.pop(0)], [new.pop(0)]
        while (m := _product(first)) != (n := _product(second)):
            (first if m < n else second).append((left if m < n else new).pop(0))
        for d, _ in second:
            out[d] = tuple(e for e, _ in first)
    return tuple(out)


def _product(dims: Sequence[tuple[int, int]]) -> int:
    return math.prod(n for _, n in dims)
