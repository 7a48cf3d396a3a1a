"""Measurements on a real GPU against what is known otherwise: device events, sizes of allocations, power times time, parity."""

import json
import subprocess
import sys
from statistics import mean
from threading import Event, Thread

import pytest

from levelfield import registry
from levelfield.measure import gpu, kernels
from levelfield.measure.clock import Stopwatch
from levelfield.measure.device import hold_device
from levelfield.measure.energy import Energy
from levelfield.measure.inventory import available_backends
from levelfield.measure.sampler import Sampler

pytestmark = pytest.mark.skipif(not gpu.visible(), reason="NVML tells of no GPU")
GIB = 1 << 30


@pytest.fixture(scope="module", autouse=True)
def held():
    """The GPU that is tried is this process's while it is tried, and the only one that it sees."""
    with hold_device("cuda") as one:
        yield one


@pytest.fixture(scope="module")
def torch():
    module = pytest.importorskip("torch")
    if not module.cuda.is_available():
        pytest.skip("PyTorch finds no GPU")
    return module


def work(torch, seconds: float) -> None:
    """Keeps the GPU busy for about so long, handing everything out at once."""
    matrix = torch.randn(4096, 4096, device="cuda")
    with Stopwatch(torch.cuda.synchronize) as one:
        for _ in range(20):
            matrix @ matrix
    for _ in range(int(20 * seconds / one.seconds)):
        matrix @ matrix


def test_the_stopwatch_agrees_with_the_devices_own_events(torch):
    work(torch, 0.2)
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    with Stopwatch(torch.cuda.synchronize) as watch:
        begin.record()
        work(torch, 1.0)
        end.record()
    assert watch.seconds == pytest.approx(begin.elapsed_time(end) / 1000, rel=0.01)


ALLOCATION = """
import json, time
from levelfield.measure import gpu
from levelfield.measure.sampler import Sampler
sampler = Sampler(gpu.visible()[0].uuid)
import torch
torch.zeros(1, device="cuda")
torch.cuda.synchronize()
time.sleep(0.1)
torch.cuda.reset_peak_memory_stats()
before = torch.cuda.memory_allocated()
block = torch.empty(2 << 30, dtype=torch.uint8, device="cuda")
time.sleep(0.2)
allocated = torch.cuda.max_memory_allocated() - before
del block
use = sampler.stop()
print(json.dumps({"allocated": allocated, "samples": use.samples, "peak_bytes": use.peak_bytes}))
"""
"""In a process of its own, which is sampled from before it has a context on the GPU, as a run is."""


def test_memory_is_that_of_a_known_allocation(torch):
    done = subprocess.run([sys.executable, "-c", ALLOCATION], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["allocated"] == 2 * GIB and found["samples"] > 10
    assert found["peak_bytes"] is not None, "another process used the GPU meanwhile, or NVML does not tell its memory"
    assert 2 * GIB <= found["peak_bytes"] < 4 * GIB  # the context and the libraries come on top


def test_energy_is_power_times_time(torch):
    """The counter, and the power that follows from it, against NVML's own readings of power, which are averages over a second."""
    uuid = gpu.visible()[0].uuid
    if gpu.energy_joules(uuid) is None:
        pytest.skip("the GPU has no energy counter")
    nvml = gpu.nvml()
    handle, readings, over = nvml.nvmlDeviceGetHandleByUUID(uuid), [], Event()

    def read() -> None:
        while not over.wait(0.05):
            readings.append(nvml.nvmlDeviceGetPowerUsage(handle) / 1000)

    work(torch, 2.0)
    torch.cuda.synchronize()
    sampler, reading = Sampler(uuid), Thread(target=read)
    sampler.reset()
    reading.start()
    with Energy([uuid], "cuda") as energy, Stopwatch(torch.cuda.synchronize) as watch:
        work(torch, 4.0)
    over.set()
    reading.join()
    assert energy.joules == pytest.approx(mean(readings) * watch.seconds, rel=0.15)
    assert sampler.stop().power_watts == pytest.approx(energy.joules / watch.seconds, rel=0.1)


@pytest.fixture(scope="module")
def usable() -> list[str]:
    return [name for name, found in available_backends().items() if found.device == "cuda"]


KERNELS = """
import json, sys
import numpy as np
from levelfield.backends import load_backend
from levelfield.study.protocol import Protocol
from levelfield.level.start import make_start
protocol = Protocol(epochs=1)
backend = load_backend(sys.argv[1])(protocol, frozenset(), "cuda", 2)
backend.load(make_start(protocol, 0, 64).weights)
x, y = np.ones((64, protocol.length), np.int32), np.ones(64, np.float32)
backend.train_epoch(x, y, np.arange(64))
print(json.dumps(backend.kernels(x[:32], y[:32])))
"""


@pytest.mark.parametrize("name", ["torch", "jax"])
def test_the_fused_lstm_of_cudnn_runs(name, usable):
    if name not in usable:
        pytest.skip(f"{name} is not here")
    done = subprocess.run([sys.executable, "-c", KERNELS, name], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert kernels.verdict(json.loads(done.stdout.splitlines()[-1]), registry.model("bilstm").kernels) == "cuDNN"


def follows_the_contract(name: str) -> None:
    done = subprocess.run([sys.executable, "-m", "levelfield", "check", name], capture_output=True, text=True)
    assert done.returncode == 0, f"{name}:\n{done.stdout}{done.stderr[-2000:]}"


@pytest.mark.long  # in `levelfield gpu` the studies prove each case before it is timed
@pytest.mark.parametrize("name", list(registry.backends()))
def test_every_usable_backend_follows_the_contract(name, usable):
    if name not in usable:
        pytest.skip(f"{name} does not run here")
    follows_the_contract(name)
