"""The bidirectional LSTM in JAX: pure functions of a dictionary of weights.

On a GPU both layers are one call of the cuDNN LSTM (`jax.experimental.rnn`), elsewhere, and in bfloat16, which that call does
not take ("add support for … dtypes other than float32", says its source), a `lax.scan` a direction.
"""

from collections.abc import Callable
from functools import partial

import jax
from jax import lax
from jax import numpy as jnp
from jax.experimental import rnn

from levelfield.models.bilstm import DIRECTIONS, LAYERS
from levelfield.study.protocol import Protocol

DEPARTURES = ("last-step-output", "extra-tanh", "naive-init", "adapted-init")

Weights = dict[str, jax.Array]


def scan_lstm(weights: Weights, layer: str, direction: str, features: jax.Array) -> jax.Array:
    """features (length, batch, inputs) -> hidden states (length, batch, units), in the order of the input."""
    kernel, recurrent, bias = (weights[f"{layer}/{direction}/{name}"] for name in ("kernel", "recurrent_kernel", "bias"))
    projected = features @ kernel + bias  # all time steps in one product
    zeros = jnp.zeros((features.shape[1], recurrent.shape[0]), features.dtype)

    def step(state: tuple[jax.Array, jax.Array], inputs: jax.Array) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
        hidden, cell = state
        gate_i, gate_f, candidate, gate_o = jnp.split(inputs + hidden @ recurrent, 4, axis=1)
        cell = jax.nn.sigmoid(gate_f) * cell + jax.nn.sigmoid(gate_i) * jnp.tanh(candidate)
        hidden = jax.nn.sigmoid(gate_o) * jnp.tanh(cell)
        return (hidden, cell), hidden

    return lax.scan(step, (zeros, zeros), projected, reverse=direction == "backward")[1]


def scan_features(weights: Weights, embedded: jax.Array) -> jax.Array:
    """embedded (length, batch, embedding) -> the second layer's states (length, batch, 2·units)."""
    for layer in LAYERS:
        embedded = jnp.concatenate([scan_lstm(weights, layer, direction, embedded) for direction in DIRECTIONS], axis=2)
    return embedded


def flat_weights(weights: Weights) -> jax.Array:
    """cuDNN's one flat vector: of each layer and direction the input and recurrent kernels, transposed; then all biases,
    the second of the two being 0 (order as in `jax.experimental.rnn.unpack_lstm_weights`)."""
    kernels, biases = [], []
    for layer in LAYERS:
        for direction in DIRECTIONS:
            kernel, recurrent, bias = (weights[f"{layer}/{direction}/{n}"] for n in ("kernel", "recurrent_kernel", "bias"))
            kernels += [kernel.T.ravel(), recurrent.T.ravel()]
            biases += [bias, jnp.zeros_like(bias)]
    return jnp.concatenate(kernels + biases)


def cudnn_features(
    weights: Weights, embedded: jax.Array, lstm: Callable[..., tuple[jax.Array, jax.Array, jax.Array]] = rnn.lstm
) -> jax.Array:
    """The same as `scan_features` in one call of the fused kernel."""
    length, batch, inputs = embedded.shape
    units = weights["lstm_1/forward/recurrent_kernel"].shape[0]
    zeros = jnp.zeros((4, batch, units), embedded.dtype)
    output, _, _ = lstm(
        jnp.swapaxes(embedded, 0, 1),
        zeros,
        zeros,
        flat_weights(weights),
        jnp.full((batch,), length, jnp.int32),
        input_size=inputs,
        hidden_size=units,
        num_layers=2,
        dropout=0.0,
        bidirectional=True,
    )
    return jnp.swapaxes(output, 0, 1)


def build(
    protocol: Protocol, departures: frozenset[str], device: str
) -> Callable[[Weights, jax.Array, jax.Array | None], jax.Array]:
    """The function (weights, tokens int32 (batch, length), key) -> logits float32 (batch, outputs)."""
    dtype = jnp.bfloat16 if protocol.precision == "bfloat16" else jnp.float32
    exact = None if protocol.precision == "tf32" else lax.Precision.HIGHEST
    fused = device == "cuda" and dtype == jnp.float32
    lstm = partial(cudnn_features, lstm=partial(rnn.lstm, precision=exact)) if fused else scan_features

    def logits(weights: Weights, tokens: jax.Array, key: jax.Array | None) -> jax.Array:
        cast = {name: value.astype(dtype) for name, value in weights.items()}
        states = lstm(cast, cast["embedding"][tokens.T])
        units = states.shape[2] // 2
        # final states: the forward direction's after the last token, the backward direction's after the first
        behind = states[-1 if "last-step-output" in departures else 0, :, units:]
        features = jnp.concatenate([states[-1, :, :units], behind], axis=1)
        if "extra-tanh" in departures:
            features = jnp.tanh(features)
        return features.astype(jnp.float32) @ weights["dense/kernel"] + weights["dense/bias"]

    return logits
