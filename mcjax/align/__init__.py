"""Aligners: choose the permutations that bring one network to another."""

from .activations import match_activations
from .cycle_consistent import Matchings, match_many
from .decomposition import birkhoff
from .matching import Matching
from .signature import correlation_signature
from .transport import match_butterflies
from .weights import match_weights

__all__ = [
    "Matching",
    "Matchings",
    "birkhoff",
    "correlation_signature",
    "match_activations",
    "match_butterflies",
    "match_many",
    "match_weights",
]
