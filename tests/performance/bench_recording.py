"""The cost of all recording: a backend's epoch as `train.py` runs it, against the same steps that keep and show nothing."""

import sys

import numpy as np
from pairs import THREADS, paired, sequences

from levelfield.backends import confine, load_class
from levelfield.level.start import make_start
from levelfield.measure.clock import Stopwatch
from levelfield.measure.energy import Energy
from levelfield.measure.noise import Restlessness
from levelfield.measure.pauses import StepClock
from levelfield.study.protocol import Protocol
from levelfield.training.progress import progress

PAIRS = 31
STEPS = {"keras-torch": 16}
"""Steps of an epoch; 32 where nothing is said. Half the article's length, so that the cost weighs twice."""


def measure(name: str) -> dict:
    """`ratio` of recording on to off, medians of alternating pairs."""
    protocol, steps = Protocol(length=100), STEPS.get(name, 32)
    x, y = sequences(protocol, steps * protocol.batch_size)
    threads = confine("cpu", THREADS)
    backend = load_class(name)(protocol, frozenset(), "cpu", threads)
    start = make_start(protocol, 0, len(x))
    backend.load(start.weights)
    order = start.order[0].astype(np.int64)

    def recorded():
        with Restlessness() as rest, progress(name, steps) as report:
            with Energy(None), Stopwatch(backend.synchronize):
                stamps = StepClock(steps, report)
                backend.train_epoch(x, y, order, stamps)
            stamps.pauses()
        rest.measurements()

    bare = {"keras": bare_keras, "torch": bare_torch, "jax": bare_jax}[name.partition("-")[0]]
    return paired(recorded, bare(backend, protocol, x, y, order), PAIRS, steps, backend.synchronize)


def bare_torch(backend, protocol: Protocol, x, y, order):
    import torch
    from torch.nn import functional

    def epoch():
        tokens, labels = torch.from_numpy(x[order]), torch.from_numpy(y[order])
        size = protocol.batch_size
        for batch, targets in zip(tokens.split(size), labels.split(size), strict=True):
            backend.optimizer.zero_grad(set_to_none=True)
            functional.binary_cross_entropy_with_logits(backend.forward(batch), targets).backward()
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
    keras, ours = sys.modules["keras"], backend.model.optimizer
    model = sys.modules["levelfield.backends.keras"].build_model(protocol, frozenset())
    model.compile(optimizer=type(ours).from_config(ours.get_config()), loss=keras.losses.BinaryCrossentropy(from_logits=True))
    return lambda: model.fit(x[order], y[order], batch_size=protocol.batch_size, epochs=1, shuffle=False, verbose=0)
