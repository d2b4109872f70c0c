"""Where a program normalises by stored statistics, and which leaves those are: by role.

In evaluation mode batch normalisation is an affine map of its input h whose coefficients come from
parameters alone, y = S · h + T with S = 1/√(v + ε) · … and T = −µ S + …. Whatever the algebra,
(h − µ) · inv · γ + β or h · inv + (β − µ · inv), the variance is the leaf v under the root and the
mean the leaf µ on which T depends linearly with coefficient −S. Coefficients are polynomials in
leaves, standard deviations and whatever else is computed from parameters alone; each value that is
an affine map of another carries its S and T.

A frozen normaliser of the raw input has the same algebra and counts as a normalisation.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from .coefficients import (
    ARITHMETIC,
    MAX_TERMS,
    ONE,
    ROOTS,
    SAME,
    Factor,
    Monomial,
    Polynomial,
    add,
    atom,
    coefficient,
    constant,
    factors,
    inverse,
    lifted,
    multiply,
    ratio,
    sliced_polynomial,
    times,
)  # fmt: skip
from .layers import consumers
from .program import Constant, Equation, Operand, Program, scan_counts

# What takes a part of an array, or shows it in another shape.
_PARTS = {"slice", "split", "unstack", "dynamic_slice", "gather", "reshape"}
# Steps of a chain of affine maps that are kept.
_MAX_STEPS = 12


@dataclasses.dataclass(frozen=True)
class Statistic:
    """A running mean or variance: `leaf` by number, found in the program as `value`.

    - `axes`: its axes in the order in which the input's own lie
    - `scale`: (factor, (value, power), …): the statistic is the leaf times their product, as where
      averages are corrected for their bias
    - `stacked`: for each loop around it, whether every iteration has its own
    """

    leaf: int
    value: int
    axes: tuple[int, ...]
    scale: tuple[float, tuple[tuple[int, int], ...]]
    stacked: tuple[bool, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Normalisation:
    """One normalisation of a value by a stored mean and variance.

    - `input`, `output`: the values before and after
    - `axes`: those of the input that the statistics are taken over
    - `inside`: the equations between input and output
    - `loops`: indices of the scans around it, outermost first
    """

    mean: Statistic
    variance: Statistic
    input: int
    output: int
    axes: tuple[int, ...]
    inside: tuple[Equation, ...]
    loops: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True, eq=False)
class Normalisations:
    """What a program normalises by stored statistics.

    - `found`: in the order of the program
    - `refused`: leaf → why it cannot be estimated, though it is a running mean or variance
    - `uncentred`: leaves v that divide data as 1/√(v + ε) where no mean is subtracted; they are
      taken for parameters
    """

    found: tuple[Normalisation, ...] = ()
    refused: Mapping[int, str] = dataclasses.field(default_factory=dict)
    uncentred: tuple[int, ...] = ()

    @property
    def leaves(self) -> frozenset[int]:
        """Numbers of the leaves that are statistics."""
        pairs = (leaf for n in self.found for leaf in (n.mean.leaf, n.variance.leaf))
        return frozenset({*pairs, *self.refused})

    def check(self, names: Sequence[str]) -> Normalisations:
        """Raise if there are statistics that cannot be estimated."""
        for leaf, why in self.refused.items():
            raise ValueError(f"cannot estimate the statistics of {names[leaf]!r}: {why}")
        return self

    def describe(self, names: Sequence[str]) -> list[str]:
        """One line each."""
        lines = [
            f"batch normalisation: mean {names[n.mean.leaf]}, variance {names[n.variance.leaf]}, "
            f"over axes {n.axes} of its input" + (" (in a loop)" if n.loops else "")
            for n in self.found
        ]
        lines += [f"statistics not understood: {names[i]}: {w}" for i, w in self.refused.items()]
        return lines + [
            f"divides data as 1/√(v + ε), but no mean is subtracted: {names[i]} (a parameter)"
            for i in self.uncentred
        ]


def normalisations(program: Program, n_leaves: int) -> Normalisations:
    """The normalisations of a program whose first `n_leaves` inputs are parameters."""
    if not any(e.name in ROOTS for e in program.all_equations()):
        return Normalisations()
    leaves = {v: i for i, v in enumerate(program.inputs[:n_leaves])}
    top = _Level(program, {v: atom(program, v) for v in leaves}, leaves, {})
    top.sweep()
    paired = {leaf for n in top.found for leaf in (n.mean.leaf, n.variance.leaf)}
    found = tuple(n for n in top.found if not {n.mean.leaf, n.variance.leaf} & set(top.refused))
    left = dict.fromkeys(i for i in top.dividing if i not in paired and i not in top.refused)
    return Normalisations(found, top.refused, tuple(left))


# -- the sweep -----------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class _Step:
    """A value on the way from h: scale · h + shift."""

    value: int
    scale: Polynomial
    shift: Polynomial


class _Level:
    """One program, or the body of a loop; `leaves`: values that are leaves (or slices of them)."""

    def __init__(
        self,
        program: Program,
        polynomials: dict[int, Polynomial],
        leaves: dict[int, int],
        stacked: dict[int, tuple[bool, ...]],
        loops: tuple[int, ...] = (),
    ) -> None:
        self.program, self.leaves, self.stacked, self.loops = program, leaves, stacked, loops
        self.known = polynomials  # values that come from parameters alone
        self.chains: dict[int, tuple[_Step, ...]] = {}
        self.producers = {o: e for e in program.equations for o in e.outputs}
        self.found: list[Normalisation] = []
        self.refused: dict[int, str] = {}
        self.parts: dict[int, int] = {}  # value → the leaf that it is a part of
        self.dividing: list[int] = []  # leaves v for which data are divided by √v

    def sweep(self) -> None:
        for equation in self.program.equations:
            if equation.bodies:
                self._enter(equation)
            elif all(self._from_parameters(o) for o in equation.inputs):
                self._coefficient(equation)
            else:
                self._step(equation)
        self._read_elsewhere()

    def _from_parameters(self, operand: Operand) -> bool:
        return isinstance(operand, Constant) or operand in self.known

    def of(self, operand: Operand) -> Polynomial:
        return self.known[operand] if isinstance(operand, int) else constant(operand.value)

    def _coefficient(self, equation: Equation) -> None:
        """What comes from parameters alone."""
        terms = [self.of(o) for o in equation.inputs]
        result = coefficient(self.program, equation, terms, self.leaves)
        for value in equation.outputs:
            self.known[value] = atom(self.program, value) if result is None else result
            if result is None and equation.name in _PARTS and len(terms[0]) == 1:
                sources = [self._leaf(f) for f, _ in next(iter(terms[0]))]
                if len(sources) == 1 and sources[0] is not None:
                    self.parts[value] = sources[0]

    def _step(self, equation: Equation) -> None:
        """The chain of an affine map of a value, one step longer."""
        data = [o for o in equation.inputs if not self._from_parameters(o)]
        name, output = equation.name, equation.outputs[0]
        if len(data) != 1 or self.program.shape(data[0]) != self.program.shape(output):
            return
        (h,) = data
        assert isinstance(h, int)
        chain = self.chains.get(h, (_Step(h, {ONE: 1.0}, {}),))[-_MAX_STEPS:]
        scale, shift = chain[-1].scale, chain[-1].shift
        if name == "neg":
            scale, shift = add({}, scale, -1.0), add({}, shift, -1.0)
        elif name not in SAME:
            if name not in ARITHMETIC:
                return
            first = equation.inputs[0] == h
            other = self.of(equation.inputs[1 if first else 0])
            other = lifted(other, len(self.program.shape(h)))
            if name in ("mul", "div"):
                factor = inverse(other) if name == "div" else other
                if factor is None or not factor or (name == "div" and not first):
                    return
                scale, shift = multiply(scale, factor), multiply(shift, factor)
            elif first:
                shift = add(shift, other, -1.0 if name == "sub" else 1.0)
            else:
                sign = -1.0 if name == "sub" else 1.0
                scale, shift = add({}, scale, sign), add(other, shift, sign)
        if max(len(scale), len(shift)) > MAX_TERMS:
            return
        chain = (*chain, _Step(output, scale, shift))
        if not self._match(chain):
            self.chains[output] = chain

    def _match(self, chain: tuple[_Step, ...]) -> bool:
        """Whether the last step completes a normalisation; it is then noted."""
        last = chain[-1]
        roots = [f for f, k in dict.fromkeys(factors(last.scale)) if f.root and k == -1]
        for root in roots:
            leaf = self._leaf(root)
            if leaf is None:
                continue
            self.dividing.append(leaf)
            means = [
                f
                for f, k in dict.fromkeys(factors(last.shift))
                if k == 1 and not f.root and f.source != root.source and self._leaf(f) is not None
            ]
            begins = {f: _first(chain, f, root) for f in means}
            for mean in sorted(begins, key=lambda f: _first(chain, f, None), reverse=True):
                linear = {
                    times(m, frozenset({(mean, 1)}), -1): -c
                    for m, c in last.shift.items()
                    if (mean, 1) in m
                }
                for step in reversed(chain[: begins[mean]]):
                    found = ratio(multiply(linear, step.scale), last.scale)
                    if found is not None and found[1] > 0 and _scalars(found[0]):
                        self._note(mean, found, root, step.value, last.value)
                        return True
        return False

    def _leaf(self, factor: Factor) -> int | None:
        return self.leaves.get(factor.source, self.parts.get(factor.source))

    def _note(
        self, mean: Factor, scale: tuple[Monomial, float], root: Factor, h: int, output: int
    ) -> None:
        c, monomial = root.root[:2]
        both = []
        for factor, (k, number) in ((mean, scale), (root, (monomial, c))):
            leaf = self._leaf(factor)
            assert leaf is not None
            axes = tuple(d for d in factor.layout if d is not None)
            powers = tuple((f.source, p) for f, p in k)
            loops = self.stacked.get(factor.source, ())
            both.append(Statistic(leaf, factor.source, axes, (number, powers), loops))
        lies = [tuple(d is None for d in f.layout) for f in (mean, root)]
        sources = {mean.source, root.source, *(v for s in both for v, _ in s.scale[1])}
        why = None
        if self.parts.keys() & {mean.source, root.source}:
            why = "it is a part of a leaf, or one that is used in another shape"
        elif lies[0] != lies[1]:
            why = "mean and variance lie along different axes of the input"
        elif not any(lies[0]):
            why = "they hold one number for each element of the input, examples included"
        elif not sources.issubset({*self.program.inputs, *self.producers}):
            why = (
                "they are read inside a `while` or a `cond`, or come into a `scan` otherwise than "
                "as they are"
            )
        if why is not None:
            self.refused.update(dict.fromkeys((s.leaf for s in both), why))
            return
        axes = tuple(d for d, over in enumerate(lies[0]) if over)
        inside = self._between({h, mean.source, root.source}, output)
        self.found.append(Normalisation(both[0], both[1], h, output, axes, inside, self.loops))

    def _between(self, ends: set[int], output: int) -> tuple[Equation, ...]:
        """The equations by which `output` depends on `ends`, in order."""
        depends = dict.fromkeys(ends, True)

        def visit(operand: Operand) -> bool:
            if isinstance(operand, Constant):
                return False
            if operand not in depends:
                producer = self.producers.get(operand)
                inputs = () if producer is None else producer.inputs
                found = [visit(o) for o in inputs]  # all of them: each is noted
                depends[operand] = any(found)
            return depends[operand]

        visit(output)
        chosen = {self.producers[v].index: self.producers[v]
                  for v, d in depends.items() if d and v not in ends}  # fmt: skip
        return tuple(chosen[i] for i in sorted(chosen))

    def _enter(self, equation: Equation) -> None:
        """The bodies of control flow; only the values of a scan's can be leaves."""
        if all(self._from_parameters(o) for o in equation.inputs):
            for value in equation.outputs:
                self.known[value] = atom(self.program, value)
            return
        for body, operands, (n_const, n_carry) in _bodies(self.program, equation):
            known, leaves, stacked = {}, {}, {}
            for i, (value, operand) in enumerate(zip(body.inputs, operands, strict=True)):
                carried = n_const <= i < n_const + n_carry
                if carried or not self._from_parameters(operand):
                    continue
                sliced = i >= n_const + n_carry
                p = sliced_polynomial(self.of(operand)) if sliced else self.of(operand)
                own = all(self._leaf(f) is None for f, _ in factors(p))
                if equation.name == "scan" and operand in self.leaves:
                    leaves[value] = self.leaves[operand]  # type: ignore[index]
                    stacked[value] = (*self.stacked.get(operand, ()), sliced)  # type: ignore[arg-type]
                    own = True
                known[value] = atom(body, value) if own else p
            loops = (*self.loops, equation.index)
            inner = _Level(body, known, self.leaves | leaves, self.stacked | stacked, loops)
            inner.parts = dict(self.parts)
            inner.sweep()
            self.found += inner.found
            self.refused |= inner.refused
            self.dividing += inner.dividing

    def _read_elsewhere(self) -> None:
        """Refuse statistics that something else than their normalisations reads."""
        both = [(n, s) for n in self.found for s in (n.mean, n.variance)]
        depth, readers = len(self.loops), consumers(self.program)
        for value in {*self.program.inputs, *self.producers} & set(self.leaves):
            those = [n for n, s in both if s.leaf == self.leaves[value]]
            own = {e.index for n in those if n.loops == self.loops for e in n.inside}
            inner = {n.loops[depth] for n in those if len(n.loops) > depth}
            reached = _reached(readers, value, inner, {n.output for n in those})
            if those and any(e.index not in own for e in reached):
                self.refused[self.leaves[value]] = "something besides its normalisation reads it"


def _reached(
    readers: Mapping[int, Sequence[Equation]], value: int, inner: set[int], ends: set[int]
) -> Iterator[Equation]:
    """What is computed from a value, as far as the ends; not where `inner` equations read it.

    From reader to reader: a walk over the program for each statistic would be quadratic.
    """
    seen, pending = {value}, [value]
    while pending:
        read = pending.pop()
        for equation in readers.get(read, ()):
            if read == value and equation.index in inner:
                continue
            yield equation
            pending += (new := {*equation.outputs} - ends - seen)
            seen |= new


def _bodies(program: Program, equation: Equation) -> Iterable[tuple[Program, Any, tuple[int, int]]]:
    """(body, the operands of its inputs, (constants, carries)) of control flow."""
    inputs = equation.inputs
    if equation.name == "while":
        n_cond, n_body = equation.params["cond_nconsts"], equation.params["body_nconsts"]
        carry = inputs[n_cond + n_body :]
        condition, body = equation.bodies
        yield condition, (*inputs[:n_cond], *carry), (n_cond, len(carry))
        yield body, inputs[n_cond:], (n_body, len(carry))
        return
    for body in equation.bodies:
        operands = inputs[len(inputs) - len(body.inputs) :]
        scan = equation.name == "scan"
        yield body, operands, scan_counts(program, equation) if scan else (len(operands), 0)


def _first(chain: Sequence[_Step], mean: Factor, root: Factor | None) -> int:
    """Number of the first step that holds the mean, or the root."""
    return next(
        i
        for i, s in enumerate(chain)
        if any(f == mean for f, _ in factors(s.shift))
        or (root is not None and any(f == root for f, _ in factors(s.scale)))
    )


def _scalars(monomial: Monomial) -> bool:
    return all(not f.root and all(d is None for d in f.layout) for f, _ in monomial)
