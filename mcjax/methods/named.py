"""The methods of the papers by their names, and how a name or an object becomes a method."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from .._modules import built, load_object, preset
from ..path import Bezier, PolygonalChain
from ..training.protocol import Protocol, tatro2020
from .aligned import ActivationMatching, WeightMatching
from .layerwise import Butterfly, LayerByLayer, WeightAdjustment
from .learned import ActionLearning
from .motions import OT, Arc, Linear
from .pam import Pam
from .problem import Method, traits_of
from .trained import FLOWS, TrainedCurve

_CHAINS = Protocol(epochs=60)  # anokhin2020's SGD
_CURVES = tatro2020(learning_rate=0.01)

PRESETS: Mapping[str, Method] = MappingProxyType(
    {
        "linear": Linear(),
        "arc": Arc(),
        "ot": OT(),
        **{
            f"{motion}+{how}": LayerByLayer(by, reader)
            for how, reader in (("butterfly", Butterfly()), ("wa", WeightAdjustment()))
            for motion, by in (("linear", Linear()), ("arc", Arc()), ("ot", OT()))
        },
        "garipov-3": TrainedCurve(PolygonalChain, 1, _CHAINS),
        "garipov-5": TrainedCurve(PolygonalChain, 3, _CHAINS),
        "bezier": TrainedCurve(Bezier, 1, _CURVES),
        "bezier+alignment": TrainedCurve(Bezier, 1, _CURVES, ActivationMatching()),
        "pam": Pam(_CURVES),
        "pam+alignment": Pam(_CURVES, ActivationMatching()),
        "weight-matching": WeightMatching(),
        "weights-full": WeightMatching(symmetry="full"),
        "activation-matching": ActivationMatching(),
        "activations-full": ActivationMatching(symmetry="full"),
        "learned-full": ActionLearning(),
    }
)
"""Name → method, with the options of the paper that it comes from."""


def method_of(method: Any) -> Any:
    """The method that a preset's name, or an object, stands for.

    **Raises:** `ValueError` for an unknown name (near ones first), or what is no method.
    """
    if not isinstance(method, str):
        traits_of(method)
        return method
    if method in FLOWS:
        raise ValueError(
            f"method {method!r} needs a connection model trained for it: train one with "
            "mcjax.flows and pass mcjax.methods.Flow(model)"
        )
    return preset(method, PRESETS, "mcjax.methods")


def from_text(text: str) -> Any:
    """`method_of`, for a command line: `package.module:object` too.

    The object may be a method, or a class or function that makes one without arguments.
    """
    if ":" not in text:
        return method_of(text)
    found = load_object(text, "--methods")
    if not callable(getattr(found, "connect", None)) or isinstance(found, type):
        if not callable(found):
            traits_of(found, f"--methods {text}")  # says what is wrong with it
        found = built(found, f"--methods: {text}")
    traits_of(found, f"--methods {text}")
    return found


def with_epochs(method: Any, epochs: int) -> Any:
    """A method that trains, with so many epochs; the schedule keeps its shape. Others stay.

    >>> from mcjax.methods import PRESETS
    >>> from mcjax.methods.named import with_epochs
    >>> with_epochs(PRESETS["bezier"], 25).protocol.halve_every
    2.0
    >>> with_epochs(PRESETS["linear"], 25)
    Linear()
    """
    if not trains(method):
        return method
    protocol = method.protocol
    halve = protocol.halve_every and protocol.halve_every * epochs / protocol.epochs
    return with_protocol(method, dataclasses.replace(protocol, epochs=epochs, halve_every=halve))


def trains(method: Any) -> bool:
    """Whether a method has a protocol of a training."""
    return isinstance(getattr(method, "protocol", None), Protocol)


def with_protocol(method: Any, protocol: Protocol) -> Any:
    """A method that trains, with another protocol. Others stay."""
    return dataclasses.replace(method, protocol=protocol) if trains(method) else method


def describe() -> str:
    """The presets in a line, with the names that tables show."""
    return ", ".join(f"{name} ({traits_of(m).label})" for name, m in PRESETS.items())


__all__ = [
    "PRESETS", "describe", "from_text", "method_of", "trains", "with_epochs", "with_protocol",
]  # fmt: skip
