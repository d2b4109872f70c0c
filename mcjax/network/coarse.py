"""Axes of activations, as coarse as comparing some units allows.

Whatever is no unit to compare is a sample: batch, space, time, units matched already. Positions
that hold the same units need not be told apart, however they were composed; where a class token's
position holds other units than the others, the array falls into two runs of positions.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator

from .axes import Atom, Axes, Concat, Expr, Factor, Family, Uniform, inside


def coarse(axes: Axes, keep: Collection[Atom]) -> Axes:
    """The axes of an array with every atom that is not in `keep` turned into samples.

    **Returns:** axes of the same sizes; samples are `Uniform`. Families and concatenations are
    left where different positions hold different units of `keep`.
    """
    while True:
        keys = {f.key for f in _families(axes)}
        simple = tuple(_simple(expr, keep, keys) for expr in axes)
        if simple == axes:
            break
        axes = simple
    for key in sorted(keys - set(keep), key=lambda atom: atom.index):
        axes = _by_runs(axes, key)
    return axes


def _families(exprs: tuple[Expr, ...]) -> Iterator[Family]:
    for factor in itertools.chain.from_iterable(exprs):
        if isinstance(factor, Family):
            yield factor
        yield from _families(inside(factor))


def _simple(expr: Expr, keep: Collection[Atom], keys: Collection[Atom]) -> Expr:
    out: list[Factor] = []
    for factor in expr:
        for simple in _simple_factor(factor, keep, keys):
            if isinstance(simple, Uniform) and out and isinstance(out[-1], Uniform):
                out[-1] = Uniform(out[-1].size * simple.size)
            else:
                out.append(simple)
    return tuple(out)


def _simple_factor(factor: Factor, keep: Collection[Atom], keys: Collection[Atom]) -> Expr:
    if isinstance(factor, Atom):
        return (factor,) if factor in keep or factor in keys else (Uniform(factor.size),)
    if isinstance(factor, Family):
        members = tuple(_simple(m, keep, keys) for m in factor.members)
        return members[0] if len(set(members)) == 1 else (Family(factor.key, members),)
    if isinstance(factor, Concat):
        parts = tuple(_simple(p, keep, keys) for p in factor.parts)
        labels = tuple(
            frozenset((key, i) for key, i in label if key in keys) for label in factor.labels
        )
        samples = all(all(isinstance(f, Uniform) for f in part) for part in parts)
        if samples and not any(labels):
            return (Uniform(factor.size),)
        return (Concat(parts, labels),)
    return (factor,)


def _by_runs(axes: Axes, key: Atom) -> Axes:
    """The positions of `key` as successive runs that hold the same units each.

    Only where the key stands once in the array: families then follow no other positions.
    """
    if _count(axes, key) != 1:
        return axes
    families = [f for f in _families(axes) if f.key is key]
    columns = list(zip(*(f.members for f in families), strict=True))
    lengths = [len(list(run)) for _, run in itertools.groupby(columns)]
    firsts = list(itertools.accumulate([0, *lengths[:-1]]))
    runs = Atom(key.index, len(lengths), frozenset(), "runs of positions")
    parts = tuple((Uniform(n),) if n > 1 else () for n in lengths)
    labels = tuple(frozenset({(runs, i)}) for i in range(len(lengths)))
    whole = Concat(parts, labels)

    def turned(expr: Expr) -> Expr:
        out: list[Factor] = []
        for factor in expr:
            if factor is key:
                out.append(whole)
            elif isinstance(factor, Family) and factor.key is key:
                out.append(Family(runs, tuple(turned(factor.members[i]) for i in firsts)))
            elif isinstance(factor, Family):
                out.append(Family(factor.key, tuple(map(turned, factor.members))))
            elif isinstance(factor, Concat):
                out.append(Concat(tuple(map(turned, factor.parts)), factor.labels))
            else:
                out.append(factor)
        return tuple(out)

    return tuple(map(turned, axes))


def _count(exprs: tuple[Expr, ...], key: Atom) -> int:
    """How often the atom stands in these expressions, or labels a part of one."""
    total = 0
    for factor in itertools.chain.from_iterable(exprs):
        total += factor is key
        if isinstance(factor, Concat):
            total += any(k is key for label in factor.labels for k, _ in label)
        total += _count(inside(factor), key)
    return total
