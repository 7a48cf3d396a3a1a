"""GPUs as NVML tells them: what is not told is empty, and two runs never hold the same one."""

import importlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import astuple, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from pretended_gpus import DRIVER, ERRORS, a_cut_gpu, a_gpu, pretended_machine  # noqa: F401

from levelfield.errors import NodeError, UserError
from levelfield.measure import calibrate, device, environment, gpu, locks, sampler, summary
from levelfield.measure.energy import Energy, source
from levelfield.measure.sampler import GpuUse, Record, Sampler
from levelfield.study.protocol import Protocol

STATE = gpu.State(1 << 30, 90, 1410, (), 5.0)


def test_without_a_driver_nothing_is_invented(machine, monkeypatch):
    monkeypatch.delenv("FAKE_NVML")
    assert gpu.gpus() == []
    assert gpu.state("GPU-111") is None
    assert gpu.processes("GPU-111") is None
    assert gpu.energy_joules("GPU-111") is None
    with device.hold_device("auto") as held:
        assert held is None


def test_a_reading_is_in_the_units_that_it_says(machine):
    machine(a_gpu(1, reasons=0x4 | 0x40 | 0x1, processes={"77": 123, "78": None}))
    assert gpu.gpus() == [gpu.Gpu("GPU-111", 0, "Pretended GPU", 8 << 30, DRIVER)]
    assert str(gpu.gpus()[0]) == f"Pretended GPU, 8 GiB, driver {DRIVER}"
    assert gpu.energy_joules("GPU-111") == 5
    assert gpu.state("GPU-111") == replace(STATE, throttle_reasons=("software power cap", "hardware thermal slowdown"))
    assert gpu.processes("GPU-111") == {77: 123, 78: None}


def test_what_a_gpu_does_not_support_is_none(machine):
    machine({"uuid": "GPU-111"})
    assert gpu.gpus() == [gpu.Gpu("GPU-111", 0, None, None, DRIVER)]
    assert str(gpu.gpus()[0]) == f"GPU-111, memory not told, driver {DRIVER}"
    assert gpu.energy_joules("GPU-111") is None
    assert gpu.processes("GPU-111") is None
    assert set(astuple(gpu.state("GPU-111"))) == {None}


def test_a_gpu_without_memory_of_its_own_can_be_held(machine):
    """GB10 and Jetson (public reports: NVIDIA/cosmos#180)."""
    known = a_gpu(1, name="NVIDIA GB10")
    machine({name: value for name, value in known.items() if name not in ("total", "used")})
    with device.hold_device("cuda") as held:
        assert (held.name, held.memory_bytes) == ("NVIDIA GB10", None)
    assert gpu.state("GPU-111").used_bytes is None and gpu.state("GPU-111").clock_mhz == 1410


def test_a_cut_card_does_not_tell_what_is_of_all_its_slices(machine, monkeypatch, tmp_path):
    machine(a_cut_gpu(1, processes={"77": 5}), a_gpu(2))
    assert [(found.memory_bytes, found.cut) for found in gpu.gpus()] == [(None, True), (8 << 30, False)]
    for chosen in ("0", "GPU-111", "0,1"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
        assert gpu.visible()[0].name == "Pretended GPU (a slice, which one is not told)"
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert [found.name for found in gpu.visible()] == ["Pretended GPU (a slice, which one is not told)", "Pretended GPU"]
    assert calibrate.of_this_machine(tmp_path, Protocol(), 1, gpu.visible()[0]) is None, "the card's is no slice's"
    backend = SimpleNamespace(device="cuda", versions=dict, flags=dict)
    told = environment.machine(backend, 1, gpu.visible()[0])
    assert (told.gpu, told.gpu_uuid) == ("Pretended GPU (a slice, which one is not told)", None)
    assert gpu.energy_joules("GPU-111") is None and gpu.processes("GPU-111") is None
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-1")
    assert gpu.visible() == [gpu.Gpu("MIG-1", None, "Pretended GPU MIG 1g.5gb", 5 << 30, DRIVER)]
    assert gpu.state("MIG-1") == gpu.State(1 << 20, None, None, None, None)
    assert gpu.processes("MIG-1") == {} and gpu.energy_joules("MIG-1") is None
    with device.hold_device("cuda") as held:
        assert held.uuid == os.environ["CUDA_VISIBLE_DEVICES"] == "MIG-1"


ASKED = (
    "nvmlInit", "nvmlSystemGetDriverVersion", "nvmlDeviceGetCount", "nvmlDeviceGetHandleByIndex", "nvmlDeviceGetHandleByUUID",
    "nvmlDeviceGetName", "nvmlDeviceGetUUID", "nvmlDeviceGetMemoryInfo", "nvmlDeviceGetMigMode",
    "nvmlDeviceGetUtilizationRates", "nvmlDeviceGetClockInfo",
    "nvmlDeviceGetCurrentClocksThrottleReasons", "nvmlDeviceGetTotalEnergyConsumption", "nvmlDeviceGetComputeRunningProcesses",
)  # fmt: skip
"""Every function of NVML that is used."""
PHASES = ("before", "during", "after")
TRUE = {
    "peak": 3 << 30, "source": "device", "utilisation": 90, "clock": 1410, "power": 250.0, "reasons": "none", "share": 0.0,
    "foreign": 0, "joules": 500.0, "driver": DRIVER, "name": "Pretended GPU", "memory": 8 << 30,
}  # fmt: skip
"""What a run of two seconds on the pretended GPU is told of, where nothing fails."""


def test_every_function_that_is_used_is_tried():
    sources = (Path(sampler.__file__), Path(gpu.__file__))
    used = {word for path in sources for word in re.findall(r"\bnvml(?:Init|System|Device)\w*", path.read_text())}
    assert used == set(ASKED)


def a_run(machine, faults: dict, phase: str) -> dict:
    """What two pretended seconds of training are told of, on a GPU whose NVML has `faults` in one phase."""
    own = os.getpid()

    def stage(name: str, **values) -> None:
        machine(a_gpu(1, **values), **(faults if name == phase else {}))

    stage("before")
    held = gpu.gpus()[0] if gpu.gpus() else None
    record = Record(own, gpu.state("GPU-111"), gpu.processes("GPU-111"))
    clock = iter([0.0, 2.0, 2.0, 2.0])
    stage("start")
    energy = Energy(["GPU-111"], "cuda", lambda: next(clock))
    with energy:
        for moment in range(201):
            busy = {"used": 4 << 30, "energy": 5_000 + 2_500 * moment, "processes": {str(own): 3 << 30}, "reasons": 0}
            if moment in (0, 100):  # one reading stands for a second of them
                stage("during" if moment == 100 else "start", **busy)
                reading = gpu.state("GPU-111")
            told = reading and replace(reading, energy_joules=reading.energy_joules and busy["energy"] / 1000)
            record.add(told, 0.01 * moment)
        stage("after", **busy)
    record.add_processes(gpu.processes("GPU-111"))
    found = summary.gpu_measurements(record.use())
    return {
        "peak": record.use().peak_bytes,
        "source": found["gpu_memory_source"],
        "utilisation": found["gpu_utilisation_percent"],
        "clock": found["gpu_clock_mhz"],
        "power": found["gpu_power_watts"],
        "reasons": found["gpu_throttle_reasons"],
        "share": found["gpu_throttled_share"],
        "foreign": found["gpu_foreign_processes"],
        "joules": energy.joules,
        "driver": held and held.driver,
        "name": held and held.name,
        "memory": held and held.memory_bytes,
    }


def test_a_run_on_a_gpu_that_tells_everything(machine):
    assert a_run(machine, {}, "before") == TRUE


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("function", ASKED)
def test_what_an_error_leaves_untold_is_empty_and_the_rest_is_right(machine, function, phase):
    for name, code in ERRORS.items():
        gpu.nvml.cache_clear()
        sys.modules.pop("pynvml", None)
        found = a_run(machine, {"errors": {function: code}}, phase)
        wrong = {what: value for what, value in found.items() if value is not None and value != TRUE[what]}
        assert not wrong, name
        if phase == "during" and function != "nvmlInit":
            told = {what for what, value in found.items() if value is not None}
            assert {"driver", "name", "memory"} <= told, name


@pytest.mark.parametrize("function", ASKED)
def test_a_call_that_hangs_costs_its_time_once(machine, monkeypatch, function):
    monkeypatch.setattr(gpu, "ANSWER_SECONDS", 0.5)
    monkeypatch.setattr(gpu, "FIRST_SECONDS", 0.5)
    machine(a_gpu(1), hangs=[function])
    before = time.monotonic()
    gpu.gpus()
    gpu.energy_joules("GPU-111")
    hung = gpu._hung.is_set()
    gpu.visible()
    assert source(["GPU-111"], "cuda") in (None if hung else "nvml", None)
    assert time.monotonic() - before < 1
    machine(a_gpu(1))
    assert (gpu.gpus() == []) == hung, "a driver that hung once is not asked again"


def test_cards_that_sleep_have_a_minute_for_their_first_answer(machine, monkeypatch, capfd):
    monkeypatch.setattr(gpu, "ANSWER_SECONDS", 0.05)
    machine(a_gpu(1), slow={"nvmlInit": 0.3})
    assert gpu.FIRST_SECONDS == 60 and [found.uuid for found in gpu.gpus()] == ["GPU-111"] and gpu.silence() is None
    machine(a_gpu(1), slow={"nvmlDeviceGetTotalEnergyConsumption": 0.3})
    assert gpu.energy_joules("GPU-111") is None and "did not answer" in gpu.silence()
    assert "NVML did not answer in time, and is not asked again" in capfd.readouterr().err


def test_a_run_that_may_use_a_gpu_stops_where_nvml_hangs(machine, monkeypatch):
    monkeypatch.setattr(gpu, "FIRST_SECONDS", 0.05)
    machine(a_gpu(1), hangs=["nvmlInit"])
    for asked in ("cuda", "auto"):  # a framework may find the card, and nobody would hold it
        said = rf"device is {asked}.*NVML did not answer in time.*nvidia-persistenced.*`device: cpu`"
        with pytest.raises(UserError, match=said), device.hold_device(asked):
            pass
    with device.hold_device("cpu") as held:
        assert held is None
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with device.hold_device("auto") as held:
        assert held is None, "no framework finds a card then"


@pytest.mark.parametrize("function", ["nvmlInit", "nvmlDeviceGetCount", "nvmlDeviceGetHandleByIndex", "nvmlDeviceGetUUID"])
def test_a_run_that_may_use_a_gpu_stops_where_nvml_is_in_error(machine, monkeypatch, function):
    """As after an update of the driver. Where it says that there is no GPU, or none that it knows, the framework may look."""
    absent = ["not supported", "driver not loaded", "library not found", "GPU not found"]
    if function in (
        "nvmlDeviceGetHandleByIndex",
        "nvmlDeviceGetUUID",
    ):  # a scheduler's: all cards are counted, none may be opened
        absent.append("no permission")
    for name, code in ERRORS.items():
        gpu.nvml.cache_clear()
        sys.modules.pop("pynvml", None)
        machine(a_gpu(1), errors={function: code})
        for asked in ("cuda", "auto"):
            if name in absent:
                with device.hold_device(asked) as held:
                    assert held is None and gpu.silence() is None, name
                continue
            said = rf"device is {asked}.*NVML is in error \({function}: NVMLError: {code}\).*nvidia-smi.*`device: cpu`"
            with pytest.raises(NodeError, match=said), device.hold_device(asked):
                pass
    for nothing in ("", "-1", "NoDevFiles"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", nothing)
        with device.hold_device("auto") as held:
            assert held is None, "no framework finds a card then"
    with device.hold_device("cpu") as held:
        assert held is None


def test_an_error_is_told_as_long_as_it_lasts(machine):
    machine(a_gpu(1), errors={"nvmlDeviceGetCount": ERRORS["unknown"]})
    assert gpu.gpus() == [] and "nvmlDeviceGetCount" in gpu.silence()
    machine(a_gpu(1))
    assert [found.uuid for found in gpu.gpus()] == ["GPU-111"] and gpu.silence() is None


def test_a_slice_that_an_old_driver_does_not_know_is_no_error_and_one_that_is_lost_is(machine, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "MIG-1")
    for code in (ERRORS["not found"], ERRORS["invalid argument"]):
        machine(a_cut_gpu(1), errors={"nvmlDeviceGetHandleByUUID": code})
        with device.hold_device("cuda") as held:
            assert held is None
    machine(a_cut_gpu(1), errors={"nvmlDeviceGetHandleByUUID": ERRORS["GPU is lost"]})
    with pytest.raises(NodeError, match=r"nvmlDeviceGetHandleByUUID: NVMLError: 15"), device.hold_device("cuda"):
        pass


def test_what_another_pynvml_lacks_or_garbles_is_not_told_and_hides_no_gpu(machine, monkeypatch):
    machine(a_gpu(1))
    pynvml = importlib.import_module("pynvml")
    monkeypatch.delattr(pynvml, "nvmlDeviceGetMigMode")
    monkeypatch.delattr(pynvml, "NVMLLibraryMismatchError")
    monkeypatch.setattr(pynvml, "nvmlDeviceGetName", lambda handle: b"\xff".decode())
    assert gpu.gpus() == [gpu.Gpu("GPU-111", 0, None, 8 << 30, DRIVER)] and gpu.silence() is None
    assert gpu.state("GPU-111") == STATE and gpu.energy_joules("GPU-111") == 5
    monkeypatch.setattr(pynvml, "nvmlDeviceGetName", lambda handle: b"Caf\xe9")
    assert gpu.gpus()[0].name == "Caf\N{REPLACEMENT CHARACTER}"


def test_an_answer_that_nobody_expects_is_an_error_and_not_no_gpu(machine, monkeypatch, capfd):
    machine(a_gpu(1))
    pynvml = importlib.import_module("pynvml")
    monkeypatch.setattr(pynvml, "nvmlDeviceGetMemoryInfo", lambda handle: "much")
    for asked in ("cuda", "auto"):
        with pytest.raises(NodeError, match=rf"device is {asked}.*NVML is in error.*AttributeError"), device.hold_device(asked):
            pass
    assert "Traceback" not in capfd.readouterr().err
    gpu.nvml.cache_clear()
    sys.modules["pynvml"] = SimpleNamespace()  # another module of this name
    with pytest.raises(NodeError, match=r"nvmlInit: AttributeError"), device.hold_device("auto"):
        pass
    gpu.nvml.cache_clear()
    sys.modules["pynvml"] = None  # not installed
    with device.hold_device("auto") as held:
        assert held is None and gpu.silence() is None


def test_a_gpu_is_looked_for_once_and_again_after_an_error(machine, tmp_path):
    calls = tmp_path / "calls"
    looked = ("nvmlDeviceGetHandleByUUID", "nvmlDeviceGetMigMode")
    machine(a_gpu(1), calls=str(calls))
    assert [gpu.state("GPU-111") for _ in range(3)] == [STATE] * 3
    assert [calls.read_text().split().count(name) for name in looked] == [1, 1]
    machine(a_gpu(1), calls=str(calls), errors={"nvmlDeviceGetMemoryInfo": ERRORS["GPU is lost"]})
    assert gpu.state("GPU-111").used_bytes is None
    machine(a_gpu(1), calls=str(calls))
    assert gpu.state("GPU-111") == STATE
    assert [calls.read_text().split().count(name) for name in looked] == [2, 2]


@pytest.mark.parametrize(
    ("chosen", "seen"),
    [("1,0", [1, 0]), ("", []), ("-1", []), ("1,7,0", [1]), ("GPU-222", [1]), ("GPU-1", [0]), ("GPU-", [])],
)
def test_the_chosen_gpus_are_read_as_cuda_reads_them(machine, monkeypatch, chosen, seen):
    machine(a_gpu(1), a_gpu(2))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
    assert [found.index for found in gpu.visible()] == seen


def test_two_runs_hold_different_gpus_and_a_third_waits(machine, monkeypatch):
    machine(a_gpu(1), a_gpu(2))
    order = []
    with device.hold_device("auto") as first:
        assert os.environ["CUDA_VISIBLE_DEVICES"] == first.uuid == "GPU-111"
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
        with device.hold_device("cuda") as second:
            assert second.uuid == "GPU-222"
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")

            def third():
                with device.hold_device("cuda") as held:
                    order.append(held.uuid)

            waiting = threading.Thread(target=third)
            waiting.start()
            time.sleep(0.1)
            order.append("released")
        waiting.join(5)
    assert order == ["released", "GPU-222"]
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "1"


def test_a_dead_run_releases_its_gpu(machine):
    machine(a_gpu(1))
    code = "from levelfield.measure import device; import os, signal\n"
    code += "with device.hold_device('cuda'): os.kill(os.getpid(), signal.SIGKILL)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    with device.hold_device("cuda") as held:
        assert held.uuid == "GPU-111"


def test_a_schedulers_choice_of_one_gpu_is_held_by_one_run_of_its_job(machine, monkeypatch):
    machine(a_gpu(1), a_gpu(2))
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    monkeypatch.setattr(locks, "WAIT_SECONDS", 0.05)
    with device.hold_device("cuda") as first:
        assert first.index == 1
        with pytest.raises(UserError, match="waited"), device.hold_device("cuda"):
            pass


def test_two_runs_in_one_job_with_two_gpus_take_one_each(machine, monkeypatch):
    machine(a_gpu(1), a_gpu(2))
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    with device.hold_device("cuda") as first:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
        with device.hold_device("cuda") as second:
            assert (first.index, second.index) == (0, 1)


def test_two_jobs_that_nobody_gave_a_card_do_not_take_the_same_one(machine, monkeypatch):
    machine(a_gpu(1), a_gpu(2))
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    with device.hold_device("cuda") as first:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
        monkeypatch.setenv("SLURM_JOB_ID", "8")
        with device.hold_device("cuda") as second:
            assert (first.index, second.index) == (0, 1)
    for name in device.GIVEN:
        monkeypatch.setenv(name, "0")
        assert device.lock_of(first) == "GPU-111-job-8"
        monkeypatch.delenv(name)


def test_the_runs_of_a_block_in_a_job_hold_what_the_block_holds(machine, monkeypatch):
    machine(a_gpu(1), a_gpu(2))
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setattr(locks, "WAIT_SECONDS", 0.05)
    with device.hold_device("cuda") as held:
        monkeypatch.setenv(locks.HELD, device.lock_of(held))
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "GPU-111"
        with device.hold_device("cuda") as again:
            assert again == held


def test_a_case_for_the_cpu_sees_no_gpu(machine):
    machine(a_gpu(1))
    with device.hold_device("cpu") as held:
        assert held is None
        assert gpu.visible() == []


def watched(machine, readings: list[dict], **before) -> GpuUse:
    """What a sampler tells of a run during which the GPU goes through `readings`."""
    machine(a_gpu(1, **before))
    watching = Sampler("GPU-111")
    watching.reset()
    for reading in readings:
        machine(a_gpu(1, **reading))
        time.sleep(0.15)
    return watching.stop()


def test_the_sampler_finds_the_peak_of_the_run(machine):
    own = str(os.getpid())
    peak = {"used": 5 << 30, "processes": {own: 4 << 30}, "reasons": 0x40}
    use = watched(machine, [{"processes": {own: 1 << 30}}, peak, {"processes": {own: 2 << 30}}])
    assert (use.peak_bytes, use.peak_source, use.foreign_processes) == (4 << 30, "device", 0)
    assert use.throttle_reasons == ("hardware thermal slowdown",) and 0.1 < use.throttled_share < 0.7
    assert (use.utilisation_percent, use.clock_mhz) == (90, 1410)
    assert use.samples >= 10
    assert use.power_watts is None, "the counter stood still"


def test_a_list_of_processes_is_asked_for_at_the_ends_and_rarely_between(machine, monkeypatch):
    asked = []
    monkeypatch.setattr(gpu, "state", lambda uuid: STATE)
    monkeypatch.setattr(gpu, "processes", lambda uuid: asked.append(time.monotonic()) or {})
    monkeypatch.setattr(sampler, "PROCESSES_SECONDS", 0.2)
    ours, theirs = os.pipe()
    with os.fdopen(ours) as commands, os.fdopen(theirs, "w") as run:
        monkeypatch.setattr(sys, "stdin", commands)
        watching = threading.Thread(target=sampler.main, args=("GPU-111", 1))
        watching.start()
        time.sleep(0.5)
        run.write("stop\n")
        run.flush()
        watching.join(30)
    assert len(asked) >= 3 and np.diff(asked[1:-1]).min(initial=1) > 0.19, "before, after, and every 0.2 s between"


OWN, OTHER = 4242, 9999


@pytest.mark.parametrize(
    ("before", "during", "peak", "foreign"),
    [
        ({}, {OWN: 3}, 3, 0),
        ({}, {OWN: None}, 3, 0),
        ({OTHER: 5}, {OTHER: 5, OWN: 3}, 3, 1),
        ({OTHER: 5}, {OTHER: 6, OWN: 3}, None, 1),
        ({}, {OTHER: 5, OWN: 3}, None, 1),
        ({OTHER: 5}, {OWN: 3}, None, 0),
        ({OTHER: None}, {OTHER: None, OWN: 3}, None, 1),
        ({}, {1: 3}, 3, 0),
        ({OTHER: 5}, {OTHER: 5, 1: 3}, 3, 1),
        ({OWN: 5}, {OWN: 5, 1: 3}, 3, 1),
        ({}, {}, 3, None),
        ({OTHER: 5}, {OTHER: 5}, 3, 1),
        (None, None, 3, None),
        (None, {OWN: 3}, 3, 0),
        ({}, None, 3, None),
    ],
    ids=[
        "alone", "alone, bytes not told", "beside one that stands still", "beside one that grows", "one came", "one went",
        "beside one whose bytes are not told", "in another numbering", "in another numbering, beside one",
        "another has the run's number", "a container that hides the run", "one seen, the run hidden", "no list at all",
        "no list before", "no list at the end",
    ],
)  # fmt: skip
def test_who_else_is_on_the_gpu(before, during, peak, foreign):
    record = Record(OWN, replace(STATE, used_bytes=10), before)
    record.add(replace(STATE, used_bytes=13), 0.0)
    record.add_processes(during)
    assert (record.use().peak_bytes, record.use().foreign_processes) == (peak, foreign)


@pytest.mark.parametrize(
    ("counter", "watts"),
    [
        (lambda second: 100 * second, 100),
        (lambda second: 100 * (second // 0.1) / 10, 100),
        (lambda second: 7.0, None),
        (lambda second: 100 * second if second < 1 else 5.0, None),
        (lambda second: 100 * second if second < 1 else None, None),
        (lambda second: 100 * min(second, 0.3), None),
        (lambda second: None, None),
    ],
    ids=["smooth", "in steps of 0.1 s", "stands still", "falls", "falls silent", "moved too shortly", "not told"],
)
def test_power_is_the_rise_of_the_energy_counter_over_its_time(counter, watts):
    record = Record(OWN, STATE, {})
    for moment in range(200):
        record.add(replace(STATE, energy_joules=counter(moment / 100)), moment / 100)
    assert record.use().power_watts == (None if watts is None else pytest.approx(watts, rel=0.04))


def test_a_dead_sampler_leaves_the_peak_empty(machine):
    machine(a_gpu(1))
    sampler = Sampler("GPU-111")
    sampler._process.kill()
    sampler._process.wait()
    sampler.reset()
    assert sampler.stop() is None


def test_a_gpu_that_nvml_does_not_find_is_told_nothing_of(machine):
    machine(a_gpu(1))
    use = Sampler("GPU-unknown").stop()
    assert set(summary.gpu_measurements(use).values()) == {None} and use.peak_bytes is None


def test_a_driver_that_hangs_holds_up_no_run(machine, monkeypatch):
    monkeypatch.setattr(sampler, "START_SECONDS", 0.5)
    monkeypatch.setattr(sampler, "ANSWER_SECONDS", 0.2)
    machine(a_gpu(1), hangs=["nvmlDeviceGetUtilizationRates"])
    assert Sampler("GPU-111").stop() is None
    machine(a_gpu(1))
    watching = Sampler("GPU-111")
    machine(a_gpu(1), hangs=["nvmlDeviceGetMemoryInfo"])
    time.sleep(0.1)
    watching.reset()
    assert watching.stop() is None


def test_a_sampler_that_hangs_leaves_the_peak_empty(machine, monkeypatch):
    monkeypatch.setattr("levelfield.measure.sampler.ANSWER_SECONDS", 0.2)
    machine(a_gpu(1))
    sampler = Sampler("GPU-111")
    sampler._process.send_signal(signal.SIGSTOP)
    assert sampler.stop() is None


def test_without_a_gpu_nothing_is_watched():
    assert Sampler(None).stop() is None
