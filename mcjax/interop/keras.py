"""Keras 3 on JAX: a model as `(apply_fn, params)`, and parameters back in its variables.

Parameters are a dict by the paths of Keras' variables, trained ones and others (moving averages)
together; the states of random seeds are not among them.

    pip install keras
    KERAS_BACKEND=jax python …
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from .._lazy import lazily
from .._types import Params

keras = lazily("keras")


def from_model(model: Any) -> tuple[Callable[[Params, Any], Any], dict[str, Any]]:
    """A Keras model or layer as a pure function of its variables and inputs, and its variables.

    `apply_fn(params, x)` is `model(x, training=False)` with the variables of `params` (without the
    flag, if the model takes none): for `jax.jit`, `jax.grad`, `mcjax.trace`. What the model does to
    its variables is dropped.

    **Arguments:**
    - `model`: a built `keras.Model` or `keras.Layer`; it stays as it is

    **Returns:** `(apply_fn, params)`. `x` is what the model takes: an array, a dict or a list.
    Where variables have the same path, later ones have `:1`, `:2`, … behind it.

    **Raises:** `ValueError` for another backend than JAX, for what is no Keras model, and for one
    that is not built; `ImportError` without Keras.

        >>> import jax.numpy as jnp, keras, mcjax
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4)])
        >>> apply_fn, params = mcjax.interop.keras.from_model(model)
        >>> apply_fn(params, jnp.ones((2, 3))).shape
        (2, 4)
    """
    names = _names(model)
    trained, others = ([(names.get(id(v)), v) for v in variables] for variables in
                       (model.trainable_variables, model.non_trainable_variables))  # fmt: skip
    # Seeds are no parameters; each call starts from those that there are now.
    seeds = {id(v): np.asarray(v.value) for name, v in others if name is None}

    flag = {"training": False} if _takes_training(model) else {}

    def apply_fn(params: Params, x: Any) -> Any:
        given = ([seeds[id(v)] if name is None else params[name] for name, v in variables]
                 for variables in (trained, others))  # fmt: skip
        return model.stateless_call(*given, x, **flag)[0]

    return apply_fn, {names[id(v)]: v.value for v in model.variables if id(v) in names}


def into_model(params: Params, model: Any) -> None:
    """Put parameters into the variables of a model, in place.

    **Arguments:**
    - `params`: of `from_model`, or what mcjax has made of them (aligned, merged, a path's point)
    - `model`: the model they belong to

    **Raises:** `ValueError` naming what is missing, unknown or of another shape, before anything
    is changed; and as `from_model`.

        >>> import keras, mcjax
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4)])
        >>> apply_fn, params = mcjax.interop.keras.from_model(model)
        >>> mcjax.interop.keras.into_model(params, model)
    """
    names = _names(model)
    variables = {names[id(v)]: v for v in model.variables if id(v) in names}
    for name, variable in variables.items():
        if name not in params:
            raise ValueError(f"params: leaf {name!r} is not there, which the model has")
        if np.shape(params[name]) != tuple(variable.shape):
            raise ValueError(
                f"params: leaf {name!r} has shape {np.shape(params[name])}, expected "
                f"{tuple(variable.shape)} as in the model"
            )
    unknown = [n for n in params if n not in variables]
    if unknown:
        raise ValueError(f"params: leaf {unknown[0]!r} is nothing of the model's")
    for name, variable in variables.items():
        variable.assign(params[name])


def _takes_training(model: Any) -> bool:
    parameters = inspect.signature(model.call).parameters.values()
    return any(p.name == "training" or p.kind == p.VAR_KEYWORD for p in parameters)


def _names(model: Any) -> dict[int, str]:
    """id of each variable (but of seeds) → its name in parameters."""
    if keras.backend.backend() != "jax":
        raise ValueError(
            f"Keras runs on {keras.backend.backend()}, not on JAX: set KERAS_BACKEND=jax in the "
            "environment before keras is imported"
        )
    if not isinstance(model, keras.Layer):
        kind = type(model).__name__
        raise ValueError(f"model must be a keras.Model or keras.Layer, got a {kind}")
    if not model.built:
        raise ValueError("model is not built, it has no variables yet: call it on an input first")
    names: dict[int, str] = {}
    seen: dict[str, int] = {}
    for variable in model.variables:
        if variable.name == "seed_generator_state" and not variable.trainable:  # Keras' own name
            continue
        path, count = variable.path, seen.get(variable.path, 0)
        seen[path] = count + 1
        names[id(variable)] = f"{path}:{count}" if count else path
    return names
