"""Models checked: functions, what they return, and traced networks."""

from __future__ import annotations

import dataclasses
import inspect
from typing import Any

import jax
import numpy as np

from ._static import is_array
from ._tree import named_leaves

# Inputs that an error names.
_SHOWN = 4


def function(value: Any, name: str) -> None:
    """Raise unless a function takes (params, x), and can be the key of a compiled program."""
    module = hasattr(value, "init") and hasattr(value, "apply")
    if not callable(value) and not module:
        raise ValueError(
            f"{name} must be a function (params, x) → outputs, got a {type(value).__name__}"
        )
    owner = getattr(value, "__self__", value)
    holds_arrays = any(map(is_array, jax.tree.leaves(owner)))
    fits, hashable = takes(value, 2), _is_hashable(value)
    if holds_arrays and not (fits and hashable):
        raise ValueError(
            f"{name} is a module ({type(owner).__name__}) that holds its parameters itself; pass "
            "the module as params, with a function of both: lambda model, x: model(x), in equinox "
            "lambda model, x: jax.vmap(model)(x)"
        )
    if module:
        raise ValueError(f"{name} is a module ({type(value).__name__}); pass its method .apply")
    if not fits:
        raise ValueError(
            f"{name} must take (params, x), and cannot be called with these two; wrap it, e.g. "
            "lambda params, x: apply(params, state, x), with what else belongs to the network in "
            "params"
        )
    if not hashable:
        raise ValueError(
            f"{name} cannot be hashed ({type(value).__name__}), so nothing could be compiled "
            "for it once and for all; wrap it in a function"
        )


def takes(value: Any, n: int) -> bool:
    """Whether a function can be called with n arguments, as far as one can tell."""
    try:
        signature = inspect.signature(value)
    except (TypeError, ValueError):
        return True
    try:
        signature.bind(*[None] * n)
    except TypeError:
        return False
    return True


def _is_hashable(value: Any) -> bool:
    try:
        hash(value)
    except TypeError:
        return False
    return True


def apply_fn_of(model: Any, name: str = "model") -> Any:
    """The function (params, x) → outputs of a traced network, or the function that was given."""
    is_network = hasattr(model, "groups") and hasattr(model, "function")
    found = model.function if is_network else model
    function(found, name)
    return found


def outputs(tree: Any) -> None:
    """Raise unless what a model returns is a pytree of arrays."""
    if not jax.tree.leaves(tree):
        raise ValueError(f"apply_fn returns no arrays, but {tree!r}; is a `return` missing?")
    for path, leaf in named_leaves(tree):
        if is_array(leaf) or isinstance(leaf, bool | int | float | complex):
            continue
        kind = type(leaf).__name__
        if dataclasses.is_dataclass(leaf):
            raise ValueError(
                f"apply_fn returns a {kind}, a dataclass that JAX does not know as a pytree; "
                f"register it, jax.tree_util.register_dataclass({kind}), or return a dict"
            )
        where = f"leaf {path!r} of what apply_fn returns" if path else "what apply_fn returns"
        raise ValueError(
            f"{where} is a {kind}, which JAX does not know as a pytree; expected arrays in dicts, "
            "tuples or registered classes"
        )


def output_types(apply: Any, params: Any, x: Any, name: str = "model") -> Any:
    """The types of apply(params, x).

    **Raises:** `ValueError` if it fails, with the shapes of the inputs and what it said, or
    returns what is no pytree of arrays.
    """
    ran = []

    def checked(params: Any, x: Any) -> Any:
        returned = apply(params, x)
        ran.append(True)
        outputs(returned)
        return returned

    try:
        return jax.eval_shape(checked, params, x)
    except Exception as error:  # anything may go wrong in a user's function
        if ran:  # what it returned is named already
            raise
        found = [f"{n or 'x'} {np.shape(v)}" for n, v in named_leaves(x)]
        more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
        line = (str(error).strip().splitlines() or [""])[0]
        raise ValueError(
            f"{name} fails on inputs of shape {', '.join(found[:_SHOWN])}{more}: "
            f"{type(error).__name__}: {line}{_looked_up(error, params)}"
        ) from error


def _looked_up(error: Exception, params: Any) -> str:
    """The names of the parameters' leaves, where a function has looked for another one."""
    if not isinstance(error, LookupError | AttributeError):
        return ""
    names = [repr(n) for n, _ in named_leaves(params)]
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f". The leaves of the parameters are {', '.join(names[:_SHOWN])}{more}"


def network(value: Any, name: str = "network") -> None:
    """Raise unless a value is a traced network."""
    if hasattr(value, "groups") and hasattr(value, "check_parameters"):
        return
    is_function = callable(value) and not isinstance(value, type)
    got = "a function" if is_function else f"a {type(value).__name__}"
    raise ValueError(
        f"{name} must be a mcjax.Network, made by mcjax.trace(apply_fn, params, x); got {got}"
    )
