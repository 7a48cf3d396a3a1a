"""Two ways to do the same work, timed in turn: what every ratio of the bench is made of."""

from collections.abc import Callable
from statistics import median

import numpy as np
from scipy import stats

from levelfield.host import cpus_available
from levelfield.measure.clock import Stopwatch
from levelfield.study.protocol import Protocol

THREADS = cpus_available()


def sequences(protocol: Protocol, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Random tokens and labels in the protocol's shape, the labels in the type that its model's number of outputs asks for."""
    rng = np.random.default_rng(0)
    x = rng.integers(3, protocol.vocabulary, (count, protocol.length)).astype(np.int32)
    return x, (x[:, -1] % 2).astype(np.float32 if protocol.model.outputs == 1 else np.int32)


def paired(ours: Callable, theirs: Callable, pairs: int, steps: int, synchronize: Callable[[], None]) -> dict:
    """Runs both once to warm up, then in turn, who begins changing from pair to pair.

    Returns the median of the pairs' ratios, which a drift of the machine leaves alone, its 95 % interval, and each side's
    median seconds a step.
    """
    ours(), theirs()
    seconds = {ours: [], theirs: []}
    for pair in range(pairs):
        for work in (ours, theirs) if pair % 2 else (theirs, ours):
            with Stopwatch(synchronize) as watch:
                work()
            seconds[work].append(watch.seconds)
    ratios = np.divide(seconds[ours], seconds[theirs])
    return {
        "ratio": float(np.median(ratios)),
        "interval": [float(end) for end in stats.quantile_test(ratios).confidence_interval()],
        "ours_seconds": median(seconds[ours]) / steps,
        "theirs_seconds": median(seconds[theirs]) / steps,
        "pairs": pairs,
    }
