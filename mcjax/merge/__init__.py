"""Several networks as one: merging methods, WA-ensembles, networks merged in part."""

from .ensemble import Ensemble, independent, wa_ensemble
from .merge import merge, soup
from .named import PRESETS, from_text, method_of
from .pleas import Merged, pleas
from .problem import Each, Merging, Method, Problem, Traits, traits_of
from .soup import Soup
from .star import StarDomain, Starlight, star
from .task_arithmetic import TaskArithmetic

__all__ = [
    "PRESETS",
    "Each",
    "Ensemble",
    "Merged",
    "Merging",
    "Method",
    "Problem",
    "Soup",
    "StarDomain",
    "Starlight",
    "TaskArithmetic",
    "Traits",
    "from_text",
    "independent",
    "merge",
    "method_of",
    "pleas",
    "soup",
    "star",
    "traits_of",
    "wa_ensemble",
]
