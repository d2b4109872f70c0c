"""kimm's models (timm's architectures in Keras), the smallest published sizes, on small images."""

from __future__ import annotations

from typing import Any

import numpy as np

import mcjax

from .keras_applications import keras
from .row import Groups, Model, Row, block, times, together

FRAMEWORK = "kimm"


def made(name: str, size: int) -> Any:
    keras()  # its backend is chosen first
    import kimm

    build = getattr(kimm.models, name)
    return build(input_shape=(size, size, 3), weights=None, classes=10, classifier_activation=None,
                 include_preprocessing=False)  # fmt: skip


def row(name: str, size: int = 32, groups: Groups | None = None, graph: bool = True,
        **more: Any) -> Row:  # fmt: skip
    """`graph`: groups are counted from Keras' graph of layers."""

    def build() -> Model:
        x = np.random.default_rng(0).normal(size=(2, size, size, 3)).astype("f4")
        return (*mcjax.interop.keras.from_model(made(name, size)), x)

    def counted() -> Groups:
        from .keras_graph import groups_of

        return groups_of(made(name, size))

    return Row(name, FRAMEWORK, build, counted if graph else groups, **more)


# Units of the images, of the transformer between two convolutions of them, its layers.
STAGES = ((48, 64, 2), (64, 80, 4), (80, 96, 3))
MOBILEVIT = together(
    {(16,): 1, (24,): 1, (320,): 1},
    {(32,): 2, (48,): 3, (96,): 1, (128,): 1},  # expansions by 2
    *(together({(units,): 4, (dim,): 1}, times(layers, block(4, dim // 4, 2 * dim)))
      for units, dim, layers in STAGES),
)  # fmt: skip
ROWS = [
    row("ConvNeXtAtto"), row("EfficientNetLiteB0"), row("GhostNetW050"),
    row("GhostNetV2W100", 64), row("HGNetV2B0"), row("LCNet035"),
    row("MobileNetV2W050"), row("MobileOneS0"), row("MobileViTXXS", 64, MOBILEVIT, graph=False),
    row("RegNetY002"), row("RepVGGA0"), row("ResNet18"), row("TinyNetE"),
    row("VisionTransformerTiny16", 64, together({(192,): 1}, times(12, block(3, 64, 768))),
        graph=False),
]  # fmt: skip
