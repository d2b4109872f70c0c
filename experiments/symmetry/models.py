"""Small transformers as people write them: pre-LN, learned scales and biases, GELU."""

from __future__ import annotations

import flax.linen as nn
import jax.numpy as jnp


class Block(nn.Module):
    """x ↦ x + attention(LN(x)), then x ↦ x + W₂ GELU(W₁ LN(x))."""

    heads: int
    causal: bool

    @nn.compact
    def __call__(self, x):
        width = x.shape[-1]
        mask = nn.make_causal_mask(jnp.ones(x.shape[:2])) if self.causal else None
        attention = nn.MultiHeadDotProductAttention(self.heads)
        x = x + attention(nn.LayerNorm()(x), mask=mask)
        return x + nn.Dense(width)(nn.gelu(nn.Dense(4 * width)(nn.LayerNorm()(x))))


class GPT(nn.Module):
    """Tokens (N, T) → logits (N, T, vocabulary); embedding and output are two matrices."""

    vocabulary: int
    context: int = 64
    width: int = 96
    depth: int = 3
    heads: int = 4

    @nn.compact
    def __call__(self, tokens):
        x = nn.Embed(self.vocabulary, self.width)(tokens)
        x = x + self.param("positions", nn.initializers.normal(0.02), (self.context, self.width))
        for _ in range(self.depth):
            x = Block(self.heads, causal=True)(x)
        return nn.Dense(self.vocabulary)(nn.LayerNorm()(x))


class ViT(nn.Module):
    """Images (N, H, W, C) → logits (N, classes): patches, blocks, mean over patches."""

    patch: int
    classes: int = 10
    width: int = 64
    depth: int = 3
    heads: int = 4

    @nn.compact
    def __call__(self, images):
        size = (self.patch, self.patch)
        x = nn.Conv(self.width, size, size)(images)
        x = x.reshape(x.shape[0], -1, self.width)
        x = x + self.param("positions", nn.initializers.normal(0.02), x.shape[1:])
        for _ in range(self.depth):
            x = Block(self.heads, causal=False)(x)
        return nn.Dense(self.classes)(nn.LayerNorm()(x).mean(1))
