"""Energy of a block: the GPU's own counter through NVML, or the processors' through RAPL; None where neither can be read."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Event, Thread

from levelfield.measure import gpu

POWERCAP = Path("/sys/class/powercap")

MOST_WATTS = 1000.0
"""More than any processor package takes: a counter that is read before it can have gone round once misses no round."""
LEAST_GPU_SECONDS = 1.0
"""NVML's counter moves on every 10 to 100 ms (seen by users: gpuopenanalytics/pynvml#18), so a shorter block is told wrong by
a tenth and more, and is not told."""

Reading = dict[str, tuple[float, float]]


class Energy:
    """Counts over a block: `with Energy(uuids, device) as energy: …`, then `energy.joules`.

    uuids: the GPUs that the run uses, whose counters are read and added up. device: `cpu` or `cuda`, what computes: without a GPU a run
    on a CPU is told by the processor packages' RAPL counters, which count all that the machine did, and a run on a GPU that NVML does
    not know by none. joules is None where no counter can be read, one fell (a driver that was loaded anew), stood still
    (no machine works for nothing), or was not read often enough to count its rounds, and for a GPU's block below a second.
    """

    def __init__(self, uuids: Sequence[str] = (), device: str = "cpu", clock: Callable[[], float] = time.monotonic):
        self._read = _reader(uuids, device)
        self._least_seconds = LEAST_GPU_SECONDS if uuids else 0.0
        self._clock = clock
        self.joules: float | None = None

    def __enter__(self) -> "Energy":
        self._end = Event()
        self._thread: Thread | None = None
        self._used: dict[str, float] | None = {}
        self._began = self._clock()
        self._last, self._last_at = self._read(), self._began
        if self._last and (rounds := [limit for _, limit in self._last.values() if limit]):
            pause = min(rounds) / MOST_WATTS / 2  # half a minute for a counter of 65 kJ
            self._thread = Thread(target=self._watch, args=(pause,), daemon=True)
            self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._end.set()
        if self._thread is not None:
            self._thread.join()
        self._count()
        if kind is None and self._used and all(self._used.values()) and self._clock() - self._began >= self._least_seconds:
            self.joules = sum(self._used.values())

    def _watch(self, pause: float) -> None:
        while not self._end.wait(pause):
            self._count()

    def _count(self) -> None:
        """Adds what was used since the last reading; from the first reading on that tells nothing, nothing is told."""
        now, at = self._read(), self._clock()
        used = None if self._last is None or now is None else _used(self._last, now, at - self._last_at)
        if self._used is None or used is None:
            self._used = None
        else:
            self._used = {name: self._used.get(name, 0.0) + joules for name, joules in used.items()}
        self._last, self._last_at = now, at


def _reader(uuids: Sequence[str], device: str) -> Callable[[], Reading | None]:
    if not uuids:
        return rapl if device == "cpu" else lambda: None

    def counters() -> Reading | None:
        joules = {uuid: gpu.energy_joules(uuid) for uuid in uuids}
        told = {uuid: (value, 0.0) for uuid, value in joules.items() if value is not None}
        return told if len(told) == len(joules) else None

    return counters


def source(uuids: Sequence[str] = (), device: str = "cpu") -> str | None:
    """What `Energy` reads here: `nvml`, `rapl` or None."""
    if _reader(uuids, device)() is None:
        return None
    return "nvml" if uuids else "rapl"


def rapl() -> Reading | None:
    """Each processor package's counter and the range after which it starts anew, joules; None where they cannot be read.

    Linux powercap: `intel-rapl:<n>/energy_uj`, on AMD, too; often readable by root alone. A zone's `name` says what it counts:
    `psys` is the whole platform, packages and all, and is left out.
    """
    try:
        packages = [zone for zone in sorted(POWERCAP.glob("intel-rapl:*")) if zone.name.count(":") == 1 and _of_package(zone)]
        return {
            path.name: (_microjoules(path / "energy_uj"), _microjoules(path / "max_energy_range_uj")) for path in packages
        } or None
    except (OSError, ValueError):
        return None


def _of_package(zone: Path) -> bool:
    name = zone / "name"
    return not name.exists() or name.read_text(encoding="utf-8").startswith("package")


def _microjoules(path: Path) -> float:
    return int(path.read_text(encoding="utf-8")) / 1e6


def _used(start: Reading, end: Reading, seconds: float) -> dict[str, float] | None:
    """Each counter's joules between two readings, those that started anew counted round once; None where one fell otherwise, is gone, or
    may have gone round more than once in so many seconds."""
    found = {}
    for name, (before, limit) in start.items():
        if name not in end or (limit and seconds * MOST_WATTS >= limit):
            return None
        used = end[name][0] - before
        if used < 0:
            used += limit
        if used < 0:
            return None
        found[name] = used
    return found
