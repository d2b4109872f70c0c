"""Several networks as one: merging methods, WA-ensembles, networks merged in part."""

from .dare import Dare
from .ensemble import Ensemble, independent, wa_ensemble
from .fisher import Fisher, fisher_diagonal
from .merge import merge, soup
from .model_stock import ModelStock
from .named import PRESETS, method_of
from .pleas import Merged, Pleas, pleas
from .problem import Each, Merging, Method, Problem, Traits, traits_of
from .regmean import RegMean
from .slerp import Slerp
from .soup import Soup
from .star import StarDomain, Starlight, star
from .task_arithmetic import TaskArithmetic
from .ties import Ties
from .zipit import ZipIt

__all__ = [
    "PRESETS",
    "Dare",
    "Each",
    "Ensemble",
    "Fisher",
    "Merged",
    "Merging",
    "Method",
    "ModelStock",
    "Pleas",
    "Problem",
    "RegMean",
    "Slerp",
    "Soup",
    "StarDomain",
    "Starlight",
    "TaskArithmetic",
    "Ties",
    "Traits",
    "ZipIt",
    "fisher_diagonal",
    "independent",
    "merge",
    "method_of",
    "pleas",
    "soup",
    "star",
    "traits_of",
    "wa_ensemble",
]
