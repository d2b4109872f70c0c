"""Hugging Face's Flax classes: two layers each, 32 wide (48 where heads ask for it)."""

from __future__ import annotations

import inspect
from collections import Counter
from typing import Any

import jax
import numpy as np

from .row import Model, Row, attention, block, times, together, with_readout

FRAMEWORK = "Hugging Face Flax"
WIDTH, HEADS, HIDDEN, LAYERS, VOCABULARY, TOKENS = 32, 4, 64, 2, 61, 12
SIZE = WIDTH // HEADS
STREAM = Counter({(WIDTH,): 1})
BLOCKS = times(LAYERS, block(HEADS, SIZE, HIDDEN))
ENCODER = together(STREAM, BLOCKS)
# A decoder's block attends twice.
DECODER = together(STREAM, BLOCKS, times(LAYERS, attention(HEADS, SIZE)))
SIMPLE = {"hidden_size": WIDTH, "num_attention_heads": HEADS, "intermediate_size": HIDDEN,
          "num_hidden_layers": LAYERS}  # fmt: skip
BERT = {**SIMPLE, "vocab_size": VOCABULARY, "max_position_embeddings": 40}
SEQUENCES = {
    "vocab_size": VOCABULARY, "d_model": WIDTH, "max_position_embeddings": 40,
    "encoder_layers": LAYERS, "decoder_layers": LAYERS, "encoder_ffn_dim": HIDDEN,
    "decoder_ffn_dim": HIDDEN, "encoder_attention_heads": HEADS, "decoder_attention_heads": HEADS,
    "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 2,
    "forced_eos_token_id": 2,
}  # fmt: skip
VOCABULARY_BIASES = dict.fromkeys(
    ("cls/predictions/bias", "lm_head/bias", "final_logits_bias", "vocab_projector/bias",
     "predictions/bias", "generator_lm_head/bias"), "one number a token"
)  # fmt: skip
IMAGES = {"image_size": 16, "patch_size": 4, "num_channels": 3}


def carried(name: str, config: Any, inputs: Any, part: str = "", **options: Any) -> Model:
    """A class by its name, as a function of its parameters; `part` of its outputs, or all."""
    import transformers

    model = getattr(transformers, name)(config, _do_init=False, **options)
    # Compiled as a whole, the values of the model are not computed, nor each operation compiled.
    params = jax.jit(lambda key: model.init_weights(key, model.input_shape))(jax.random.key(0))

    takes = "train" in inspect.signature(model.__call__).parameters
    flag = {"train": False} if takes else {}  # FlaxOPTForCausalLM does not, and need not

    def apply_fn(p: Any, x: Any) -> Any:
        out = model(**x, params=p, **flag)  # a dataclass, which is a pytree
        return out[part] if part else out

    return apply_fn, params, inputs


def tokens(length: int = TOKENS, examples: int = 3, mask: bool = True) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    ids = rng.integers(3, VOCABULARY, (examples, length)).astype(np.int32)
    return {"input_ids": ids} | ({"attention_mask": np.ones_like(ids)} if mask else {})


def pixels(size: int = 16, examples: int = 3) -> dict[str, Any]:
    shape = (examples, 3, size, size)
    return {"pixel_values": np.random.default_rng(0).normal(size=shape).astype(np.float32)}


def pair() -> dict[str, Any]:
    x = tokens()
    return {**x, "decoder_input_ids": x["input_ids"][:, ::-1][:, :7].copy()}


def row(name: str, config: str, settings: dict, inputs: Any, groups: Any, **more: Any) -> Row:
    options, readout = more.pop("options", {}), more.pop("readout", False)

    def build() -> Model:
        import transformers

        made = getattr(transformers, config)(**settings)
        model = carried(name, made, inputs(), **options)
        return with_readout(model) if readout else model

    still = VOCABULARY_BIASES | more.pop("still", {})
    return Row(name, FRAMEWORK, build, groups, still=still, **more)


def bert_like(name: str, config: str, groups: Any = None, **more: Any) -> Row:
    settings = {**BERT, **more.pop("settings", {})}
    return row(name, config, settings, tokens, groups or ENCODER, **more)


def sequences(name: str, config: str, groups: Any, **more: Any) -> Row:
    settings = {**SEQUENCES, **more.pop("settings", {})}
    return row(name, config, settings, pair, groups, options={"part": "logits"}, **more)


SINES = "sines that the class closes over are added to the stream"
OF_STREAM = dict.fromkeys(
    ("*layer_norm*", "*layernorm*", "*out_proj/bias", "*fc2/bias", "*embed*", "*shared*"), SINES
)  # fmt: skip
SINUSOIDAL: dict[str, Any] = {"left": f"the stream: {SINES}", "still": OF_STREAM}
CLIP = "jnp.clip() of this JAX has no a_max, which the class gives it: it runs nowhere"
BOTH = together(ENCODER, DECODER)
# Embeddings that encoder and decoder share make one stream of two.
SHARED = BOTH - STREAM
LABELS = {"num_labels": 5}
LLAMA = {**BERT, "num_key_value_heads": 2}


def blocks_of(count: int = LAYERS, **options: Any) -> Counter:
    return times(count, block(HEADS, SIZE, HIDDEN, **options))


def regnet(before: int, width: int) -> Counter:
    """A Y block, but for its stream: the convolutions' groups of 8 channels, what each holds before
    and behind the grouped convolution, and a squeeze to a quarter of the block's input."""
    return Counter({(width // 8,): 1, (width // 8, 8): 2}) + Counter({(before // 4,): 1})


ROWS = [
    bert_like("FlaxBertForMaskedLM", "BertConfig"),
    bert_like("FlaxRobertaForMaskedLM", "RobertaConfig"),
    bert_like("FlaxXLMRobertaForMaskedLM", "XLMRobertaConfig"),
    bert_like("FlaxRobertaPreLayerNormForMaskedLM", "RobertaPreLayerNormConfig"),
    bert_like("FlaxElectraForMaskedLM", "ElectraConfig",
              together(ENCODER, {(16,): 1}), settings={"embedding_size": 16}),
    bert_like("FlaxAlbertForMaskedLM", "AlbertConfig",
              together(STREAM, block(HEADS, SIZE, HIDDEN), {(16,): 1}),
              settings={"embedding_size": 16}),
    bert_like("FlaxBigBirdForMaskedLM", "BigBirdConfig", ENCODER,
              settings={"attention_type": "original_full"}),
    bert_like("FlaxRoFormerForMaskedLM", "RoFormerConfig",
              together(STREAM, blocks_of(rotary=True)),
              settings={"embedding_size": WIDTH}),
    row("FlaxDistilBertForMaskedLM", "DistilBertConfig",
        {"dim": WIDTH, "n_heads": HEADS, "hidden_dim": HIDDEN, "n_layers": LAYERS,
         "vocab_size": VOCABULARY, "max_position_embeddings": 40}, tokens,
        ENCODER),
    row("FlaxGPT2LMHeadModel", "GPT2Config",
        {"n_embd": WIDTH, "n_head": HEADS, "n_inner": HIDDEN, "n_layer": LAYERS,
         "vocab_size": VOCABULARY, "n_positions": 40}, tokens, ENCODER),
    row("FlaxGPTNeoForCausalLM", "GPTNeoConfig",
        {"hidden_size": WIDTH, "num_heads": HEADS, "intermediate_size": HIDDEN,
         "num_layers": LAYERS, "vocab_size": VOCABULARY, "max_position_embeddings": 40,
         "attention_types": [[["global", "local"], 1]], "window_size": 4}, tokens, ENCODER),
    row("FlaxGPTJForCausalLM", "GPTJConfig",
        {"n_embd": WIDTH, "n_head": HEADS, "n_inner": HIDDEN, "n_layer": LAYERS, "rotary_dim": 4,
         "vocab_size": VOCABULARY, "n_positions": 40}, tokens,
        together(STREAM, blocks_of(rotary=True), {(HEADS, SIZE - 4): LAYERS})),
    row("FlaxBloomForCausalLM", "BloomConfig",
        {"hidden_size": WIDTH, "n_head": HEADS, "n_layer": LAYERS, "vocab_size": VOCABULARY},
        tokens, together(STREAM, {(HEADS, SIZE): 2 * LAYERS, (4 * WIDTH,): LAYERS}),
        left="heads: each has a slope of its own (ALiBi)"),
    row("FlaxOPTForCausalLM", "OPTConfig",
        {"hidden_size": WIDTH, "num_attention_heads": HEADS, "ffn_dim": HIDDEN,
         "num_hidden_layers": LAYERS, "vocab_size": VOCABULARY, "max_position_embeddings": 40,
         "word_embed_proj_dim": WIDTH, "pad_token_id": 1}, tokens, ENCODER),
    row("FlaxXGLMForCausalLM", "XGLMConfig",
        {"d_model": WIDTH, "attention_heads": HEADS, "ffn_dim": HIDDEN, "num_layers": LAYERS,
         "vocab_size": VOCABULARY, "max_position_embeddings": 40}, tokens, BLOCKS,
        **SINUSOIDAL),
    row("FlaxLlamaForCausalLM", "LlamaConfig", {**BERT, "num_key_value_heads": HEADS}, tokens,
        together(STREAM, blocks_of(rotary=True))),
    row("FlaxMistralForCausalLM", "MistralConfig", LLAMA, tokens,
        together(STREAM, blocks_of(rotary=True, shared=2))),
    row("FlaxGemmaForCausalLM", "GemmaConfig",
        {**BERT, "num_key_value_heads": 1, "head_dim": SIZE, "hidden_activation": "gelu"}, tokens,
        together(STREAM, blocks_of(rotary=True, shared=1))),
    sequences("FlaxBartForConditionalGeneration", "BartConfig", SHARED),
    sequences("FlaxMBartForConditionalGeneration", "MBartConfig", SHARED),
    sequences("FlaxBlenderbotForConditionalGeneration", "BlenderbotConfig", SHARED),
    sequences("FlaxBlenderbotSmallForConditionalGeneration", "BlenderbotSmallConfig", SHARED),
    sequences("FlaxMarianMTModel", "MarianConfig", SHARED - STREAM, **SINUSOIDAL),
    sequences("FlaxPegasusForConditionalGeneration", "PegasusConfig", SHARED - STREAM,
              **SINUSOIDAL),
    row("FlaxT5ForConditionalGeneration", "T5Config",
        {"d_model": WIDTH, "d_kv": SIZE, "d_ff": HIDDEN, "num_layers": LAYERS, "num_heads": HEADS,
         "vocab_size": VOCABULARY, "decoder_start_token_id": 0}, pair, None, broken=CLIP),
    row("FlaxMT5ForConditionalGeneration", "MT5Config",
        {"d_model": WIDTH, "d_kv": SIZE, "d_ff": HIDDEN, "num_layers": LAYERS, "num_heads": HEADS,
         "vocab_size": VOCABULARY, "decoder_start_token_id": 0}, pair, None, broken=CLIP),
    row("FlaxLongT5ForConditionalGeneration", "LongT5Config",
        {"d_model": WIDTH, "d_kv": SIZE, "d_ff": HIDDEN, "num_layers": LAYERS, "num_heads": HEADS,
         "vocab_size": VOCABULARY, "decoder_start_token_id": 0, "local_radius": 3}, pair, None,
        broken=CLIP),
    row("FlaxViTForImageClassification", "ViTConfig", {**SIMPLE, **IMAGES, **LABELS}, pixels,
        ENCODER, options={"input_shape": (1, 16, 16, 3)}),
    row("FlaxBeitForImageClassification", "BeitConfig", {**SIMPLE, **IMAGES, **LABELS}, pixels,
        ENCODER, options={"input_shape": (1, 16, 16, 3)}),
    row("FlaxDinov2ForImageClassification", "Dinov2Config",
        {**SIMPLE, **IMAGES, **LABELS, "mlp_ratio": 2}, pixels, ENCODER,
        options={"input_shape": (1, 16, 16, 3)}),
    row("FlaxResNetForImageClassification", "ResNetConfig",
        {"embedding_size": 8, "hidden_sizes": [16, 32], "depths": [2, 2], **LABELS,
         "num_channels": 3}, lambda: pixels(32),
        # The stem; two streams; two bottlenecks in each block, of a quarter of its stream.
        together({(8,): 1}, {(16,): 1, (4,): 2 * 2}, {(32,): 1, (8,): 2 * 2}),
        options={"input_shape": (1, 32, 32, 3)}),
    row("FlaxRegNetForImageClassification", "RegNetConfig",
        {"embedding_size": 8, "hidden_sizes": [16, 32], "depths": [2, 2], "groups_width": 8,
         "num_channels": 3, **LABELS}, lambda: pixels(32),
        together({(8,): 1}, *(regnet(*sizes) for sizes in ((8, 16), (16, 16), (16, 32), (32, 32))),
                 {(16,): 1, (32,): 1}),
        options={"input_shape": (1, 32, 32, 3)}),
    row("FlaxCLIPModel", "CLIPConfig",
        {"text_config": {**BERT, "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1},
         "vision_config": {**SIMPLE, **IMAGES}, "projection_dim": 24},
        lambda: {**tokens(), **pixels()},
        together(ENCODER, ENCODER, {(24,): 1}),
        options={"input_shape": ((1, TOKENS), (1, 16, 16, 3)), "part": "logits_per_image"}),
    row("FlaxWhisperForConditionalGeneration", "WhisperConfig",
        {**SEQUENCES, "num_mel_bins": 8, "max_source_positions": 10, "max_target_positions": 20},
        lambda: {"input_features": np.random.default_rng(0).normal(size=(3, 8, 20)).astype("f4"),
                 "decoder_input_ids": pair()["decoder_input_ids"]},
        together(BOTH, {(WIDTH,): 1}),  # between the two convolutions
        options={"input_shape": (1, 8, 20), "part": "logits"}),
    row("FlaxWav2Vec2Model", "Wav2Vec2Config",
        {**SIMPLE, "conv_dim": [16, 16, 16], "conv_stride": [5, 2, 2], "conv_kernel": [10, 3, 3],
         "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 4, "vocab_size": 12,
         "do_stable_layer_norm": True, "feat_extract_norm": "layer"},
        lambda: {"input_values": np.random.default_rng(0).normal(size=(3, 400)).astype("f4")},
        # The convolution of positions has four groups, into which the stream falls.
        together(BLOCKS, {(16,): 3, (4,): 1, (4, SIZE): 1}),
        options={"input_shape": (1, 400)}, readout=True,
        still={"*pos_conv_embed/conv/weight_g": "one norm for each position of a kernel"}),
]  # fmt: skip
