"""Transport between the units of two networks: problems, solvers, solutions."""

from .decomposition import birkhoff, sample_permutations
from .partial import partial_assignment
from .problem import Problem
from .relaxation import nearest_permutation, project, sinkhorn
from .solution import STATUSES, GroupSolution, Solution
from .solvers import Exact, Search, Sinkhorn, Solver, solve
from .unbalanced import Unbalanced

__all__ = [
    "STATUSES",
    "Exact",
    "GroupSolution",
    "Problem",
    "Search",
    "Sinkhorn",
    "Solution",
    "Solver",
    "Unbalanced",
    "birkhoff",
    "nearest_permutation",
    "partial_assignment",
    "project",
    "sample_permutations",
    "sinkhorn",
    "solve",
]
