"""Weight adjustment: a layer solved by least squares to reproduce another network's outputs."""

from .adjustment import Adjustment, solve_layers

__all__ = ["Adjustment", "solve_layers"]
