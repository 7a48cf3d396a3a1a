"""A machine with pretended GPUs, through the fake NVML of `fake_nvml/`: the fixture `machine`."""

import json
import os
import sys
from pathlib import Path

import pytest

from levelfield.measure import device, gpu, locks

FAKE = Path(__file__).parent / "fake_nvml"
DRIVER = "pretended 590.10"
"""No real driver is called so: records that name it can be told from real ones."""

ERRORS = {
    "uninitialised": 1, "invalid argument": 2, "not supported": 3, "no permission": 4, "already initialised": 5, "not found": 6,
    "insufficient size": 7,
    "insufficient power": 8, "driver not loaded": 9, "timeout": 10, "IRQ issue": 11, "library not found": 12,
    "function not found": 13, "corrupted infoROM": 14, "GPU is lost": 15, "reset required": 16, "operating system": 17,
    "library and driver differ": 18, "in use": 19, "memory": 20, "no data": 21, "no ECC under vGPU": 22, "insufficient resources": 23,
    "frequency not supported": 24, "argument's version differs": 25, "deprecated": 26, "not ready": 27, "GPU not found": 28,
    "invalid state": 29, "reset type not supported": 30, "unknown": 999,
}  # fmt: skip
"""nvmlReturn_t, all of NVML's reference."""


def a_gpu(number: int, **values) -> dict:
    return {
        "uuid": f"GPU-{number}{number}{number}", "name": "Pretended GPU", "total": 8 << 30, "used": 1 << 30, "utilisation": 90,
        "clock": 1410, "energy": 5_000, "reasons": 0x1, "processes": {},
    } | values  # fmt: skip


def a_cut_gpu(number: int, **values) -> dict:
    """A card under MIG with one slice: of the card neither memory nor use is told, of the slice memory alone."""
    whole = {name: value for name, value in a_gpu(number).items() if name not in ("total", "used", "utilisation")}
    piece = {"uuid": f"MIG-{number}", "name": "Pretended GPU MIG 1g.5gb", "total": 5 << 30, "used": 1 << 20, "processes": {}}
    return whole | {"mig": True, "slices": [piece]} | values


@pytest.fixture(name="machine")
def pretended_machine(tmp_path, monkeypatch):
    """Pretends a machine with the given GPUs; called again it changes them. errors, hangs: as `fake_nvml/pynvml.py` has them."""
    path = tmp_path / "nvml.json"

    def pretend(*gpus: dict, **faults) -> None:
        part = tmp_path / "part"
        part.write_text(json.dumps({"driver": DRIVER, "gpus": list(gpus)} | faults))
        part.replace(path)

    monkeypatch.setenv("FAKE_NVML", str(path))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(FAKE), *sys.path]))
    monkeypatch.syspath_prepend(FAKE)
    monkeypatch.delitem(sys.modules, "pynvml", raising=False)
    monkeypatch.setenv(locks.ELSEWHERE, str(tmp_path))
    monkeypatch.setattr(locks, "POLL_SECONDS", 0.01)
    for name in ("CUDA_DEVICE_ORDER", locks.HELD, *device.GIVEN, *device.SCHEDULER_JOBS):
        monkeypatch.delenv(name, raising=False)
    gpu.nvml.cache_clear()
    for told in (gpu._answered, gpu._hung, gpu._handles):
        told.clear()
    yield pretend
    gpu.nvml.cache_clear()
    for told in (gpu._answered, gpu._hung, gpu._handles):
        told.clear()
    sys.modules.pop("pynvml", None)
