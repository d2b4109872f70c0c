"""`keras.applications` at their published sizes, on small images."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

import mcjax

from .row import Model, Row

FRAMEWORK = "Keras applications"


def keras() -> Any:
    """Keras on JAX: the backend is chosen before it is imported."""
    os.environ["KERAS_BACKEND"] = "jax"
    import keras

    return keras


def made(name: str, size: int, options: dict[str, Any]) -> Any:
    build = getattr(keras().applications, name)
    return build(weights=None, input_shape=(size, size, 3), classes=10, classifier_activation=None,
                 **options)  # fmt: skip


def row(name: str, size: int = 32, **more: Any) -> Row:
    options = more.pop("options", {})

    def build() -> Model:
        x = np.random.default_rng(0).normal(size=(2, size, size, 3)).astype("f4")
        return (*mcjax.interop.keras.from_model(made(name, size, options)), x)

    def groups() -> Any:
        from .keras_graph import groups_of

        return groups_of(made(name, size, options))

    return Row(name, FRAMEWORK, build, groups, **more)


PIXELS = {"normalization*": "mean and variance of the three colours"}
ROWS = [
    row("ResNet50"), row("ResNet101"), row("ResNet50V2"), row("ResNet101V2"),
    row("DenseNet121"), row("DenseNet169"),
    row("MobileNet"), row("MobileNetV2"), row("MobileNetV3Small"), row("MobileNetV3Large"),
    row("EfficientNetB0", still=PIXELS), row("EfficientNetB1", still=PIXELS),
    row("EfficientNetV2B0"), row("EfficientNetV2B1"), row("EfficientNetV2S"),
    row("VGG16"), row("VGG19"), row("Xception", 71), row("InceptionV3", 75),
    row("InceptionResNetV2", 75), row("ConvNeXtTiny"), row("NASNetMobile"),
]  # fmt: skip
