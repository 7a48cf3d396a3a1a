"""The convolutional model in Keras: a functional model of its layers, on TensorFlow, JAX or PyTorch."""

import keras
from keras import layers

from levelfield.models.cnn import CONVOLUTIONS, DROPOUT, Cnn
from levelfield.study.protocol import Protocol

DEPARTURES = ("own-dropout",)


def build(protocol: Protocol, departures: frozenset[str]) -> keras.Model:
    """Tokens int32 (batch, length) -> logits float32 (batch, outputs)."""
    sizes, dropout = Cnn.of(protocol), "own-dropout" in departures
    tokens = keras.Input((protocol.length,), dtype="int32")
    features = layers.Embedding(protocol.vocabulary, sizes.embedding)(tokens)
    if dropout:
        features = layers.Dropout(DROPOUT)(features)
    for layer in CONVOLUTIONS:
        features = layers.Conv1D(sizes.filters, sizes.width, sizes.stride, "valid", activation="relu", name=layer)(features)
    features = layers.GlobalMaxPooling1D()(features)
    features = layers.Dense(sizes.dense, activation="relu", name="hidden")(features)
    if dropout:
        features = layers.Dropout(DROPOUT)(features)
    return keras.Model(tokens, layers.Dense(sizes.outputs, dtype="float32", name="dense")(features))
