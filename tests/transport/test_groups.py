"""Assignments of groups inside groups and of crossed groups, against brute force."""

from __future__ import annotations

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

import mcjax
from mcjax.align import match_activations
from mcjax.network.axes import Atom
from mcjax.transport import crossed
from mcjax.transport.groups import solve_groups
from mcjax.transport.solvers import Exact, Search
from mcjax.transport.terms import Term


def atom(index, size):
    return Atom(index, size, frozenset(), None)


def crossed_model(p, x):
    h = jnp.tanh(jnp.einsum("bi,ijk->bjk", x, p["w"]))
    return jnp.einsum("bjk,j,k->b", h, p["u"], p["v"])


def crossed_parameters(sizes, seed):
    rng = np.random.default_rng(seed)
    shapes = {"w": (3, *sizes), "u": sizes[:1], "v": sizes[1:]}
    return {n: jnp.asarray(rng.normal(size=s), jnp.float32) for n, s in shapes.items()}


def correlations(a, b, x):
    """NumPy's float64 correlations of every unit (j, k) of a with every one of b."""
    h, g = (
        np.tanh(np.einsum("bi,ijk->bjk", x, np.asarray(p["w"], np.float64))).reshape(len(x), -1)
        for p in (a, b)
    )
    full = np.corrcoef(h.T, g.T)[: h.shape[1], h.shape[1] :]
    sizes = np.shape(a["w"])[1:]
    return full.reshape(*sizes, *sizes)


def brute_force(profit):
    """The maximum of Σ_jk profit[j, k, p(j), q(k)] over all p and q."""
    m, n = profit.shape[:2]
    j, k = np.ogrid[:m, :n]
    return max(
        profit[j, k, np.array(p)[:, None], np.array(q)[None]].sum()
        for p in itertools.permutations(range(m))
        for q in itertools.permutations(range(n))
    )


def test_two_crossed_groups_are_matched_optimally():
    network = mcjax.trace(crossed_model, crossed_parameters((4, 4), 0), np.ones((2, 3)))
    assert sorted(g.shape for g in network.groups.values()) == [(4,), (4,)]
    x = np.random.default_rng(0).normal(size=(100, 3)).astype(np.float32)
    for seed in range(30):
        a, b = (crossed_parameters((4, 4), 2 * seed + i) for i in (1, 2))
        matching = match_activations(network, a, b, x)
        best = brute_force(correlations(a, b, x))
        assert matching.after["total"] == pytest.approx(best, rel=1e-4)
        assert matching.status == "optimal"
        chosen = matching.permutations
        aligned = network.permute(chosen, b)
        reached = np.einsum("jkjk->", correlations(a, aligned, x))
        assert reached == pytest.approx(best, rel=1e-4)


def test_a_search_never_says_optimal_of_what_is_not(monkeypatch):
    """The same draws without enumeration: near the optimum, and honest about it."""
    monkeypatch.setattr(crossed, "_ENUMERATED", 0)
    j, k = atom(0, 4), atom(1, 4)
    rng = np.random.default_rng(0)
    optimal = 0
    for _ in range(30):
        profit = rng.normal(size=(4, 4, 4, 4))
        found = solve_groups([Term(profit, (), (j, k))], {j: (), k: ()})
        best = brute_force(profit)
        grid = np.ix_(*found.permutations.values())
        assert profit.transpose(0, 2, 1, 3)[np.arange(4), grid[0].ravel()][
            :, np.arange(4), grid[1].ravel()
        ].sum() == pytest.approx(found.value)
        assert found.value <= best + 1e-9
        reached = found.value >= best - 1e-9
        optimal += reached
        assert reached or not found.optimal
    assert optimal >= 28


def test_planted_crossed_groups_are_proved_optimal():
    """Too many permutations to enumerate: the bound of a relaxation is attained."""
    rng = np.random.default_rng(1)
    j, k = atom(0, 9), atom(1, 10)
    units = rng.normal(size=(9, 10, 200))
    p, q = rng.permutation(9), rng.permutation(10)
    other = np.empty_like(units)
    other[np.ix_(p, q)] = units
    profit = np.einsum("jks,lms->jklm", units, other)
    found = solve_groups([Term(profit, (), (j, k))], {j: (), k: ()})
    np.testing.assert_array_equal(found.permutations[j], p)
    np.testing.assert_array_equal(found.permutations[k], q)
    assert found.optimal


def nested_brute_force(profit, alone):
    """Heads j with units k in each: profit (j, k, l, m) and of the heads alone (j, l)."""
    n = len(alone)
    values = np.array([[linear_sum(profit[j, :, i]) for i in range(n)] for j in range(n)])
    return max(
        sum(values[j, i] + alone[j, i] for j, i in enumerate(p))
        for p in itertools.permutations(range(n))
    )


def linear_sum(profit):
    rows, columns = linear_sum_assignment(profit, maximize=True)
    return profit[rows, columns].sum()


@pytest.mark.parametrize("seed", range(5))
def test_groups_inside_groups_are_exact(seed):
    rng = np.random.default_rng(seed)
    head, unit = atom(0, 5), atom(1, 6)
    profit, alone = rng.normal(size=(5, 6, 5, 6)), 3 * rng.normal(size=(5, 5))
    terms = [Term(profit, (), (head, unit)), Term(alone, (), (head,))]
    found = solve_groups(terms, {head: (), unit: (head,)})
    assert found.value == pytest.approx(nested_brute_force(profit, alone))
    assert found.optimal
    reached = sum(
        alone[j, i] + profit[j, np.arange(6), i, found.permutations[unit][j]].sum()
        for j, i in enumerate(found.permutations[head])
    )
    assert reached == pytest.approx(found.value)


def test_an_inner_group_without_a_term_leaves_the_outer_ones_value():
    head, unit = atom(0, 5), atom(1, 3)
    profit = np.random.default_rng(0).normal(size=(5, 5))
    found = solve_groups([Term(profit, (), (head,))], {head: (), unit: (head,)})
    rows, columns = linear_sum_assignment(profit, maximize=True)
    np.testing.assert_array_equal(found.permutations[head], columns)
    assert found.value == pytest.approx(profit[rows, columns].sum())
    assert found.permutations[unit].shape == (5, 3)


def test_a_group_inside_two_crossed_groups():
    """Units u for each pair of j and k: brute force over j and k, SciPy inside."""
    rng = np.random.default_rng(2)
    j, k, u = atom(0, 3), atom(1, 4), atom(2, 3)
    profit = rng.normal(size=(3, 4, 3) * 2)
    found = solve_groups([Term(profit, (), (j, k, u))], {j: (), k: (), u: (j, k)})
    inner = np.array(
        [[[[linear_sum(profit[a, b, :, c, d]) for d in range(4)] for c in range(3)]
          for b in range(4)] for a in range(3)]
    )  # fmt: skip
    assert found.value == pytest.approx(brute_force(inner))
    assert found.optimal
    p, q, r = (found.permutations[t] for t in (j, k, u))
    reached = sum(
        profit[a, b, c, p[a], q[b], r[a, b, c]]
        for a, b, c in itertools.product(range(3), range(4), range(3))
    )
    assert reached == pytest.approx(found.value)


def test_a_group_of_every_layer_crossed_with_one_of_all_layers():
    """Units y of each of two layers beside units z that the layers share."""
    rng = np.random.default_rng(3)
    layer = Atom(0, 2, frozenset(), "layers")
    y, z = atom(1, 3), atom(2, 4)
    profit = rng.normal(size=(2, 3, 4, 3, 4))
    found = solve_groups([Term(profit, (layer,), (y, z))], {y: (layer,), z: ()})
    best = max(
        sum(linear_sum(profit[i][:, np.arange(4), :, q].sum(0)) for i in range(2))
        for q in map(np.array, itertools.permutations(range(4)))
    )
    assert found.value == pytest.approx(best)
    assert found.optimal
    assert math.prod(found.permutations[y].shape) == 6


def test_groups_on_two_fixed_axes_are_exchanged(monkeypatch):
    """Units y of each layer beside units z of each head, none of them a root: exchanges help."""
    monkeypatch.setattr(crossed, "_ENUMERATED", 0)
    layer, head = (Atom(i, 2, frozenset(), name) for i, name in enumerate(("layers", "heads")))
    y, z = atom(2, 3), atom(3, 3)
    rng = np.random.default_rng(4)
    of_two = np.array(list(itertools.product(itertools.permutations(range(3)), repeat=2)))
    at = np.arange(3)
    helped = 0
    for _ in range(8):
        profit = rng.normal(size=(2, 2, 3, 3, 3, 3))
        none, some = (
            solve_groups(
                [Term(profit, (layer, head), (y, z))],
                {y: (layer,), z: (head,)},
                Exact(search=Search(restarts=0, exchanges=exchanges)),
            )
            for exchanges in (0, 500)
        )
        # Given those of z, each layer's permutation is an assignment.
        best = max(
            sum(
                linear_sum(sum(profit[i, h][:, at, :, q[h]].sum(0) for h in (0, 1))) for i in (0, 1)
            )
            for q in of_two
        )
        assert none.status == "stopped at a bound"
        assert some.status == "local optimum"
        assert none.value <= some.value <= best + 1e-9
        helped += some.value > none.value + 1e-9
    assert helped


def test_a_large_crossed_model_is_a_local_optimum():
    a, b = (crossed_parameters((9, 10), i) for i in (1, 2))
    x = np.random.default_rng(0).normal(size=(100, 3)).astype(np.float32)
    network = mcjax.trace(crossed_model, a, x)
    matching = match_activations(network, a, b, x)
    assert matching.status == "local optimum"
    assert set(matching.statuses.values()) == {"local optimum"}
    assert "local optimum" in matching.summary().splitlines()[-2]
    p = network.random_permutations(jax.random.key(1))
    planted = match_activations(network, a, network.permute(p, a), x)
    inverse = mcjax.Action.of(network, p).inverse().permutations
    for name in network.groups:
        np.testing.assert_array_equal(planted.permutations[name], inverse[name])
    assert planted.status == "optimal"


def test_a_few_crossed_units_are_enumerated_beside_many_groups():
    """Three tokens t beside the heads and their units, and beside a stream: SciPy for each t."""
    rng = np.random.default_rng(4)
    t, head, unit, stream = atom(0, 3), atom(1, 4), atom(2, 3), atom(3, 12)
    mixed, width = rng.normal(size=(3, 4, 3) * 2), rng.normal(size=(3, 12) * 2)
    terms = [Term(mixed, (), (t, head, unit)), Term(width, (), (t, stream))]
    found = solve_groups(terms, {t: (), head: (), unit: (head,), stream: ()})
    best = -np.inf
    for p in map(np.array, itertools.permutations(range(3))):
        inner = mixed[np.arange(3), :, :, p].sum(0)
        of_heads = [[linear_sum(inner[i, :, j]) for j in range(4)] for i in range(4)]
        best = max(
            best,
            linear_sum(np.array(of_heads)) + linear_sum(width[np.arange(3), :, p].sum(0)),
        )
    assert found.value == pytest.approx(best)
    assert found.optimal


@pytest.mark.parametrize("signal", [0.0, 0.5, 3.0])
@pytest.mark.parametrize("seed", range(4))
def test_enumerated_units_that_could_not_be_better_are_left_out(monkeypatch, seed, signal):
    """Five units beside nine, two arrays and one of the nine alone, against every order."""
    few, many, rng = atom(0, 5), atom(1, 9), np.random.default_rng(seed)
    both = [rng.normal(size=(5, 9, 5, 9)) for _ in range(2)]
    alone = rng.normal(size=(9, 9))
    p, q = rng.permutation(5), rng.permutation(9)
    for i in range(5):
        both[0][i, np.arange(9), p[i], q] += signal
    terms = [*(Term(v, (), (few, many)) for v in both), Term(alone, (), (many,))]

    def value(order):
        held = sum(v[np.arange(5), :, order].sum(0) for v in both) + alone
        return held[linear_sum_assignment(held, maximize=True)].sum()

    solved = []
    assign = Exact.assign
    monkeypatch.setattr(Exact, "assign", lambda *args: solved.append(0) or assign(*args))
    solution = solve_groups(terms, {few: (), many: ()})
    every = [value(np.array(o)) for o in itertools.permutations(range(5))]
    assert solution.status == "optimal"
    assert solution.value == pytest.approx(max(every), rel=1e-12)
    if signal == 3.0:  # each pair of units once, and the order that was planted
        assert len(solved) < 30 < len(every)
        assert solution.permutations[few].tolist() == p.tolist()
