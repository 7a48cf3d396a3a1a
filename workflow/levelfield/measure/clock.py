"""Wall time: one monotonic clock, and a stopwatch that waits for the device at both ends."""

import time
from collections.abc import Callable


class ClockError(RuntimeError):
    """The clock stepped back, so that no time that it gave can be believed."""


def nothing() -> None:
    """The synchronisation of a host that computes nothing in the background."""


class Stopwatch:
    """Times a block: `with Stopwatch(backend.synchronize) as watch: …`, then `watch.seconds`.

    synchronize: waits until the device is idle; called before the clock is read, at both ends. seconds: wall time of
    the block; there is none if it raised. waited_seconds: part of it that the last synchronisation took, near 0 where the block
    left the device idle as the contract of a backend asks. Raises ClockError where the clock steps back.
    """

    seconds: float
    waited_seconds: float

    def __init__(self, synchronize: Callable[[], None] = nothing, clock: Callable[[], float] = time.monotonic):
        self._synchronize, self._clock = synchronize, clock

    def __enter__(self) -> "Stopwatch":
        self._synchronize()
        self._start = self._clock()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            return
        returned = self._clock()
        self._synchronize()
        end = self._clock()
        if not self._start <= returned <= end:
            raise ClockError(f"the clock stepped back: {self._start!r}, then {returned!r}, then {end!r} seconds")
        self.seconds, self.waited_seconds = end - self._start, end - returned
