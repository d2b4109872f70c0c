"""Whether entries of a value can be equal: what decides if the *first* of the largest is told.

`argmax` and `top_k` name units by their values; among equal ones they name the first, and then the
order of the units matters. Where does a program keep different entries different, for almost all
parameters and inputs? `distinct` follows a value back to parameters that differ along an axis;
what multiplies them must not vanish (`live`), what is added to them must not cancel them
(`fresh`) nor be so large that they are rounded away (`moderate`). A ReLU, a mask, a rounding
(to 16 bits or fewer, too), an initial state of zeros, or a convolution's window that lies
between or beside the inputs makes ties.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from math import prod
from typing import Any, TypeVar

import jax.numpy as jnp
import numpy as np

from .degrees import CONTRACTIONS, SUMS, Degrees, alone
from .program import Constant, Equation, Operand, Program, scan_counts
from .views import CASTS, SHAPES, covered, inner_output, operand_dim, source_dim

_MONOTONE = {
    "exp", "exp2", "expm1", "log", "log1p", "logistic", "tanh", "sqrt", "rsqrt", "cbrt", "erf",
    "neg", "sinh", "asinh", "atan",
}  # fmt: skip
_SMOOTH = _MONOTONE | {"sin", "square", "integer_pow", "abs"}
_POSITIVE = {"exp", "exp2", "logistic"}
_BOUNDED = {"exp", "exp2", "logistic", "tanh", "erf", "sin", "cos"}
_PRODUCTS = {"mul", "div"}
_SIGNED = CASTS | SHAPES | _PRODUCTS | {"sqrt", "rsqrt", "pow", "top_k", "reduce_sum", "reduce_max"}
_BITS = 32
# A constant from this size on, added to what a network computes, may leave nothing of it.
_LARGE = 1e4

_T = TypeVar("_T")


def _remembered(method: Callable[..., _T]) -> Callable[..., _T]:
    """Each question is answered once; while it is open, a loop through a carry answers yes.

    If the answer is no in the end, what rests on that yes is forgotten. (Nothing rests on a no that
    a yes could turn.)
    """

    @functools.wraps(method)
    def ask(self: Ties, *question: Any) -> _T:
        key = (method.__name__, *question)
        if key in self.open:
            self.open[key] = True
        elif key not in self.known:
            before, self.open[key] = len(self.known), False
            answer = method(self, *question)
            if self.open.pop(key) and not answer:
                for since in [k for k in [*self.known][before:] if self.known[k] is True]:
                    del self.known[since]
            self.known[key] = answer
            return answer
        return self.known.get(key, True)

    return ask


class Ties:
    """Questions about the values of a program; `n_parameters` of its inputs are parameters."""

    def __init__(self, program: Program, n_parameters: int) -> None:
        self.program = program
        self.leaves = {v: i for i, v in enumerate(program.inputs[:n_parameters])}
        self.data = set(program.inputs[n_parameters:])
        self.producers: dict[Operand, Equation] = {}
        self.outside: dict[Operand, tuple[str, Operand, Operand | None]] = {}
        self.known: dict[Any, Any] = {}  # in the order in which they were answered
        self.open: dict[Any, bool] = {}  # question → whether it has been asked meanwhile
        self._visit(program)
        self.degrees = Degrees(self.producers, self.cone)

    def _visit(self, program: Program) -> None:
        for equation in program.equations:
            self.producers.update(dict.fromkeys(equation.outputs, equation))
            if equation.name != "scan":
                continue
            body = equation.bodies[0]
            first, n_carry = scan_counts(program, equation)
            for i, (outer, inner) in enumerate(zip(equation.inputs, body.inputs, strict=True)):
                if i < first:
                    self.outside[inner] = ("constant", outer, None)
                elif i < first + n_carry:
                    self.outside[inner] = ("carry", outer, body.outputs[i - first])
                else:
                    self.outside[inner] = ("scanned", outer, None)
            self._visit(body)

    def inexact(self, value: Operand) -> bool:
        return jnp.issubdtype(self.program.aval(value).dtype, jnp.inexact)

    def _coarse(self, value: Operand) -> bool:
        """Whether numbers are so few that two of some are often equal."""
        return jnp.finfo(self.program.aval(value).dtype).bits < _BITS

    def forget(self) -> None:
        """As before the first question, some of which may have been left open."""
        self.known.clear()
        self.open.clear()

    @_remembered
    def distinct(self, value: Operand, dim: int, rows: bool = False) -> bool:
        """Almost surely no two entries along `dim` are equal.

        With `rows`, by parameters that differ from row to row: what the rows are weighed by (in a
        contraction, where the weights may sum to zero) does not make them equal.
        """
        if isinstance(value, Constant) or not self.inexact(value):
            return False
        if not rows and self._coarse(value):
            return False
        if value in self.leaves:
            return True
        if value in self.outside:
            kind, outer, after = self.outside[value]
            stays = after is None or self.distinct(after, dim, rows)
            return stays and self.distinct(outer, dim + (kind == "scanned"), rows)
        equation = self.producers.get(value)
        if equation is None:
            return False
        name, inputs = equation.name, equation.inputs
        if name in CASTS | _MONOTONE:
            return self.distinct(inputs[equation.outputs.index(value)], dim, rows)
        if name in SHAPES:
            source = source_dim(self.program, equation, dim)
            if source is None or (rows and self._repeats(equation)):
                return False
            return self.distinct(inputs[0], source, rows)
        if name in ("max", "min"):  # a reduction starts from −∞
            x, start = inputs
            empty = np.isneginf if name == "max" else np.isposinf
            return _all(start, empty) and self.distinct(x, dim, rows)
        if name == "scan":
            inner, shift = inner_output(self.program, equation, value)
            return dim >= shift and self.distinct(inner, dim - shift, rows)
        if name in SUMS | _PRODUCTS:
            pair = self._distinct_pair(equation, dim, rows)
            return pair or (name in SUMS and not rows and self._distinct_sum(value, dim))
        return name in CONTRACTIONS and self._distinct_contraction(equation, dim, rows)

    def _repeats(self, equation: Equation, operand: int = 0) -> bool:
        """Whether an operand is broadcast."""
        shapes = map(self.program.shape, (equation.outputs[0], equation.inputs[operand]))
        return prod(next(shapes)) > prod(next(shapes))

    def _distinct_pair(self, equation: Equation, dim: int, rows: bool) -> bool:
        name, inputs = equation.name, equation.inputs
        for i, one, other in ((0, *inputs), (1, *inputs[::-1])):
            if (name == "div" and i) or (rows and self._repeats(equation, i)):
                continue
            if self.uniform(other, dim):
                kept = self.moderate(other) if name in SUMS else self._scales(other)
            else:
                kept = name in SUMS and self.fresh(other, self.cone(one))
            if kept and self.distinct(one, dim, rows):
                return True
        return False

    def _distinct_sum(self, value: Operand, dim: int) -> bool:
        """A sum of |e|² and −2 e·x, for a code e of a book: a term that differs along `dim`, of a
        degree in a parameter that no other has, differs from them for almost all its sizes."""
        terms = self.degrees.terms(value)
        varied = [t for t in terms if not self.uniform(t, dim)]
        cone = frozenset().union(*map(self.cone, varied))
        return all(map(self.moderate, terms)) and any(
            alone([self.degrees.of(t, leaf) for t in varied], i) and self.distinct(t, dim)
            for leaf in self.leaves
            if leaf in cone and self.inexact(leaf)
            for i, t in enumerate(varied)
        )

    def _distinct_contraction(self, equation: Equation, dim: int, rows: bool) -> bool:
        found = operand_dim(self.program, equation, dim)
        if found is None or (rows and not all(self._parameter(o, True) for o in equation.inputs)):
            return False
        weight, source = found
        data = equation.inputs[1 - weight]
        return (
            covered(self.program, equation)
            and self.distinct(equation.inputs[weight], source, True)
            and self.live(data)
        )

    def _scales(self, value: Operand) -> bool:
        """Whether products with it keep what differs: data themselves may be a mask of 0 and 1."""
        return self.live(value) and not self._masks(value)

    def _masks(self, value: Operand) -> bool:
        """Whether it may be a mask, of 0 and 1: it is made of data alone."""
        return frozenset() < self.cone(value) <= self.data and not self.positive(value)

    @_remembered
    def moderate(self, value: Operand) -> bool:
        """No large constant went into it, but through what is bounded (a mask through softmax)."""
        if isinstance(value, Constant):
            return not np.any(np.abs(np.asarray(value.value)) >= _LARGE)
        if value in self.outside:
            _, outer, after = self.outside[value]
            return self.moderate(outer) and (after is None or self.moderate(after))
        equation = self.producers.get(value)
        if equation is None or equation.name in _BOUNDED:
            return True
        starts = equation.name in ("max", "min")  # from infinity, which does not go in
        return all(self.moderate(o) or (starts and _all(o, np.isinf)) for o in equation.inputs)

    @_remembered
    def live(self, value: Operand) -> bool:
        """Almost surely nothing in it vanishes, row by row."""
        if isinstance(value, Constant):
            return _all(value, lambda v: np.isfinite(v) & (v != 0))
        if not self.inexact(value):  # truncated, it may be
            return False
        if value in self.leaves or value in self.data:
            return True
        if value in self.outside:
            _, outer, after = self.outside[value]
            return self.live(outer) and (after is None or self.live(after))
        equation = self.producers.get(value)
        if equation is None:
            return False
        name, inputs = equation.name, equation.inputs
        if self.positive(value):
            return True
        if name in CASTS | _SMOOTH | SHAPES | {"gather"}:
            return self.live(inputs[0])
        if name in CONTRACTIONS:
            return covered(self.program, equation) and all(map(self.live, inputs))
        if name in _PRODUCTS:
            return all(map(self.live, inputs)) and not self._masked(inputs)
        if name in SUMS:
            pairs = (inputs, inputs[::-1])
            return any(self.live(a) and self._no_cancelling(a, b) for a, b in pairs)
        if name == "scan":
            return self.live(inner_output(self.program, equation, value)[0])
        return False

    def _masked(self, operands: Sequence[Operand]) -> bool:
        """Whether data may be a mask of what is no parameter (of it, data are but scaled)."""
        pairs = (operands, operands[::-1])
        return any(self._masks(a) and not self.cone(b) <= self.leaves.keys() for a, b in pairs)

    def _no_cancelling(self, a: Operand, b: Operand) -> bool:
        """a ± b does not vanish: b has parameters of its own, or is constant where a is not."""
        if isinstance(b, Constant) or self.fresh(b, self.cone(a)):
            return True
        shape = self.program.shape(b)
        return any(
            n > 1 and self.uniform(b, d) and not self.uniform(a, d) for d, n in enumerate(shape)
        )

    @_remembered
    def positive(self, value: Operand) -> bool:
        """Above zero whatever the parameters."""
        if isinstance(value, Constant):
            return _all(value, lambda v: np.isfinite(v) & (v > 0))
        if not self.inexact(value):  # truncated, it may be zero
            return False
        return self._sign(value, self.positive) or self._shifted(value)

    def _shifted(self, value: Operand) -> bool:
        """The larger, or a sum, of what is above zero and what is not below (a variance and ε)."""
        equation = self.producers.get(value)
        if equation is None:
            return False
        if equation.name == "max":
            return any(map(self.positive, equation.inputs))
        if equation.name == "reduce_sum":
            return self.not_negative(equation.inputs[0]) and self.live(equation.inputs[0])
        if equation.name not in ("add", "add_any"):
            return False
        pairs = (equation.inputs, equation.inputs[::-1])
        return any(self.positive(a) and self.not_negative(b) for a, b in pairs)

    @_remembered
    def not_negative(self, value: Operand) -> bool:
        if isinstance(value, Constant):
            return _all(value, lambda v: v >= 0)
        equation = self.producers.get(value)
        if equation is None or jnp.iscomplexobj(self.program.aval(value)):
            return False
        if equation.name in ("square", "abs") or self.positive(value):
            return True
        if equation.name == "mul" and equation.inputs[0] == equation.inputs[1]:
            return True
        if equation.name == "integer_pow":
            return equation.params["y"] % 2 == 0
        if equation.name == "pow":
            return _all(equation.inputs[1], lambda v: v % 2 == 0)
        if equation.name == "max":
            return any(_all(o, lambda v: v >= 0) for o in equation.inputs)
        if equation.name in ("add", "add_any"):
            return all(map(self.not_negative, equation.inputs))
        return self._sign(value, self.not_negative)

    def _sign(self, value: Operand, holds: Callable[[Operand], bool]) -> bool:
        """Whether a sign that all operands have is the result's."""
        equation = self.producers.get(value)
        if equation is None:
            return False
        name, inputs = equation.name, equation.inputs
        if name in _POSITIVE:
            return True
        return name in _SIGNED and all(map(holds, inputs[: 2 if name in _PRODUCTS else 1]))

    @_remembered
    def uniform(self, value: Operand, dim: int) -> bool:
        """The same along `dim` by construction."""
        if isinstance(value, Constant):
            return np.ndim(value.value) == 0
        shape = self.program.shape(value)
        if not shape or shape[dim] == 1:
            return True
        equation = self.producers.get(value)
        if equation is None:
            return False
        if equation.name == "broadcast_in_dim":
            source = source_dim(self.program, equation, dim)
            return source is None or self.uniform(equation.inputs[0], source)
        if equation.name in CASTS | _SMOOTH | SUMS | _PRODUCTS | {"max", "min"}:
            return all(self.uniform(o, dim) for o in equation.inputs)
        return False

    def fresh(self, value: Operand, cone: frozenset[Operand]) -> bool:
        """Linear in a parameter that the values of `cone` do not depend on: zero or generic."""
        if isinstance(value, Constant):
            return False
        if value in self.leaves or value in self.outside:
            return self.inexact(value) and not self.cone(value) & cone
        equation = self.producers.get(value)
        if equation is None:
            return False
        if equation.name in CASTS | SHAPES | {"neg"}:
            return self.fresh(equation.inputs[0], cone)
        inputs = equation.inputs
        if equation.name in (*SUMS, "reduce_sum"):
            return all(self.fresh(o, cone) for o in inputs)
        if equation.name == "mul":
            pairs = [(a, b) for a, b in (inputs, inputs[::-1]) if self.moderate(b)]
            return any(self.fresh(a, cone | self.cone(b)) for a, b in pairs)
        return equation.name in CONTRACTIONS and any(
            self._parameter(o) and not self.cone(o) & cone for o in inputs
        )

    def _parameter(self, value: Operand, whole: bool = False) -> bool:
        """A view of a parameter; if `whole`, with nothing in it twice."""
        while value not in self.leaves:
            if value in self.outside and self.outside[value][0] != "carry":
                value = self.outside[value][1]
                continue
            equation = self.producers.get(value)
            if equation is None or equation.name not in CASTS | SHAPES:
                return False
            if whole and self._repeats(equation):
                return False
            value = equation.inputs[0]
        return self.inexact(value)

    def cone(self, value: Operand) -> frozenset[Operand]:
        """The program's inputs, and the carries of loops around, that a value depends on."""
        key = ("cone", value)
        if key not in self.known:
            found: set[Operand] = set()
            todo, seen = [value], {value}
            while todo:
                current = todo.pop()
                if isinstance(current, Constant):
                    continue
                if current in self.outside:
                    kind, outer, _ = self.outside[current]
                    before = [outer]
                    if kind == "carry":
                        found.add(current)
                elif current in self.producers:
                    before = list(self.producers[current].inputs)
                else:
                    found.add(current)
                    before = []
                todo.extend(o for o in before if o not in seen)
                seen.update(before)
            self.known[key] = frozenset(found)
        return self.known[key]


def _all(operand: Operand, holds: Callable[[Any], Any]) -> bool:
    if not isinstance(operand, Constant):
        return False
    array = np.asarray(operand.value)
    return array.dtype.kind in "biuf" and bool(np.all(holds(array)))
