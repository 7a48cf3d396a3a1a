"""Two ways to do the same work, timed in turn: what every ratio of the bench is made of."""

from collections.abc import Callable, Iterator

import numpy as np
from scipy.stats import mstats

from levelfield.host import cpus_available
from levelfield.measure.clock import Stopwatch
from levelfield.study.protocol import Protocol

THREADS = cpus_available()
FEWEST, MOST = 20, 80
"""Pairs."""
WIDTH = 0.01
"""Of the interval at which it is enough: an interval that is stopped by its width alone, not by where it lies, stays one of 95 % (Chow and
Robbins 1965)."""
TRIMMED = 0.2


def sequences(protocol: Protocol, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Random tokens and labels in the protocol's shape, the labels in the type that its model's number of outputs asks for."""
    rng = np.random.default_rng(0)
    x = rng.integers(3, protocol.vocabulary, (count, protocol.length)).astype(np.int32)
    return x, (x[:, -1] % 2).astype(np.float32 if protocol.model.outputs == 1 else np.int32)


def in_turn(ours: Callable, theirs: Callable, most: int, synchronize: Callable[[], None]) -> Iterator[tuple[float, float]]:
    """Runs both once to warm up, then in turn, who begins changing from pair to pair, so that a drift of the machine is neither's.

    Yields each pair's seconds: of ours, of theirs.
    """
    ours(), theirs()
    for pair in range(most):
        seconds = {}
        for work in (ours, theirs) if pair % 2 else (theirs, ours):
            with Stopwatch(synchronize) as watch:
                work()
            seconds[work] = watch.seconds
        yield seconds[ours], seconds[theirs]


def paired(ours: Callable, theirs: Callable, steps: int, synchronize: Callable[[], None]) -> dict:
    """The mean ratio of pairs, as many as make it known closely enough, its 95 % interval, and each side's median seconds a step."""
    seconds = []
    for pair in in_turn(ours, theirs, MOST, synchronize):
        seconds.append(pair)
        ratio, low, high = np.exp(mean_and_interval(-np.diff(np.log(seconds))[:, 0]))
        if len(seconds) >= FEWEST and high - low <= WIDTH:
            break
    of_ours, of_theirs = np.median(seconds, axis=0) / steps
    return {
        "ratio": float(ratio),
        "interval": [float(low), float(high)],
        "ours_seconds": float(of_ours),
        "theirs_seconds": float(of_theirs),
        "pairs": len(seconds),
    }


def mean_and_interval(values: np.ndarray) -> tuple[float, float, float]:
    """Mean of values (pairs,) without a fifth of them at each end, in which the hypervisor's theft lies, and its 95 % interval (Tukey and
    McLaughlin 1963); of a single value from -infinity to infinity."""
    if len(values) < 2:
        return float(values[0]), -np.inf, np.inf
    low, high = mstats.trimmed_mean_ci(values, (TRIMMED, TRIMMED))
    return float(mstats.trimmed_mean(values, (TRIMMED, TRIMMED))), float(low), float(high)
