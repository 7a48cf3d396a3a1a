"""The transformer in Keras: a functional model of its own layers, on TensorFlow, JAX or PyTorch."""

from typing import Any

import keras
from keras import layers, ops

from levelfield.models.transformer import DROPOUT, EPSILON, Transformer, width_of_heads
from levelfield.study.protocol import Protocol

DEPARTURES = ("double-softmax", "heads-share-width", "own-dropout")


class TokensAndPositions(layers.Layer):  # type: ignore[misc]  # Keras has no types
    """The sum of each token's embedding and its position's."""

    def __init__(self, vocabulary: int, length: int, width: int):
        super().__init__()
        self.tokens = layers.Embedding(vocabulary, width)
        self.positions = layers.Embedding(length, width)

    def call(self, tokens: Any) -> Any:  # of whichever framework Keras runs on
        return self.tokens(tokens) + self.positions(ops.arange(tokens.shape[1]))


def build(protocol: Protocol, departures: frozenset[str]) -> keras.Model:
    """Tokens int32 (batch, length) -> logits (batch, outputs)."""
    sizes = Transformer.of(protocol)

    def dropped(features: keras.KerasTensor) -> keras.KerasTensor:
        return layers.Dropout(DROPOUT)(features) if "own-dropout" in departures else features

    tokens = keras.Input((protocol.length,), dtype="int32")
    embedded = TokensAndPositions(protocol.vocabulary, protocol.length, sizes.embedding)(tokens)
    attended = layers.MultiHeadAttention(sizes.heads, width_of_heads(protocol, departures))(embedded, embedded)
    features = layers.LayerNormalization(epsilon=EPSILON)(embedded + dropped(attended))
    inner = layers.Dense(sizes.feed_forward, activation="relu")(features)
    inner = layers.Dense(sizes.embedding)(inner)
    features = layers.LayerNormalization(epsilon=EPSILON)(features + dropped(inner))
    features = dropped(layers.GlobalAveragePooling1D()(features))
    features = dropped(layers.Dense(sizes.dense, activation="relu")(features))
    logits = layers.Dense(sizes.outputs, dtype="float32")(features)
    if "double-softmax" in departures:
        # on TensorFlow, Keras's loss finds the logits behind a softmax and takes those instead, unless a copy stands between
        logits = ops.copy(ops.softmax(logits))
    return keras.Model(tokens, logits)
