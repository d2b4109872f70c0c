"""Bounds of the papers, computed for real networks."""

from .alignment_bound import Bound, alignment_bound

__all__ = ["Bound", "alignment_bound"]
