"""The host: its processor and memory, and the age and peak memory of this process."""

import os
import platform
import resource
import sys
import time
from pathlib import Path

PROC, SYS = Path("/proc"), Path("/sys")


def process_age_seconds() -> float | None:
    """Seconds since the kernel started this process, to 10 ms; None where there is no Linux `/proc`.

    Field 22 of `/proc/self/stat`, in clock ticks since boot (proc_pid_stat(5)); the name before it may hold spaces.
    """
    try:
        after_name = (PROC / "self" / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    started = int(after_name[22 - 3]) / os.sysconf("SC_CLK_TCK")
    return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - started)


def peak_resident_bytes() -> int:
    """Largest resident set of this process since it started its program.

    `VmHWM` where there is a Linux `/proc`: getrusage's figure also holds what the parent had at the fork, so that a run
    started by a large Snakemake would be charged with it.
    """
    try:
        status = (PROC / "self" / "status").read_text()
    except OSError:
        status = ""
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def cpu_model() -> str:
    """The processor's name as the kernel tells it, or its architecture where it tells none."""
    try:
        lines = (PROC / "cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return platform.processor() or platform.machine()


def huge_pages() -> str | None:
    """The kernel's mode of transparent huge pages: `always`, `madvise` (for who asks) or `never`; None where it has none.

    Source: the kernel's documentation, admin-guide/mm/transhuge.
    """
    try:
        modes = (SYS / "kernel/mm/transparent_hugepage/enabled").read_text()
    except OSError:
        return None
    return modes.partition("[")[2].partition("]")[0]


def cpus_available() -> int:
    """Logical CPUs that this process may use: its affinity, which a scheduler may have narrowed."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def memory_bytes() -> int:
    """Physical memory of the machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
