"""GPUs as NVML tells them: what is not told is empty, and two runs never hold the same one."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from pretended_gpus import a_gpu, pretended_machine  # noqa: F401

from levelfield.measure import device, gpu
from levelfield.measure.sampler import Sampler


def test_without_a_driver_nothing_is_invented(machine, monkeypatch):
    monkeypatch.delenv("FAKE_NVML")
    assert gpu.gpus() == []
    assert gpu.state("GPU-111") is None
    assert gpu.energy_joules("GPU-111") is None
    with device.hold_device("auto") as held:
        assert held is None


def test_a_reading_is_in_the_units_that_it_says(machine):
    machine(a_gpu(1, reasons=0x4 | 0x40 | 0x1, processes={"77": 123, "78": None}))
    assert gpu.gpus() == [gpu.Gpu("GPU-111", 0, "Pretended GPU", 8 << 30, "590.10")]
    assert gpu.energy_joules("GPU-111") == 5
    assert gpu.state("GPU-111") == gpu.State(
        1 << 30, 90, 1410, 250, 60, ("software power cap", "hardware thermal slowdown"), {77: 123, 78: None}
    )


def test_what_a_gpu_does_not_support_is_none(machine):
    known = a_gpu(1)
    machine({key: known[key] for key in ("uuid", "name", "total", "used")})
    assert gpu.energy_joules("GPU-111") is None
    assert gpu.state("GPU-111") == gpu.State(1 << 30, None, None, None, None, (), {})


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


def test_a_schedulers_choice_of_one_gpu_needs_no_lock(machine, monkeypatch, tmp_path):
    machine(a_gpu(1), a_gpu(2))
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    with device.hold_device("cuda") as first, device.hold_device("cuda") as second:
        assert first == second and first.index == 1
    assert not list(tmp_path.glob("*.lock"))


def test_two_runs_in_one_job_with_two_gpus_take_one_each(machine, monkeypatch):
    machine(a_gpu(1), a_gpu(2))
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    with device.hold_device("cuda") as first:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
        with device.hold_device("cuda") as second:
            assert (first.index, second.index) == (0, 1)


def test_a_case_for_the_cpu_sees_no_gpu(machine):
    machine(a_gpu(1))
    with device.hold_device("cpu") as held:
        assert held is None
        assert gpu.visible() == []


def watched(machine, readings: list[dict], **before):
    """What a sampler tells of a run during which the GPU goes through `readings`."""
    machine(a_gpu(1, **before))
    sampler = Sampler("GPU-111")
    sampler.reset()
    for reading in readings:
        machine(a_gpu(1, **reading))
        time.sleep(0.15)
    return sampler.stop()


def test_the_sampler_finds_the_peak_of_its_own_process(machine):
    own = str(os.getpid())
    peak = {"used": 5 << 30, "processes": {own: 3 << 30, "99": 1 << 30}, "reasons": 0x40}
    use = watched(machine, [{"processes": {own: 1 << 30}}, peak, {"processes": {own: 2 << 30}, "clock": None}])
    assert (use.peak_bytes, use.peak_source, use.foreign_processes) == (3 << 30, "process", 1)
    assert use.throttle_reasons == ("hardware thermal slowdown",)
    assert (use.utilisation_percent, use.clock_mhz, use.power_watts) == (90, 1410, 250)
    assert use.samples >= 10


def test_in_a_container_the_peak_is_the_devices_less_what_was_there_before(machine):
    use = watched(machine, [{"used": 4 << 30, "processes": {"1": 3 << 30}}, {"used": 2 << 30}], used=1 << 30)
    assert (use.peak_bytes, use.peak_source, use.foreign_processes) == (3 << 30, "device", 0)


def test_a_dead_sampler_leaves_the_peak_empty(machine):
    machine(a_gpu(1))
    sampler = Sampler("GPU-111")
    sampler._process.kill()
    sampler._process.wait()
    sampler.reset()
    assert sampler.stop() is None


def test_a_sampler_that_cannot_start_leaves_the_peak_empty(machine):
    machine(a_gpu(1))
    assert Sampler("GPU-unknown").stop() is None


def test_a_sampler_that_hangs_leaves_the_peak_empty(machine, monkeypatch):
    monkeypatch.setattr("levelfield.measure.sampler.ANSWER_SECONDS", 0.2)
    machine(a_gpu(1))
    sampler = Sampler("GPU-111")
    sampler._process.send_signal(signal.SIGSTOP)
    assert sampler.stop() is None


def test_without_a_gpu_nothing_is_watched():
    assert Sampler(None).stop() is None
