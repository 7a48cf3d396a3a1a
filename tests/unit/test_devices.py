"""Several devices in one run: how a batch is shared, what is refused, what is held, and how figures of several are told as one."""

import os
import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from made_study import make_study
from pretended_gpus import DRIVER, a_gpu, pretended_machine  # noqa: F401
from snakemake.exceptions import WorkflowError

from levelfield.backends.base import DeviceError
from levelfield.backends.devices import enough, filled, joined, part
from levelfield.errors import UserError
from levelfield.measure import device, gpu, locks
from levelfield.measure.energy import Energy, source
from levelfield.measure.sampler import GpuUse, together
from levelfield.models.bilstm import BiLstm
from levelfield.plan import slurm
from levelfield.study.config import read_study
from levelfield.study.protocol import Protocol, reference_of
from levelfield.tell.collect import collect
from levelfield.tell.results import Results
from levelfield.tell.tables import make_tables


@pytest.mark.parametrize("sequences", [1, 3, 8, 9, 31, 32])
@pytest.mark.parametrize("devices", [1, 2, 4])
def test_the_devices_parts_add_up_to_the_mean_over_the_batch(sequences, devices):
    rows = np.arange(10, 10 + sequences)
    found, shares = filled(rows, 8, devices)
    assert len(found) % devices == 0 and len(found) - sequences < devices and (found[:sequences] == rows).all()
    losses = np.random.default_rng(0).random(100)
    parts = [(part(losses[found], 8, devices, n), part(shares, 8, devices, n)) for n in range(devices)]
    for step, first in enumerate(range(0, sequences, 8)):
        own = slice(step * 8 // devices, (step + 1) * 8 // devices)
        total = sum(float((values[own] * share[own]).sum()) for values, share in parts)
        assert total == pytest.approx(losses[rows[first : first + 8]].mean(), rel=1e-6)


@pytest.mark.parametrize("sequences", [4, 8, 12, 20])
def test_what_the_devices_computed_is_put_together_in_order(sequences):
    values = np.arange(2 * sequences).reshape(sequences, 2)
    assert (joined([part(values, 8, 4, n) for n in range(4)], 8) == values).all()


def test_fewer_gpus_than_devices_are_an_error():
    enough(2, 2, "JAX")
    with pytest.raises(DeviceError, match="devices is 4, but JAX finds 2 GPUs: set `devices: 2`"):
        enough(2, 4, "JAX")


STUDY = {"study": "s", "cases": ["torch", "jax", "flax", "keras-jax", "keras-tensorflow"]}


def test_devices_vary_as_sizes_do():
    study = read_study(STUDY | {"vary": {"devices": [1, 2, 4]}}, "s.yaml")
    assert [case.protocol.devices for case in study.expanded[:3]] == [1, 2, 4]
    assert study.expanded[1].name == "torch+devices=2" and study.most_devices == 4
    assert {reference_of(case.protocol)[0] for case in study.expanded} == {reference_of(Protocol())[0]}


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ({"backend": "keras-torch"}, "keras-torch trains on one device alone"),
        ({"backend": "torch-compile"}, "torch-compile trains on one device alone: `devices: 1`, or one of"),
        ({"backend": "torch", "departures": ["clip-norm"]}, "departures are made on one device alone"),
        ({"backend": "torch", "settings": {"batch_size": 33}}, "2 devices cannot share batches of 33 evenly"),
    ],
)
def test_what_cannot_be_done_is_refused_when_the_config_is_read(case, said):
    with pytest.raises(UserError, match=said):
        read_study(STUDY | {"cases": [case], "protocol": {"devices": 2}}, "s.yaml")


@pytest.mark.parametrize("devices", [0, -1, 1.5, "two"])
def test_no_such_number_of_devices(devices):
    with pytest.raises(UserError, match="devices"):
        read_study(STUDY | {"protocol": {"devices": devices}}, "s.yaml")


def test_a_run_on_two_gpus_holds_both_and_takes_none_before(machine, monkeypatch):
    machine(a_gpu(1), a_gpu(2), a_gpu(3))
    order = []
    with device.hold_device("cuda") as first:
        assert first.uuid == "GPU-111"
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")

        def second():
            with device.hold_devices("cuda", 2) as held:
                order.append([one.uuid for one in held])

        waiting = threading.Thread(target=second)
        waiting.start()
        time.sleep(0.1)
        _, descriptors = locks.first_free(["GPU-222"], "the other GPU")  # who waits for both holds neither for long
        for descriptor in descriptors:
            os.close(descriptor)
        order.append("released")
    waiting.join(5)
    assert order == ["released", ["GPU-111", "GPU-222"]]


def test_the_framework_is_shown_the_gpus_that_are_held(machine):
    machine(a_gpu(1), a_gpu(2), a_gpu(3))
    with device.hold_devices("auto", 2) as held:
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "GPU-111,GPU-222" and gpu.visible() == held


@pytest.mark.parametrize(("threads", "told"), [(1, "2 processes share 1 granted CPU"), (2, None)])
def test_more_processes_than_granted_cpus_are_told(monkeypatch, threads, told):
    pytest.importorskip("torch")
    from levelfield.backends import torch_devices

    monkeypatch.setattr(torch_devices.distributed, "get_backend", lambda: "gloo")
    backend = object.__new__(torch_devices.TorchDevices)
    backend.device, backend.threads, backend.protocol = "cpu", threads, Protocol(devices=2)
    backend.first = SimpleNamespace(flags=dict)
    assert backend.flags().get("crowded") == told


@pytest.mark.parametrize(("system", "interface"), [("linux", "lo"), ("darwin", "lo0")])
def test_processes_meet_on_this_machine_within_two_minutes(monkeypatch, system, interface):
    pytest.importorskip("torch")
    from levelfield.backends import torch_devices

    given = {}
    monkeypatch.setattr(torch_devices.sys, "platform", system)
    monkeypatch.setattr(torch_devices.distributed, "init_process_group", lambda means, **more: given.update(more))
    monkeypatch.setattr(torch_devices, "DistributedDataParallel", lambda model, device_ids: model)
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "")
    monkeypatch.delenv("GLOO_SOCKET_IFNAME")
    protocol = Protocol(model=BiLstm(embedding=3, units=2), vocabulary=10, length=3, devices=2)
    torch_devices.Member(protocol, "cpu", 2, 1, "/nowhere")
    assert given["timeout"].total_seconds() == 120 and os.environ["GLOO_SOCKET_IFNAME"] == interface


def test_more_devices_than_gpus_wait_for_nothing(machine):
    machine(a_gpu(1))
    with pytest.raises(UserError, match="devices is 2, but this run may use 1 GPU"), device.hold_devices("auto", 2):
        pass
    with device.hold_devices("cpu", 2) as held:
        assert held == []


def test_a_schedulers_gpus_are_locked_within_its_job_alone(machine, monkeypatch):
    machine(a_gpu(1), a_gpu(2), a_gpu(3))
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,2")
    monkeypatch.setattr(locks, "WAIT_SECONDS", 0.05)
    with device.hold_devices("cuda", 2) as held:
        assert [one.index for one in held] == [1, 2] and os.environ["CUDA_VISIBLE_DEVICES"] == "1,2"
        with pytest.raises(UserError, match="waited"), device.hold_device("cuda"):
            pass
        monkeypatch.setenv("SLURM_JOB_ID", "8")
        with device.hold_device("cuda") as other:
            assert other.index == 1


def test_gpus_are_numbered_as_nvml_numbers_them(machine, monkeypatch):
    machine(a_gpu(1), a_gpu(2))
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "FASTEST_FIRST")
    with device.hold_device("cuda"):
        assert os.environ["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"


def test_a_counter_that_stands_still_beside_others_tells_no_energy(machine):
    machine(a_gpu(1), a_gpu(2))
    times = iter([0.0, 0.0, 10.0, 10.0])
    with Energy(["GPU-111", "GPU-222"], "cuda", lambda: next(times)) as used:
        machine(a_gpu(1, energy=8_000), a_gpu(2))
    assert used.joules is None


def test_energy_is_that_of_all_gpus_or_none(machine):
    machine(a_gpu(1), a_gpu(2))
    times = iter([0.0, 0.0, 10.0, 10.0])
    with Energy(["GPU-111", "GPU-222"], "cuda", lambda: next(times)) as used:
        machine(a_gpu(1, energy=8_000), a_gpu(2, energy=9_000))
    assert used.joules == 3 + 4 and source(["GPU-111", "GPU-222"], "cuda") == "nvml"
    times = iter([0.0, 0.0, 10.0, 10.0])
    with Energy(["GPU-111", "GPU-333"], "cuda", lambda: next(times)) as used:
        machine(a_gpu(1, energy=12_000))
    assert used.joules is None and source(["GPU-111", "GPU-333"], "cuda") is None


USE = GpuUse(3, "device", 900, 0.02, 88.0, 1400.0, 250.0, ("idle",), 0.0, 0)


def test_several_gpus_are_told_as_one():
    other = replace(USE, peak_bytes=5, utilisation_percent=90.0, power_watts=200.0, throttle_reasons=(), foreign_processes=1)
    assert together([USE, other]) == replace(
        USE, peak_bytes=8, utilisation_percent=89.0, power_watts=450.0, foreign_processes=1
    )
    assert together([USE, replace(USE, power_watts=None)]).power_watts is None
    assert together([USE, None]) is None and together([]) is None and together([USE]) is USE
    first, second = (gpu.Gpu(f"GPU-{n}", n, "A GPU", 8, DRIVER) for n in (1, 2))
    assert gpu.as_one([second, first]) == gpu.Gpu("GPU-1, GPU-2", None, "A GPU", 16, DRIVER)
    assert gpu.as_one([first]) is first and gpu.as_one([]) is None
    assert gpu.as_one([first, replace(second, memory_bytes=None)]).memory_bytes is None


@pytest.mark.parametrize(
    ("resources", "asked"),
    [
        ({"gpu": 2}, 2),
        ({"gres": "gpu:2"}, 2),
        ({"gres": "'gpu:a100:4'"}, 4),
        ({"gres": "gpu:2080ti:1,scratch:100"}, 1),
        ({"gres": "gpu:3090-24gb:4"}, 4),
        ({"gres": "gpu:1g.5gb:2"}, 2),
        ({"gres": "gpu:2080ti"}, 1),
        ({"slurm_extra": "--gpus=2"}, 2),
        ({"slurm_extra": "--gpus-per-node=a100:2"}, 2),
        ({"tres_per_task": "gres/gpu:3"}, 3),
        ({"gpu_model": "a100", "gpu": 2}, 2),
        ({"slurm_extra": "-G a100:2"}, 2),
        ({"slurm_extra": "--gpus-per-task=2080ti:3 --partition=gpu"}, 3),
        ({"slurm_extra": "-G4"}, 4),
        ({"slurm_extra": '--gpus="a100:4"'}, 4),
        ({"slurm_extra": "--gpus-per-node='4'"}, 4),
        ({"slurm_extra": "'--gpus=' + ('4' if 'devices=4' in wildcards.case else '1')"}, None),
        ({"gres": "gpu:a100:{devices}"}, None),
        ({"gres": "gpu"}, None),
        ({"slurm_extra": "--reservation=gpu:9 --gpus 2"}, 2),
        ({"gpu": "2 if 'devices=2' in wildcards.case else 1"}, None),
        ({"mem_mb": 8000}, None),
    ],
)
def test_how_many_gpus_a_job_asks_for(resources, asked):
    assert slurm.gpus_asked(resources) == asked
    slurm.refuse_too_few_gpus("cpu", 8, resources)
    if asked is None:
        slurm.refuse_too_few_gpus("cuda", 8, resources)
        return
    slurm.refuse_too_few_gpus("cuda", asked, resources)
    with pytest.raises(WorkflowError, match=f"on 8 devices.*with {asked} GPUs? each: nothing was submitted.*`gpu: 8`"):
        slurm.refuse_too_few_gpus("auto", 8, resources)


def test_the_table_tells_the_share_of_the_ideal(tmp_path):
    folder = make_study(tmp_path / "several", ["torch", "jax"], seeds=range(4), steps=5, vary={"devices": [1, 2]})
    collect(folder)
    table = make_tables(Results.read(folder))["devices"]
    assert table.data["case"].tolist() == ["torch+devices=1", "torch+devices=2", "jax+devices=1", "jax+devices=2"]
    for row in table.data.itertuples():
        assert row.share_of_ideal == pytest.approx(row.times_one_device / row.devices) and row.pairs == 4
    assert table.data.loc[0, "times_one_device"] == 1 and 0.9 < table.data.loc[1, "times_one_device"] < 1.1
    assert table.shown.loc[0, "times one device's"] == "1" and "[" in table.shown.loc[1, "times one device's"]
    alone = make_study(tmp_path / "one", ["torch"], seeds=range(2), steps=5)
    collect(alone)
    assert "devices" not in make_tables(Results.read(alone))
