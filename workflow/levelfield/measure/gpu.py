"""NVIDIA GPUs through NVML: which there are, what state they are in, who uses them. What NVML does not tell is None.

NVML numbers GPUs by PCI address and knows nothing of CUDA_VISIBLE_DEVICES, so GPUs go by their UUID here. Every call may say
that it is not supported, not allowed, that the GPU is lost, or not come back at all (NVML's reference, "Device Queries").
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from threading import Event, Thread
from types import ModuleType
from typing import Any, TypeVar

from levelfield.measure.sums import sum_told

# nvmlClocksEventReasons of NVML's reference: why the clock is below the highest. 1, idle, and 2, a clock that the user set, slow no work down.
THROTTLE_REASONS = {
    0x4: "software power cap",
    0x8: "hardware slowdown",
    0x10: "sync boost",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "hardware power brake",
}

PRETENDED = "pretended"
"""How the driver's name begins on the tests' pretended machine: no record that names it is a measurement."""

ANSWER_SECONDS = 10.0
"""Within which NVML answers: it takes up to some seconds where no driver's daemon keeps a card awake."""

Told = TypeVar("Told")
Handle = Any
"""NVML's of a GPU: a pointer of ctypes, None where there is none."""


@dataclass(frozen=True)
class Gpu:
    """A GPU of this machine, or a slice of one (MIG); None where NVML does not tell."""

    uuid: str
    index: int | None
    """NVML's number, by PCI address: CUDA's under CUDA_DEVICE_ORDER=PCI_BUS_ID; None for a slice, which has none."""
    name: str | None
    memory_bytes: int | None
    """None where the GPU has no memory of its own (GB10, Jetson), and for one that is cut into slices."""
    driver: str | None

    def __str__(self) -> str:
        """In words: `NVIDIA H100, 80 GiB, driver 590.10`."""
        memory = "memory not told" if self.memory_bytes is None else f"{self.memory_bytes / 2**30:.0f} GiB"
        return f"{self.name or self.uuid}, {memory}, driver {self.driver or 'not told'}"


def as_one(gpus: list[Gpu]) -> Gpu | None:
    """What a run used, as the one GPU that its record tells of: their UUIDs, their memory together; None where it used none."""
    if len(gpus) < 2:
        return gpus[0] if gpus else None
    uuids, names = ", ".join(sorted(gpu.uuid for gpu in gpus)), dict.fromkeys(gpu.name or gpu.uuid for gpu in gpus)
    return Gpu(uuids, None, " and ".join(names), sum_told(gpu.memory_bytes for gpu in gpus), gpus[0].driver)


@dataclass(frozen=True)
class State:
    """One reading of a GPU; None where the GPU does not tell."""

    used_bytes: int | None
    utilisation_percent: int | None
    """Share of NVML's last sampling period in which a kernel ran."""
    clock_mhz: int | None
    temperature_celsius: int | None
    throttle_reasons: tuple[str, ...] | None
    """Empty where the GPU says that nothing slows it down."""
    energy_joules: float | None
    """The counter since the driver was loaded."""


@cache
def nvml() -> ModuleType | None:
    """The module pynvml, initialised; None without a driver or GPU, or where driver and library do not fit."""
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    module: ModuleType = pynvml
    return module


def _nvml() -> ModuleType:
    """The same for who has a handle, or asked before."""
    module = nvml()
    assert module is not None
    return module


_hung = Event()


def in_time(ask: Callable[[], Told], seconds: float | None = None) -> Told | None:
    """What `ask` returns; None where it has no answer within so many seconds (ANSWER_SECONDS), and from then on at once.

    A call into a driver that hangs cannot be ended; it is left behind in a thread that holds up nobody's exit.
    """
    if _hung.is_set():
        return None
    answers: list[Told] = []
    asking = Thread(target=lambda: answers.append(ask()), daemon=True)
    asking.start()
    asking.join(ANSWER_SECONDS if seconds is None else seconds)
    if asking.is_alive():
        _hung.set()
    return answers[0] if answers else None


def _told(function: str, *arguments: Any) -> Any:
    """What an NVML function returns; None where this GPU or driver does not support it, does not allow it, or fails."""
    module = _nvml()
    try:
        return getattr(module, function)(*arguments)
    except (module.NVMLError, module.NVMLLibraryMismatchError):  # the second where the driver is older than a function
        return None


def _text(value: str | bytes | None) -> str | None:
    return value.decode() if isinstance(value, bytes) else value


def gpus() -> list[Gpu]:
    """The GPUs of this machine in NVML's order; empty without NVML, and where it hangs. One that is lost, not allowed to
    this process, or without a UUID is left out."""
    return in_time(_gpus) or []


def _gpus() -> list[Gpu]:
    if nvml() is None:
        return []
    found = [_described(_told("nvmlDeviceGetHandleByIndex", index), index) for index in range(_told("nvmlDeviceGetCount") or 0)]
    return [gpu for gpu in found if gpu is not None]


def _described(handle: Handle, index: int | None) -> Gpu | None:
    uuid = None if handle is None else _text(_told("nvmlDeviceGetUUID", handle))
    if not uuid:
        return None
    name, memory = _text(_told("nvmlDeviceGetName", handle)), _told("nvmlDeviceGetMemoryInfo", handle)
    driver = _text(_told("nvmlSystemGetDriverVersion"))
    return Gpu(uuid, index, name or None, int(memory.total) if memory and memory.total else None, driver or None)


def visible() -> list[Gpu]:
    """The GPUs that CUDA_VISIBLE_DEVICES leaves, in its order; all without it.

    As CUDA reads it: numbers, (beginnings of) UUIDs, or the whole UUID of a slice (`MIG-…`), and nothing beyond the first entry
    that names no GPU. Numbers count by PCI address, for `device.hold_device` sets CUDA_DEVICE_ORDER.
    """
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    everything = gpus()
    if chosen is None:
        return everything
    found = []
    for entry in (entry.strip() for entry in chosen.split(",")):
        if entry.startswith("MIG-"):
            matches = [piece for piece in [in_time(partial(_slice, entry))] if piece]
        else:
            matches = [gpu for gpu in everything if entry == str(gpu.index) or _names(entry, gpu.uuid)]
        if len(matches) != 1:
            break
        found += matches
    return found


def _slice(uuid: str) -> Gpu | None:
    return None if nvml() is None else _described(_told("nvmlDeviceGetHandleByUUID", uuid), None)


def _names(entry: str, uuid: str) -> bool:
    return entry.startswith("GPU-") and uuid.startswith(entry)


def _handle(uuid: str) -> tuple[Handle, bool]:
    """NVML's handle of the GPU, and whether it is one whole: of a card that is cut into slices, memory, energy and processes
    are those of all its slices. (None, False) without NVML, or where the GPU is lost."""
    handle = None if nvml() is None else _told("nvmlDeviceGetHandleByUUID", uuid)
    if handle is None:
        return None, False
    modes = _told("nvmlDeviceGetMigMode", handle)  # not supported by most GPUs, nor by a slice
    return handle, uuid.startswith("MIG-") or not (modes and modes[0])


def state(uuid: str) -> State | None:
    """One reading of the GPU; None without NVML, and where the GPU is lost."""
    handle, whole = _handle(uuid)
    if handle is None:
        return None
    memory = _told("nvmlDeviceGetMemoryInfo", handle) if whole else None
    use, reasons = _told("nvmlDeviceGetUtilizationRates", handle), _told("nvmlDeviceGetCurrentClocksThrottleReasons", handle)
    return State(
        used_bytes=None if memory is None else int(memory.used),
        utilisation_percent=None if use is None else int(use.gpu),
        clock_mhz=_told("nvmlDeviceGetClockInfo", handle, _nvml().NVML_CLOCK_SM) or None,
        temperature_celsius=_told("nvmlDeviceGetTemperature", handle, _nvml().NVML_TEMPERATURE_GPU),
        throttle_reasons=None
        if reasons is None
        else tuple(name for bit, name in THROTTLE_REASONS.items() if int(reasons) & bit),
        energy_joules=_energy(handle) if whole else None,
    )


def processes(uuid: str) -> dict[int, int | None] | None:
    """Process number to bytes used, all compute processes on the GPU, the bytes None where the driver does not tell them; None
    without a list.

    Takes the driver's lock for milliseconds: not to be asked often while something is timed.
    """
    handle, whole = _handle(uuid)
    if handle is None or not whole:
        return None
    listed = _told("nvmlDeviceGetComputeRunningProcesses", handle)
    return None if listed is None else {process.pid: process.usedGpuMemory for process in listed}


def clock_mhz(uuid: str) -> int | None:
    """The SM clock now; None where it is not told, or not in time."""

    def ask() -> int | None:
        handle, _ = _handle(uuid)
        return None if handle is None else _told("nvmlDeviceGetClockInfo", handle, _nvml().NVML_CLOCK_SM) or None

    return in_time(ask)


def energy_joules(uuid: str) -> float | None:
    """The GPU's energy counter since the driver was loaded; None without NVML, on a GPU older than Volta, in slices, and where
    it does not answer in time."""

    def ask() -> float | None:
        handle, whole = _handle(uuid)
        return _energy(handle) if whole else None

    return in_time(ask)


def _energy(handle: Handle) -> float | None:
    millijoules = _told("nvmlDeviceGetTotalEnergyConsumption", handle)
    return None if millijoules is None else millijoules / 1000
