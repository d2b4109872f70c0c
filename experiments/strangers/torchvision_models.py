"""torchvision's models (PyTorch) at their published sizes, on small images."""

from __future__ import annotations

from typing import Any

import numpy as np

import mcjax

from .row import Groups, Model, Row, block, resnet, times, together

FRAMEWORK = "torchvision"


def row(name: str, groups: Groups, size: int = 64, **options: Any) -> Row:
    def build() -> Model:
        import torch
        import torchvision

        torch.manual_seed(0)
        module = getattr(torchvision.models, name)(num_classes=10, **options).eval()
        x = np.random.default_rng(0).normal(size=(2, 3, size, size)).astype("f4")
        return (*mcjax.interop.torch.from_module(module), x)

    return Row(name, FRAMEWORK, build, groups)


# Streams with the stem and the last layer, and the 16 expansions by 6.
MOBILENET = together(
    {(32,): 1, (16,): 1, (24,): 1}, {(n,): 1 for n in (32, 64, 96, 160, 320, 1280)},
    {(96,): 1, (144,): 2, (192,): 3, (384,): 4, (576,): 3, (960,): 3},
)  # fmt: skip
ROWS = [
    row("resnet18", resnet((2, 2, 2, 2), False)),
    row("resnet50", resnet((3, 4, 6, 3), True)),
    row("mobilenet_v2", MOBILENET),
    row("vit_b_16", together({(768,): 1}, times(12, block(12, 64, 3072))), 32, image_size=32),
]
