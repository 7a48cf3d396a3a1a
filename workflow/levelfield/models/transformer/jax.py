"""The transformer in JAX: pure functions of a tree of weights."""

from collections.abc import Callable
from typing import Literal

import jax
from jax import lax
from jax import numpy as jnp

from levelfield.models.transformer import DROPOUT, EPSILON, width_of_heads
from levelfield.study.protocol import Protocol

DEPARTURES = ("double-softmax", "heads-share-width", "own-dropout")
WIDEST = 128
"""Head that cuDNN's fused attention takes on any GPU (`check_is_flash_attention`, JAX 0.10.2)."""

Weights = dict[str, jax.Array]


def attention(weights: Weights, features: jax.Array, implementation: Literal["cudnn"] | None) -> jax.Array:
    """Multi-head self-attention, (batch, length, width) -> (batch, length, width)."""
    query, key, value = (
        jnp.einsum("blw,whd->blhd", features, weights[f"attention/{name}/kernel"]) + weights[f"attention/{name}/bias"]
        for name in ("query", "key", "value")
    )
    attended = jax.nn.dot_product_attention(query, key, value, implementation=implementation)
    return jnp.einsum("blhd,hdw->blw", attended, weights["attention/output/kernel"]) + weights["attention/output/bias"]


def fused(device: str, precision: str, head_width: int) -> Literal["cudnn"] | None:
    """cuDNN's fused attention where JAX takes it: half precision, heads of a multiple of 8 up to 128. (From Hopper on up to 256:
    here the same program runs on every GPU.)"""
    able = device == "cuda" and precision == "bfloat16" and head_width % 8 == 0 and head_width <= WIDEST
    return "cudnn" if able else None


def layer_norm(weights: Weights, name: str, features: jax.Array) -> jax.Array:
    """LayerNorm over the last axis, in float32 whatever the features are in."""
    wide = features.astype(jnp.float32)
    centred = wide - wide.mean(axis=-1, keepdims=True)
    variance = jnp.square(centred).mean(axis=-1, keepdims=True)
    normal = centred * lax.rsqrt(variance + EPSILON)
    return (normal * weights[f"{name}/gamma"] + weights[f"{name}/beta"]).astype(features.dtype)


def dense(weights: Weights, name: str, features: jax.Array) -> jax.Array:
    return features @ weights[f"{name}/kernel"] + weights[f"{name}/bias"]


def dropout(key: jax.Array, features: jax.Array) -> jax.Array:
    return jnp.where(jax.random.bernoulli(key, 1 - DROPOUT, features.shape), features / (1 - DROPOUT), 0)


def build(protocol: Protocol, departures: frozenset[str], device: str) -> Callable[..., jax.Array]:
    """The function (weights, tokens int32 (batch, length), key or None) -> logits float32 (batch, outputs)."""
    dtype = jnp.bfloat16 if protocol.precision == "bfloat16" else jnp.float32
    implementation = fused(device, protocol.precision, width_of_heads(protocol, departures))

    def logits(weights: Weights, tokens: jax.Array, key: jax.Array | None = None) -> jax.Array:
        cast = {name: value.astype(dtype) for name, value in weights.items()}
        keys = iter(() if key is None else jax.random.split(key, 4))

        def dropped(features: jax.Array) -> jax.Array:
            return features if key is None else dropout(next(keys), features)

        features = cast["tokens/embedding"][tokens] + cast["positions/embedding"]
        features = layer_norm(cast, "norm_1", features + dropped(attention(cast, features, implementation)))
        inner = dense(cast, "feed_forward_2", jax.nn.relu(dense(cast, "feed_forward_1", features)))
        features = layer_norm(cast, "norm_2", features + dropped(inner))
        features = dropped(features.mean(axis=1))
        features = dropped(jax.nn.relu(dense(cast, "dense", features)))
        found = dense(weights, "logits", features.astype(jnp.float32))
        return jax.nn.softmax(found) if "double-softmax" in departures else found

    return logits
