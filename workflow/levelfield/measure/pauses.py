"""Pauses inside a timed epoch: what an epoch's time holds beside its steps, so that no stall stays unseen in it."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from levelfield.backends.base import Progress
from levelfield.measure.clock import ClockError

# A pause counts from half a second and ten steps on: Keras-TensorFlow's stalls take up to 5 s, a step up to 1 s.
LEAST_SECONDS = 0.5
LEAST_STEPS = 10


@dataclass(frozen=True)
class Pauses:
    """How an epoch's time divides, as the host saw the steps being handed out."""

    before_seconds: float
    """From the call to the end of the first step."""
    longest_seconds: float
    """Longest time between two steps."""
    after_seconds: float
    """From the last step to the return, on a GPU the rest of the queue as well."""
    median_seconds: float
    """Median time between two steps."""
    stalls: int
    """Pauses between steps that count as stalls."""
    stalled_seconds: float
    """Time of the stalls, the first and the last part included where they are longer than that of steps."""


class StepClock:
    """A progress that stamps every step (80 ns each) and hands it on; one for each epoch, made just before it starts."""

    def __init__(self, steps: int, progress: Progress, clock: Callable[[], float] = time.monotonic):
        self._stamps, self._progress, self._clock = np.zeros(steps), progress, clock
        self._start = clock()

    def __call__(self, step: int, fetch: Callable[[], tuple[float, float]]) -> None:
        self._stamps[step - 1] = self._clock()
        self._progress(step, fetch)

    def pauses(self, queued: bool) -> Pauses:
        """To be called as soon as the epoch has returned. queued: whether the device works off a queue of steps (GPU), so
        that the host's last wait is no pause. Raises ClockError where the clock stepped back."""
        end = self._clock()
        between = np.diff(self._stamps)
        before, after = float(self._stamps[0] - self._start), float(end - self._stamps[-1])
        if min(before, after, *between) < 0:
            raise ClockError(f"the clock stepped back by {-min(before, after, *between)} seconds within an epoch")
        median = float(np.median(between)) if len(between) else before
        least = max(LEAST_SECONDS, LEAST_STEPS * median)
        inside = between[between > least]
        ends = [pause for pause in (before, 0.0 if queued else after) if pause > least]
        return Pauses(
            before_seconds=before,
            longest_seconds=float(between.max()) if len(between) else 0.0,
            after_seconds=after,
            median_seconds=median,
            stalls=len(inside) + len(ends),
            stalled_seconds=float(inside.sum()) + sum(ends),
        )
