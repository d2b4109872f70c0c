"""A row of pairs, matched inside at once: as each pair by itself."""

import numpy as np
import pytest

from mcjax.network.axes import Atom
from mcjax.transport.joint import solve_jointly
from mcjax.transport.joints import Joint
from mcjax.transport.rows import fits, solve_row
from mcjax.transport.solvers import Exact
from mcjax.transport.terms import Term, at

ROOT, X, Y, FREE = (Atom(i, n, frozenset(), None) for i, n in enumerate((4, 6, 5, 3)))
PLACES = Atom(9, 2, frozenset(), "positions")
INNER = {X: (), Y: ()}


def drawn(*shape, seed):
    return np.random.default_rng(seed).normal(size=shape)


def joint(units, fixed=(), seed=0):
    shape = (*(a.size for a in (*fixed, *units)), 7)
    axes = tuple(range(len(units)))
    return Joint(drawn(*shape, seed=seed), drawn(*shape, seed=seed + 1), fixed, units, axes)


def term(units, fixed=(), seed=0):
    return Term(drawn(*(a.size for a in (*fixed, *units, *units)), seed=seed), fixed, units)


PROBLEMS = {
    "blocks alone": ([], [joint((ROOT, X, Y))]),
    "with a profit of a group": ([term((ROOT, Y), seed=3)], [joint((ROOT, X, Y))]),
    "with profits of all": (
        [term((ROOT,), seed=2), term((ROOT, X), seed=3), term((Y, ROOT), (PLACES,), seed=4)],
        [joint((X, ROOT, Y), (PLACES,))],
    ),
    "two blocks, one beside units of which nothing is known": (
        [term((ROOT, X), seed=3)],
        [joint((ROOT, Y, FREE, X)), joint((X, Y, ROOT), seed=5)],
    ),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_a_row_is_what_its_pairs_are(name):
    terms, joints = PROBLEMS[name]
    assert fits(terms, joints, ROOT, INNER)
    for i in range(ROOT.size):
        row = solve_row(terms, joints, ROOT, i, INNER, Exact())
        for j, found in enumerate(row):
            parts = [at(t, ROOT, i, j) for t in terms], [x.at(ROOT, i, j) for x in joints]
            pair = solve_jointly(*parts, INNER, quick=True)
            assert found.value == pytest.approx(pair.value)
            assert found.status == pair.status
            for atom in INNER:
                np.testing.assert_array_equal(found.permutations[atom], pair.permutations[atom])


def test_groups_inside_of_groups_are_not_in_rows():
    assert not fits([], [joint((ROOT, X, Y))], ROOT, {X: (), Y: (X,)})
    assert not fits([], [joint((ROOT, X, ROOT, Y))], ROOT, INNER)
    assert not fits([term((ROOT, X, Y))], [], ROOT, INNER)
    assert not fits([term((X,), (ROOT,))], [], ROOT, INNER)
