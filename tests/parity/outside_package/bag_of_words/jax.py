"""The bag of words in JAX."""

from collections.abc import Callable

import jax
from jax import numpy as jnp

from levelfield.study.protocol import Protocol

DEPARTURES = ("sum-of-words",)


def build(protocol: Protocol, departures: frozenset[str], device: str) -> Callable[..., jax.Array]:
    """The function of (weights, tokens int32 (batch, length), key or None) to logits float32 (batch, outputs)."""
    dtype = jnp.bfloat16 if protocol.precision == "bfloat16" else jnp.float32
    reduced = jnp.sum if "sum-of-words" in departures else jnp.mean

    def logits(weights: dict[str, jax.Array], tokens: jax.Array, key: jax.Array | None = None) -> jax.Array:
        features = reduced(weights["embedding"].astype(dtype)[tokens], axis=1)
        return features.astype(jnp.float32) @ weights["dense/kernel"] + weights["dense/bias"]

    return logits
