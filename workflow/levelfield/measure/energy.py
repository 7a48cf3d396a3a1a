"""Energy of a block: the GPU's own counter through NVML, or the processors' through RAPL; None where neither can be read."""

from pathlib import Path

from levelfield.measure import gpu

POWERCAP = Path("/sys/class/powercap")


class Energy:
    """Counts over a block: `with Energy(uuid) as energy: …`, then `energy.joules`.

    uuid: the GPU that the run uses, whose counter is read; without one the processor packages' RAPL counters, which count
    all that the machine did. joules is None where no counter can be read or one fell (a driver that was loaded anew).
    """

    def __init__(self, uuid: str | None):
        self._uuid = uuid
        self.joules: float | None = None

    def __enter__(self) -> "Energy":
        self._start = self._read()
        return self

    def __exit__(self, kind, *_) -> None:
        end = self._read()
        if kind is None and self._start is not None and end is not None:
            self.joules = _used(self._start, end)

    def _read(self) -> dict[str, tuple[float, float]] | None:
        if self._uuid is None:
            return rapl()
        joules = gpu.energy_joules(self._uuid)
        return None if joules is None else {self._uuid: (joules, 0.0)}


def source(uuid: str | None) -> str | None:
    """What `Energy` reads here: `nvml`, `rapl` or None."""
    if uuid is not None:
        return "nvml" if gpu.energy_joules(uuid) is not None else None
    return "rapl" if rapl() is not None else None


def rapl() -> dict[str, tuple[float, float]] | None:
    """Each processor package's counter and the range after which it starts anew, joules; None where they cannot be read.

    Linux powercap: `intel-rapl:<package>/energy_uj`, on AMD, too; often readable by root alone.
    """
    packages = sorted(path for path in POWERCAP.glob("intel-rapl:*") if path.name.count(":") == 1)
    try:
        return {
            path.name: (_microjoules(path / "energy_uj"), _microjoules(path / "max_energy_range_uj")) for path in packages
        } or None
    except OSError:
        return None


def _microjoules(path: Path) -> float:
    return int(path.read_text()) / 1e6


def _used(start: dict[str, tuple[float, float]], end: dict[str, tuple[float, float]]) -> float | None:
    """Joules between two readings, counters that started anew counted round once; None where one fell otherwise."""
    total = 0.0
    for name, (before, limit) in start.items():
        used = end[name][0] - before
        if used < 0:
            used += limit
        if used < 0:
            return None
        total += used
    return total
