"""A pretended NVML: answers as NVIDIA's reference says, from the JSON file that FAKE_NVML names, read at every call.

The file: {"driver": str, "gpus": [{"uuid", "name", "total", "used", "utilisation", "clock", "energy" (mJ),
"reasons" (bits), "processes": {pid: bytes or null}, "mig": whether it is cut, "slices": [the same, of each slice]}],
"errors": {function: code, raised instead of its answer}, "hangs": [functions that never answer], "slow": {function: seconds
before its answer}, "calls": a file that gets a line for each call}. A key that is left out is not
supported by that GPU; a number may be {"from", "per_second"}, one that rises with time, {"steps": [[since, value], …]}, or
{"cycle": [value, …], "seconds" of each}, all on `time.monotonic`. As in pynvml, calls before nvmlInit raise, texts are `str`, bytes that are not told are None, and a driver
that is older than a function raises NVMLLibraryMismatchError where the function has versions.
"""

import json
import os
import time
from functools import wraps
from pathlib import Path
from types import SimpleNamespace

NVML_CLOCK_SM = 1
NVML_ERROR_UNINITIALIZED, NVML_ERROR_INVALID_ARGUMENT, NVML_ERROR_NOT_SUPPORTED, NVML_ERROR_NO_PERMISSION = 1, 2, 3, 4
NVML_ERROR_NOT_FOUND, NVML_ERROR_INSUFFICIENT_SIZE, NVML_ERROR_INSUFFICIENT_POWER, NVML_ERROR_DRIVER_NOT_LOADED = 6, 7, 8, 9
NVML_ERROR_TIMEOUT, NVML_ERROR_IRQ_ISSUE, NVML_ERROR_LIBRARY_NOT_FOUND, NVML_ERROR_FUNCTION_NOT_FOUND = 10, 11, 12, 13
NVML_ERROR_CORRUPTED_INFOROM, NVML_ERROR_GPU_IS_LOST, NVML_ERROR_RESET_REQUIRED, NVML_ERROR_OPERATING_SYSTEM = 14, 15, 16, 17
NVML_ERROR_LIB_RM_VERSION_MISMATCH, NVML_ERROR_IN_USE, NVML_ERROR_MEMORY, NVML_ERROR_NO_DATA = 18, 19, 20, 21
NVML_ERROR_ARGUMENT_VERSION_MISMATCH, NVML_ERROR_NOT_READY, NVML_ERROR_UNKNOWN = 25, 27, 999
_initialised = False


class NVMLError(Exception):
    def __init__(self, value):
        super().__init__(value)
        self.value = value


class NVMLLibraryMismatchError(Exception):
    pass


def _pretended() -> dict:
    path = os.environ.get("FAKE_NVML")
    return json.loads(Path(path).read_text()) if path else {}


def _faulty(function):
    """The function, with the errors and hangs that the machine's file asks for."""

    @wraps(function)
    def call(*arguments):
        machine = _pretended()
        if "calls" in machine:
            with Path(machine["calls"]).open("a") as calls:
                calls.write(f"{function.__name__}\n")
        time.sleep(machine.get("slow", {}).get(function.__name__, 0))
        if function.__name__ in machine.get("hangs", ()):
            time.sleep(3600)
        code = machine.get("errors", {}).get(function.__name__)
        if code == NVML_ERROR_FUNCTION_NOT_FOUND and function.__name__ == "nvmlDeviceGetComputeRunningProcesses":
            raise NVMLLibraryMismatchError
        if code is not None:
            raise NVMLError(code)
        return function(*arguments)

    return call


def _machine() -> dict:
    if not _initialised:
        raise NVMLError(NVML_ERROR_UNINITIALIZED)
    return _pretended()


def _gpu(handle, key):
    card, piece = handle
    values = _machine()["gpus"][card]
    if piece is not None:
        values = values["slices"][piece]
    if key not in values:
        raise NVMLError(NVML_ERROR_NOT_SUPPORTED)
    value = values[key]
    if isinstance(value, dict) and "per_second" in value:  # a trace: on a clock that all processes of the machine share
        return int(value["from"] + value["per_second"] * time.monotonic())
    if isinstance(value, dict) and "steps" in value:
        return [number for since, number in value["steps"] if time.monotonic() >= since][-1]
    if isinstance(value, dict) and "cycle" in value:
        return value["cycle"][int(time.monotonic() / value["seconds"]) % len(value["cycle"])]
    return value


@_faulty
def nvmlInit():
    global _initialised
    if "FAKE_NVML" not in os.environ:
        raise NVMLError(NVML_ERROR_DRIVER_NOT_LOADED)
    _initialised = True


@_faulty
def nvmlSystemGetDriverVersion():
    return _machine()["driver"]


def _count():
    return len(_machine()["gpus"])


@_faulty
def nvmlDeviceGetCount():
    return _count()


@_faulty
def nvmlDeviceGetHandleByIndex(index):
    if not 0 <= index < _count():
        raise NVMLError(NVML_ERROR_INVALID_ARGUMENT)
    return index, None


@_faulty
def nvmlDeviceGetHandleByUUID(uuid):
    for card, values in enumerate(_machine()["gpus"]):
        if values["uuid"] == uuid:
            return card, None
        for piece, of_slice in enumerate(values.get("slices", ())):
            if of_slice["uuid"] == uuid:
                return card, piece
    raise NVMLError(NVML_ERROR_NOT_FOUND)


@_faulty
def nvmlDeviceGetName(handle):
    return _gpu(handle, "name")


@_faulty
def nvmlDeviceGetUUID(handle):
    return _gpu(handle, "uuid")


@_faulty
def nvmlDeviceGetMigMode(handle):
    return [int(_gpu(handle, "mig"))] * 2


@_faulty
def nvmlDeviceGetMemoryInfo(handle):
    total, used = _gpu(handle, "total"), _gpu(handle, "used")
    return SimpleNamespace(total=total, used=used, free=total - used)


@_faulty
def nvmlDeviceGetUtilizationRates(handle):
    return SimpleNamespace(gpu=_gpu(handle, "utilisation"), memory=0)


@_faulty
def nvmlDeviceGetClockInfo(handle, kind):
    assert kind == NVML_CLOCK_SM
    return _gpu(handle, "clock")


@_faulty
def nvmlDeviceGetCurrentClocksThrottleReasons(handle):
    return _gpu(handle, "reasons")


@_faulty
def nvmlDeviceGetTotalEnergyConsumption(handle):
    return _gpu(handle, "energy")


@_faulty
def nvmlDeviceGetComputeRunningProcesses(handle):
    return [SimpleNamespace(pid=int(pid), usedGpuMemory=used) for pid, used in _gpu(handle, "processes").items()]
