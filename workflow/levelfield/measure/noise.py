"""How restless the machine was: other work beside the run, stolen time, a quota, a falling clock; and a warning with its reason."""

import os
import resource
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from threading import Event, Thread

from levelfield.host import core_kinds, cpus_allowed, cpus_available, throttled_seconds

PROC, SYS = Path("/proc"), Path("/sys")
# Shares of the CPUs' time, and a fall of the clock, from which a run's times are not to be trusted to 5 %.
OTHERS_WARN, STEAL_WARN, THROTTLED_WARN, FREQUENCY_WARN = 0.05, 0.02, 0.01, 0.10
OTHERS_CPUS_WARN = 0.9
"""CPUs that other work took from a run, were they a small share of many: each of its threads waits for the slowest."""
CLOCK_SECONDS = 1.0
"""Between two readings of the clock under load: each takes some 10 µs a CPU."""
FEWEST_CLOCKS = 6
"""Readings from which a fall is told: medians of fewer say nothing."""


@dataclass(frozen=True)
class Busy:
    """CPU seconds since boot, of the CPUs that this process may use."""

    cpus: int
    """How many are counted."""
    busy: float
    """user, nice, system, irq, softirq; guests are in user."""
    steal: float | None
    """What the hypervisor gave to others; None where the kernel does not count it."""
    efficient: float | None
    """Of `busy`, what efficiency cores did; None where the processor has no such cores, or cannot tell."""


@dataclass(frozen=True)
class Moment:
    """All that is read at the beginning and at the end."""

    clock: float
    cpus: Busy | None
    own: float
    throttled: float | None


class Restlessness:
    """Watches the machine over a block: `with Restlessness() as rest: …`, then `rest.measurements()`.

    Of the CPUs that this process may use, what `/proc/stat` counts as busy and this process did not use was someone else's.
    The clock is read within the block, under its load: an idle CPU's says nothing. What a machine does not tell is None.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, threads: int | None = None, on_gpu: bool = False):
        """threads: that the block computes with; without it as many as there are CPUs. What is stolen is stolen from them.
        on_gpu: its threads feed a GPU: other work disturbs it where it leaves them too few CPUs, and a run on a CPU wherever it is."""
        self._clock, self._threads, self._on_gpu, self._over = clock, threads, on_gpu, Event()
        self._clocks: list[float] = []

    def _moment(self) -> Moment:
        return Moment(self._clock(), cpu_seconds(), own_seconds(), throttled_seconds())

    def __enter__(self) -> "Restlessness":
        self._watch = Thread(target=self._read_clocks, daemon=True)
        self._before = self._moment()
        self._watch.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._after = self._moment()
        self._over.set()
        self._watch.join()

    def _read_clocks(self) -> None:
        while not self._over.wait(CLOCK_SECONDS):
            if (found := frequency_mhz()) is None:
                return
            self._clocks.append(found)

    def measurements(self) -> dict[str, float | str | None]:
        """`others_cpu_share` and `steal_share` of these CPUs' time, `throttled_share` that a quota took, `load_average`,
        `cpu_clock_mhz` and its `frequency_change`, `efficiency_core_share`, `noise_warning`, and in `noise_untold` what this
        machine does not tell and why."""
        before, after = self._before, self._after
        seconds = after.clock - before.clock
        mine, needed = 1, 1
        others = taken = steal = throttled = efficient = None
        if before.cpus and after.cpus and seconds > 0:
            busy, capacity = after.cpus.busy - before.cpus.busy, seconds * after.cpus.cpus
            others = max(0.0, busy - (after.own - before.own)) / capacity
            mine = min(self._threads or after.cpus.cpus, after.cpus.cpus)
            needed = mine if self._on_gpu else after.cpus.cpus
            taken = taken_cpus(others * after.cpus.cpus, after.cpus.cpus, needed) / needed
            if before.cpus.steal is not None and after.cpus.steal is not None:
                steal = max(0.0, after.cpus.steal - before.cpus.steal) / (seconds * mine)
            if before.cpus.efficient is not None and after.cpus.efficient is not None and busy > 0:
                efficient = (after.cpus.efficient - before.cpus.efficient) / busy
        if before.throttled is not None and after.throttled is not None and seconds > 0:
            throttled = max(0.0, after.throttled - before.throttled) / (seconds * cpus_available())
        change = clock_change(self._clocks)
        return {
            "others_cpu_share": others,
            "steal_share": steal,
            "throttled_share": throttled,
            "load_average": load_average(),
            "cpu_clock_mhz": median(self._clocks) if self._clocks else None,
            "frequency_change": change,
            "efficiency_core_share": efficient,
            "noise_untold": untold() if others is None and seconds > 0 else None,
            "noise_warning": warning(taken, steal, change, throttled, needed),
        }


def taken_cpus(others: float, cpus: int, needed: int) -> float:
    """CPUs that other work took from a run: those beyond what it leaves idle. others: CPUs at other work; cpus: that the run and other
    work may use; needed: by the run.

    The scheduler of the system moves work to idle CPUs, so that a neighbour on one of 64 takes nothing from two threads that feed a GPU.
    A run that computes on the CPU needs them all: what works on the others takes caches, memory and clock from it.
    """
    return max(0.0, others - max(0, cpus - needed))


def warning(
    taken: float | None,
    steal: float | None,
    frequency_change: float | None,
    throttled: float | None = None,
    threads: int = 1,
) -> str | None:
    """Why the run's times are not to be trusted, in words; None where nothing speaks against them. taken: of the CPUs that so many
    threads need, what other work took; on a CPU, of them all."""
    reasons = []
    if taken is not None and (taken > OTHERS_WARN or taken * threads > OTHERS_CPUS_WARN):
        reasons.append(f"other work took {taken:.0%} of the CPUs")
    if steal is not None and steal > STEAL_WARN:
        reasons.append(f"the hypervisor took {steal:.0%} of the CPUs")
    if throttled is not None and throttled > THROTTLED_WARN:
        reasons.append(f"the control group's CPU quota withheld {throttled:.0%} of the CPUs")
    if frequency_change is not None and frequency_change < -FREQUENCY_WARN:
        reasons.append(f"the CPU's clock changed by {frequency_change:+.0%}")
    return "; ".join(reasons) or None


def cpu_lines() -> dict[str, list[float]] | None:
    """Seconds of each line `cpu…` of `/proc/stat`, under its name (proc_stat(5)); None where there is none that can be read."""
    try:
        lines = (PROC / "stat").read_text(encoding="utf-8", errors="replace").splitlines()
        tick = os.sysconf("SC_CLK_TCK")
        parts = [line.split() for line in lines if line.startswith("cpu")]
        found = {name: [int(value) / tick for value in values] for name, *values in parts}
    except (OSError, ValueError):
        return None
    return found if found and all(len(values) >= 4 for values in found.values()) else None


def cpu_seconds() -> Busy | None:
    """What the CPUs that this process may use have done so far; None where it cannot be told: see `untold`.

    A container may show its CPUs under numbers of their own (lxcfs): then the line of all that it shows counts.
    """
    lines, allowed = cpu_lines(), cpus_allowed()
    if lines is None:
        return None
    names = [f"cpu{cpu}" for cpu in sorted(allowed or ())]
    if names and all(name in lines for name in names):
        efficient = {f"cpu{cpu}" for cpu, kind in core_kinds().items() if kind == "efficiency"}
    elif "cpu" in lines and (allowed is None or len(lines) - 1 <= len(allowed)):
        names, efficient = ["cpu"], set()
    else:
        return None
    sums: defaultdict[str, float] = defaultdict(float)
    for name in names:
        user, nice, system, _idle, _iowait, irq, softirq, *rest = [*lines[name], 0.0, 0.0, 0.0][: max(7, len(lines[name]))]
        busy = user + nice + system + irq + softirq
        sums["busy"] += busy
        sums["efficient"] += busy if name in efficient else 0.0
        sums["steal"] += rest[0] if rest else float("nan")
    steal = sums["steal"]
    counted = len(names) if names != ["cpu"] else max(1, len(lines) - 1)
    return Busy(counted, sums["busy"], None if steal != steal else steal, sums["efficient"] if efficient else None)


def untold() -> str | None:
    """Why other work cannot be told from this process's own; None where it can."""
    if cpu_seconds() is not None:
        return None
    lines = cpu_lines()
    if lines is None:
        return f"no CPU times in {PROC / 'stat'}"
    shown = len(lines) - ("cpu" in lines)
    return f"{PROC / 'stat'} shows {shown} CPUs, and not all of the {len(cpus_allowed() or ())} that this process may use"


def own_seconds() -> float:
    """CPU seconds of this process, all threads, and of the processes that it started: a compiler, a sampler of the GPU."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used) + sum(_seconds_of(pid) for pid in _children("self"))


def _children(pid: str) -> list[str]:
    """The running descendants of a process; empty where the kernel does not list them."""
    found = []
    for file in (PROC / pid / "task").glob("*/children"):
        try:
            direct = file.read_text(encoding="ascii").split()
        except (OSError, ValueError):
            continue
        found += direct + [below for child in direct for below in _children(child)]
    return found


def _seconds_of(pid: str) -> float:
    """CPU seconds of a running process and of its children that have ended; 0 for one that has just ended: they count there."""
    try:
        fields = (PROC / pid / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return sum(int(value) for value in fields[14 - 3 : 18 - 3]) / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError):
        return 0.0


def load_average() -> float | None:
    """Processes that ran or waited to, over the last minute; None where the system does not tell."""
    try:
        return os.getloadavg()[0]
    except (OSError, AttributeError):
        return None


def clock_change(clocks: list[float]) -> float | None:
    """Change of the clock, MHz, from the first half of its readings to the second, by their medians; None of too few.

    A core alone boosts higher than all together, for seconds: single readings say little.
    """
    half = len(clocks) // 2
    return median(clocks[half:]) / median(clocks[:half]) - 1 if len(clocks) >= FEWEST_CLOCKS and median(clocks[:half]) else None


def frequency_mhz() -> float | None:
    """Clock now of the fastest of the CPUs that this process may use, which is one at work; None where it is not told, as in
    most virtual machines' `cpufreq`; some tell one in `/proc/cpuinfo`.

    Idle ones stand at a low clock, or at the one they last had.
    """
    allowed = cpus_allowed()
    files = [SYS / f"devices/system/cpu/cpu{cpu}/cpufreq/scaling_cur_freq" for cpu in sorted(allowed or ())]
    try:
        clocks = [int(file.read_text(encoding="ascii")) / 1000 for file in files if file.exists()]
    except (OSError, ValueError):
        clocks = []
    return max(clocks, default=None) or _cpuinfo_mhz(allowed)


def _cpuinfo_mhz(allowed: set[int] | None) -> float | None:
    """The same as `/proc/cpuinfo` tells it; of all CPUs that it lists where it numbers them otherwise."""
    try:
        lines = (PROC / "cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        clocks, cpu = {}, -1
        for key, _, value in (line.partition(":") for line in lines):
            if key.strip() == "processor" and value.strip().isdigit():
                cpu = int(value)
            elif key.strip() == "cpu MHz":
                clocks[cpu] = float(value)
    except (OSError, ValueError):
        return None
    mine = [clock for cpu, clock in clocks.items() if allowed and cpu in allowed]
    return max(mine or clocks.values(), default=None)
