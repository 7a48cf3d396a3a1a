"""The transformer in Flax NNX, of its own layers."""

from collections.abc import Callable, Iterator

import jax
from flax import nnx
from jax import numpy as jnp

from levelfield.models.transformer import DROPOUT, EPSILON, Transformer, width_of_heads
from levelfield.study.protocol import Protocol

DEPARTURES = ("double-softmax", "heads-share-width", "own-dropout", "framework-init")
FRAMEWORK_INIT = {
    "embedding": ("normal", "1/sqrt(fan_in)"),
    "kernel": ("truncated_normal", "1/sqrt(fan_in)"),
    "bias": ("zeros", None),
    "gamma": ("ones", None),
    "beta": ("zeros", None),
}

Map = Callable[[jax.Array], jax.Array]


class Model(nnx.Module):
    """Embeddings of tokens and positions, one transformer block, the mean over time, a dense layer, logits."""

    def __init__(self, protocol: Protocol, departures: frozenset[str], rngs: nnx.Rngs):
        sizes = Transformer.of(protocol)
        width, heads = sizes.embedding, sizes.heads
        own = {"dtype": jnp.bfloat16 if protocol.precision == "bfloat16" else jnp.float32, "rngs": rngs}
        self.tokens = nnx.Embed(protocol.vocabulary, width, **own)
        self.positions = nnx.Embed(protocol.length, width, **own)
        self.attention = nnx.MultiHeadAttention(heads, width, heads * width_of_heads(protocol, departures), decode=False, **own)
        self.norm_1 = nnx.LayerNorm(width, epsilon=EPSILON, **own)
        self.feed_forward_1 = nnx.Linear(width, sizes.feed_forward, **own)
        self.feed_forward_2 = nnx.Linear(sizes.feed_forward, width, **own)
        self.norm_2 = nnx.LayerNorm(width, epsilon=EPSILON, **own)
        self.dense = nnx.Linear(width, sizes.dense, **own)
        self.logits = nnx.Linear(sizes.dense, sizes.outputs, rngs=rngs)
        self.dropout = nnx.Dropout(DROPOUT, rngs=rngs) if "own-dropout" in departures else jax.nn.identity
        self.last = nnx.softmax if "double-softmax" in departures else jax.nn.identity

    def __call__(self, tokens: jax.Array) -> jax.Array:
        """tokens: int32 (batch, length) -> logits float32 (batch, outputs)."""
        features = self.tokens(tokens) + self.positions(jnp.arange(tokens.shape[1]))
        features = self.norm_1(features + self.dropout(self.attention(features)))
        inner = self.feed_forward_2(nnx.relu(self.feed_forward_1(features)))
        features = self.norm_2(features + self.dropout(inner))
        features = self.dropout(features.mean(axis=1))
        features = self.dropout(nnx.relu(self.dense(features)))
        return self.last(self.logits(features.astype(jnp.float32)))

    def layout(self) -> Iterator[tuple[str, nnx.Param[jax.Array], Map, Map]]:
        """Canonical name, parameter, and what turns its values into the canonical layout and back: they stand in it already."""

        def same(values: jax.Array) -> jax.Array:
            return values

        yield "tokens/embedding", self.tokens.embedding, same, same
        yield "positions/embedding", self.positions.embedding, same, same
        for name in ("query", "key", "value", "output"):
            projection = getattr(self.attention, "out" if name == "output" else name)
            yield f"attention/{name}/kernel", projection.kernel, same, same
            yield f"attention/{name}/bias", projection.bias, same, same
        for name in ("norm_1", "feed_forward_1", "feed_forward_2", "norm_2", "dense", "logits"):
            layer = getattr(self, name)
            if name.startswith("norm"):
                yield f"{name}/gamma", layer.scale, same, same
                yield f"{name}/beta", layer.bias, same, same
            else:
                yield f"{name}/kernel", layer.kernel, same, same
                yield f"{name}/bias", layer.bias, same, same
