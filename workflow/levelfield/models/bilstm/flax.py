"""The bidirectional LSTM in Flax NNX: a module of its layers, each of them a scan over time, which nothing fuses on any device."""

from collections.abc import Callable, Iterator

import jax
from flax import nnx
from jax import numpy as jnp

from levelfield.models.bilstm import DIRECTIONS, LAYERS, BiLstm
from levelfield.study.protocol import Protocol

DEPARTURES = ("last-step-output", "extra-tanh", "naive-init", "adapted-init")

Map = Callable[[jax.Array], jax.Array]


class Model(nnx.Module):
    """Embedding, two bidirectional LSTM layers, and the logits from the last layer's two final states.

    With `bfloat16` the products are made in it; Flax keeps the states of its LSTM in the parameters' float32.
    """

    def __init__(self, protocol: Protocol, departures: frozenset[str], rngs: nnx.Rngs):
        sizes = BiLstm.of(protocol)
        how = {"dtype": jnp.bfloat16 if protocol.precision == "bfloat16" else jnp.float32, "rngs": rngs}

        def layer(inputs: int, return_carry: bool = False) -> nnx.Bidirectional:
            one_way = (nnx.RNN(nnx.OptimizedLSTMCell(inputs, sizes.units, **how)) for _ in DIRECTIONS)
            return nnx.Bidirectional(*one_way, time_major=True, return_carry=return_carry)

        self.embedding = nnx.Embed(protocol.vocabulary, sizes.embedding, **how)
        self.lstm_1 = layer(sizes.embedding)
        self.lstm_2 = layer(2 * sizes.units, return_carry=True)
        self.dense = nnx.Linear(2 * sizes.units, sizes.outputs, rngs=rngs)
        self.last_step = "last-step-output" in departures
        self.tanh = "extra-tanh" in departures

    def __call__(self, tokens: jax.Array) -> jax.Array:
        """tokens: int32 (batch, length) -> logits float32 (batch, outputs)."""
        first = self.lstm_1(self.embedding(tokens.T))
        # final states: the forward direction's after the last token, the backward direction's after the first
        ((_, ahead), (_, behind)), states = self.lstm_2(first)  # type: ignore[arg-type]  # no carry was asked for
        features = states[-1] if self.last_step else jnp.concatenate([ahead, behind], axis=1)
        if self.tanh:
            features = nnx.tanh(features)
        return self.dense(features.astype(jnp.float32))

    def layout(self) -> Iterator[tuple[str, nnx.Param[jax.Array], Map, Map]]:
        """Canonical name, parameter, and the functions into the canonical layout and back: it is Flax's own."""

        def same(array: jax.Array) -> jax.Array:
            return array

        yield "embedding", self.embedding.embedding, same, same
        for name in LAYERS:
            layer = getattr(self, name)
            for direction, rnn in zip(DIRECTIONS, (layer.forward_rnn, layer.backward_rnn), strict=True):
                yield f"{name}/{direction}/kernel", rnn.cell.dense_i.kernel, same, same
                yield f"{name}/{direction}/recurrent_kernel", rnn.cell.dense_h.kernel, same, same
                yield f"{name}/{direction}/bias", rnn.cell.dense_h.bias, same, same
        for part in ("kernel", "bias"):
            yield f"dense/{part}", getattr(self.dense, part), same, same
