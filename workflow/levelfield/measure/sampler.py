"""A process of its own that watches one GPU every 10 ms: peak memory of a run, utilisation, clocks, throttling, foreign processes."""

import json
import os
import select
import subprocess
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass
from statistics import mean, median

from levelfield.measure import gpu

INTERVAL_SECONDS = 0.01
ANSWER_SECONDS = 5.0


@dataclass(frozen=True)
class GpuUse:
    """What the sampler saw between `reset` and the end."""

    peak_bytes: int | None
    """Most memory that the run used on the GPU, CUDA context included."""
    peak_source: str | None
    """`process`: the run's own figure; `device`: the device's total less that before the run, where it is not listed by its own number."""
    samples: int
    longest_gap_seconds: float
    utilisation_percent: float | None
    """Mean over the samples."""
    clock_mhz: float | None
    """Median over the samples."""
    power_watts: float | None
    """Mean over the samples."""
    throttle_reasons: tuple[str, ...]
    foreign_processes: int
    """Most other processes seen at once."""


class Sampler:
    """Watches a GPU from its making until `stop`, in a process that ends with this one.

    uuid: the GPU; None watches nothing. To be made before the framework is imported, so that the memory in use before the
    run is known.
    """

    def __init__(self, uuid: str | None):
        self._process = None
        if uuid is not None:
            command = [sys.executable, "-m", __name__, uuid, str(os.getpid())]
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            self._process.stdout.readline()  # it has read the memory in use

    def reset(self) -> None:
        """Forgets what was seen so far: to be called at the start of training."""
        self._write("reset\n")

    def stop(self) -> GpuUse | None:
        """What was seen; None where the sampler died or does not answer: a peak not watched to the end is no peak."""
        if self._process is None:
            return None
        self._write("stop\n")
        try:
            answer, _ = self._process.communicate(timeout=ANSWER_SECONDS)
        except (subprocess.TimeoutExpired, BrokenPipeError):
            self._process.kill()
            self._process.wait()
            return None
        if self._process.returncode != 0 or not answer:
            return None
        values = json.loads(answer)
        return GpuUse(**values | {"throttle_reasons": tuple(values["throttle_reasons"])})

    def _write(self, line: str) -> None:
        try:
            if self._process is not None:
                self._process.stdin.write(line)
                self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it died, and its missing answer tells so at the end


class Record:
    """Gathers readings of the GPU for the process `pid`, in constant memory however long the run."""

    def __init__(self, pid: int, before: gpu.State):
        self._pid, self._before = pid, before
        self.clear()

    def clear(self) -> None:
        self._process_peak = self._device_peak = self._last = None
        self._samples, self._longest_gap, self._others = 0, 0.0, 0
        self._utilisation, self._clock, self._power = Counter(), Counter(), Counter()
        self._reasons: set[str] = set()

    def add(self, reading: gpu.State, now: float) -> None:
        self._samples += 1
        self._longest_gap = max(self._longest_gap, now - (now if self._last is None else self._last))
        self._last = now
        own = reading.processes.get(self._pid)
        if own is not None:
            self._process_peak = max(own, self._process_peak or 0)
        if reading.used_bytes is not None and self._before.used_bytes is not None:
            self._device_peak = max(reading.used_bytes - self._before.used_bytes, self._device_peak or 0)
        # Without our own number in the list, one of those listed is the run itself, in a container's other numbering.
        self._others = max(self._others, len(reading.processes) - 1 if reading.processes else 0)
        self._reasons.update(reading.throttle_reasons)
        self._utilisation[reading.utilisation_percent] += 1
        self._clock[reading.clock_mhz] += 1
        self._power[reading.power_watts] += 1

    def use(self) -> GpuUse:
        seen = self._process_peak is not None
        peak = self._process_peak if seen else self._device_peak
        return GpuUse(
            peak_bytes=peak,
            peak_source=None if peak is None else "process" if seen else "device",
            samples=self._samples,
            longest_gap_seconds=self._longest_gap,
            utilisation_percent=_over(mean, self._utilisation),
            clock_mhz=_over(median, self._clock),
            power_watts=_over(mean, self._power),
            throttle_reasons=tuple(sorted(self._reasons)),
            foreign_processes=self._others,
        )


def _over(summary, counts: Counter) -> float | None:
    """Mean or median of the readings, those left out that the GPU did not tell."""
    told = [value for value in counts.elements() if value is not None]
    return summary(told) if told else None


def main(uuid: str, pid: int) -> None:
    """The sampler's own process: reads `reset` and `stop` from its input, writes one line of JSON at the end."""
    record = Record(pid, gpu.state(uuid))
    print("ready", flush=True)
    while True:
        readable, _, _ = select.select([sys.stdin], [], [], INTERVAL_SECONDS)
        command = sys.stdin.readline() if readable else "sample"
        if command == "":
            return  # the run ended without asking
        record.add(gpu.state(uuid), time.monotonic())
        if command == "reset\n":
            record.clear()
        elif command == "stop\n":
            print(json.dumps(asdict(record.use())), flush=True)
            return


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
