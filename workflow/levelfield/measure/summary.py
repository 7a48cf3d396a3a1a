"""What the instruments found in a run, in the words of `run.json`: memory, further measurements, checks of the times."""

from levelfield import host
from levelfield.backends.base import Backend
from levelfield.measure.gpu import Gpu
from levelfield.measure.pauses import LEAST_SECONDS, Pauses
from levelfield.measure.sampler import FAULTS, GpuUse
from levelfield.measure.soft import asked
from levelfield.measure.sums import sum_told
from levelfield.records import Epoch, Latency, Memory

# Waiting longer than this share of an epoch after it returned, the loop had not waited for its device.
IDLE_SHARE = 0.01
# A mean step and a single step that was waited for differ at most so: an unsynchronised time is off by ten times and more.
AGREEMENT = 3.0
# Where pauses cannot be seen from the host, an epoch longer than its steps one by one held something else.
HIDDEN_MARGIN = 1.25
# A GPU that heat or power supply held down for longer than this share of the training was not the GPU that it is.
THROTTLED_WARN = 0.01


def before_training(backend: Backend) -> int | None:
    """The host's resident bytes as training begins, of all its processes; starts their peaks anew. None where the kernel does neither."""
    processes = [None, *backend.process_ids]
    forgotten = [host.forget_peak(process) for process in processes]
    resident = [host.resident_bytes(process) for process in processes]
    return sum_told(resident) if all(forgotten) else None


def memory(backend: Backend, gpu: Gpu | None, use: GpuUse | None, before: int | None) -> Memory:
    """Peaks over the training. NVML's is None where the sampler died, and where the framework takes the GPU's memory in advance,
    since then it says nothing about the run; the framework's are None where it does not tell. gpu: the one that the backend used; None on a CPU. before: the host's resident bytes
    when training began. Of several processes the host's peaks are added up, and pages that they share counted for each."""
    resident = [host.peak_resident_bytes(process) for process in (None, *backend.process_ids)]
    untold: tuple[int | None, int | None] = None, None
    allocated, reserved = asked("the framework's peak of memory", backend.peak_memory, untold)
    seen = use.peak_bytes if gpu and use and not backend.preallocates else None
    return Memory(sum_told(resident), allocated, reserved, seen, before)


def gpu_measurements(use: GpuUse | None) -> dict[str, float | str | None]:
    """What the sampler saw beside memory; None without it, and each figure None that the GPU did not tell.

    `gpu_throttle_reasons` is `none` where the GPU told that nothing slowed it down. `gpu_warning`: why the run's times are not
    to be trusted, in words.
    """
    if use is None:
        names = (
            "utilisation_percent", "clock_mhz", "power_watts", "throttle_reasons", "throttled_share", "foreign_processes",
            "memory_source", "warning",
        )  # fmt: skip
        return {f"gpu_{name}": None for name in names}
    return {
        "gpu_utilisation_percent": use.utilisation_percent,
        "gpu_clock_mhz": use.clock_mhz,
        "gpu_power_watts": use.power_watts,
        "gpu_throttle_reasons": None if use.throttle_reasons is None else ", ".join(use.throttle_reasons) or "none",
        "gpu_throttled_share": use.throttled_share,
        "gpu_foreign_processes": use.foreign_processes,
        "gpu_memory_source": use.peak_source,
        "gpu_warning": gpu_warning(use),
    }


def gpu_warning(use: GpuUse) -> str | None:
    """Why the GPU was no level field, in words; None where nothing that it told speaks against the run's times."""
    reasons = []
    if use.throttled_share is not None and use.throttled_share > THROTTLED_WARN:
        found = ", ".join(reason for reason in use.throttle_reasons or () if reason in FAULTS)
        reasons.append(f"the GPU was held down for {use.throttled_share:.0%} of the time ({found})")
    if use.foreign_processes:
        count = use.foreign_processes
        reasons.append(f"{count} other {'process' if count == 1 else 'processes'} computed on the GPU")
    return "; ".join(reasons) or None


def step_measurements(pauses: list[Pauses], latency: Latency | None) -> dict[str, float | None]:
    """How even the steps were: pauses over all epochs, None where a call or the queue took most of one and hid them, and the spread
    of single steps (p90 / p50 − 1)."""
    called, unseen = any(epoch.unseen for epoch in pauses), any(epoch.unseen or epoch.hidden for epoch in pauses)
    return {
        "before_first_step_seconds": None if called else max(epoch.before_seconds for epoch in pauses),
        "longest_pause_seconds": None if called else max(epoch.longest_seconds for epoch in pauses),
        "stalled_seconds": None if unseen else sum(epoch.stalled_seconds for epoch in pauses),
        "step_spread": latency.p90_seconds / latency.p50_seconds - 1 if latency else None,
    }


def energy_measurements(epochs: list[Epoch], sequences: int, source: str | None) -> dict[str, float | str | None]:
    """Joules per 1,000 sequences trained on, over all epochs; None where an epoch's energy is not known.

    sequences: of all epochs together.
    """
    joules = sum_told(epoch.energy_joules for epoch in epochs)
    known = None if joules is None else joules / sequences * 1000
    return {"energy_source": source, "energy_joules_per_1000_sequences": known}


def time_checks(pauses: list[Pauses], waited_seconds: list[float], latency: Latency | None) -> dict[str, bool]:
    """Whether the epochs' times can be believed.

    no_stall: nothing but steps is in them; left out where one call made most of an epoch and hid what was in it, or the queue did and
    there is no probe. device_idle: no work was left to the device when an epoch returned.
    times_agree: a mean step is like a single step that was waited for; left out without a probe.
    """
    stalled = any(epoch.stalls for epoch in pauses)
    unseen = any(epoch.unseen or (epoch.hidden and latency is None) for epoch in pauses)
    checks = {"no_stall": not stalled} if stalled or not unseen else {}
    checks["device_idle"] = all(w <= IDLE_SHARE * p.seconds for w, p in zip(waited_seconds, pauses, strict=True))
    if latency:
        least, most = latency.p50_seconds / AGREEMENT, AGREEMENT * latency.p90_seconds
        checks["times_agree"] = all(least <= epoch.seconds / epoch.steps <= most for epoch in pauses)
        for epoch in pauses:
            if epoch.hidden:
                most = HIDDEN_MARGIN * epoch.steps * latency.p50_seconds + LEAST_SECONDS
                checks["no_stall"] = checks["no_stall"] and epoch.seconds <= most
    return checks
