"""Small models of every architecture, each with the groups that a person expects."""

from mcjax.testing.models.cases import Case
from mcjax.testing.models.catalogue import MODELS, NEAR_TWINS
from mcjax.testing.models.idioms import IDIOMS

__all__ = ["IDIOMS", "MODELS", "NEAR_TWINS", "Case"]
