"""NVIDIA GPUs through NVML: which there are, what state they are in, who uses them. Without NVML everything is None or empty.

NVML numbers GPUs by PCI address and knows nothing of CUDA_VISIBLE_DEVICES, so GPUs go by their UUID here.
"""

import os
from dataclasses import dataclass
from functools import cache

# nvmlClocksEventReasons of NVML's reference: why the clock is below the highest. 1, idle, and 2, a clock that the user set, slow no work down.
THROTTLE_REASONS = {
    0x4: "software power cap",
    0x8: "hardware slowdown",
    0x10: "sync boost",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "hardware power brake",
}


@dataclass(frozen=True)
class Gpu:
    """A GPU of this machine."""

    uuid: str
    index: int
    """NVML's number, by PCI address: CUDA's under CUDA_DEVICE_ORDER=PCI_BUS_ID."""
    name: str
    memory_bytes: int
    driver: str


@dataclass(frozen=True)
class State:
    """One reading of a GPU; None where the GPU does not tell."""

    used_bytes: int | None
    utilisation_percent: int | None
    """Share of NVML's last sampling period in which a kernel ran."""
    clock_mhz: int | None
    power_watts: float | None
    temperature_celsius: int | None
    throttle_reasons: tuple[str, ...]
    processes: dict[int, int | None]
    """Process number to bytes used, all compute processes on the GPU; None where the driver does not tell the bytes."""


@cache
def nvml():
    """The module pynvml, initialised; None without a driver or GPU."""
    try:
        import pynvml
    except ModuleNotFoundError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    return pynvml


def _told(function: str, *arguments):
    """What an NVML function returns; None where this GPU or driver does not support it or does not allow it."""
    module = nvml()
    try:
        return getattr(module, function)(*arguments)
    except module.NVMLError:
        return None


def _text(value) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def gpus() -> list[Gpu]:
    """The GPUs of this machine in NVML's order; empty without NVML."""
    module = nvml()
    if module is None:
        return []
    driver, found = _text(module.nvmlSystemGetDriverVersion()), []
    for index in range(module.nvmlDeviceGetCount()):
        handle = module.nvmlDeviceGetHandleByIndex(index)
        name, uuid = _text(module.nvmlDeviceGetName(handle)), _text(module.nvmlDeviceGetUUID(handle))
        found.append(Gpu(uuid, index, name, int(module.nvmlDeviceGetMemoryInfo(handle).total), driver))
    return found


def visible() -> list[Gpu]:
    """The GPUs that CUDA_VISIBLE_DEVICES leaves, in its order; all without it.

    As CUDA reads it: numbers or (beginnings of) UUIDs, and nothing beyond the first entry that names no GPU. Numbers
    count by PCI address, for `device.hold_device` sets CUDA_DEVICE_ORDER.
    """
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is None:
        return gpus()
    found = []
    for entry in chosen.split(","):
        matches = [gpu for gpu in gpus() if entry.strip() == str(gpu.index) or _names(entry.strip(), gpu.uuid)]
        if len(matches) != 1:
            break
        found += matches
    return found


def _names(entry: str, uuid: str) -> bool:
    return entry.startswith("GPU-") and uuid.startswith(entry)


def state(uuid: str) -> State | None:
    """One reading of the GPU; None without NVML. Raises pynvml.NVMLError for an unknown UUID."""
    module = nvml()
    if module is None:
        return None
    handle = module.nvmlDeviceGetHandleByUUID(uuid)
    memory, use = _told("nvmlDeviceGetMemoryInfo", handle), _told("nvmlDeviceGetUtilizationRates", handle)
    reasons = _told("nvmlDeviceGetCurrentClocksThrottleReasons", handle) or 0
    milliwatts = _told("nvmlDeviceGetPowerUsage", handle)
    return State(
        used_bytes=None if memory is None else int(memory.used),
        utilisation_percent=None if use is None else int(use.gpu),
        clock_mhz=_told("nvmlDeviceGetClockInfo", handle, module.NVML_CLOCK_SM),
        power_watts=None if milliwatts is None else milliwatts / 1000,
        temperature_celsius=_told("nvmlDeviceGetTemperature", handle, module.NVML_TEMPERATURE_GPU),
        throttle_reasons=tuple(name for bit, name in THROTTLE_REASONS.items() if reasons & bit),
        processes={
            process.pid: process.usedGpuMemory for process in _told("nvmlDeviceGetComputeRunningProcesses", handle) or []
        },
    )


def energy_joules(uuid: str) -> float | None:
    """The GPU's energy counter since the driver was loaded; None without NVML or on a GPU older than Volta."""
    module = nvml()
    if module is None:
        return None
    millijoules = _told("nvmlDeviceGetTotalEnergyConsumption", module.nvmlDeviceGetHandleByUUID(uuid))
    return None if millijoules is None else millijoules / 1000
