"""Several networks as one: WA-ensembles, averages of aligned networks, merged ones."""

from .ensemble import Ensemble, independent, wa_ensemble
from .pleas import Merged, pleas
from .soup import soup

__all__ = ["Ensemble", "Merged", "independent", "pleas", "soup", "wa_ensemble"]
