"""Weight adjustment: a layer solved by least squares to reproduce another network's outputs."""

from .adjustment import Adjustment, adjust

__all__ = ["Adjustment", "adjust"]
