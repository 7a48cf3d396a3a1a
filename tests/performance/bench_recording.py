"""The cost of all recording: what a backend's epoch as `train.py` runs it takes more than the same steps that keep and show nothing.

It is a cost in microseconds a step, whatever the sizes of layers: so it is taken at the smallest, where noise is small, with the published
batch and outputs, of which losses and right answers are, and told as a share of the published step. Where a framework hands out steps
ahead of the device, as JAX does, the published step hides some of it: then the share is an upper bound.
"""

import sys
import time
from statistics import median

import numpy as np
from pairs import THREADS, in_turn, mean_and_interval, sequences

from levelfield import registry
from levelfield.backends import confine, load_backend
from levelfield.level.start import make_start
from levelfield.measure.clock import Stopwatch
from levelfield.measure.energy import Energy
from levelfield.measure.noise import Restlessness
from levelfield.measure.pauses import StepClock
from levelfield.study.protocol import Protocol
from levelfield.training.progress import progress

SMALLEST = {
    "bilstm": {"embedding": 8, "units": 8},
    "transformer": {"embedding": 8, "head_width": 4, "feed_forward": 8, "dense": 8},
    "cnn": {"embedding": 8, "filters": 8, "dense": 8},
}
LENGTH = 25
"""The shortest that the convolutions take."""
VOCABULARY = 1_000
STEPS = 200
"""Of a small epoch: what the clock's time holds once an epoch weighs more than in the published one."""
FEWER = {"keras-torch": 4}
"""By what they are divided where they are slow: pairs that take long meet more of the machine's drift."""
EPOCH = 625
"""Steps of the published epoch, over which what is done around the clock, once an epoch, is spread."""
PUBLISHED_STEPS, REPEATS = 24, 7
FEWEST, MOST, WIDTH = 12, 1000, 0.004
"""Pairs, and the interval's width, as a share of the published step, at which they are enough."""
SECONDS = 150.0
"""At which they are enough, too: the steps of Keras on PyTorch are not small."""


def measure(name: str, model: str = "bilstm") -> dict:
    """`ratio`: a published step with recording to one without."""
    threads = confine("cpu", THREADS)
    sizes = registry.model(model).sizes
    step = published_step(name, Protocol(model=sizes()), threads)

    steps = STEPS // FEWER.get(name, 1)
    protocol = Protocol(model=sizes(**SMALLEST.get(model, {})), length=LENGTH, vocabulary=VOCABULARY)
    backend, x, y, order = loaded(name, protocol, threads, steps)

    clocked: list[float] = []

    def recorded() -> None:
        with Restlessness() as rest, progress(name, steps) as report:
            with Energy(), Stopwatch(backend.synchronize) as watch:
                stamps = StepClock(steps, report)
                backend.train_epoch(x, y, order, stamps)
            stamps.pauses()
        rest.measurements()
        clocked.append(watch.seconds)

    bare = bare_epoch(name, backend, protocol, x, y, order)
    costs: list[float] = []
    ends = time.monotonic() + SECONDS
    for ours, theirs in in_turn(recorded, bare, MOST, backend.synchronize):
        costs.append((clocked[-1] - theirs) / steps + (ours - clocked[-1]) / EPOCH)
        cost, low, high = mean_and_interval(np.array(costs))
        if len(costs) >= FEWEST and (high - low <= WIDTH * step or time.monotonic() > ends):
            break
    return {
        "ratio": 1 + cost / step,
        "interval": [1 + low / step, 1 + high / step],
        "cost_seconds": cost,
        "step_seconds": step,
        "small_step_seconds": theirs / steps,
        "pairs": len(costs),
    }


def loaded(name: str, protocol: Protocol, threads: int, steps: int):
    """A backend with a start, sequences and labels of so many steps, and their order."""
    x, y = sequences(protocol, steps * protocol.batch_size)
    backend = load_backend(name)(protocol, frozenset(), "cpu", threads)
    start = make_start(protocol, 0, len(x))
    backend.load(start.weights)
    return backend, x, y, start.order[0].astype(np.int64)


def published_step(name: str, protocol: Protocol, threads: int) -> float:
    """Median seconds of a step that keeps and shows nothing."""
    backend, *data = loaded(name, protocol, threads, PUBLISHED_STEPS)
    epoch, seconds = bare_epoch(name, backend, protocol, *data), []
    epoch()
    for _ in range(REPEATS):
        with Stopwatch(backend.synchronize) as watch:
            epoch()
        seconds.append(watch.seconds / PUBLISHED_STEPS)
    return median(seconds)


def bare_epoch(name: str, backend, protocol: Protocol, x, y, order):
    """The framework's own loop over the backend's model and optimiser, as a function."""
    bare = {"keras": bare_keras, "torch": bare_torch, "jax": bare_jax, "flax": bare_jax}
    return bare[registry.backend(name).framework](backend, protocol, x, y, order)


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
    """Plain Keras with the row's optimiser, whose own cost is `bench_adam`'s."""
    losses, ours = sys.modules["keras"].losses, backend.model.optimizer
    loss = losses.BinaryCrossentropy if protocol.model.outputs == 1 else losses.SparseCategoricalCrossentropy
    model = registry.builder(protocol.model.name, "keras").build(protocol, frozenset())
    model.compile(optimizer=type(ours).from_config(ours.get_config()), loss=loss(from_logits=True))
    return lambda: model.fit(x[order], y[order], batch_size=protocol.batch_size, epochs=1, shuffle=False, verbose=0)
