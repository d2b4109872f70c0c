"""Groups of a functional Keras model, counted from its graph of layers: mcjax is not asked.

Channels are a list of symbols, a layer with weights makes a new one, a sum makes two the same, a
concatenation puts them one behind the other, a grouped convolution cuts them into blocks. Only
layers that keep channels apart are let through.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

NEW = {"Conv2D", "SeparableConv2D", "Dense"}
SAME = {
    "Activation", "AveragePooling2D", "BatchNormalization", "Cropping2D", "DepthwiseConv2D",
    "Dropout", "Flatten", "GlobalAveragePooling2D", "GlobalMaxPooling2D", "LayerNormalization",
    "LayerScale", "Lambda", "LearnableAffine", "MaxPooling2D", "ReLU", "Reshape", "Resizing",
    "UpSampling2D", "ZeroPadding2D", "StochasticDepth", "Identity",
}  # fmt: skip
JOINED = {"Add", "Multiply", "CustomScaleLayer"}
INPUTS = {"InputLayer", "Rescaling", "Normalization"}
ELEMENTWISE = {"HardSigmoid", "HardSwish", "Swish", "Gelu", "Relu6"}


class Channels:
    """Symbols with sizes, made the same one after the other, and cut where sums require it."""

    def __init__(self) -> None:
        self.parent: list[int] = []
        self.size: list[int] = []
        self.parts: dict[int, list[int]] = {}  # of a symbol that was cut in two
        self.blocks: dict[int, int] = {}  # of a symbol: that of the blocks that it consists of

    def new(self, size: int) -> list[int]:
        self.parent.append(len(self.parent))
        self.size.append(size)
        return [len(self.parent) - 1]

    def root(self, symbol: int) -> int:
        while self.parent[symbol] != symbol:
            symbol = self.parent[symbol]
        return symbol

    def whole(self, symbols: list[int]) -> list[int]:
        """The roots that symbols consist of."""
        roots = [self.root(s) for s in symbols]
        return [p for r in roots for p in (self.whole(self.parts[r]) if r in self.parts else [r])]

    def join(self, first: list[int], second: list[int]) -> list[int]:
        """Channels that are added: the first with the first, cut where either of them ends."""
        a, b = self.whole(first), self.whole(second)
        while a and b:
            size = min(self.size[a[0]], self.size[b[0]])
            self._cut(a[0], size)
            self._cut(b[0], size)
            a, b = self.whole(a), self.whole(b)
            self._same(a[0], b[0])
            a, b = a[1:], b[1:]
        if a or b:
            raise ValueError("a sum of channels of different numbers")
        return first

    def taken(self, symbols: list[int], size: int) -> list[int]:
        """The first channels of several."""
        taken: list[int] = []
        rest = self.whole(symbols)
        while size and rest:
            self._cut(rest[0], size)
            first, *rest = self.whole(rest)
            taken.append(first)
            size -= self.size[first]
        return taken

    def grouped(self, symbols: list[int], filters: int, count: int) -> list[int]:
        """What a convolution of so many groups of channels puts out: blocks of them, in step."""
        if len(self.whole(symbols)) > 1:
            raise ValueError("a grouped convolution of a concatenation")
        (symbol,), (out,) = self.whole(symbols), self.new(filters)
        if symbol not in self.blocks:
            (self.blocks[symbol],) = self.new(count)
        self.blocks[out] = self.blocks[symbol]
        if self.size[self.blocks[out]] != count:
            raise ValueError("grouped convolutions of different numbers of groups")
        return [out]

    def _cut(self, symbol: int, size: int) -> None:
        """A symbol of more channels is one of so many and one of the rest from now on."""
        if self.size[symbol] <= size:
            return
        if symbol in self.blocks:
            raise ValueError("blocks of a grouped convolution are cut")
        self.parts[symbol] = self.new(size) + self.new(self.size[symbol] - size)

    def _same(self, a: int, b: int) -> None:
        a, b = self.root(a), self.root(b)
        self.parent[a] = b
        if a in self.blocks and a != b:
            blocks = self.blocks.pop(a)
            self.join([self.blocks.setdefault(b, blocks)], [blocks])

    def count(self, fixed: list[int]) -> Counter[tuple[int, ...]]:
        """Shape → how many groups; `fixed`: symbols whose channels stay where they are."""
        stay = set(self.whole(fixed))
        stay |= {self.root(self.blocks[s]) for s in stay & set(self.blocks)}
        found: Counter[tuple[int, ...]] = Counter()
        for root in set(self.whole(list(range(len(self.parent))))) - stay:
            blocks = self.size[self.blocks[root]] if root in self.blocks else 1
            inside = self.size[root] // blocks
            if inside > 1:
                found[(inside,) if root not in self.blocks else (blocks, inside)] += 1
        return found


def groups_of(model: Any) -> Counter[tuple[int, ...]]:
    """Shape → how many groups, for a functional model of convolutions.

    **Raises:** `ValueError` for a layer of which it is not known what it does to channels.
    """
    channels = Channels()
    known = {id(t): channels.new(t.shape[-1]) for t in model.inputs}
    for operation in model.operations:
        for node in operation._inbound_nodes:
            given = [known[id(t)] for t in node.input_tensors if id(t) in known]
            if len(given) == len(node.input_tensors) and given:
                out = _through(operation, given, channels, node.arguments)
                known.update((id(t), out) for t in node.output_tensors)
    ends = (*model.inputs, *model.outputs)
    return channels.count([s for t in ends for s in known[id(t)]])


def _through(layer: Any, given: list[list[int]], channels: Channels, how: Any) -> list[int]:
    """`how`: the arguments of an operation's call."""
    kind = type(layer).__name__
    if kind in ("Sequential", "Functional"):
        out = given[0]
        for part in layer.layers:
            out = _through(part, [out], channels, None)
        return out
    if kind in NEW:
        size = getattr(layer, "filters", None) or layer.units
        if getattr(layer, "groups", 1) > 1:
            return channels.grouped(given[0], size, layer.groups)
        return channels.new(size)
    if kind == "ReparameterizableConv2D":  # of kimm: a sum of convolutions, of the input too
        out = given[0] if layer.use_depthwise else channels.new(layer.filters)
        return channels.join(out, given[0]) if layer.has_skip else out
    if kind == "Concatenate":
        return [s for symbols in given for s in symbols]
    if kind == "GetItem":
        return _sliced(given[0], how.args[1], channels)
    if kind in JOINED:
        out = given[0]
        for other in given[1:]:
            channels.join(out, other)
        return out
    if kind in SAME | INPUTS | ELEMENTWISE:
        return given[0]
    raise ValueError(f"it is not known what {kind} does to channels")


def _sliced(symbols: list[int], key: Any, channels: Channels) -> list[int]:
    """`x[..., :size]`: the first channels."""
    if len(key) == 2 and key[0] is Ellipsis and not key[1].start and key[1].step in (None, 1):
        return channels.taken(symbols, key[1].stop)
    raise ValueError(f"it is not known what [{key}] does to channels")
