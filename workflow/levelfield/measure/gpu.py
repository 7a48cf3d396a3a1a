"""NVIDIA GPUs through NVML: which there are, what state they are in, who uses them. What NVML does not tell is None.

NVML numbers GPUs by PCI address and knows nothing of CUDA_VISIBLE_DEVICES, so GPUs go by their UUID here. Every call may say
that it is not supported, not allowed, that the GPU is lost, or not come back at all (NVML's reference, "Device Queries").
"""

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
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
"""How the driver's name begins on the tests' pretended machine, and a flag of backends that pretend: see `pretends`."""

FIRST_SECONDS = 60.0
"""Within which NVML answers for the first time: where no persistence daemon keeps the cards awake, each of them starts anew."""
ANSWER_SECONDS = 10.0
"""Within which it answers from then on."""

SILENCE = (
    "NVML did not answer in time, and is not asked again: `nvidia-smi` tells whether the driver answers; a persistence daemon "
    "(`nvidia-persistenced`) keeps cards awake"
)
WAY_OUT = "`nvidia-smi` tells whether the driver works; after its update, or where a GPU is lost, the machine needs a restart"
"""What to do where NVML is in error."""

NO_GPU = (3, 9, 12, 28)
"""nvmlReturn_t of NVML's reference: not supported, driver not loaded, library not found, GPU not found. So speaks a machine
without a GPU, or one whose GPU NVML does not know (Jetson), and a framework may find all the same. Any other error is a fault."""
NO_SLICE = (*NO_GPU, 2, 6)
"""The same of a slice's UUID, which an old driver does not know: invalid argument, not found."""
NOT_OURS = (*NO_GPU, 4)
"""The same of one card: no permission, as where a scheduler counts all cards to a job and lets it open none."""
INITIALISE = "nvmlInit"

Told = TypeVar("Told")
UNTOLD_SLICE = "(a slice, which one is not told)"
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
    cut: bool = False
    """Whether it is a card that is cut into slices (MIG): CUDA computes on one of them, and which one is not told."""

    def __str__(self) -> str:
        """In words: `NVIDIA H100, 80 GiB, driver 590.10`."""
        memory = "memory not told" if self.memory_bytes is None else f"{self.memory_bytes / 2**30:.0f} GiB"
        return f"{self.name or self.uuid}, {memory}, driver {self.driver or 'not told'}"


def as_one(gpus: list[Gpu]) -> Gpu | None:
    """What a run used, as the one GPU that its record tells of: their UUIDs, their memory together; None where it used none."""
    if len(gpus) < 2:
        return gpus[0] if gpus else None
    uuids, names = ", ".join(sorted(gpu.uuid for gpu in gpus)), dict.fromkeys(gpu.name or gpu.uuid for gpu in gpus)
    memory, cut = sum_told(gpu.memory_bytes for gpu in gpus), any(gpu.cut for gpu in gpus)
    return Gpu(uuids, None, " and ".join(names), memory, gpus[0].driver, cut)


def pretends(machine: Mapping[str, Any]) -> str | None:
    """What of a run's machine record was pretended, in words; None where nothing was. Such a run measured nothing."""
    driver, flags = machine.get("driver"), machine.get("flags")
    if isinstance(driver, str) and driver.startswith(PRETENDED):
        return f"driver {driver!r}"
    return "a pretended backend" if isinstance(flags, Mapping) and PRETENDED in flags else None


@dataclass(frozen=True)
class State:
    """One reading of a GPU; None where the GPU does not tell."""

    used_bytes: int | None
    utilisation_percent: int | None
    """Share of NVML's last sampling period in which a kernel ran."""
    clock_mhz: int | None
    throttle_reasons: tuple[str, ...] | None
    """Empty where the GPU says that nothing slows it down."""
    energy_joules: float | None
    """The counter since the driver was loaded."""


_faults: dict[str, str] = {}
"""Why NVML told of no GPU when it was last asked for them, in words, by what was asked: what no machine without a GPU says."""


def _keep(asked: str, error: Exception, absent: tuple[int, ...] = NO_GPU) -> None:
    """Keeps an error as a fault of what was asked, unless it is one of `absent`, which say that NVML knows of no GPU."""
    if getattr(error, "value", None) not in absent:
        told = " ".join(f"{type(error).__name__}: {error}".split()).rstrip(".")
        _faults[asked] = f"NVML is in error ({asked}: {told}): {WAY_OUT}"


@cache
def nvml() -> ModuleType | None:
    """The module pynvml, initialised; None without a driver or GPU, and where it fails: `silence` tells such a fault."""
    _faults.pop(INITIALISE, None)
    try:
        import pynvml

        pynvml.nvmlInit()
    except ModuleNotFoundError:
        return None
    except Exception as error:  # NVML's own, or that of a module of this name which is another, or broken
        _keep(INITIALISE, error)
        return None
    module: ModuleType = pynvml
    return module


def _nvml() -> ModuleType:
    """The same for who has a handle, or asked before."""
    module = nvml()
    assert module is not None
    return module


_answered, _hung = Event(), Event()


def silence() -> str | None:
    """Why NVML told of no GPU when it was last asked for them, or tells nothing any more, in words: it hangs, or is in error.
    None where it answered, were it that there is none."""
    return SILENCE if _hung.is_set() else next(iter(_faults.values()), None)


def in_time(ask: Callable[[], Told], seconds: float | None = None) -> Told | None:
    """What `ask` returns; None where it has no answer within so many seconds, which is said on stderr, and from then on at once.
    None, too, where it raises, which `silence` tells.

    seconds: FIRST_SECONDS until there was an answer, then ANSWER_SECONDS. A call into a driver that hangs cannot be ended; it is left
    behind in a thread that holds up nobody's exit.
    """
    if _hung.is_set():
        return None
    answers: list[Told] = []

    def answer() -> None:
        try:
            answers.append(ask())
        except Exception as error:  # as of a pynvml that answers otherwise than this one was written for
            _keep("its answer", error)

    asking = Thread(target=answer, daemon=True)
    asking.start()
    limit = (ANSWER_SECONDS if _answered.is_set() else FIRST_SECONDS) if seconds is None else seconds
    asking.join(limit)
    if asking.is_alive():
        _hung.set()
        print(f"{SILENCE} (waited for {limit:g} s)", file=sys.stderr, flush=True)
    else:
        _answered.set()
    return answers[0] if answers else None


def _told(function: str, *arguments: Any, absent: tuple[int, ...] | None = None) -> Any:
    """What an NVML function returns; None where this GPU or driver does not support it, does not allow it, or fails.

    absent: of a function without which no GPU is known, the errors that say that there is none: any other is a fault, for
    `silence` to tell. None: the error says nothing of that.
    """
    module = _nvml()
    try:
        return getattr(module, function)(*arguments)
    except Exception as error:  # NVML's; or of a driver or a pynvml older than the function; or of a name that is no text
        known = (module.NVML_ERROR_NOT_SUPPORTED, module.NVML_ERROR_NO_PERMISSION)
        if isinstance(error, module.NVMLError) and getattr(error, "value", None) not in known:
            _handles.clear()  # one of a GPU that was lost is to be asked for again
        if absent is not None:
            _keep(function, error, absent)
        return None


def _text(value: str | bytes | None) -> str | None:
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def gpus() -> list[Gpu]:
    """The GPUs of this machine in NVML's order; empty without NVML, and where it hangs or is in error, which `silence` tells. One
    that is lost, not allowed to this process, or without a UUID is left out."""
    for asked in _faults.keys() - {INITIALISE}:  # that is asked for once alone
        _faults.pop(asked, None)
    return in_time(_gpus) or []


def _gpus() -> list[Gpu]:
    if nvml() is None:
        return []
    count = _told("nvmlDeviceGetCount", absent=NO_GPU) or 0
    found = [_described(_told("nvmlDeviceGetHandleByIndex", index, absent=NOT_OURS), index) for index in range(count)]
    return [gpu for gpu in found if gpu is not None]


def _described(handle: Handle, index: int | None) -> Gpu | None:
    uuid = None if handle is None else _text(_told("nvmlDeviceGetUUID", handle, absent=NOT_OURS))
    if not uuid:
        return None
    name, memory = _text(_told("nvmlDeviceGetName", handle)), _told("nvmlDeviceGetMemoryInfo", handle)
    driver, cut = _text(_told("nvmlSystemGetDriverVersion")), index is not None and _is_cut(handle)
    total = int(memory.total) if memory and memory.total and not cut else None
    return Gpu(uuid, index, name or None, total, driver or None, cut)


def hidden() -> bool:
    """Whether CUDA_VISIBLE_DEVICES leaves no GPU to anybody: it is empty, or its first entry can name none (`-1`, and a
    scheduler's `NoDevFiles`)."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is None:
        return False
    first = chosen.split(",")[0].strip()
    return not (first.isdecimal() or first.upper().startswith(("GPU-", "MIG-")))


def visible() -> list[Gpu]:
    """The GPUs that CUDA_VISIBLE_DEVICES leaves, in its order; all without it.

    As CUDA reads it: numbers, (beginnings of) UUIDs, or the whole UUID of a slice (`MIG-…`), and nothing beyond the first entry
    that names no GPU. Numbers count by PCI address, for `device.hold_device` sets CUDA_DEVICE_ORDER. Of a card that is cut into slices
    CUDA takes one, which no number names: its name says so.
    """
    if hidden():  # no driver need be asked, which may hang
        return []
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    everything = [replace(gpu, name=f"{gpu.name or 'a GPU'} {UNTOLD_SLICE}") if gpu.cut else gpu for gpu in gpus()]
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
    return None if nvml() is None else _described(_told("nvmlDeviceGetHandleByUUID", uuid, absent=NO_SLICE), None)


def _names(entry: str, uuid: str) -> bool:
    return entry.startswith("GPU-") and uuid.startswith(entry)


_handles: dict[tuple[ModuleType, str], tuple[Handle, bool]] = {}
"""What `_handle` found, until a call fails: a driver looks through all its GPUs for a UUID."""


def _handle(uuid: str) -> tuple[Handle, bool]:
    """NVML's handle of the GPU, and whether it is one whole: of a card that is cut into slices, memory, energy and processes
    are those of all its slices. (None, False) without NVML, or where the GPU is lost."""
    module = nvml()
    if module is None:
        return None, False
    if known := _handles.get((module, uuid)):
        return known
    handle = _told("nvmlDeviceGetHandleByUUID", uuid)
    if handle is None:
        return None, False
    found = handle, uuid.startswith("MIG-") or not _is_cut(handle)
    _handles[module, uuid] = found
    return found


def _is_cut(handle: Handle) -> bool:
    modes = _told("nvmlDeviceGetMigMode", handle)  # not supported by most GPUs, nor by a slice
    return bool(modes and modes[0])


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
