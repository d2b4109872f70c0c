"""Several networks as one: WA-ensembles, averages of aligned networks."""

from .ensemble import Ensemble, independent, wa_ensemble
from .soup import soup

__all__ = ["Ensemble", "independent", "soup", "wa_ensemble"]
