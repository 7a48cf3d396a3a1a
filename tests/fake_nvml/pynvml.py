"""A pretended NVML: answers as NVIDIA's reference says, from the JSON file that FAKE_NVML names, read at every call.

The file: {"driver": str, "gpus": [{"uuid", "name", "total", "used", "utilisation", "clock", "energy" (mJ), "power" (mW),
"temperature", "reasons" (bits), "processes": {pid: bytes or null}}]}. A key that is left out is not supported by that
GPU. As in pynvml, calls before nvmlInit raise, texts are `str`, and bytes that are not told are None.
"""

import json
import os
from pathlib import Path
from types import SimpleNamespace

NVML_CLOCK_SM = 1
NVML_TEMPERATURE_GPU = 0
NVML_ERROR_UNINITIALIZED, NVML_ERROR_NOT_SUPPORTED, NVML_ERROR_NOT_FOUND, NVML_ERROR_DRIVER_NOT_LOADED = 1, 3, 6, 9
_initialised = False


class NVMLError(Exception):
    def __init__(self, value):
        super().__init__(value)
        self.value = value


def _machine():
    if not _initialised:
        raise NVMLError(NVML_ERROR_UNINITIALIZED)
    return json.loads(Path(os.environ["FAKE_NVML"]).read_text())


def _gpu(handle, key):
    values = _machine()["gpus"][handle]
    if key not in values:
        raise NVMLError(NVML_ERROR_NOT_SUPPORTED)
    return values[key]


def nvmlInit():
    global _initialised
    if "FAKE_NVML" not in os.environ:
        raise NVMLError(NVML_ERROR_DRIVER_NOT_LOADED)
    _initialised = True


def nvmlSystemGetDriverVersion():
    return _machine()["driver"]


def nvmlDeviceGetCount():
    return len(_machine()["gpus"])


def nvmlDeviceGetHandleByIndex(index):
    if not 0 <= index < nvmlDeviceGetCount():
        raise NVMLError(NVML_ERROR_NOT_FOUND)
    return index


def nvmlDeviceGetHandleByUUID(uuid):
    for handle, values in enumerate(_machine()["gpus"]):
        if values["uuid"] == uuid:
            return handle
    raise NVMLError(NVML_ERROR_NOT_FOUND)


def nvmlDeviceGetName(handle):
    return _gpu(handle, "name")


def nvmlDeviceGetUUID(handle):
    return _gpu(handle, "uuid")


def nvmlDeviceGetMemoryInfo(handle):
    total, used = _gpu(handle, "total"), _gpu(handle, "used")
    return SimpleNamespace(total=total, used=used, free=total - used)


def nvmlDeviceGetUtilizationRates(handle):
    return SimpleNamespace(gpu=_gpu(handle, "utilisation"), memory=0)


def nvmlDeviceGetClockInfo(handle, kind):
    assert kind == NVML_CLOCK_SM
    return _gpu(handle, "clock")


def nvmlDeviceGetPowerUsage(handle):
    return _gpu(handle, "power")


def nvmlDeviceGetTemperature(handle, sensor):
    assert sensor == NVML_TEMPERATURE_GPU
    return _gpu(handle, "temperature")


def nvmlDeviceGetCurrentClocksThrottleReasons(handle):
    return _gpu(handle, "reasons")


def nvmlDeviceGetTotalEnergyConsumption(handle):
    return _gpu(handle, "energy")


def nvmlDeviceGetComputeRunningProcesses(handle):
    return [SimpleNamespace(pid=int(pid), usedGpuMemory=used) for pid, used in _gpu(handle, "processes").items()]
