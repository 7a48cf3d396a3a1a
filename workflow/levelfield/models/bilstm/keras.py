"""The bidirectional LSTM in Keras: a functional model.

On JAX in bfloat16 cuDNN is left out: `jax.experimental.rnn`, which Keras calls for it, takes float32 alone.
"""

from functools import partial

import keras
from keras import layers

from levelfield.models.bilstm import BiLstm
from levelfield.study.protocol import Protocol

DEPARTURES = ("last-step-output", "extra-tanh", "naive-init", "adapted-init")


def build(protocol: Protocol, departures: frozenset[str]) -> keras.Model:
    """Tokens int32 (batch, length) -> logits (batch, outputs); its variables stand in the canonical order."""
    sizes, last_step = BiLstm.of(protocol), "last-step-output" in departures
    scanned = keras.backend.backend() == "jax" and protocol.precision == "bfloat16"
    lstm = partial(layers.LSTM, sizes.units, use_cudnn=False if scanned else "auto")
    tokens = keras.Input((protocol.length,), dtype="int32")
    features = layers.Embedding(protocol.vocabulary, sizes.embedding)(tokens)
    features = layers.Bidirectional(lstm(return_sequences=True))(features)
    features = layers.Bidirectional(lstm(return_sequences=last_step))(features)
    if last_step:
        features = features[:, -1]
    if "extra-tanh" in departures:
        features = layers.Activation("tanh")(features)
    return keras.Model(tokens, layers.Dense(sizes.outputs, dtype="float32")(features))
