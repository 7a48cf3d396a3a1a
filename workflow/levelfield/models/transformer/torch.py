"""The transformer in PyTorch: an `nn.Module` with `scaled_dot_product_attention`."""

from collections.abc import Callable, Iterator

import torch
from torch import nn
from torch.nn import functional

from levelfield.models.transformer import DROPOUT, EPSILON, Transformer, width_of_heads
from levelfield.study.protocol import Protocol

DEPARTURES = ("double-softmax", "heads-share-width", "own-dropout", "framework-init")
FRAMEWORK_INIT = {
    "embedding": ("normal", 1.0),
    "kernel": ("uniform", "1/sqrt(fan_in)"),
    "bias": ("uniform", "1/sqrt(fan_in)"),
    "gamma": ("ones", None),
    "beta": ("zeros", None),
}


class Attention(nn.Module):
    """Multi-head self-attention; `nn.MultiheadAttention` has no heads wider than their share of the embedding."""

    def __init__(self, width: int, heads: int, head_width: int):
        super().__init__()
        self.heads, self.head_width = heads, head_width
        self.query = nn.Linear(width, heads * head_width)
        self.key = nn.Linear(width, heads * head_width)
        self.value = nn.Linear(width, heads * head_width)
        self.output = nn.Linear(heads * head_width, width)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(batch, length, width) -> (batch, length, width)."""
        query, key, value = (
            projection(features).unflatten(-1, (self.heads, self.head_width)).transpose(1, 2)
            for projection in (self.query, self.key, self.value)
        )
        attended = functional.scaled_dot_product_attention(query, key, value)
        output: torch.Tensor = self.output(attended.transpose(1, 2).flatten(-2))
        return output


class Model(nn.Module):
    """Embeddings of tokens and positions, one transformer block, the mean over time, a dense layer, logits."""

    def __init__(self, protocol: Protocol, departures: frozenset[str]):
        super().__init__()
        sizes = Transformer.of(protocol)
        width = sizes.embedding
        self.tokens = nn.Embedding(protocol.vocabulary, width)
        self.positions = nn.Embedding(protocol.length, width)
        self.attention = Attention(width, sizes.heads, width_of_heads(protocol, departures))
        self.norm_1 = nn.LayerNorm(width, eps=EPSILON)
        self.feed_forward_1 = nn.Linear(width, sizes.feed_forward)
        self.feed_forward_2 = nn.Linear(sizes.feed_forward, width)
        self.norm_2 = nn.LayerNorm(width, eps=EPSILON)
        self.dense = nn.Linear(width, sizes.dense)
        self.logits = nn.Linear(sizes.dense, sizes.outputs)
        self.dropout = nn.Dropout(DROPOUT) if "own-dropout" in departures else nn.Identity()
        self.last = nn.Softmax(dim=-1) if "double-softmax" in departures else nn.Identity()
        self.mixed_precision = protocol.precision == "bfloat16"

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """tokens: int32 (batch, length) -> logits (batch, outputs)."""
        with torch.autocast(tokens.device.type, torch.bfloat16, enabled=self.mixed_precision):
            features = self.tokens(tokens) + self.positions.weight
            features = self.norm_1(features + self.dropout(self.attention(features)))
            inner = self.feed_forward_2(functional.relu(self.feed_forward_1(features)))
            features = self.norm_2(features + self.dropout(inner))
            features = self.dropout(features.mean(dim=1))
            features = self.dropout(functional.relu(self.dense(features)))
        logits: torch.Tensor = self.last(self.logits(features.float()))
        return logits

    def layout(self) -> Iterator[tuple[str, Callable[[torch.Tensor], torch.Tensor], tuple[torch.Tensor, ...]]]:
        """Canonical name, what shows an own tensor in the canonical layout, and the parameters whose sum the weight is."""
        heads = (self.attention.heads, self.attention.head_width)
        yield "tokens/embedding", lambda t: t, (self.tokens.weight,)
        yield "positions/embedding", lambda t: t, (self.positions.weight,)
        for name in ("query", "key", "value"):
            projection = getattr(self.attention, name)
            yield f"attention/{name}/kernel", lambda t: torch.unflatten(t.T, 1, heads), (projection.weight,)
            yield f"attention/{name}/bias", lambda t: torch.unflatten(t, 0, heads), (projection.bias,)
        yield "attention/output/kernel", lambda t: torch.unflatten(t.T, 0, heads), (self.attention.output.weight,)
        yield "attention/output/bias", lambda t: t, (self.attention.output.bias,)
        for name in ("norm_1", "feed_forward_1", "feed_forward_2", "norm_2", "dense", "logits"):
            layer = getattr(self, name)
            if isinstance(layer, nn.LayerNorm):
                yield f"{name}/gamma", lambda t: t, (layer.weight,)
                yield f"{name}/beta", lambda t: t, (layer.bias,)
            else:
                yield f"{name}/kernel", lambda t: t.T, (layer.weight,)
                yield f"{name}/bias", lambda t: t, (layer.bias,)
