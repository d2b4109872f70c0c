"""The neurons of a network as draws of a distribution (ferbach2023)."""

from .distributions import Distribution, Empirical, Flow, Gaussian, Mixture
from .draw import draw_network

__all__ = ["Distribution", "Empirical", "Flow", "Gaussian", "Mixture", "draw_network"]
