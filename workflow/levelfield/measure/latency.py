"""Latency of single training steps: a short probe after training, in which every step is waited for."""

import time
from collections.abc import Callable

import numpy as np

from levelfield.backends.base import Backend
from levelfield.measure.clock import ClockError
from levelfield.records import Latency

PROBE_SECONDS, LONGEST_SECONDS = 3.0, 60.0
FEWEST, MOST = 20, 200


def probe(
    backend: Backend, x: np.ndarray, y: np.ndarray, step_seconds: float, clock: Callable[[], float] = time.monotonic
) -> Latency | None:
    """Trains some more full batches through the backend's own loop and waits for the device after each.

    step_seconds: mean step of the training, from which the number of steps is chosen that takes about 3 s: at least 20, or
    as many as a minute holds, over the same batches again where the data holds fewer. The weights are others afterwards.
    The first step, which carries the start of the loop, is left out. None where the data holds fewer than three full
    batches, whose epochs are too short to be held against single steps, and where one call makes several steps, so that none
    is single. Raises ClockError where the clock steps back.
    """
    batches = len(x) // backend.batch_size
    if batches < 3 or backend.steps_a_call != 1:
        return None
    wanted = np.clip(PROBE_SECONDS / step_seconds, FEWEST, max(FEWEST, min(MOST, batches - 1)))
    steps = 1 + int(np.clip(LONGEST_SECONDS / step_seconds, 3, wanted))
    rows = np.arange(steps * backend.batch_size) % (batches * backend.batch_size)
    stamps: list[float] = []

    def stamp(step: int, fetch: Callable[[], tuple[float, float]]) -> None:
        stamps.append(clock())

    backend.train_epoch(x, y, rows, stamp, wait=True)
    seconds = np.diff(stamps)
    if len(seconds) != steps - 1:
        raise RuntimeError(f"the backend reported {len(stamps)} of {steps} steps: train_epoch must call progress after each")
    if seconds.min() < 0:
        raise ClockError(f"the clock stepped back by {-seconds.min()} seconds")
    p50, p90, p99 = (float(value) for value in np.percentile(seconds, (50, 90, 99)))
    return Latency(p50, p90, p99, len(seconds))
