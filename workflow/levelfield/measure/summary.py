"""What the instruments found in a run, in the words of `run.json`: memory, further measurements, checks of the times."""

from levelfield import host
from levelfield.backends.base import Backend
from levelfield.measure.gpu import Gpu
from levelfield.measure.pauses import LEAST_SECONDS, Pauses
from levelfield.measure.sampler import GpuUse
from levelfield.records import Epoch, Latency, Memory

# An allocator that holds this share of a GPU, and twice what its tensors ever took, took it in advance (JAX: 75 %).
PREALLOCATED_SHARE = 0.5
# Waiting longer than this share of an epoch after it returned, the loop had not waited for its device.
IDLE_SHARE = 0.01
# A mean step and a single step that was waited for differ at most so: an unsynchronised time is off by ten times and more.
AGREEMENT = 3.0
# Where pauses cannot be seen from the host, an epoch longer than its steps one by one held something else.
HIDDEN_MARGIN = 1.25


def memory(backend: Backend, gpu: Gpu | None, use: GpuUse | None) -> Memory:
    """Peaks over the training. NVML's is None where the sampler died, and where the GPU's memory was taken in advance,
    since then it says nothing about the run. gpu: the one that the backend used; None on a CPU."""
    allocated, reserved = backend.peak_memory()
    seen = use.peak_bytes if gpu and use else None
    if gpu and preallocated(gpu, allocated, reserved, seen):
        seen = None
    return Memory(host.peak_resident_bytes(), allocated, reserved, seen)


def preallocated(gpu: Gpu, allocated: int | None, reserved: int | None, seen: int | None) -> bool:
    """Whether the framework took a large part of the GPU's memory in advance."""
    held = max(reserved or 0, seen or 0)
    return held > PREALLOCATED_SHARE * gpu.memory_bytes and allocated is not None and 2 * allocated < held


def gpu_measurements(use: GpuUse | None) -> dict[str, float | str | None]:
    """What the sampler saw beside memory; None without it."""
    if use is None:
        names = ("utilisation_percent", "clock_mhz", "power_watts", "throttle_reasons", "foreign_processes", "memory_source")
        return {f"gpu_{name}": None for name in names}
    return {
        "gpu_utilisation_percent": use.utilisation_percent,
        "gpu_clock_mhz": use.clock_mhz,
        "gpu_power_watts": use.power_watts,
        "gpu_throttle_reasons": ", ".join(use.throttle_reasons),
        "gpu_foreign_processes": use.foreign_processes,
        "gpu_memory_source": use.peak_source,
    }


def step_measurements(pauses: list[Pauses], latency: Latency | None) -> dict[str, float | None]:
    """How even the steps were: pauses over all epochs, and the spread of single steps (p90 / p50 − 1)."""
    return {
        "before_first_step_seconds": max(epoch.before_seconds for epoch in pauses),
        "longest_pause_seconds": max(epoch.longest_seconds for epoch in pauses),
        "stalled_seconds": sum(epoch.stalled_seconds for epoch in pauses),
        "step_spread": latency.p90_seconds / latency.p50_seconds - 1 if latency else None,
    }


def energy_measurements(epochs: list[Epoch], sequences: int, source: str | None) -> dict[str, float | str | None]:
    """Joules per 1,000 sequences trained on, over all epochs; None where an epoch's energy is not known."""
    joules = [epoch.energy_joules for epoch in epochs]
    known = None if None in joules else sum(joules) / (len(epochs) * sequences) * 1000
    return {"energy_source": source, "energy_joules_per_1000_sequences": known}


def time_checks(pauses: list[Pauses], waited_seconds: list[float], latency: Latency | None) -> dict[str, bool]:
    """Whether the epochs' times can be believed.

    no_stall: nothing but steps is in them. device_idle: no work was left to the device when an epoch returned.
    times_agree: a mean step is like a single step that was waited for; left out without a probe.
    """
    checks = {
        "no_stall": not any(epoch.stalls for epoch in pauses),
        "device_idle": all(w <= IDLE_SHARE * p.seconds for w, p in zip(waited_seconds, pauses, strict=True)),
    }
    if latency:
        least, most = latency.p50_seconds / AGREEMENT, AGREEMENT * latency.p90_seconds
        checks["times_agree"] = all(least <= epoch.seconds / epoch.steps <= most for epoch in pauses)
        for epoch in pauses:
            if epoch.hidden:
                most = HIDDEN_MARGIN * epoch.steps * latency.p50_seconds + LEAST_SECONDS
                checks["no_stall"] = checks["no_stall"] and epoch.seconds <= most
    return checks
