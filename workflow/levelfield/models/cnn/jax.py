"""The convolutional model in JAX: pure functions of a tree of weights."""

from collections.abc import Callable

import jax
from jax import lax
from jax import numpy as jnp

from levelfield.models.cnn import CONVOLUTIONS, DROPOUT, Cnn
from levelfield.study.protocol import Protocol

DEPARTURES = ("own-dropout",)
Weights = dict[str, jax.Array]


def convolved(weights: Weights, layer: str, features: jax.Array, stride: int) -> jax.Array:
    """features (batch, time, inputs) -> (batch, positions, filters), after the bias and ReLU."""
    kernel, bias = (weights[f"{layer}/{name}"].astype(features.dtype) for name in ("kernel", "bias"))
    axes = ("NWC", "WIO", "NWC")
    return jax.nn.relu(lax.conv_general_dilated(features, kernel, (stride,), "VALID", dimension_numbers=axes) + bias)


def dense(weights: Weights, layer: str, features: jax.Array) -> jax.Array:
    kernel, bias = (weights[f"{layer}/{name}"].astype(features.dtype) for name in ("kernel", "bias"))
    return features @ kernel + bias


def dropped(features: jax.Array, key: jax.Array | None) -> jax.Array:
    """Dropout where there is a key, which there is in training with `own-dropout` alone."""
    if key is None:
        return features
    return jnp.where(jax.random.bernoulli(key, 1 - DROPOUT, features.shape), features / (1 - DROPOUT), 0)


def build(protocol: Protocol, departures: frozenset[str], device: str) -> Callable[..., jax.Array]:
    """The function of (weights, tokens int32 (batch, length), key or None) to logits float32 (batch, outputs)."""
    dtype = jnp.bfloat16 if protocol.precision == "bfloat16" else jnp.float32

    def logits(weights: Weights, tokens: jax.Array, key: jax.Array | None = None) -> jax.Array:
        first, second = (None, None) if key is None else jax.random.split(key)
        features = dropped(weights["embedding"].astype(dtype)[tokens], first)
        for layer in CONVOLUTIONS:
            features = convolved(weights, layer, features, Cnn.of(protocol).stride)
        features = dropped(jax.nn.relu(dense(weights, "hidden", features.max(axis=1))), second)
        return dense(weights, "dense", features.astype(jnp.float32))

    return logits
