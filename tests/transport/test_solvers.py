"""Transport of weights on matrices: brute force, SciPy's linear programs, the entropic optimum."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from scipy.optimize import linprog

import mcjax
from mcjax.network.axes import Atom
from mcjax.transport import Exact, Problem, Search, Sinkhorn, Solution, Solver, solve
from mcjax.transport.exact import assignment
from mcjax.transport.groups import solve_groups
from mcjax.transport.solution import STATUSES, worst
from mcjax.transport.terms import Term


def costs(seed, n, m):
    return np.random.default_rng(seed).normal(size=(n, m))


def least_cost(cost, a, b):
    """The optimum by SciPy's interior points, of constraints written row by row."""
    n, m = cost.shape
    rows = [np.repeat(np.arange(n) == i, m) for i in range(n)]
    columns = [np.tile(np.arange(m) == j, n) for j in range(m)]
    result = linprog(
        cost.ravel(), A_eq=np.array([*rows, *columns]), b_eq=[*a, *b], method="highs-ipm"
    )
    return result.fun


def check_coupling(solution, cost, a, b, atol=1e-9):
    assert (solution.coupling >= 0).all()
    np.testing.assert_allclose(solution.coupling.sum(1), a, atol=atol)
    np.testing.assert_allclose(solution.coupling.sum(0), b, atol=atol)
    assert solution.value == pytest.approx((cost * solution.coupling).sum())


@given(st.integers(0, 10_000), st.integers(1, 6))
@settings(max_examples=40, deadline=None)
def test_assignments_by_brute_force(seed, n):
    cost = costs(seed, n, n)
    solution = solve(cost)
    best = min(cost[range(n), list(p)].sum() for p in itertools.permutations(range(n)))
    assert solution.value == pytest.approx(best / n)
    assert cost[range(n), solution.permutation].sum() == pytest.approx(best)
    assert solution.status == "optimal"
    check_coupling(solution, cost, np.full(n, 1 / n), np.full(n, 1 / n))


@given(st.integers(0, 10_000), st.integers(1, 7), st.integers(1, 7))
@settings(max_examples=40, deadline=None)
def test_unequal_sizes_against_linear_programming(seed, n, m):
    cost = costs(seed, n, m)
    a, b = np.full(n, 1 / n), np.full(m, 1 / m)
    solution = solve(cost)
    assert solution.value == pytest.approx(least_cost(cost, a, b), abs=1e-7)
    assert solution.status == "optimal"
    assert (solution.permutation is not None) == (n == m)
    check_coupling(solution, cost, a, b)


@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(1, 6))
@settings(max_examples=30, deadline=None)
def test_weights_against_linear_programming(seed, n, m):
    rng = np.random.default_rng(seed)
    cost, a, b = costs(seed, n, m), rng.random(n) + 0.1, rng.random(m)
    b[0] += 0.1
    b *= a.sum() / b.sum()
    solution = solve(Problem(cost, a, b))
    assert solution.value == pytest.approx(least_cost(cost, a, b), abs=1e-6)
    assert solution.status == "optimal"
    check_coupling(solution, cost, a, b, 1e-7)


def test_sizes_with_a_large_common_multiple():
    """61 and 83 units: 5,063 equal parts are too many, HiGHS solves it."""
    cost = costs(0, 61, 83)
    a, b = np.full(61, 1 / 61), np.full(83, 1 / 83)
    solution = solve(cost)
    assert solution.iterations is not None  # the linear program
    assert solution.value == pytest.approx(least_cost(cost, a, b), abs=1e-7)
    check_coupling(solution, cost, a, b, 1e-7)


@pytest.mark.parametrize("scale", [1e-200, 1e-30, 1e30, 1e200])
@pytest.mark.parametrize("shape", [(5, 5), (4, 6), (3, 1)])
def test_costs_of_any_size(scale, shape):
    cost = costs(1, *shape)
    weights = np.arange(1.0, shape[0] + 1)
    for a in (None, weights / weights.sum()):
        plain, scaled = (solve(c, a=a) for c in (cost, scale * cost))
        np.testing.assert_allclose(scaled.coupling, plain.coupling, atol=1e-9)
        assert scaled.value == pytest.approx(scale * plain.value)
        entropic = [solve(c, Sinkhorn(0.1), a=a) for c in (cost, scale * cost)]
        np.testing.assert_allclose(*(s.coupling for s in entropic), atol=1e-5)


def test_sinkhorn_goes_to_the_optimum():
    cost = costs(2, 6, 6)
    exact = solve(cost)
    gaps = []
    for epsilon in (1.0, 0.1, 0.01, 0.001):
        solution = solve(cost, Sinkhorn(epsilon, iterations=20_000))
        assert solution.status == "entropic"
        assert solution.permutation is None
        check_coupling(solution, cost, np.full(6, 1 / 6), np.full(6, 1 / 6), 2e-3)
        gaps.append(solution.value - exact.value)
    assert gaps[0] > gaps[1] > gaps[2] > gaps[3] > -2e-3 * np.abs(cost).max()
    np.testing.assert_allclose(solution.coupling, exact.coupling, atol=2e-3)


def test_sinkhorn_is_the_entropic_optimum():
    """log Π + C / ε is the sum of a term of each row and one of each column."""
    cost = costs(3, 4, 7)
    a, b = np.full(4, 0.25), np.arange(1.0, 8) / 28
    solution = solve(cost, Sinkhorn(0.5, tolerance=1e-6), b=b)
    check_coupling(solution, cost, a, b, 1e-5)
    epsilon = 0.5 * (cost - cost.min()).mean()
    rest = np.log(solution.coupling) + cost / epsilon
    np.testing.assert_allclose(rest - rest[:1] - rest[:, :1] + rest[0, 0], 0, atol=1e-3)


def test_sinkhorn_says_when_it_has_not_converged():
    with pytest.warns(UserWarning, match="not converged after 2 iterations; take a greater"):
        solution = solve(costs(4, 30, 30), Sinkhorn(1e-3, iterations=2))
    assert solution.status == "not converged"
    assert np.isfinite(solution.coupling).all()


def test_constant_costs_and_one_unit():
    for solver in (Exact(), Sinkhorn()):
        assert solve(np.full((3, 3), 7.0), solver).value == pytest.approx(7, rel=1e-3)
        assert solve([[2.0]], solver).coupling.tolist() == [[1.0]]


@given(st.integers(0, 10_000), st.integers(1, 5), st.integers(1, 5), st.booleans())
@settings(max_examples=40, deadline=None)
def test_weights_that_are_zero_and_costs_that_are_equal(seed, n, m, equal):
    """A single row or column, units without weight, costs that leave every coupling optimal."""
    rng = np.random.default_rng(seed)
    cost = np.full((n, m), rng.normal()) if equal else rng.integers(-2, 3, (n, m)).astype(float)
    a, b = (np.where(rng.random(size) < 0.5, rng.random(size), 0) for size in (n, m))
    a[rng.integers(n)], b[rng.integers(m)] = 0.3, 0.4
    b *= a.sum() / b.sum()
    solution = solve(cost, a=a, b=b)
    assert solution.value == pytest.approx(least_cost(cost, a, b), abs=1e-7)
    assert solution.status == "optimal"
    check_coupling(solution, cost, a, b, 1e-7)


@pytest.mark.parametrize("shape", [(1, 5), (5, 1), (3, 5)])
def test_entropic_couplings_of_degenerate_problems(shape):
    """A single row has one coupling; of equal costs the entropic optimum is the product of the
    weights, whichever of them are zero."""
    n, m = shape
    a, b = np.arange(n) / max(1, n * (n - 1) / 2), np.arange(m) / max(1, m * (m - 1) / 2)
    a, b = (np.ones(1) if len(w) == 1 else w for w in (a, b))
    for cost in (np.full(shape, 7.0), np.zeros(shape)):
        solution = solve(cost, Sinkhorn(), a=a, b=b)
        assert solution.status == "entropic"
        np.testing.assert_allclose(solution.coupling, np.outer(a, b), atol=1e-5)
    if 1 in shape:
        solution = solve(costs(0, n, m), Sinkhorn(), a=a, b=b)
        np.testing.assert_allclose(solution.coupling, np.outer(a, b), atol=1e-5)


def test_units_far_smaller_than_others_are_assigned():
    """Their profits are lost in the rounding of the others', and found again, in any order."""
    rng = np.random.default_rng(5)
    sizes = rng.permutation(np.repeat([1.0, 1e-20, 1e-45, 1e-70], 3))
    rows = rng.normal(size=(12, 30)) * sizes[:, None]
    p = rng.permutation(12)
    np.testing.assert_array_equal(assignment(rows @ rows[np.argsort(p)].T), p)


class Greedy(Solver):
    """A solver of one's own, that says nothing of what it found: the product of the weights."""

    def couple(self, problem):
        coupling = np.outer(problem.a, problem.b) / problem.a.sum()
        return Solution(coupling, problem.value(coupling))


class Fractional(Solver):
    """An optimal coupling that is no permutation: all couplings of equal costs are."""

    def couple(self, problem):
        coupling = np.outer(problem.a, problem.b) / problem.a.sum()
        return Solution(coupling, problem.value(coupling), "optimal")


def test_a_solver_of_ones_own():
    solution = solve(costs(6, 3, 5), Greedy())
    check_coupling(solution, costs(6, 3, 5), np.full(3, 1 / 3), np.full(5, 1 / 5))
    unit = Atom(0, 4, frozenset(), None)
    found = solve_groups([Term(costs(6, 4, 4), (), (unit,))], {unit: ()}, Greedy())
    assert sorted(found.permutations[unit]) == list(range(4))


def test_nothing_says_optimal_of_a_solver_that_does_not():
    """One group, one inside another, two beside each other, and every aligner that has solvers."""
    j, k = (Atom(i, 6, frozenset(), None) for i in range(2))
    inner = Atom(2, 3, frozenset({j}), None)
    rng = np.random.default_rng(0)
    one = [Term(rng.normal(size=(6, 6)), (), (j,))], {j: ()}
    nested = [Term(rng.normal(size=(6, 3, 6, 3)), (), (j, inner))], {j: (), inner: (j,)}
    beside = [Term(rng.normal(size=(6,) * 4), (), (j, k))], {j: (), k: ()}
    for terms, outer in (one, nested, beside):
        assert solve_groups(terms, outer, Greedy()).status == "heuristic"
    assert solve(costs(6, 3, 5), Greedy()).status == "heuristic"
    assert solve_groups(*one, Fractional()).status == "heuristic"  # the rounding is not proved

    f = lambda p, x: jnp.tanh(x @ p["w"]) @ p["v"]
    a, b = (
        {"w": jnp.asarray(r.normal(size=(4, 5))), "v": jnp.asarray(r.normal(size=(5, 2)))}
        for r in map(np.random.default_rng, (1, 2))
    )
    x = rng.normal(size=(20, 4)).astype(np.float32)
    network = mcjax.trace(f, a, x[:2])
    align = mcjax.align
    for found in (
        align.match_weights(network, a, b, solver=Greedy()),
        align.match_activations(network, a, b, x, solver=Greedy()),
        align.match_butterflies(network, a, b, solver=Greedy()),
        mcjax.connect(network, a, b, mcjax.methods.OT(solver=Greedy())),
    ):
        assert found.status == "heuristic"
        assert "optimal" not in found.summary().partition(":")[2]


def test_a_status_is_one_of_the_words():
    with pytest.raises(ValueError, match=r"status must be one of .optimal., .*, got .exact."):
        Solution(np.eye(2), 0.0, "exact")


def test_statuses_of_groups():
    """Two heads of units: entropic assignments make nothing optimal; a bound of work is said."""
    head, unit = (Atom(i, n, frozenset(), None) for i, n in enumerate((8, 5)))
    rng = np.random.default_rng(7)
    terms = [Term(rng.normal(size=(8, 5, 8, 5)), (), (head, unit))]
    outer = {head: (), unit: (head,)}
    exact = solve_groups(terms, outer)
    stopped = solve_groups(terms, outer, Exact(work=1.0))
    entropic = solve_groups(terms, outer, Sinkhorn(0.05))
    assert (exact.status, stopped.status) == ("optimal", "stopped at a bound")
    assert entropic.status in ("entropic", "not converged")
    assert stopped.value <= exact.value + 1e-9
    assert entropic.value <= exact.value + 1e-9


def test_a_search_that_is_cut_short_says_so():
    j, k = (Atom(i, 12, frozenset(), None) for i in range(2))
    terms = [Term(np.random.default_rng(8).normal(size=(12,) * 4), (), (j, k))]
    outer = {j: (), k: ()}
    short = solve_groups(terms, outer, Exact(search=Search(restarts=1, exchanges=4)))
    long = solve_groups(terms, outer, Exact(search=Search(restarts=2, exchanges=10_000)))
    assert (short.status, long.status) == ("stopped at a bound", "local optimum")
    assert long.value >= short.value
    # No exchange of two units of either group, the other held, is better.
    profit, (p, q) = terms[0].profit, (long.permutations[a] for a in (j, k))
    at = np.ix_(range(12), range(12))
    for permutation in (p, q):
        for u, v in itertools.combinations(range(12), 2):
            permutation[[u, v]] = permutation[[v, u]]
            value = profit[(*at, p[:, None], q[None])].sum()
            permutation[[u, v]] = permutation[[v, u]]
            assert value <= long.value + 1e-9


def test_the_worst_of_statuses():
    assert worst() == "optimal"
    for i, first in enumerate(STATUSES):
        for k, second in enumerate(STATUSES):
            assert worst(first, second) == STATUSES[max(i, k)]


def test_solvers_are_values():
    assert Exact() == Exact()
    assert Sinkhorn(0.1) == Sinkhorn(epsilon=0.1) != Sinkhorn(0.2)
    assert len({Exact(), Exact(search=Search(restarts=3)), Sinkhorn(), Sinkhorn()}) == 3
    with pytest.raises(AttributeError):
        Exact().work = 1.0  # type: ignore[misc]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.zeros(3),), r"cost must be a matrix \(n, m\) with n, m ≥ 1, got shape \(3,\)"),
        ((np.zeros((0, 3)),), r"got shape \(0, 3\)"),
        ((np.zeros((3, 0)), Sinkhorn()), r"n, m ≥ 1, got shape \(3, 0\)"),
        (
            ([[0.0, np.nan]],),
            r"cost holds 1 NaN or infinite values of 2; the first is nan at \(0, 1\)",
        ),
        (([[np.inf]],), r"the first is inf at \(0, 0\)"),
        (([["a"]],), "cost must hold real numbers, got a list"),
        (([[1j]],), "cost must hold real numbers, got complex128"),
        ((np.eye(2), None), "solver must be a mcjax.transport.Solver.*got None"),
        ((np.eye(2), "exact"), r"got 'exact'; pass the object mcjax\.transport\.Exact\(\)"),
        ((np.eye(2), "sinkhorn"), r"pass the object mcjax\.transport\.Sinkhorn\(\)"),
        ((np.eye(2), Sinkhorn), r"pass an object, Sinkhorn\(\)"),
    ],
)
def test_bad_problems(arguments, message):
    with pytest.raises(ValueError, match=message):
        solve(*arguments)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"a": [1.0]}, r"a has shape \(1,\), expected \(2,\)"),
        ({"a": [1.0, 1.0], "b": [0.5, 0.6]}, "a and b have different sums: 2 and 1.1"),
        ({"b": [1.0, -1.0]}, "b must not be negative, got -1"),
        ({"b": [0.0, 0.0]}, "b must have a positive sum, got 0"),
        ({"a": [1.0, np.inf]}, "a holds 1 NaN or infinite values of 2; the first is inf at 1"),
    ],
)
def test_bad_weights(weights, message):
    with pytest.raises(ValueError, match=message):
        solve(np.eye(2), **weights)
    with pytest.raises(ValueError, match="a Problem has its own weights"):
        solve(Problem(np.eye(2)), a=[0.5, 0.5])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Sinkhorn(0.0), "epsilon must be positive and finite, got 0.0"),
        (lambda: Sinkhorn(math.nan), "epsilon must be positive and finite, got nan"),
        (lambda: Sinkhorn(iterations=0), "iterations must be a positive integer, got 0"),
        (lambda: Exact(search=3), "search must be a mcjax.transport.Search, got a int"),
        (lambda: Exact(work=0.0), "work must be positive, got 0.0"),
        (lambda: Search(restarts=-1), "restarts must be an integer ≥ 0, got -1"),
    ],
)
def test_bad_solvers(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_under_jit_a_sentence():
    with pytest.raises(ValueError, match=r"cost is being traced .* mcjax\.transport\.sinkhorn"):
        jax.jit(lambda c: solve(c).coupling)(jnp.eye(2))


def test_scipy_and_ott_are_loaded_on_use():
    code = (
        "import sys, mcjax.transport\n"
        "print([m for m in ('scipy.optimize', 'ott') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
