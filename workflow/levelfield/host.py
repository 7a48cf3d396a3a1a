"""The host: its processor, memory and control groups, what tells it from others, and of this process its age,
its peak memory, and that it ends with its job."""

import ctypes
import os
import platform
import re
import resource
import signal
import socket
import sys
import time
import uuid
from hashlib import sha256
from pathlib import Path

PROC, SYS = Path("/proc"), Path("/sys")


def process_age_seconds() -> float | None:
    """Seconds since the kernel started this process, to 10 ms; None where there is no Linux `/proc`.

    Field 22 of `/proc/self/stat`, in clock ticks since boot (proc_pid_stat(5)); the name before it may hold spaces.
    """
    try:
        after_name = (PROC / "self" / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        started = int(after_name[22 - 3]) / os.sysconf("SC_CLK_TCK")
        return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - started)
    except (OSError, ValueError, IndexError):
        return None


def peak_resident_bytes(process: int | None = None) -> int | None:
    """Largest resident set of a process, of this one where none is named, since it started its program, or since `forget_peak` where the kernel heeds that.

    `VmHWM` where there is a Linux `/proc`: getrusage's figure also holds what the parent had at the fork, so that a run
    started by a large Snakemake would be charged with it. None where another process's is not told.
    """
    told = _status_bytes("VmHWM", process)
    if told is not None or process is not None:
        return told
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def resident_bytes(process: int | None = None) -> int | None:
    """Resident set of a process now, of this one where none is named; None without a Linux `/proc`."""
    return _status_bytes("VmRSS", process)


def forget_peak(process: int | None = None) -> bool:
    """Starts the peak of a process, of this one where none is named, anew from what is resident now; whether the kernel did (`clear_refs`, proc_pid_clear_refs(5))."""
    try:
        (PROC / _folder(process) / "clear_refs").write_text("5\n", encoding="ascii")
    except OSError:
        return False
    return True


def _folder(process: int | None) -> str:
    return "self" if process is None else str(process)


def _status_bytes(name: str, process: int | None) -> int | None:
    try:
        status = (PROC / _folder(process) / "status").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith(f"{name}:")), None)


def cpu_model() -> str:
    """The processor's name as the kernel tells it, or its architecture where it tells none."""
    try:
        lines = (PROC / "cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return platform.processor() or platform.machine()


HOST_ID = "LEVELFIELD_HOST_ID"
"""The variable by which a job's command tells what is inside a container, which may have no network, its host's number."""


def host_id() -> str:
    """12 hexadecimal digits that tell this machine from others of its model: of its name, processor and network address.

    The same in a container and outside. Where no network address can be read, name and processor are all there is.
    """
    if told := os.environ.get(HOST_ID):
        return told
    address = uuid.getnode()
    made_up = bool(address >> 40 & 1)  # the multicast bit: RFC 9562 sets it in an address that was drawn at random
    known = (socket.gethostname(), cpu_model(), "" if made_up else f"{address:x}")
    return sha256("|".join(known).encode()).hexdigest()[:12]


def boot() -> str | None:
    """The kernel's random number of this boot; None without a Linux `/proc`."""
    try:
        return (PROC / "sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return None


def huge_pages() -> str | None:
    """The kernel's mode of transparent huge pages: `always`, `madvise` (for who asks) or `never`; None where it has none.

    Source: the kernel's documentation, admin-guide/mm/transhuge.
    """
    try:
        modes = (SYS / "kernel/mm/transparent_hugepage/enabled").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return modes.partition("[")[2].partition("]")[0]


def started_with(variable: str) -> str | None:
    """An environment variable as this process was started with it, which is what the C library heeds; None where it was not set, and
    without a Linux `/proc`. Source: proc_pid_environ(5)."""
    try:
        told = (PROC / "self" / "environ").read_bytes().split(b"\0")
    except OSError:
        return None
    name = f"{variable}=".encode()
    return next((entry.removeprefix(name).decode(errors="replace") for entry in told if entry.startswith(name)), None)


def cpus_allowed() -> set[int] | None:
    """Numbers of the logical CPUs that this process's affinity allows; None where the system knows no affinity (macOS).

    A container's `/proc` may number its CPUs otherwise (lxcfs).
    """
    return set(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None


def control_groups() -> list[Path]:
    """Folders of the control groups that bound this process's CPU time, innermost first, as far up as they are mounted.

    Both versions: cgroup2, and version 1's `cpu` controller. Sources: cgroups(7), proc_pid_mountinfo(5).
    """
    try:
        mounts = (PROC / "self" / "mountinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        mine = (PROC / "self" / "cgroup").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    paths = {}
    for line in mine:
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if not controllers or "cpu" in controllers.split(","):
            paths["cgroup" if controllers else "cgroup2"] = path
    found = []
    for line in mounts:
        before, _, after = line.partition(" - ")
        fields, (kind, _, options) = before.split(), [*after.split(), "", "", ""][:3]
        if kind not in paths or len(fields) < 5 or (kind == "cgroup" and "cpu" not in options.split(",")):
            continue
        root, mount = (_unescaped(field) for field in fields[3:5])
        # a container that sees the host's paths has its own group mounted as the top
        inner = os.path.relpath(paths[kind], root)
        folder = Path(mount) if inner.startswith("..") else Path(mount, inner)
        found += [group for group in (folder, *folder.parents) if group == Path(mount) or Path(mount) in group.parents]
    return found


def _unescaped(field: str) -> str:
    """A path of mountinfo, where blanks and backslashes are octal."""
    return re.sub(r"\\([0-7]{3})", lambda code: chr(int(code[1], 8)), field)


def cpu_quota() -> float | None:
    """CPUs' worth of time that the narrowest control group grants (`cpu.max`, `cpu.cfs_quota_us`); None without a limit."""
    granted = []
    for group in control_groups():
        quota = _words(group / "cpu.max") or _words(group / "cpu.cfs_quota_us") + _words(group / "cpu.cfs_period_us")
        if len(quota) == 2 and all(word.isdigit() for word in quota) and int(quota[1]):
            granted.append(int(quota[0]) / int(quota[1]))
    return min(granted, default=None)


def throttled_seconds() -> float | None:
    """CPU seconds that the control groups' quotas kept this process's groups waiting so far; None where none is told.

    `throttled_usec` of `cpu.stat`, in version 1 `throttled_time` in nanoseconds: admin-guide/cgroup-v2, scheduler/sched-bwc.
    """
    units, told = {"throttled_usec": 1e-6, "throttled_time": 1e-9}, []
    for group in control_groups():
        words = _words(group / "cpu.stat")
        told += [
            int(n) * units[name] for name, n in zip(words[::2], words[1::2], strict=False) if name in units and n.isdigit()
        ]
    return sum(told) if told else None


def _words(file: Path) -> list[str]:
    try:
        return file.read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return []


def cpus_available() -> int:
    """Logical CPUs that this process may use: its affinity, which a scheduler may have narrowed, or the whole CPUs of its
    control groups' quota where that is less, but at least 1: more threads than it bears would be throttled."""
    allowed, quota = cpus_allowed(), cpu_quota()
    count = len(allowed) if allowed else os.cpu_count() or 1
    return count if quota is None else max(1, min(count, int(quota)))


def core_kinds() -> dict[int, str]:
    """`performance` or `efficiency` for each CPU of a processor with both; empty of any other.

    Intel's kernel drivers list both kinds; elsewhere (ARM) `cpu_capacity` tells them apart: ABI/testing/sysfs-devices-system-cpu.
    """
    devices = SYS / "devices"
    kinds = {cpu: kind for folder, kind in (("cpu_core", "performance"), ("cpu_atom", "efficiency"))
             for cpu in _listed(_words(devices / folder / "cpus"))}  # fmt: skip
    if not kinds:
        told = {file.parent.name[3:]: _words(file) for file in devices.glob("system/cpu/cpu[0-9]*/cpu_capacity")}
        sizes = {int(cpu): int(words[0]) for cpu, words in told.items() if words and words[0].isdigit() and cpu.isdigit()}
        kinds = {cpu: "performance" if size == max(sizes.values()) else "efficiency" for cpu, size in sizes.items()}
    return kinds if len(set(kinds.values())) > 1 else {}


def _listed(words: list[str]) -> list[int]:
    """The numbers of a list such as `0-3,8`."""
    ranges = [part.split("-") for word in words[:1] for part in word.split(",") if re.fullmatch(r"\d+(-\d+)?", part)]
    return [cpu for ends in ranges for cpu in range(int(ends[0]), int(ends[-1]) + 1)]


def memory_bytes() -> int:
    """Physical memory of the machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def end_with_the_job(pid: int | None = None) -> None:
    """Lets the kernel end this process when the job that started it dies, were it by `kill -9`: else it would train on, unlocked.

    prctl(2), PR_SET_PDEATHSIG; of Linux alone. pid: the job's process number; None where none is known. Where it is not this
    process's parent any more, the job died before the kernel was told: this process exits at once with a word, and writes nothing.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    if pid is not None and os.getppid() != pid:
        sys.exit(f"levelfield: the job that this belongs to, process {pid}, has ended, and so does this")
