"""The merging methods of the papers by their names, and how a name becomes one."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from .._modules import built, load_object, preset
from .dare import Dare
from .fisher import Fisher
from .model_stock import ModelStock
from .pleas import Pleas
from .problem import Method, traits_of
from .regmean import RegMean
from .slerp import Slerp
from .soup import Soup
from .star import Starlight
from .task_arithmetic import TaskArithmetic
from .ties import Ties
from .zipit import ZipIt

PRESETS: Mapping[str, Method] = MappingProxyType(
    {
        "soup": Soup(),
        "slerp": Slerp(),
        "fisher": Fisher(),
        "regmean": RegMean(),
        "zipit": ZipIt(),
        "pleas": Pleas(),
        "task-arithmetic": TaskArithmetic(),
        "ties": Ties(),
        "dare-linear": Dare(TaskArithmetic()),
        "dare-ties": Dare(Ties(density=1.0)),
        "model-stock": ModelStock(),
        "star": Starlight(),
    }
)
"""Name → method, with the options of the paper that it comes from."""


def method_of(method: Any) -> Any:
    """The merging method that a preset's name, or an object, stands for.

    **Raises:** `ValueError` for an unknown name (near ones first), or what is no method.

        >>> from mcjax.merge import method_of
        >>> method_of("soup")
        Soup()
    """
    if not isinstance(method, str):
        traits_of(method)
        return method
    return preset(method, PRESETS, "mcjax.merge")


def from_text(text: str) -> Any:
    """`method_of`, for a command line: `package.module:object` too.

    The object may be a method, a function of a `Problem`, or a class whose objects, made without
    arguments, are methods.
    """
    if ":" not in text:
        return method_of(text)
    found = load_object(text, "--methods")
    if isinstance(found, type):
        found = built(found, f"--methods: {text}")
    traits_of(found, f"--methods {text}")
    return found


__all__ = ["PRESETS", "from_text", "method_of"]
