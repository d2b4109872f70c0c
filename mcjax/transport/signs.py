"""Signs of units, several a unit, each acting on a part of its parameters: the best ones.

A part says by a code, a bit each, which of a unit's signs multiply it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from .solution import LOCAL, OPTIMAL

# So many signs of one unit are tried in all combinations.
MANY = 8


def best_signs(
    profits: Mapping[int, np.ndarray], n: int, many: int
) -> tuple[np.ndarray, Callable[[np.ndarray, np.ndarray], np.ndarray], str]:
    """(value of each pair with its best signs, the signs of pairs as (signs, pairs), status).

    Profits that differ in the signs that act on them count with their absolute values where a
    sign for each can be chosen by itself, which is so for independent codes.
    """
    codes = [c for c in profits if c]
    whole = np.zeros((n, n)) + profits.get(0, 0.0)
    pivots = _independent(codes)
    if pivots is not None:
        values = whole + sum(np.abs(profits[c]) for c in codes)

        def signs_of(i: np.ndarray, j: np.ndarray) -> np.ndarray:
            own = np.ones((many, len(i)))
            for bit, which in pivots:
                for c in which:
                    own[bit] *= np.where(profits[c][i, j] < 0, -1, 1)
            return own

        return values, signs_of, OPTIMAL
    choices = choices_of(many)
    values, chosen = np.full((n, n), -np.inf), np.zeros((n, n), int)
    for c, signs in enumerate(choices):
        total = sum(product_of(signs, k) * v for k, v in profits.items())
        chosen = np.where(total > values, c, chosen)
        values = np.maximum(values, total)
    table = np.array(choices, float)
    status = OPTIMAL if many <= MANY else LOCAL
    return values, lambda i, j: table[chosen[i, j]].T.reshape(many, len(i)), status


def _independent(codes: Sequence[int]) -> list[tuple[int, list[int]]] | None:
    """(bit, codes): the sign of each bit is the product of the signs wanted of these codes, all
    other bits 1; None for codes that depend on each other (over the field of two elements)."""
    rows = [(c, {c}) for c in codes]
    done: list[tuple[int, int, set[int]]] = []
    for value, made in rows:
        for bit, other, of in done:
            if value >> bit & 1:
                value, made = value ^ other, made ^ of
        if not value:
            return None
        bit = value.bit_length() - 1
        done = [(b, v ^ value, m ^ made) if v >> bit & 1 else (b, v, m) for b, v, m in done]
        done.append((bit, value, made))
    # Each row now says what one pivot's sign is where the bits without a pivot are 1.
    return [(bit, sorted(made)) for bit, _, made in done]


def choices_of(many: int) -> list[tuple[int, ...]]:
    """The signs of a unit that are tried, those of none changed first."""
    if many <= MANY:
        return list(itertools.product((1, -1), repeat=many))
    one = [1] * many
    return [tuple(one), *((*one[:i], -1, *one[i + 1 :]) for i in range(many))]


def product_of(signs: Sequence[int], code: int) -> int:
    """The sign of what the signs with a bit in the code multiply."""
    out = 1
    for bit, s in enumerate(signs):
        out = out * s if code >> bit & 1 else out
    return out


__all__ = ["MANY", "best_signs", "choices_of", "product_of"]
