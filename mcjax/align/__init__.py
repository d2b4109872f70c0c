"""Aligners: choose the permutations (or couplings) that bring one network to another."""

from .action_path import ActionPath
from .activations import match_activations
from .butterflies import match_butterflies
from .coupling import Coupled, couple_incoming
from .cycle_consistent import Matchings, match_many
from .incoming import match_incoming
from .learned import Objective, Search, learn_permutations
from .learned_action import ActionSearch, LearnedAction, learn_action
from .matching import Matching
from .relaxations import Projection, Relaxation, SinkhornRelaxation, StraightThrough
from .signature import correlation_signature
from .straight_through import StraightThroughPath
from .weights import match_weights

__all__ = [
    "ActionPath",
    "ActionSearch",
    "Coupled",
    "LearnedAction",
    "Matching",
    "Matchings",
    "Objective",
    "Projection",
    "Relaxation",
    "Search",
    "SinkhornRelaxation",
    "StraightThrough",
    "StraightThroughPath",
    "correlation_signature",
    "couple_incoming",
    "learn_action",
    "learn_permutations",
    "match_activations",
    "match_butterflies",
    "match_incoming",
    "match_many",
    "match_weights",
]
