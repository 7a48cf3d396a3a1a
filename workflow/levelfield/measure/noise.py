"""How restless the machine was: other work beside the run, stolen time, a changing clock; and a warning with its reason."""

import os
import resource
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from levelfield.host import cpus_available

PROC = Path("/proc")
# Shares of all CPUs, and a change of clock, from which a run's times are not to be trusted to 5 %.
OTHERS_WARN, STEAL_WARN, FREQUENCY_WARN = 0.05, 0.02, 0.10


class Restlessness:
    """Watches the machine over a block: `with Restlessness() as rest: …`, then `rest.measurements()`.

    Of the CPUs that this process may use, what `/proc/stat` counts as busy and this process did not use was someone else's.
    Figures are None without Linux.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic):
        self._clock = clock

    def __enter__(self) -> "Restlessness":
        self._before = (self._clock(), cpu_seconds(), own_seconds(), frequency_mhz())
        return self

    def __exit__(self, *_) -> None:
        self._after = (self._clock(), cpu_seconds(), own_seconds(), frequency_mhz())

    def measurements(self) -> dict[str, float | str | None]:
        """`others_cpu_share` and `steal_share` of these CPUs' time, `load_average`, `frequency_change`, and `noise_warning`."""
        (start, cpus, own, clock), (end, cpus_end, own_end, clock_end) = self._before, self._after
        others = steal = change = None
        if cpus and cpus_end and end > start:
            capacity = (end - start) * cpus_available()
            others = max(0.0, (cpus_end["busy"] - cpus["busy"]) - (own_end - own)) / capacity
            steal = (cpus_end["steal"] - cpus["steal"]) / capacity
        if clock and clock_end:
            change = clock_end / clock - 1
        return {
            "others_cpu_share": others,
            "steal_share": steal,
            "load_average": os.getloadavg()[0],
            "frequency_change": change,
            "noise_warning": warning(others, steal, change),
        }


def warning(others: float | None, steal: float | None, frequency_change: float | None) -> str | None:
    """Why the run's times are not to be trusted, in words; None where nothing speaks against them."""
    reasons = []
    if others is not None and others > OTHERS_WARN:
        reasons.append(f"other work took {others:.0%} of the CPUs")
    if steal is not None and steal > STEAL_WARN:
        reasons.append(f"the hypervisor took {steal:.0%} of the CPUs")
    if frequency_change is not None and abs(frequency_change) > FREQUENCY_WARN:
        reasons.append(f"the CPU's clock changed by {frequency_change:+.0%}")
    return "; ".join(reasons) or None


def cpu_seconds() -> dict[str, float] | None:
    """Seconds since boot of the CPUs that this process may use, `busy` (user, nice, system, irq, softirq; guests are in user)
    and `steal` (proc_stat(5)); None without Linux."""
    try:
        lines = (PROC / "stat").read_text().splitlines()
    except OSError:
        return None
    found = {"busy": 0.0, "steal": 0.0}
    for cpu in os.sched_getaffinity(0):
        fields = next(line for line in lines if line.startswith(f"cpu{cpu} ")).split()[1:]
        user, nice, system, _idle, _iowait, irq, softirq, steal = (
            int(value) / os.sysconf("SC_CLK_TCK") for value in fields[:8]
        )
        found["busy"] += user + nice + system + irq + softirq
        found["steal"] += steal
    return found


def own_seconds() -> float:
    """CPU seconds of this process, all threads."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def frequency_mhz() -> float | None:
    """Mean clock of the CPUs as the kernel tells it; None where it does not, as in most virtual machines."""
    try:
        lines = (PROC / "cpuinfo").read_text().splitlines()
    except OSError:
        return None
    clocks = [float(line.partition(":")[2]) for line in lines if line.startswith("cpu MHz")]
    return float(np.mean(clocks)) if clocks else None
