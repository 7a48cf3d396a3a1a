"""A GPU's clock at the end of the warm-up: work goes on until it has settled, so that no epoch is timed while it still climbs or falls.

How long that takes is measured, not assumed: an idle card starts slow, and a cold one runs faster than it will after a minute.
"""

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

TOLERANCE = 0.02
"""Share of the highest reading by which readings may differ; clocks move in steps of 15 MHz, 1 % of a data centre card's."""
STEADY_SECONDS = 2.0
"""For so long, to be settled."""
LEAST_READINGS = 3
LIMIT_SECONDS = 30.0
"""After which a clock that still moves is told as not settled, and training begins."""


@dataclass(frozen=True)
class Settling:
    """What the wait for the clock found."""

    seconds: float
    """Time that it took, the steady stretch included."""
    settled: bool | None
    """None where the clock was not told, or too rarely, or not waited for."""
    range_mhz: tuple[int, int] | None
    """Lowest and highest reading of the last stretch; of several GPUs, of the one whose clock moved most."""

    def __str__(self) -> str:
        if self.settled is None or self.range_mhz is None:
            return ""
        low, high = self.range_mhz
        if self.settled:
            return f"; the clock settled in {self.seconds:.1f} s, at {high} MHz"
        return f"; the clock did not settle: {low} to {high} MHz in the last of {self.seconds:.1f} s"

    def measurements(self) -> dict[str, float | str | None]:
        """As `run.json` has them; both None where the clock was not told. `gpu_settling`: `settled`, or what it did instead."""
        told = str(self).removeprefix("; ")
        return {
            "gpu_settling_seconds": self.seconds if told else None,
            "gpu_settling": ("settled" if self.settled else told) if told else None,
        }


NOT_WAITED = Settling(0.0, None, None)
"""On a CPU, and on a GPU that NVML does not know."""


def settle(
    work: Callable[[], None], clocks: Callable[[], Sequence[int | None]], now: Callable[[], float] = time.monotonic
) -> Settling:
    """Repeats `work` until the clocks have settled, at most for LIMIT_SECONDS and the work that is then under way.

    work: steps like those to come, the device waited for. clocks: each GPU's SM clock in MHz; one None ends the wait. Work so long that
    the limit bears fewer than LEAST_READINGS tells nothing of the clock.
    """
    began = now()
    readings: deque[tuple[float, list[int]]] = deque()
    while True:
        work()
        found, read = clocks(), now()
        told = [megahertz for megahertz in found if megahertz is not None]
        if not told or len(told) < len(found):
            return Settling(read - began, None, None)
        readings.append((read, told))
        # the oldest one kept stands at the stretch's beginning, or before it
        while len(readings) > LEAST_READINGS and readings[1][0] <= read - STEADY_SECONDS:
            readings.popleft()
        enough = len(readings) >= LEAST_READINGS
        ranges = [(min(values), max(values)) for values in zip(*(values for _, values in readings), strict=True)]
        low, high = max(ranges, key=lambda ends: (ends[1] - ends[0]) / ends[1])
        if enough and read - readings[0][0] >= STEADY_SECONDS and high - low <= TOLERANCE * high:
            return Settling(read - began, True, (low, high))
        if read - began >= LIMIT_SECONDS:
            return Settling(read - began, False if enough else None, (low, high) if enough else None)
