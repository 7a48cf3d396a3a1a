"""The cost of all recording: a backend's epoch as `train.py` runs it, against the same steps that keep and show nothing."""

import sys

import numpy as np
from pairs import THREADS, paired, sequences

from levelfield import registry
from levelfield.backends import confine, load_backend
from levelfield.level.start import make_start
from levelfield.measure.clock import Stopwatch
from levelfield.measure.energy import Energy
from levelfield.measure.noise import Restlessness
from levelfield.measure.pauses import StepClock
from levelfield.study.protocol import Protocol
from levelfield.training.progress import progress

PAIRS = 31
EPOCH, SHORT = {"bilstm": (100, 32), "transformer": (200, 96)}, (200, 48)
"""Tokens of a sequence and steps of an epoch, and of other models. The LSTM's is half the article's length, so that the cost weighs
twice; the steps of the others are short enough as published."""
FEWER = {"keras-torch": 2}
"""By what the steps are divided."""


def measure(name: str, model: str = "bilstm") -> dict:
    """`ratio` of recording on to off, medians of alternating pairs."""
    length, steps = EPOCH.get(model, SHORT)
    protocol, steps = Protocol(model=registry.model(model).sizes(), length=length), steps // FEWER.get(name, 1)
    x, y = sequences(protocol, steps * protocol.batch_size)
    threads = confine("cpu", THREADS)
    backend = load_backend(name)(protocol, frozenset(), "cpu", threads)
    start = make_start(protocol, 0, len(x))
    backend.load(start.weights)
    order = start.order[0].astype(np.int64)

    def recorded():
        with Restlessness() as rest, progress(name, steps) as report:
            with Energy(), Stopwatch(backend.synchronize):
                stamps = StepClock(steps, report)
                backend.train_epoch(x, y, order, stamps)
            stamps.pauses()
        rest.measurements()

    bare = {"keras": bare_keras, "torch": bare_torch, "jax": bare_jax, "flax": bare_jax}[registry.backend(name).framework]
    return paired(recorded, bare(backend, protocol, x, y, order), PAIRS, steps, backend.synchronize)


def bare_torch(backend, protocol: Protocol, x, y, order):
    import torch
    from torch.nn import functional

    several = protocol.model.outputs > 1
    loss_of = functional.cross_entropy if several else functional.binary_cross_entropy_with_logits

    def epoch():
        tokens, labels = torch.from_numpy(x[order]), torch.from_numpy(y[order])
        labels = labels.long() if several else labels[:, None]
        size = protocol.batch_size
        for batch, targets in zip(tokens.split(size), labels.split(size), strict=True):
            backend.optimizer.zero_grad(set_to_none=True)
            loss_of(backend.forward(batch), targets).backward()
            backend.optimizer.step()

    return epoch


def bare_jax(backend, protocol: Protocol, x, y, order):
    import jax

    step = jax.jit(lambda *arguments: backend._step(*arguments)[0], donate_argnums=(0,))  # loss and hits fall away

    def epoch():
        tokens, labels = x[order], y[order]
        for first in range(0, len(order), protocol.batch_size):
            batch = slice(first, first + protocol.batch_size)
            backend.state = step(backend.state, tokens[batch], labels[batch])

    return epoch


def bare_keras(backend, protocol: Protocol, x, y, order):
    """Plain Keras, its own Adam: so the row pays for what it puts in its place, too. On TensorFlow that is another optimiser for an
    embedding (backends/README.md), and the row's stays."""
    keras, ours = sys.modules["keras"], backend.model.optimizer
    losses, adam = keras.losses, type(ours) if keras.backend.backend() == "tensorflow" else keras.optimizers.Adam
    loss = losses.BinaryCrossentropy if protocol.model.outputs == 1 else losses.SparseCategoricalCrossentropy
    model = registry.builder(protocol.model.name, "keras").build(protocol, frozenset())
    model.compile(optimizer=adam.from_config(ours.get_config()), loss=loss(from_logits=True))
    return lambda: model.fit(x[order], y[order], batch_size=protocol.batch_size, epochs=1, shuffle=False, verbose=0)
