"""Which values of a program show what the units of each group compute.

Taps are *values that depend on the data*, whatever weights were computed from: a weight may be a
leaf, a product of leaves (LoRA), a normalised, cast or concatenated one. First come the data that
are contracted with parameters and what comes of it; a group that stands on none of them (the
state of a diagonal recurrence) is compared on another value that holds it.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from .axes import Atom, Expr, inside
from .frozen import Analysis
from .layers import CONTRACTIONS, Contraction, affine_end, consumers
from .program import Equation, Program, scan_counts


@dataclasses.dataclass(frozen=True, eq=False)
class Observed:
    """What of a program depends on the data and can be observed.

    - `values`: in the order of execution; those inside scans too
    - `contractions`: with one operand that depends on the data and one that does not
    - `data`: every value that depends on the data, observable or not
    """

    values: Sequence[int]
    contractions: Sequence[Equation]
    data: Collection[int]


def observed(program: Program, n_leaves: int) -> Observed:
    """What can be observed of a program whose first `n_leaves` inputs are parameters."""
    data = set(program.inputs[n_leaves:])
    _spread(program, data)
    values: list[int] = list(program.inputs[n_leaves:])
    found: list[Equation] = []

    def visit(inner: Program) -> None:
        for equation in inner.equations:
            if equation.name == "scan":  # nothing is observed inside other control flow
                values.extend(v for v in equation.bodies[0].inputs if v in data)
                visit(equation.bodies[0])
            values.extend(v for v in equation.outputs if v in data)
            if equation.name in CONTRACTIONS and _data_operand(equation, data) is not None:
                found.append(equation)

    visit(program)
    return Observed(values, found, data)


def multiplies_data(program: Program, n_leaves: int) -> bool:
    """Whether values that depend on the data are contracted with each other, as in attention."""
    data = observed(program, n_leaves).data
    return any(
        e.name == "dot_general" and all(o in data for o in e.inputs)
        for e in program.all_equations()
    )


def _spread(program: Program, data: set[int]) -> None:
    """Add everything that depends on what is in `data`."""
    for equation in program.equations:
        touched = any(o in data for o in equation.inputs)
        if equation.name == "scan":
            _spread_scan(program, equation, data)
        elif touched:
            data.update(equation.outputs)
            for body in equation.bodies:
                data.update(body.inputs)
                _spread(body, data)


def _spread_scan(program: Program, equation: Equation, data: set[int]) -> None:
    body = equation.bodies[0]
    n_const, n_carry = scan_counts(program, equation)
    data.update(i for o, i in zip(equation.inputs, body.inputs, strict=True) if o in data)
    carry = body.inputs[n_const : n_const + n_carry]
    before = -1
    while before < len(data):  # what the carry depends on comes round
        before = len(data)
        _spread(body, data)
        data.update(i for i, o in zip(carry, body.outputs, strict=False) if o in data)
    data.update(v for v, o in zip(equation.outputs, body.outputs, strict=True) if o in data)


def _data_operand(equation: Equation, data: Collection[int]) -> int | None:
    """The position of the one operand of a contraction that depends on the data."""
    here = [i for i, o in enumerate(equation.inputs[:2]) if o in data]
    if len(here) != 1 or (equation.name == "gather" and here != [1]):
        return None
    return here[0]


def taps(
    analysis: Analysis,
    found: Sequence[Contraction],
    groups: Mapping[Atom, Collection[Atom]],
    n_leaves: int,
    tap: str,
) -> list[int]:
    """The values to compare: every group that an observable value holds (once) is on at least one.

    **Arguments:**
    - `found`: the network's layers
    - `groups`: atom of each group → the atoms it depends on
    - `tap`: `"post"` (what consumers read) or `"pre"` (what producers write) comes first
    """
    program = analysis.program
    seen = observed(program, n_leaves)
    known = {c.output: c.preactivation for c in found}
    users = consumers(program)
    post, pre = [], []
    for equation in seen.contractions:
        position = _data_operand(equation, seen.data)
        operand = None if position is None else equation.inputs[position]
        if equation.name != "gather" and isinstance(operand, int):
            post.append(operand)
        output = equation.outputs[0]
        end = known.get(output)
        pre.append(affine_end(users, lambda o: o not in seen.data, output) if end is None else end)

    def on(value: int) -> set[Atom]:
        return {a for a, n in _counts(analysis.of(value)).items() if n == 1 and a in groups}

    first, second = (post, pre) if tap == "post" else (pre, post)
    chosen = [v for v in dict.fromkeys(first) if on(v)]
    held = set().union(*map(on, chosen))
    # Queries and keys have no consumer with a weight: they are compared where they are written.
    for value in dict.fromkeys(second):
        if on(value) - held:
            chosen.append(value)
            held |= on(value)
    for atom in groups:
        holding = [] if atom in held else [v for v in reversed(seen.values) if atom in on(v)]
        if holding:  # the last of those with fewest other units: what the group has come to
            own = {atom, *groups[atom]}
            chosen.append(min(holding, key=lambda v: len(on(v) - own)))
            held |= on(chosen[-1])
    return chosen


def _counts(exprs: Sequence[Expr]) -> Counter[Atom]:
    """How often each atom stands in a block of an array with these axes."""
    total: Counter[Atom] = Counter()
    for factor in itertools.chain.from_iterable(exprs):
        if isinstance(factor, Atom):
            total[factor] += 1
        most: Counter[Atom] = Counter()
        for part in inside(factor):
            most |= _counts([part])
        total += most
    return total
