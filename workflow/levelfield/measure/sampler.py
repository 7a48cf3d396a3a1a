"""A process of its own that watches one GPU every 10 ms: peak memory of a run, utilisation, clocks, power, throttling, and, rarely,
who else computes on it."""

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from statistics import mean, median
from typing import Any

from levelfield.measure import gpu
from levelfield.measure.sums import sum_told

INTERVAL_SECONDS = 0.01
PROCESSES_SECONDS = 5.0
"""Between two lists of processes, which cost milliseconds and the driver's lock; one more before the run, one at its end."""
START_SECONDS = 30.0
ANSWER_SECONDS = 5.0
UNTOLD_SHARE = 0.01
"""A figure that more than this share of the readings did not tell is not told."""
LEAST_POWER_SECONDS = 0.5
"""Between the first and the last move of the energy counter that were seen: seen to 10 ms each, power is right to 4 %."""
FAULTS = ("hardware slowdown", "software thermal slowdown", "hardware thermal slowdown", "hardware power brake")
"""Reasons of a low clock that are no part of the card as it is sold, as its power cap is."""


@dataclass(frozen=True)
class GpuUse:
    """What the sampler saw between `reset` and the end; None where the GPU did not tell."""

    peak_bytes: int | None
    """Most memory that the run used on the GPU, CUDA context included: the device's total less that before the run. None where
    others came, went or changed what they hold."""
    peak_source: str | None
    """`device`: the device's total less that before the run."""
    samples: int
    longest_gap_seconds: float
    utilisation_percent: float | None
    """Mean over the samples."""
    clock_mhz: float | None
    """Median over the samples."""
    power_watts: float | None
    """The energy counter's rise over the time that it took, whole moves of the counter alone."""
    throttle_reasons: tuple[str, ...] | None
    throttled_share: float | None
    """Share of the samples in which heat or power supply held the clock down (FAULTS)."""
    foreign_processes: int | None
    """Most other compute processes seen at once."""


def together(uses: list[GpuUse | None]) -> GpuUse | None:
    """What several GPUs did in one run: memory and power added up, utilisation and clock as means, the worst of the rest; a figure that
    one of them did not tell is None, and all of it where one was not watched to the end, or there was none."""
    if not uses or None in uses:
        return None
    if len(uses) == 1:
        return uses[0]

    def told(name: str, add: Callable[[Any], Any]) -> Any:
        values = [getattr(use, name) for use in uses]
        return None if None in values else add(values)

    return GpuUse(
        peak_bytes=told("peak_bytes", sum),
        peak_source=told("peak_source", min),
        samples=told("samples", min),
        longest_gap_seconds=told("longest_gap_seconds", max),
        utilisation_percent=told("utilisation_percent", mean),
        clock_mhz=told("clock_mhz", mean),
        power_watts=told("power_watts", sum),
        throttle_reasons=told("throttle_reasons", lambda reasons: tuple(sorted({one for each in reasons for one in each}))),
        throttled_share=told("throttled_share", max),
        foreign_processes=told("foreign_processes", max),
    )


class Sampler:
    """Watches a GPU from its making until `stop`, in a process that ends with this one.

    uuid: the GPU; None watches nothing. To be made before the framework is imported, so that the memory in use before the
    run is known.
    """

    def __init__(self, uuid: str | None):
        self._process: subprocess.Popen[str] | None = None
        if uuid is not None:
            command = [sys.executable, "-m", __name__, uuid, str(os.getpid())]
            self._process = process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
            )
            assert process.stdout is not None
            ready, _, _ = select.select([process.stdout], [], [], START_SECONDS)
            if ready:
                process.stdout.readline()  # it has read the memory in use
            else:
                _give_up(process)

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
        except (subprocess.TimeoutExpired, OSError):
            _give_up(self._process)
            return None
        if self._process.returncode != 0 or not answer:
            return None
        values = json.loads(answer)
        reasons = values["throttle_reasons"]
        return GpuUse(**values | {"throttle_reasons": None if reasons is None else tuple(reasons)})

    def _write(self, line: str) -> None:
        with contextlib.suppress(OSError, ValueError):  # it died, and its missing answer tells so at the end
            if self._process is not None and self._process.stdin is not None:
                self._process.stdin.write(line)
                self._process.stdin.flush()


def _give_up(process: subprocess.Popen[str]) -> None:
    """Kills the process, and does not wait for one that a call into a driver that hangs keeps from dying."""
    process.kill()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(1.0)


class Record:
    """Gathers readings of the GPU for the process `pid`, in constant memory however long the run.

    before, listed: a reading and the processes before the run had anything on the GPU; None where NVML told nothing.
    """

    def __init__(self, pid: int, before: gpu.State | None, listed: dict[int, int | None] | None):
        self._pid, self._before, self._listed_before = pid, before, listed
        # one that is listed before the run computes and has the run's number is another's, in another numbering
        self._numbered_alike = listed is not None and pid not in listed
        self.clear()

    def clear(self) -> None:
        self._peak: int | None = None
        self._last: float | None = None
        self._others: int | None = None
        self._samples, self._longest_gap, self._lists_told = 0, 0.0, True
        self._foreign_bytes = {_bytes(self._listed_before)}
        self._untold: Counter[str] = Counter()
        self._utilisation: Counter[int] = Counter()
        self._clock: Counter[int] = Counter()
        self._reasons: set[str] = set()
        self._faults = 0
        self._energy_first: tuple[float, float] | None = None
        self._energy_last: tuple[float, float] | None = None
        self._energy_seen: float | None = None

    def add(self, reading: gpu.State | None, now: float) -> None:
        self._samples += 1
        self._longest_gap = max(self._longest_gap, now - (now if self._last is None else self._last))
        self._last = now
        if reading is None:
            self._untold.update(("memory", "utilisation", "clock", "reasons", "energy"))
            return
        if reading.used_bytes is None or self._before is None or self._before.used_bytes is None:
            self._untold["memory"] += 1
        else:
            self._peak = max(reading.used_bytes - self._before.used_bytes, self._peak or 0)
        for name, value, counts in (
            ("utilisation", reading.utilisation_percent, self._utilisation),
            ("clock", reading.clock_mhz, self._clock),
        ):
            if value is None:
                self._untold[name] += 1
            else:
                counts[value] += 1
        if reading.throttle_reasons is None:
            self._untold["reasons"] += 1
        else:
            self._reasons.update(reading.throttle_reasons)
            self._faults += any(reason in FAULTS for reason in reading.throttle_reasons)
        self._count_energy(reading.energy_joules, now)

    def _count_energy(self, joules: float | None, now: float) -> None:
        """Remembers the first and the last move of the counter; one that fell tells nothing any more."""
        if joules is None:
            self._untold["energy"] += 1
            return
        if self._energy_seen is not None and joules < self._energy_seen:
            self._untold["energy"] = sys.maxsize
            return
        if self._energy_seen is not None and joules > self._energy_seen:
            self._energy_last = (now, joules)
            self._energy_first = self._energy_first or self._energy_last
        self._energy_seen = joules

    def add_processes(self, listed: dict[int, int | None] | None) -> None:
        """Who computes on the GPU now. Where the run is not listed by its own number, in a container, a number that was not there
        before is taken for it; where none is, the list leaves processes out, and those that it has are others."""
        if listed is None:
            self._lists_told = False
            return
        known = self._listed_before or {}
        others = {pid: used for pid, used in listed.items() if not (self._numbered_alike and pid == self._pid)}
        if len(others) == len(listed):
            new = [pid for pid in listed if pid not in known]
            if new:
                others.pop(max(new, key=lambda pid: listed[pid] or 0))
            else:
                self._lists_told = False
        self._foreign_bytes.add(_bytes(others))
        self._others = max(self._others or 0, len(others))

    def use(self) -> GpuUse:
        alone = self._listed_before is None or (len(self._foreign_bytes) == 1 and None not in self._foreign_bytes)
        peak = self._peak if alone and self._peak and self._tells("memory") else None
        reasons = tuple(sorted(self._reasons)) if self._reasons or self._tells("reasons") else None
        return GpuUse(
            peak_bytes=peak,
            peak_source=None if peak is None else "device",
            samples=self._samples,
            longest_gap_seconds=self._longest_gap,
            utilisation_percent=mean(self._utilisation.elements()) if self._tells("utilisation") else None,
            clock_mhz=median(self._clock.elements()) if self._tells("clock") else None,
            power_watts=self._power(),
            throttle_reasons=reasons,
            throttled_share=self._faults / self._samples if reasons is not None else None,
            foreign_processes=self._others if self._others or self._lists_told else None,
        )

    def _tells(self, name: str) -> bool:
        return self._samples > 0 and self._untold[name] <= UNTOLD_SHARE * self._samples

    def _power(self) -> float | None:
        if self._energy_first is None or self._energy_last is None or not self._tells("energy"):
            return None
        seconds = self._energy_last[0] - self._energy_first[0]
        return (self._energy_last[1] - self._energy_first[1]) / seconds if seconds >= LEAST_POWER_SECONDS else None


def _bytes(listed: dict[int, int | None] | None) -> int | None:
    """What these processes hold together; None where it is not told of one."""
    return None if listed is None else sum_told(listed.values())


def main(uuid: str, pid: int) -> None:
    """The sampler's own process: reads `reset` and `stop` from its input, writes one line of JSON at the end."""
    record = Record(pid, gpu.state(uuid), gpu.processes(uuid))
    print("ready", flush=True)
    listed = time.monotonic()
    while True:
        readable, _, _ = select.select([sys.stdin], [], [], INTERVAL_SECONDS)
        command = sys.stdin.readline() if readable else "sample"
        if command == "":
            return  # the run ended without asking
        now = time.monotonic()
        if command == "stop\n" or now - listed >= PROCESSES_SECONDS:
            record.add_processes(gpu.processes(uuid))
            listed = time.monotonic()
        record.add(gpu.state(uuid), now)
        if command == "reset\n":
            record.clear()
        elif command == "stop\n":
            print(json.dumps(asdict(record.use())), flush=True)
            return


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
