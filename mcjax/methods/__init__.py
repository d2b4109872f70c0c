"""Methods that connect two networks: objects with their options, and the papers' presets."""

from .aligned import ActivationMatching, WeightMatching
from .connect import connect
from .layerwise import Butterfly, LayerByLayer, WeightAdjustment
from .learned import ActionLearning
from .motions import OT, Arc, Linear, Motion
from .named import PRESETS, method_of, with_epochs, with_protocol
from .pam import Pam, PamFit
from .problem import Connection, Leg, Method, Problem, Traits, traits_of
from .swapped import WithSwaps
from .trained import FLOWS, Flow, TrainedCurve

__all__ = [
    "FLOWS",
    "OT",
    "PRESETS",
    "ActionLearning",
    "ActivationMatching",
    "Arc",
    "Butterfly",
    "Connection",
    "Flow",
    "LayerByLayer",
    "Leg",
    "Linear",
    "Method",
    "Motion",
    "Pam",
    "PamFit",
    "Problem",
    "TrainedCurve",
    "Traits",
    "WeightAdjustment",
    "WeightMatching",
    "WithSwaps",
    "connect",
    "method_of",
    "traits_of",
    "with_epochs",
    "with_protocol",
]
