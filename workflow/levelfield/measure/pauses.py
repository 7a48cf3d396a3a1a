"""Pauses inside a timed epoch: what its time holds beside its steps, so that no stall stays unseen in it."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from levelfield.backends.base import Progress
from levelfield.measure.clock import ClockError

# A pause counts where it is longer than three mean steps by 2 % of the epoch: of the 843 runs in results/reference 10 have one between two
# steps. It is a share of the epoch, so that a long run is not spoilt by what changes its time by 0.3 %, nor a short one by nothing.
LEAST_SHARE = 0.02
LEAST_SECONDS = 0.02
"""A slice or two of the system's scheduler: epochs of less than a second have such."""
LEAST_STEPS = 3
# A step that is handed out in less than this share of the mean step's time went into a queue.
QUEUED_SHARE = 0.2
QUEUE_MARGIN = 1.25


@dataclass(frozen=True)
class Pauses:
    """How an epoch's time divides, as the host saw the steps being handed out."""

    steps: int
    seconds: float
    before_seconds: float
    """From the start to the end of the first call."""
    longest_seconds: float
    """Longest time between the ends of two calls."""
    after_seconds: float
    """From the last call to the return: the queue is worked off."""
    queued: int
    """Calls that were handed out at once: the depth of the queue (JAX on a CPU 32, a GPU up to all)."""
    a_call: int = 1
    """Most steps that one call of the framework made: nothing is seen between these."""
    depth: int = 0
    """Most calls in a row that were handed out at once after another."""
    unexplained_seconds: float = 0.0
    """Longest time between the ends of two calls beyond what a queue accounts for that was worked off meanwhile: a step that is waited
    for, as to show its loss, empties it, and the calls that follow at once fill it again."""

    @property
    def stalls(self) -> int:
        """Pauses that neither steps nor the queue account for."""
        return sum(pause > least for pause, least in self._judged())

    @property
    def stalled_seconds(self) -> float:
        """Time of the stalls beyond what accounts for them."""
        return sum(pause - least for pause, least in self._judged() if pause > least)

    @property
    def unseen(self) -> bool:
        """Whether one call made most of the epoch, so that nothing is known of pauses in it."""
        return 2 * self.a_call > max(2, self.steps)

    @property
    def hidden(self) -> bool:
        """Whether the queue took most of the epoch, so that pauses on the device cannot be seen from the host."""
        return 2 * self.queued * self.a_call > self.steps

    def _judged(self) -> list[tuple[float, float]]:
        mean = self.seconds / self.steps
        least = LEAST_STEPS * mean + max(LEAST_SECONDS, LEAST_SHARE * self.seconds)
        call = (self.a_call - 1) * mean  # that its other steps take
        return [
            (self.before_seconds, least + call),
            (self.unexplained_seconds, least + call),
            (self.after_seconds, least + QUEUE_MARGIN * self.depth * self.a_call * mean),
        ]


class StepClock:
    """A progress that stamps every step, or call of several (0.2 µs each), and hands it on; one for each epoch, made just before it starts."""

    def __init__(self, steps: int, progress: Progress, clock: Callable[[], float] = time.monotonic):
        self._stamps, self._progress, self._clock = np.full(steps, np.nan), progress, clock
        self._start = clock()

    def __call__(self, step: int, fetch: Callable[[], tuple[float, float]]) -> None:
        self._stamps[step - 1] = self._clock()
        self._progress(step, fetch)

    def pauses(self) -> Pauses:
        """To be called as soon as the epoch has returned. Raises ClockError where the clock stepped back."""
        end = self._clock()
        # sorted, since Keras calls callbacks in threads of their own; a departure may leave out the last step
        told = np.flatnonzero(~np.isnan(self._stamps)) + 1
        stamps = np.sort(self._stamps[told - 1])
        if not len(stamps):
            raise RuntimeError("the backend reported no step: train_epoch must call progress after each")
        if stamps[0] < self._start or end < stamps[-1]:
            raise ClockError(
                f"the clock stepped back within an epoch: {self._start!r}, {stamps[0]!r} … {stamps[-1]!r}, {end!r}"
            )
        between, seconds = np.diff(stamps), end - self._start
        at_once = between < QUEUED_SHARE * seconds / len(stamps)
        follow = _in_a_row(at_once)
        # a queue whose refilling the end of the epoch cuts off is as deep as it was before
        follow[:-1][np.arange(len(at_once)) + follow[:-1] >= len(at_once)] = follow.max()
        a_call = int(np.diff(told, prepend=0).max())
        worked_off = QUEUE_MARGIN * follow[1:] * a_call * seconds / int(told[-1])
        return Pauses(
            steps=int(told[-1]),
            seconds=seconds,
            before_seconds=float(stamps[0] - self._start),
            longest_seconds=float(between.max(initial=0.0)),
            after_seconds=float(end - stamps[-1]),
            queued=int(at_once.sum()),
            a_call=a_call,
            depth=int(follow.max()),
            unexplained_seconds=float((between - worked_off).max(initial=0.0)),
        )


def _in_a_row(at_once: np.ndarray) -> np.ndarray:
    """How many in a row are true from each place on, int (places + 1,): the last is 0."""
    found = np.zeros(len(at_once) + 1, int)
    for place in range(len(at_once) - 1, -1, -1):
        found[place] = found[place + 1] + 1 if at_once[place] else 0
    return found
