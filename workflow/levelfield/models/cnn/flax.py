"""The convolutional model in Flax NNX: a module of its layers."""

from collections.abc import Callable, Iterator

import jax
from flax import nnx
from jax import numpy as jnp

from levelfield.models.cnn import CONVOLUTIONS, DROPOUT, Cnn
from levelfield.study.protocol import Protocol

DEPARTURES = ("own-dropout", "framework-init")
FRAMEWORK_INIT = {
    "embedding": ("normal", "1/sqrt(fan_in)"),
    "kernel": ("truncated_normal", "1/sqrt(fan_in)"),
    "bias": ("zeros", None),
}

Map = Callable[[jax.Array], jax.Array]


class Model(nnx.Module):
    """Embedding, two convolutions, the maximum over time, two dense layers."""

    def __init__(self, protocol: Protocol, departures: frozenset[str], rngs: nnx.Rngs):
        sizes = Cnn.of(protocol)
        how = {"dtype": jnp.bfloat16 if protocol.precision == "bfloat16" else jnp.float32, "rngs": rngs}

        def convolution(inputs: int) -> nnx.Conv:
            return nnx.Conv(inputs, sizes.filters, (sizes.width,), (sizes.stride,), padding="VALID", **how)

        self.embedding = nnx.Embed(protocol.vocabulary, sizes.embedding, **how)
        self.conv_1 = convolution(sizes.embedding)
        self.conv_2 = convolution(sizes.filters)
        self.hidden = nnx.Linear(sizes.filters, sizes.dense, **how)
        self.dense = nnx.Linear(sizes.dense, sizes.outputs, rngs=rngs)
        self.dropout = nnx.Dropout(DROPOUT, rngs=rngs) if "own-dropout" in departures else None

    def __call__(self, tokens: jax.Array) -> jax.Array:
        """tokens: int32 (batch, length) -> logits float32 (batch, outputs)."""
        features = self.embedding(tokens)
        if self.dropout:
            features = self.dropout(features)
        features = nnx.relu(self.conv_1(features))
        features = nnx.relu(self.conv_2(features))
        features = nnx.relu(self.hidden(features.max(axis=1)))
        if self.dropout:
            features = self.dropout(features)
        return self.dense(features.astype(jnp.float32))

    def layout(self) -> Iterator[tuple[str, nnx.Param[jax.Array], Map, Map]]:
        """Canonical name, parameter, and the functions into the canonical layout and back: it is Flax's own."""

        def same(array: jax.Array) -> jax.Array:
            return array

        yield "embedding", self.embedding.embedding, same, same
        for name in (*CONVOLUTIONS, "hidden", "dense"):
            layer = getattr(self, name)
            yield f"{name}/kernel", layer.kernel, same, same
            yield f"{name}/bias", layer.bias, same, same
