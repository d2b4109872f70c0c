"""Groups of a functional Keras model, counted from its graph of layers: mcjax is not asked.

Channels are a list of symbols, a layer with weights makes a new one, a sum makes two the same, a
concatenation puts them one behind the other. Only layers that keep channels apart are let through.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

NEW = {"Conv2D", "SeparableConv2D", "Dense"}
SAME = {
    "Activation", "AveragePooling2D", "BatchNormalization", "Cropping2D", "DepthwiseConv2D",
    "Dropout", "Flatten", "GlobalAveragePooling2D", "GlobalMaxPooling2D", "LayerNormalization",
    "LayerScale", "Lambda", "MaxPooling2D", "ReLU", "Reshape", "UpSampling2D", "ZeroPadding2D",
    "StochasticDepth", "Identity",
}  # fmt: skip
JOINED = {"Add", "Multiply", "CustomScaleLayer"}
INPUTS = {"InputLayer", "Rescaling", "Normalization"}
ELEMENTWISE = {"HardSigmoid", "HardSwish", "Swish", "Gelu", "Relu6"}


class Channels:
    """Symbols with sizes, made the same one after the other."""

    def __init__(self) -> None:
        self.parent: list[int] = []
        self.size: list[int] = []

    def new(self, size: int) -> list[int]:
        self.parent.append(len(self.parent))
        self.size.append(size)
        return [len(self.parent) - 1]

    def root(self, symbol: int) -> int:
        while self.parent[symbol] != symbol:
            symbol = self.parent[symbol]
        return symbol

    def join(self, first: list[int], second: list[int]) -> list[int]:
        if [self.size[s] for s in first] != [self.size[s] for s in second]:
            raise ValueError("a sum of concatenations that are cut in different places")
        for a, b in zip(first, second):
            self.parent[self.root(a)] = self.root(b)
        return first


def groups_of(model: Any) -> Counter[tuple[int, ...]]:
    """Shape → how many groups, for a functional model of convolutions.

    **Raises:** `ValueError` for a layer of which it is not known what it does to channels.
    """
    channels = Channels()
    known: dict[int, list[int]] = {}
    inputs = {id(t): channels.new(t.shape[-1]) for t in model.inputs}
    _follow(model, known | inputs, channels, known)
    fixed = {channels.root(s) for t in (*model.inputs, *model.outputs)
             for s in (known | inputs)[id(t)]}  # fmt: skip
    roots = {channels.root(s) for s in range(len(channels.parent))} - fixed
    return Counter((channels.size[s],) for s in roots if channels.size[s] > 0)


def _follow(model: Any, start: dict, channels: Channels, known: dict) -> None:
    known.update(start)
    for operation in model.operations:
        for node in operation._inbound_nodes:
            given = [known[id(t)] for t in node.input_tensors if id(t) in known]
            if len(given) == len(node.input_tensors) and given:
                out = _through(operation, given, channels)
                known.update((id(t), out) for t in node.output_tensors)


def _through(layer: Any, given: list[list[int]], channels: Channels) -> list[int]:
    kind = type(layer).__name__
    if kind in ("Sequential", "Functional"):
        out = given[0]
        for part in layer.layers:
            out = _through(part, [out], channels)
        return out
    if kind in NEW:
        return channels.new(getattr(layer, "filters", None) or layer.units)
    if kind == "Concatenate":
        return [s for symbols in given for s in symbols]
    if kind in JOINED:
        out = given[0]
        for other in given[1:]:
            channels.join(out, other)
        return out
    if kind in SAME | INPUTS | ELEMENTWISE:
        return given[0]
    raise ValueError(f"it is not known what {kind} does to channels")
