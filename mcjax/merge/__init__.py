"""Several networks as one: WA-ensembles, averages of aligned networks, merged ones."""

from .ensemble import Ensemble, independent, wa_ensemble
from .pleas import Merged, pleas
from .soup import soup
from .star import StarDomain, star

__all__ = [
    "Ensemble",
    "Merged",
    "StarDomain",
    "independent",
    "pleas",
    "soup",
    "star",
    "wa_ensemble",
]
