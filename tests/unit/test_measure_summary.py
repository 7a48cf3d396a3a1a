"""Planted faults in what the instruments found: each makes a check fail or leaves the figure empty."""

from dataclasses import replace

import pytest

from levelfield.measure import summary
from levelfield.measure.gpu import Gpu
from levelfield.measure.pauses import Pauses
from levelfield.measure.sampler import GpuUse
from levelfield.records import Epoch, Latency

GIB = 1 << 30
GPU = Gpu("GPU-1", 0, "Pretended GPU", 80 * GIB, "590.10")
USE = GpuUse(3 * GIB, "device", 900, 0.02, 88.0, 1410.0, 250.0, (), 0.0, 0)
LATENCY = Latency(0.005, 0.006, 0.01, 200)
EPOCH = Pauses(steps=782, seconds=782 * 0.004, before_seconds=0.01, longest_seconds=0.02, after_seconds=0.004, queued=0)


class Allocator:
    process_ids = ()

    def __init__(self, allocated, reserved, preallocates=False):
        self.peaks, self.preallocates = (allocated, reserved), preallocates

    def peak_memory(self):
        return self.peaks


def test_memory_is_told_by_framework_and_driver():
    found = summary.memory(Allocator(GIB, 2 * GIB), GPU, USE, 5)
    assert (found.allocated_peak_bytes, found.reserved_peak_bytes, found.nvml_peak_bytes, found.host_before_bytes) == (
        GIB,
        2 * GIB,
        3 * GIB,
        5,
    )
    assert found.host_peak_bytes > 1_000_000


@pytest.mark.parametrize("reserved", [60 * GIB, None])
def test_with_preallocation_the_drivers_figure_is_left_empty(reserved):
    found = summary.memory(Allocator(GIB, reserved, preallocates=True), GPU, replace(USE, peak_bytes=61 * GIB), 5)
    assert found.nvml_peak_bytes is None and found.allocated_peak_bytes == GIB


def test_what_a_framework_does_not_tell_is_empty_and_loses_no_training(capsys):
    class Broken(Allocator):
        def peak_memory(self):
            raise RuntimeError("no such device")

    found = summary.memory(Broken(0, 0), GPU, replace(USE, peak_bytes=61 * GIB), 5)
    assert (found.allocated_peak_bytes, found.reserved_peak_bytes, found.nvml_peak_bytes) == (None, None, 61 * GIB)
    assert "the framework's peak of memory not told: RuntimeError: no such device" in capsys.readouterr().err


def test_a_run_that_fills_the_gpu_is_no_preallocation():
    much = summary.memory(Allocator(GIB, 60 * GIB), GPU, replace(USE, peak_bytes=61 * GIB), 5)
    assert much.nvml_peak_bytes == 61 * GIB, "what a framework kept of steps that were over is the run's"
    assert summary.memory(Allocator(55 * GIB, 60 * GIB), GPU, replace(USE, peak_bytes=61 * GIB), 5).nvml_peak_bytes == 61 * GIB


def test_without_sampler_or_gpu_the_drivers_figure_is_empty():
    assert summary.memory(Allocator(GIB, None), GPU, None, 5).nvml_peak_bytes is None
    assert summary.memory(Allocator(None, None), None, USE, 5).nvml_peak_bytes is None
    assert set(summary.gpu_measurements(None).values()) == {None}
    assert summary.gpu_measurements(None).keys() == summary.gpu_measurements(USE).keys()


def test_what_the_gpu_did_not_tell_is_empty_and_none_told_is_a_word():
    untold = GpuUse(None, None, 900, 0.02, None, None, None, None, None, None)
    assert set(summary.gpu_measurements(untold).values()) == {None}
    assert summary.gpu_measurements(USE)["gpu_throttle_reasons"] == "none"
    assert summary.gpu_measurements(USE)["gpu_foreign_processes"] == 0


@pytest.mark.parametrize(
    ("changes", "warning"),
    [
        ({}, None),
        ({"throttle_reasons": ("software power cap",), "throttled_share": 0.0}, None),
        ({"throttle_reasons": ("hardware slowdown",), "throttled_share": 0.005}, None),
        (
            {"throttle_reasons": ("hardware slowdown", "software power cap"), "throttled_share": 0.5},
            "the GPU was held down for 50% of the time (hardware slowdown)",
        ),
        ({"foreign_processes": 1}, "1 other process computed on the GPU"),
        ({"foreign_processes": 2}, "2 other processes computed on the GPU"),
        ({"foreign_processes": None, "throttled_share": None, "throttle_reasons": None}, None),
    ],
)
def test_a_throttled_or_shared_gpu_is_warned_of(changes, warning):
    assert summary.gpu_measurements(replace(USE, **changes))["gpu_warning"] == warning


def test_a_gpu_whose_memory_is_not_told_is_not_taken_for_filled():
    gpu = replace(GPU, memory_bytes=None)
    found = summary.memory(Allocator(GIB, 2 * GIB), gpu, replace(USE, peak_bytes=None), 5)
    assert (found.allocated_peak_bytes, found.nvml_peak_bytes) == (GIB, None)


def test_times_that_can_be_believed():
    assert summary.time_checks([EPOCH], [0.0], LATENCY) == {"no_stall": True, "device_idle": True, "times_agree": True}


@pytest.mark.parametrize(
    ("check", "epoch", "waited", "latency"),
    [
        ("device_idle", EPOCH, 0.5, LATENCY),
        ("times_agree", replace(EPOCH, seconds=0.08), 0.0, LATENCY),
        ("times_agree", EPOCH, 0.0, Latency(0.0001, 0.0001, 0.0001, 200)),
        ("no_stall", replace(EPOCH, seconds=8.1, longest_seconds=5.0, unexplained_seconds=5.0), 0.0, LATENCY),
        ("no_stall", replace(EPOCH, seconds=8.1, queued=781, depth=781, after_seconds=8.0), 0.0, LATENCY),
    ],
    ids=["loop does not wait", "unsynchronised epoch", "unsynchronised probe", "stall", "stall behind a GPU's queue"],
)
def test_a_planted_fault_fails_its_check(check, epoch, waited, latency):
    assert summary.time_checks([EPOCH, epoch], [0.0, waited], latency)[check] is False


def an_epoch(joules):
    return Epoch(1, 10.0, 2.0, 0.5, 0.7, 0.5, 0.7, 100.0, 20_000.0, joules)


def test_energy_is_per_thousand_sequences_of_all_epochs_and_empty_where_an_epochs_is():
    told = summary.energy_measurements([an_epoch(300.0), an_epoch(100.0)], 2000, "nvml")
    assert told == {"energy_source": "nvml", "energy_joules_per_1000_sequences": 200.0}
    told = summary.energy_measurements([an_epoch(300.0), an_epoch(None)], 2000, None)
    assert told == {"energy_source": None, "energy_joules_per_1000_sequences": None}
