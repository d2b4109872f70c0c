"""equimo's models (Equinox), smaller than published where a class has sizes to choose."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from .row import Groups, Model, Row, attention, block, times, together

FRAMEWORK = "equimo"
IMAGE = {"in_channels": 3, "num_classes": 5}


def row(name: str, settings: dict[str, Any],
        groups: Groups | Callable[[], Groups] | None = None, **more: Any) -> Row:  # fmt: skip
    size = more.pop("size", 32)

    def build() -> Model:
        import equimo.models
        import equinox as eqx

        made = getattr(equimo.models, name)
        model = eqx.filter_jit(lambda key: made(**IMAGE, **settings, key=key))(jax.random.key(0))
        model = eqx.nn.inference_mode(model)

        def apply_fn(model: Any, x: Any) -> Any:
            key = jax.random.key(0)  # of dropout, which draws nothing in inference mode
            return jax.vmap(lambda image: model(image, key))(x)

        x = np.random.default_rng(0).normal(size=(2, 3, size, size)).astype("f4")
        return apply_fn, model, x

    return Row(more.pop("title", name), FRAMEWORK, build, groups, **more)


def normalised(units: int) -> Groups:
    """Units under a GroupNorm: its groups, a power of 2 up to 32 of them, and units in each."""
    inside = units // math.gcd(units, 32)
    return {(units // inside,): 1, **({(units // inside, inside): 1} if inside > 1 else {})}


def mobilenet(name: str) -> Groups:
    """The stem, expansions and streams, all normalised, and what gates of expansions hide."""
    from equimo.models.mobilenet import _MOBILENET_REGISTRY

    config = _MOBILENET_REGISTRY[name][1]["layers_config"]
    total = together(normalised(config[0][0]))
    outs = [*(c[0] for c in config[1:]), 1280]
    for (width, inner, _, stride, gated, _), out in zip(config, outs):
        streams = () if (stride, width) == (1, out) else (normalised(out),)
        total += together(normalised(inner), {(inner,): int(gated)}, *streams)
    return total


def attnet(dims: Sequence[int], depths: Sequence[int], ratios: Sequence[int]) -> Groups:
    """A stream for each stage, normalised where it starts (after half as many units in the first);
    in a block the units that generated kernels convolve, each its own, and those of a gated layer,
    two thirds of `ratio` times the stream, rounded to 32."""
    total = normalised(dims[0] // 2)
    for dim, depth, ratio in zip(dims, depths, ratios, strict=True):
        hidden = 32 * round(int(2 * dim * ratio / 3) / 32)
        total = together(
            total, normalised(dim), times(depth, together({(dim,): 1}, {(hidden,): 1}))
        )
    return total


VIT = {"img_size": 16, "dim": 32, "patch_size": 4, "num_heads": 4, "depths": [2], "mlp_ratio": 2.0}
ENCODER = together({(32,): 1}, times(2, block(4, 8, 64)))
NORM = "it normalises images of each unit by a LayerNorm over units, which refuses: it runs nowhere"
POOLED = {"*/kernel_gen/*": "from the places of a pooled image to those of a kernel"}
VMAP = "its own call of jax.vmap has more in_axes than arguments: it runs nowhere"
STAGES = {"dims": [16, 32], "depths": [1, 2]}
# Before the transformers of 16 units: 8 (a residual stream), 8, and 64, all normalised.
STEM = together({(8,): 2}, normalised(64))
MERGED = {(128,): 1}  # between two stages: 4 times the units of the second
# A gate multiplies the stream itself (and attention's result is thrown away): no units but it.
MLLA = together(STEM, {(16,): 1, (64,): 1}, MERGED, {(32,): 1, (128,): 1})
# Heads of 16 with a scalar decay each, and 128 states, which nobody changes, that all heads have in
# common; then a transformer.
VSSD = together(STEM, {(16,): 1, (2,): 1, (2, 16): 1, (128,): 1, (64,): 1}, MERGED,
                {(32,): 1}, block(4, 8, 128))  # fmt: skip


def partial(heads: int, dim: int) -> Groups:
    """A stage of PartialFormer with its stream, which falls into heads: its query is the query of
    an attention without a layer between, to values of its own, behind which a quarter is hidden.
    The other attention mixes heads by two layers, from those of queries to 4 times as many, to
    those of values."""
    of_heads = {(heads,): 3, (heads, dim // heads): 4}
    return together(of_heads, {(4 * heads,): 1}, {(dim // 4,): 1}, {(4 * dim,): 1})


# The second stage has one patch, which is background: only the query passes through the layers
# before the first attention, and what it is there is nothing else.
PARTIAL = together(STEM, partial(2, 16), MERGED, partial(4, 32), {(32,): 1})


def reduced(before: int, dim: int) -> Groups:
    """An attention stage of ReduceFormer: a convolution expands by 4; on the stream queries, keys
    and values, multiplied unit by unit, with what is pooled of the same; and an expansion."""
    return together({(4 * before,): 1}, normalised(dim), {(dim,): 1, (4 * dim,): 1})


# The stem and its block; a convolution that expands to 32 (normalised); two attention stages.
REDUCE = together({(8,): 2}, {(32,): 1, (16,): 1}, reduced(16, 16), reduced(16, 32))


def low(before: int, dim: int) -> Groups:
    """An attention stage of LowFormer: a convolution expands by 4; on the stream one head (queries
    with keys, and values), a normalised layer of 4 times the units, and an expansion."""
    return together({(4 * before,): 1}, normalised(dim), {(dim,): 2}, normalised(4 * dim),
                    {(4 * dim,): 1})  # fmt: skip


# The stem; two convolutions that expand to 32; two attention stages.
LOW = together({(8,): 1}, {(32,): 1, (8,): 1}, {(32,): 1, (16,): 1}, low(16, 16), low(16, 32))
ROWS = [
    row("VisionTransformer", {**VIT, "reg_tokens": 0}, ENCODER, size=16),
    row("VisionTransformer", {**VIT, "reg_tokens": 4}, together(ENCODER, {(4,): 1}), size=16,
        title="VisionTransformer with registers (DINOv2)"),
    row("VisionTransformer", {**VIT, "reg_tokens": 0, "ffn_layer": "swiglu", "init_values": 1.0},
        together({(32,): 1, (48,): 2}, times(2, attention(4, 8))), size=16,
        title="VisionTransformer with SwiGLU and layer scale"),
    row("VisionTransformer", {**VIT, "reg_tokens": 0, "use_global_pos_embed": False,
        "use_local_pos_embed": True},
        together({(32,): 1}, times(2, block(4, 8, 64, rotary=True))),
        size=16, still={"*rope/freqs": "frequencies, which both coordinates have in common"},
        title="VisionTransformer with rotary embeddings (DINOv3)"),
    row("ConvNeXt", STAGES, {(16,): 1, (32,): 1, (64,): 1, (128,): 2}),
    row("AttNet", {**STAGES, "exp_rates": [2, 2], "kernel_sizes": [5, 5],
        "glu_dwconv": [True, True], "glu_norm": [True, True]},
        attnet((16, 32), (1, 2), (2, 2)), size=64, still=POOLED),
    row("SHViT", {"dim": [32, 48, 64], "pdim": [8, 16, 16], "depths": [1, 1, 2],
        "block_type": ["s", "s", "s"]}, size=64, broken=NORM),
    row("Vssd", {"img_size": 32, "dim": 16, "depths": [1, 1], "num_heads": [2, 4],
        "attentions_layers": ("mamba2mixer", "attention")}, VSSD),
    row("Mlla", {"img_size": 32, "dim": 16, "depths": [1, 1], "num_heads": [2, 4]}, MLLA),
    row("FasterViT", {"img_size": 64, "dim": 16, "in_dim": 8, "num_heads": [2, 4, 4, 8],
        "hat": [False, False, True, False], "depths": [1, 1, 1, 1], "window_size": [2, 2, 2, 2],
        "ct_size": 1}, size=64, broken=VMAP),
    row("PartialFormer", {"img_size": 56, "dim": 16, "num_heads": [2, 4], "depths": [1, 1],
        "foreground_ratios": 0.5}, PARTIAL, size=56),
    row("ReduceFormer", {"widths": [8, 16, 16, 32], "depths": [1, 1, 1, 1],
        "block_types": ["conv", "conv", "attention", "attention"], "head_dim": 8},
        REDUCE),
    row("LowFormer", {"widths": [8, 8, 16, 16, 32], "depths": [0, 1, 1, 1, 1],
        "att_strides": [2, 2, 2, 2, 1], "block_types": ["conv", "conv", "conv", "attention",
        "attention"], "attention_type": "softmax"}, LOW, size=64),
    row("mobilenetv3_small", {}, lambda: mobilenet("mobilenetv3_small")),
    row("mobilenetv3_large", {}, lambda: mobilenet("mobilenetv3_large")),
    # Counted by hand, values in its last two attentions fall into 15 groups of 4 and 14 of 14 each,
    # where runs of a normalisation end in them or in their gates: all else is as many.
    row("iformer_t", {}, size=64, left="13 of 15 groups of 4 values in each of its last two "
        "attentions, tied to parts of themselves"),
    row("attnet_xxs", {}, attnet((32, 64, 128, 240), (2, 2, 4, 2), (8, 8, 4, 4)), size=128,
        still=POOLED),
]  # fmt: skip
