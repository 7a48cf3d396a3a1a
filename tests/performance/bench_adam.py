"""The cost of the Adam that Keras on JAX and on PyTorch gets in place of its own (backends/README.md): plain Keras with either, at the
published sizes."""

import sys

from bench_recording import loaded
from pairs import THREADS, paired

from levelfield import registry
from levelfield.backends import confine
from levelfield.study.protocol import Protocol

STEPS = {"cnn": 24, "transformer": 32, "bilstm": 12}
"""Of an epoch: half a second to a second, near enough to each other for the machine's drift."""


def measure(name: str, model: str) -> dict:
    """`ratio` of an epoch with ours to one with Keras's own."""
    protocol, steps = Protocol(model=registry.model(model).sizes()), STEPS[model]
    backend, x, y, order = loaded(name, protocol, confine("cpu", THREADS), steps)
    keras, ours = sys.modules["keras"], backend.model.optimizer

    def fitted(adam):
        several = protocol.model.outputs > 1
        loss = keras.losses.SparseCategoricalCrossentropy if several else keras.losses.BinaryCrossentropy
        built = registry.builder(model, "keras").build(protocol, frozenset())
        built.compile(optimizer=adam.from_config(ours.get_config()), loss=loss(from_logits=True))
        return lambda: built.fit(x[order], y[order], batch_size=protocol.batch_size, epochs=1, shuffle=False, verbose=0)

    return paired(fitted(type(ours)), fitted(keras.optimizers.Adam), steps, backend.synchronize)
