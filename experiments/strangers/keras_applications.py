"""`keras.applications` at their published sizes, on small images."""

from __future__ import annotations

import functools
import importlib
import os
from typing import Any

import numpy as np

import mcjax

from .row import Model, Row

FRAMEWORK = "Keras applications"


@functools.cache
def keras() -> Any:
    """Keras on JAX (the backend is chosen before it is imported), first weights by NumPy.

    JAX's random numbers would compile a program for each shape of a variable.
    """
    os.environ["KERAS_BACKEND"] = "jax"
    import keras

    rng = np.random.default_rng(0)

    def normal(shape: Any, mean: float = 0.0, stddev: float = 1.0, dtype: Any = None,
               seed: Any = None) -> Any:  # fmt: skip
        values = rng.normal(size=shape).clip(-2, 2)
        return keras.ops.convert_to_tensor((mean + stddev * values).astype("f4"))

    def uniform(shape: Any, minval: float = 0.0, maxval: float = 1.0, dtype: Any = None,
                seed: Any = None) -> Any:  # fmt: skip
        return keras.ops.convert_to_tensor(rng.uniform(minval, maxval, shape).astype("f4"))

    drawn = importlib.import_module("keras.src.initializers.random_initializers").random
    drawn.normal, drawn.truncated_normal, drawn.uniform = normal, normal, uniform
    return keras


@functools.lru_cache(1)
def made(name: str, size: int) -> Any:
    build = getattr(keras().applications, name)
    return build(weights=None, input_shape=(size, size, 3), classes=10, classifier_activation=None)


def quiet(model: Any) -> None:
    """Batch normalisation halves what comes to it.

    With the statistics that models start from (means 0, variances 1) it normalises nothing. What
    grows from block to block saturates EfficientNetV2's gates then, and float32 rounds the outputs
    of B1 by a thousandth, where those of a permuted network differ by 3e-12 in float64.
    """
    for layer in model.layers:
        if type(layer).__name__ == "BatchNormalization":
            layer.moving_variance.assign(np.full(layer.moving_variance.shape, 4, "f4"))


def row(name: str, size: int = 32, damped: bool = False, **more: Any) -> Row:
    """`damped`: what comes out would be rounding's otherwise."""

    def build() -> Model:
        x = np.random.default_rng(0).normal(size=(2, size, size, 3)).astype("f4")
        model = made(name, size)
        if damped:
            quiet(model)
        return (*mcjax.interop.keras.from_model(model), x)

    def groups() -> Any:
        from .keras_graph import groups_of

        return groups_of(made(name, size))

    return Row(name, FRAMEWORK, build, groups, **more)


PIXELS = {"normalization*": "mean and variance of the three colours"}
ROWS = [
    row("ResNet50"), row("ResNet101"), row("ResNet50V2"), row("ResNet101V2"),
    row("DenseNet121"), row("DenseNet169"),
    row("MobileNet"), row("MobileNetV2"), row("MobileNetV3Small"), row("MobileNetV3Large"),
    row("EfficientNetB0", still=PIXELS), row("EfficientNetB1", still=PIXELS),
    row("EfficientNetV2B0", damped=True), row("EfficientNetV2B1", damped=True),
    row("EfficientNetV2S", damped=True),
    row("VGG16"), row("VGG19"), row("Xception", 71), row("InceptionV3", 75),
    row("InceptionResNetV2", 75), row("ConvNeXtTiny"), row("NASNetMobile"),
]  # fmt: skip
