"""A machine with pretended GPUs, through the fake NVML of `fake_nvml/`: the fixture `machine`."""

import json
import sys
from pathlib import Path

import pytest

from levelfield.measure import device, gpu, locks

FAKE = Path(__file__).parent / "fake_nvml"


def a_gpu(number: int, **values) -> dict:
    return {
        "uuid": f"GPU-{number}{number}{number}", "name": "Pretended GPU", "total": 8 << 30, "used": 1 << 30, "utilisation": 90,
        "clock": 1410, "energy": 5_000, "power": 250_000, "temperature": 60, "reasons": 0x1, "processes": {},
    } | values  # fmt: skip


@pytest.fixture(name="machine")
def pretended_machine(tmp_path, monkeypatch):
    """Pretends a machine with the given GPUs; called again it changes them."""
    path = tmp_path / "nvml.json"

    def pretend(*gpus: dict) -> None:
        part = tmp_path / "part"
        part.write_text(json.dumps({"driver": "590.10", "gpus": list(gpus)}))
        part.replace(path)

    monkeypatch.setenv("FAKE_NVML", str(path))
    monkeypatch.setenv("PYTHONPATH", str(FAKE))
    monkeypatch.syspath_prepend(FAKE)
    monkeypatch.delitem(sys.modules, "pynvml", raising=False)
    monkeypatch.setenv(locks.ELSEWHERE, str(tmp_path))
    monkeypatch.setattr(locks, "POLL_SECONDS", 0.01)
    for name in ("CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", *device.SCHEDULER_JOBS):
        monkeypatch.delenv(name, raising=False)
    gpu.nvml.cache_clear()
    yield pretend
    gpu.nvml.cache_clear()
    sys.modules.pop("pynvml", None)
