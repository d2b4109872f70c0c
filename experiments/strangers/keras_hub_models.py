"""KerasHub's models, small: two layers, 32 wide with four heads; images of a few stages."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

import mcjax

from .keras_applications import keras
from .row import Groups, Model, Row, attention, block, times, together, with_readout

FRAMEWORK = "KerasHub"
WIDTH, HEADS, HIDDEN, LAYERS, VOCABULARY = 32, 4, 64, 2, 61
SIZE = WIDTH // HEADS
STREAM = Counter({(WIDTH,): 1})
POOLED = STREAM  # a dense layer as wide as the stream, before the classes
ENCODER = together(STREAM, times(LAYERS, block(HEADS, SIZE, HIDDEN)))
TEXT = {"vocabulary_size": VOCABULARY, "num_layers": LAYERS, "num_heads": HEADS,
        "hidden_dim": WIDTH, "intermediate_dim": HIDDEN}  # fmt: skip
GROUPED = {"vocabulary_size": VOCABULARY, "num_layers": LAYERS, "num_query_heads": HEADS,
           "hidden_dim": WIDTH, "intermediate_dim": HIDDEN, "num_key_value_heads": 2}  # fmt: skip
PIXELS = {"image_shape": (16, 16, 3), "patch_size": 4, "num_layers": LAYERS, "num_heads": HEADS,
          "hidden_dim": WIDTH}  # fmt: skip
CAUSAL, CLASSIFIER, IMAGES = "CausalLM", "TextClassifier", "ImageClassifier"


def layers(count: int = LAYERS, **options: Any) -> Counter:
    return times(count, block(HEADS, SIZE, HIDDEN, **options))


def hub() -> Any:
    keras()  # its backend is chosen first
    import keras_hub

    return keras_hub.models


def inputs_of(model: Any, length: int = 9, size: int = 16) -> Any:
    """Two examples of what a functional model takes, by names and types of its inputs."""
    rng = np.random.default_rng(0)

    def made(name: str, tensor: Any) -> Any:
        shape = [2, *(size if len(tensor.shape) == 4 and d is None else d or length
                      for d in tensor.shape[1:])]  # fmt: skip
        if "mask" in name:
            return np.ones(shape, tensor.dtype)
        if "int" in str(tensor.dtype):
            return np.asarray(rng.integers(0, 2 if "segment" in name else VOCABULARY, shape), "i4")
        return rng.normal(size=shape).astype("f4")

    given = model.input
    if isinstance(given, dict):
        return {name: made(name, tensor) for name, tensor in given.items()}
    return made("images", given)


def row(
    name: str, settings: dict[str, Any], groups: Groups | None, head: str = "", **more: Any
) -> Row:
    """A backbone, and what stands on it: classes, or logits of tokens."""
    length, size = more.pop("length", 9), more.pop("size", 16)

    def build() -> Model:
        models = hub()
        model = getattr(models, f"{name}Backbone")(**settings)
        if head:
            options = {} if head == CAUSAL else {"num_classes": 5}
            model = getattr(models, name + head)(backbone=model, preprocessor=None, **options)
        made = (*mcjax.interop.keras.from_model(model), inputs_of(model, length, size))
        return made if head else with_readout(made)

    return Row(name + (head or "Backbone"), FRAMEWORK, build, groups, **more)


PLANES = "shared by all heads, on planes that are rotated by different angles"
NORMS = {"*query_dense_layernorm*": PLANES, "*key_dense_layernorm*": PLANES,
         "*query_norm*": PLANES, "*key_norm*": PLANES}  # fmt: skip
LLAMA = together(STREAM, layers(rotary=True, shared=2))
ALIBI = "heads: each has a slope of its own (ALiBi)"
SLOPED = together(STREAM, {(HEADS, SIZE): 2 * LAYERS, (HIDDEN,): LAYERS})
HEADS_ALONE = times(LAYERS, attention(HEADS, SIZE, shared=2, rotary=True))
EXPERTS = together(STREAM, HEADS_ALONE, {(4,): LAYERS})  # who they are, not what is in them
CROSS = times(LAYERS, attention(HEADS, SIZE))
SHARED = together(STREAM, layers(2 * LAYERS), CROSS)  # encoder and decoder have one embedding
# Keys, receptances, decays and gates of keys stand in step in each head's state. Every layer adds
# to its values those of the first, so heads and values are the same in all. Four bottlenecks a
# layer (decay, a, gate, values), of which the first needs none for values.
RWKV = together(STREAM, {(HEADS,): 1, (HEADS, SIZE): 1}, {(HEADS, SIZE): LAYERS, (HIDDEN,): LAYERS},
                {(8,): 4 * LAYERS - 1})  # fmt: skip
# Streams of encoder and decoder and the units of the first two convolutions; hidden layers are 4
# times as wide as the stream. Half of a head's dimensions are rotated, by frequencies that are a
# leaf: planes move with them, in all heads alike. The decoder's second attention rotates nothing.
MOONSHINE = together(
    {(WIDTH,): 3, (2 * WIDTH,): 1, (4 * WIDTH,): 2}, attention(HEADS, SIZE),
    times(2, together(attention(HEADS, SIZE, rotary=True), {(2,): 1, (HEADS, SIZE - 4): 1})),
)  # fmt: skip
# The stem; in each stage what is downsampled, the two halves of an expansion, in the blocks of the
# second (a residual stream) a bottleneck each, and both of the transitions.
CSPNET = together({(8,): 1}, {(16,): 5, (8,): 1}, {(32,): 2, (16,): 5})
# The stem's five convolutions, of which the second has half the channels; in each block three
# (the input, beside them, is read by a squeeze), the squeeze and the excitation; a convolution on
# top. Depthwise ones keep channels apart.
HGNET = together({(8,): 4, (4,): 1}, {(8,): 2 + 1, (16,): 1}, {(8,): 2, (16,): 1, (32,): 1},
                 {(32,): 1})  # fmt: skip
ROWS = [
    row("Bert", TEXT, together(ENCODER, POOLED), CLASSIFIER),
    row("Roberta", TEXT, together(ENCODER, POOLED), CLASSIFIER),
    row("XLMRoberta", TEXT, together(ENCODER, POOLED), CLASSIFIER),
    row("DistilBert", TEXT, together(ENCODER, POOLED), CLASSIFIER),
    row("DebertaV3", {**TEXT, "bucket_size": 8}, together(ENCODER, POOLED), CLASSIFIER),
    row("Albert", {**TEXT, "embedding_dim": 16},
        together(STREAM, block(HEADS, SIZE, HIDDEN), POOLED, {(16,): 1}), CLASSIFIER),
    row("FNet", {k: v for k, v in TEXT.items() if k != "num_heads"},
        together(POOLED, STREAM, {(HIDDEN,): LAYERS}), CLASSIFIER,
        still={"f_net*": "a Fourier transform mixes the stream",
               "embedding_projection/bias": "a Fourier transform mixes the stream"}),
    row("XLNet", TEXT, ENCODER),
    row("Electra", {"vocab_size": VOCABULARY, "num_layers": LAYERS, "num_heads": HEADS,
                    "hidden_dim": WIDTH, "embedding_dim": 16, "intermediate_dim": HIDDEN},
        together(ENCODER, POOLED, {(16,): 1})),
    row("ESM", TEXT, together(STREAM, layers(rotary=True))),
    row("RoformerV2", {**TEXT, "head_size": SIZE}, together(STREAM, layers(rotary=True))),
    row("GPT2", TEXT, ENCODER, CAUSAL),
    row("OPT", TEXT, ENCODER, CAUSAL),
    row("GPTNeoX", TEXT, together(STREAM, layers(rotary=True), {(HEADS, 6): LAYERS}), CAUSAL),
    row("Bloom", TEXT, SLOPED, CAUSAL, left=ALIBI),
    row("Falcon", {"vocabulary_size": VOCABULARY, "num_layers": LAYERS, "hidden_dim": WIDTH,
                   "num_attention_heads": HEADS, "intermediate_dim": HIDDEN}, SLOPED, CAUSAL,
        left=ALIBI),
    row("Llama", GROUPED, LLAMA, CAUSAL),
    row("Mistral", GROUPED, LLAMA, CAUSAL),
    row("Qwen", GROUPED, LLAMA, CAUSAL),
    row("Qwen3", {**GROUPED, "head_dim": SIZE}, LLAMA, CAUSAL, still=NORMS),
    row("Phi3", GROUPED, LLAMA, CAUSAL),
    row("Gemma", {**GROUPED, "head_dim": SIZE, "intermediate_dim": 2 * HIDDEN}, LLAMA, CAUSAL),
    row("Gemma3", {**GROUPED, "head_dim": SIZE, "image_size": 16}, LLAMA, CAUSAL, still=NORMS),
    row("SmolLM3", {"vocabulary_size": VOCABULARY, "hidden_dim": WIDTH, "intermediate_dim": HIDDEN,
        "num_layers": LAYERS, "num_attention_heads": HEADS, "num_key_value_heads": 2,
        "attention_bias": False, "attention_dropout": 0.0, "rope_layer_enabled_list": [True, False],
        "layer_types": ["full_attention"] * 2, "mlp_bias": False, "layer_norm_epsilon": 1e-5,
        "max_position_embeddings": 40, "rope_theta": 1e4, "partial_rotary_factor": 1.0},
        together(LLAMA, {(2, SIZE): 1, (SIZE // 2,): 1}), CAUSAL),
    row("Mixtral", {**GROUPED, "num_experts": 4},
        together(EXPERTS, {(4, HIDDEN): LAYERS}), CAUSAL),
    row("QwenMoe", {**GROUPED, "moe_intermediate_dim": 24, "shared_expert_intermediate_dim": 40,
        "num_experts": 4, "top_k": 2},
        together(EXPERTS, {(4, 24): LAYERS, (40,): LAYERS}), CAUSAL),
    row("Qwen3Moe", {**GROUPED, "moe_intermediate_dim": 24, "num_experts": 4, "top_k": 2,
        "head_dim": SIZE}, together(EXPERTS, {(4, 24): LAYERS}), CAUSAL,
        still=NORMS),
    row("GptOss", {**GROUPED, "num_experts": 4},
        together(EXPERTS, {(4, HIDDEN): LAYERS}), CAUSAL),
    row("RWKV7", {"hidden_size": WIDTH, "head_size": SIZE, "num_layers": LAYERS,
        "vocabulary_size": VOCABULARY, "intermediate_dim": HIDDEN, "gate_lora": 8, "mv_lora": 8,
        "aaa_lora": 8, "decay_lora": 8}, RWKV, CAUSAL, length=16),
    row("T5", TEXT, {(WIDTH,): 1, (HEADS,): 4, (HEADS, SIZE): 12, (HIDDEN,): 4}),
    row("Bart", TEXT, SHARED),
    row("Whisper", {**TEXT, "num_mels": 8, "max_encoder_sequence_length": 20,
        "max_decoder_sequence_length": 20}, together(SHARED, STREAM, {(WIDTH,): 1}), length=20),
    row("Moonshine", {"vocabulary_size": VOCABULARY, "filter_dim": WIDTH, "encoder_num_layers": 1,
        "decoder_num_layers": 1, "hidden_dim": WIDTH, "intermediate_dim": HIDDEN,
        "encoder_num_heads": HEADS, "decoder_num_heads": HEADS}, MOONSHINE, length=1200),
    row("T5Gemma", {"vocabulary_size": VOCABULARY, **{f"{side}_{k}": v for side in
        ("encoder", "decoder") for k, v in {"hidden_dim": WIDTH, "intermediate_dim": HIDDEN,
        "num_layers": 1, "num_attention_heads": HEADS, "num_key_value_heads": 2, "head_dim": SIZE,
        "layer_types": ["full_attention"]}.items()}},
        {(WIDTH,): 2, (2,): 3, (2, 2): 3, (2, SIZE): 4, (HIDDEN,): 2}),
    row("EdRec", {"vocab_size": VOCABULARY, "num_layers_enc": 1, "num_layers_dec": 1,
        "hidden_dim": WIDTH, "intermediate_dim": HIDDEN, "num_heads": HEADS},
        {(WIDTH,): 1, (HEADS,): 3, (HEADS, SIZE): 6, (HIDDEN,): 2}),
    row("ViT", {**PIXELS, "patch_size": (4, 4), "mlp_dim": HIDDEN}, ENCODER, IMAGES),
    row("DeiT", {**PIXELS, "patch_size": (4, 4), "intermediate_dim": HIDDEN}, ENCODER, IMAGES),
    row("DINOV2", {**PIXELS, "intermediate_dim": HIDDEN, "position_embedding_shape": (16, 16, 3),
        "use_swiglu_ffn": True},
        together(STREAM, times(LAYERS, attention(HEADS, SIZE)), {(48,): 2})),
    row("DINOV3", {**PIXELS, "intermediate_dim": HIDDEN},  # four registers, too
        together(STREAM, layers(rotary=True), {(4,): 1})),
    row("SwinTransformer", {"image_shape": (16, 16, 3), "embed_dim": 16, "depths": [2, 2],
        "num_heads": [2, 4], "window_size": 2, "patch_size": 2},
        {(16,): 1, (2,): 2, (2, 8): 4, (64,): 2, (32,): 1, (4,): 2, (4, 8): 4, (128,): 2}),
    row("MiT", {"layerwise_depths": [1, 1], "num_layers": 2, "layerwise_num_heads": [1, 2],
        "layerwise_sr_ratios": [2, 1], "max_drop_path_rate": 0.1, "layerwise_patch_sizes": [7, 3],
        "layerwise_strides": [4, 2], "image_shape": (32, 32, 3), "hidden_dims": [16, 32]},
        {(16,): 4, (64,): 1, (32,): 1, (2,): 1, (2, 16): 2, (128,): 1}, IMAGES),
    row("ResNet", {"input_conv_filters": [64], "input_conv_kernel_sizes": [7],
        "stackwise_num_filters": [64, 128, 256], "stackwise_num_blocks": [2, 2, 2],
        "stackwise_num_strides": [1, 2, 2], "block_type": "basic_block",
        "image_shape": (32, 32, 3)}, {(64,): 3, (128,): 3, (256,): 3}, IMAGES),
    row("DenseNet", {"stackwise_num_repeats": [2, 2], "growth_rate": 8,
        "image_shape": (32, 32, 3)}, {(64,): 1, (8,): 4, (32,): 4, (40,): 1}, IMAGES),
    row("CSPNet", {"stem_filters": 8, "stem_kernel_size": 3, "stem_strides": 1,
        "stackwise_depth": [1, 2], "stackwise_strides": [2, 2], "stackwise_num_filters": [16, 32],
        "block_type": "dark_block", "stage_type": "csp", "expand_ratio": [2.0, 1.0],
        "bottle_ratio": [0.5, 1.0], "block_ratio": [1.0, 0.5], "down_growth": True,
        "image_shape": (32, 32, 3)}, CSPNET, IMAGES),
    row("HGNetV2", {"depths": [1, 1], "embedding_size": 8, "hidden_sizes": [16, 32],
        "stem_channels": [3, 8, 8], "hidden_act": "relu", "use_learnable_affine_block": True,
        "stackwise_stage_filters": [[8, 8, 16, 1, 2, 3], [16, 8, 32, 1, 2, 3]],
        "apply_downsample": [False, True], "use_lightweight_conv_block": [False, True],
        "image_shape": (32, 32, 3)}, HGNET, IMAGES),
    row("VGG", {"stackwise_num_repeats": [2, 2], "stackwise_num_filters": [8, 16],
        "image_shape": (16, 16, 3)}, {(8,): 2, (16,): 2}),
    row("Xception", {"stackwise_conv_filters": [[8, 16], [16, 16], [24, 32]],
        "stackwise_pooling": [True, False, False], "image_shape": (71, 71, 3)},
        # The second block adds what it computes to the first's 16 units: as many, no projection.
        {(8,): 1, (16,): 2, (24,): 1, (32,): 1}, IMAGES),
    row("ViTDet", {"hidden_size": WIDTH, "num_layers": LAYERS, "intermediate_dim": HIDDEN,
        "num_heads": HEADS, "global_attention_layer_indices": [1], "image_shape": (32, 32, 3),
        "patch_size": 4, "num_output_channels": 24, "window_size": 4},
        {(WIDTH,): 1, (HEADS,): 2, (HEADS, SIZE): 2, (SIZE,): 2, (HIDDEN,): 2, (24,): 2}, size=32),
    row("VideoPrism", {"num_frames": 2, "patch_size": 4, "hidden_dim": WIDTH,
        "intermediate_dim": HIDDEN, "num_heads": HEADS, "num_spatial_layers": 1,
        "num_temporal_layers": 1, "num_auxiliary_layers": 0, "image_shape": (16, 16, 3)},
        together(STREAM, layers(1 + 1))),  # over places, then over time, on one stream
]  # fmt: skip
