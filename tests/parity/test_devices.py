"""Several devices train as one: the same bounds of the same reference, an uneven last batch included. On a CPU, which has no GPUs."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import dedent

import pytest
from outside import made_known
from pretended_gpus import DRIVER, FAKE, a_gpu

from levelfield import host, registry
from levelfield.models.bilstm import BiLstm
from levelfield.models.cnn import Cnn
from levelfield.models.transformer import Transformer
from levelfield.records import read_epochs
from levelfield.study.protocol import Case, Protocol

SEQUENCES = 9 * 32 + 15
"""Ten steps; a batch of 15 sequences, which neither two devices nor four can share evenly, is the third: the third step's weights are judged."""
SMALL = {
    "bilstm": BiLstm(embedding=32, units=16),
    "transformer": Transformer(embedding=16, heads=2, feed_forward=16),
    "cnn": Cnn(embedding=32, filters=16, width=5, stride=2, dense=8),
}
ABLE = [name for name, backend in registry.backends().items() if backend.devices]
QUICK = [("torch", "bilstm", 2), ("jax", "bilstm", 2)]
LONG = [*((backend, "bilstm", 4) for backend in ABLE), ("torch", "transformer", 4), ("jax", "transformer", 4)]
"""Two devices are held against the reference by the contract's tests, below."""
SECONDS = 300


def levelfield(*arguments, may_fail=False, **environment) -> str:
    command = [sys.executable, "-m", "levelfield", *map(str, arguments)]
    with TemporaryDirectory() as locks:  # two at a time is fine here: nothing is timed
        variables = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "LEVELFIELD_LOCKS": locks, **environment}
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, env=variables)
    assert done.returncode == 0 or may_fail, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
    return done.stdout


def protocol_of(model: str, devices: int = 1) -> Protocol:
    return Protocol(model=SMALL[model], vocabulary=5_000, length=40, epochs=1, devices=devices)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Data, start and reference of a model, through the commands that the rules call: made once, of one device."""

    @cache
    def made(model: str) -> Path:
        folder, protocol = tmp_path_factory.mktemp(model), protocol_of(model)
        settings = {"train": SEQUENCES, "validation": 33, "synthetic": True}
        data, start, given = folder / "data", folder / "start.npz", json.dumps(asdict(protocol))
        sizes = ("--vocabulary", protocol.vocabulary, "--length", protocol.length)
        levelfield("data", "--settings", json.dumps(settings), *sizes, "--downloads", folder, "--out", data)
        levelfield("start", "--protocol", given, "--seed", 0, "--data", data, "--out", start)
        levelfield("reference", "--protocol", given, "--data", data, "--start", start, "--out", folder / "reference.npz")
        return folder

    return made


def parity_of(folder: Path, backend: str, model: str, devices: int) -> dict:
    name = f"{backend}-{devices}"
    Case(name, backend, (), protocol_of(model, devices), "cpu").write(folder / f"{name}.json")
    known = ("--data", folder / "data", "--start", folder / "start.npz", "--reference", folder / "reference.npz")
    out = folder / f"{name}.parity.json"
    levelfield("parity", "--case", folder / f"{name}.json", *known, "--threads", 2, "--out", out)
    return json.loads(out.read_text())


@pytest.mark.parametrize(
    ("backend", "model", "devices"), [*QUICK, *(pytest.param(*one, marks=pytest.mark.long) for one in LONG)]
)
def test_several_devices_are_within_the_bounds_of_one(prepared, backend, model, devices):
    parity = parity_of(prepared(model), backend, model, devices)
    assert parity["passed"] and parity["steps"] == 10, parity["missed"]
    assert "weights_step_10" in parity["bounds"]


@pytest.mark.long
def test_every_backend_that_can_keeps_the_contract_on_two_devices():
    """The last of its batches has three sequences."""
    with ThreadPoolExecutor(host.cpus_available()) as pool:
        check = lambda backend: levelfield("check", backend, "--devices", 2, "--model", "cnn", may_fail=True)  # noqa: E731
        for told in pool.map(check, ABLE):
            lines = told.splitlines()[:-1]
            assert len(lines) == 17 and all(line.startswith("ok") for line in lines), told


MEAN_OF_MEANS = """
    import numpy as np
    from levelfield.backends import jax_devices, load_backend
    from levelfield.level.check import check
    filled = jax_devices.filled
    def even(rows, batch_size, devices):
        last = len(rows) % batch_size
        rows, shares = filled(rows, batch_size, devices)
        if last:  # each device means over its own, and they are given one weight
            last += -last % devices
            own = np.split(shares[-last:] > 0, devices)
            shares[-last:] = np.concatenate([one / one.sum() / devices for one in own])
        return rows, shares
    jax_devices.filled = even
    make = load_backend("jax", 2)
    found = check("jax", "cnn", lambda protocol, departures, device: make(protocol, departures, device, 1), 2)
    print([finding.check for finding in found if not finding.passed])
"""


@pytest.mark.long
def test_a_mean_of_the_devices_means_is_found():
    """Of three sequences the first device has two, the second one."""
    done = subprocess.run([sys.executable, "-c", dedent(MEAN_OF_MEANS)], capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stderr[-2000:]
    missed = done.stdout.splitlines()[-1]
    assert "'trajectory'" in missed and "'second epoch'" in missed and "'gradients'" not in missed, done.stdout


@pytest.mark.long
def test_a_run_on_two_gpus_is_told_of_both(prepared, tmp_path):
    """Pretended: NVML's two GPUs are made up, the two devices are virtual ones of the CPU."""
    folder, name = prepared("cnn"), "pretended-jax"
    made_known(FAKE.parent / "pretended_backend", tmp_path)
    trace = {"energy": {"from": 0, "per_second": 250_000}, "used": {"from": 0, "per_second": 1 << 20}, "total": 1 << 50}
    machine = {"driver": DRIVER, "gpus": [a_gpu(number, reasons=0, **trace) for number in (1, 2, 3)]}
    (tmp_path / "nvml.json").write_text(json.dumps(machine))
    path = [tmp_path, FAKE.parent / "pretended_backend", FAKE, os.environ.get("PYTHONPATH", "")]
    there = {"FAKE_NVML": str(tmp_path / "nvml.json"), "PYTHONPATH": os.pathsep.join(map(str, path)), "PACE": "0.2"}
    protocol = replace(protocol_of("cnn", devices=2))
    Case(name, name, (), protocol, "cuda").write(tmp_path / "case.json")
    known = ("--case", tmp_path / "case.json", "--data", folder / "data", "--start", folder / "start.npz", "--threads", 1)
    out = tmp_path / "run"
    levelfield("train", *known, "--study", "s", "--seed", 0, "--out", out, **there)
    run = json.loads((out / "run.json").read_text())
    machine, found = run["machine"], run["measurements"]
    assert (machine["gpu"], machine["gpu_uuid"]) == ("Pretended GPU", "GPU-111, GPU-222")
    assert machine["environment"]["CUDA_VISIBLE_DEVICES"] == "GPU-111,GPU-222"
    assert machine["flags"]["distribution"] == "shard_map over a mesh"
    assert found["gpu_power_watts"] == pytest.approx(500, rel=0.1) and run["memory"]["nvml_peak_bytes"] > 0
    (epoch,) = read_epochs(out / "epochs.csv")
    assert epoch.energy_joules == pytest.approx(500 * epoch.train_seconds, rel=0.1)


@pytest.mark.long
def test_the_memory_of_a_run_is_that_of_all_its_processes(prepared, tmp_path):
    folder, peaks = prepared("cnn"), {}
    for devices in (1, 2):
        Case("torch", "torch", (), protocol_of("cnn", devices), "cpu").write(tmp_path / f"{devices}.json")
        known = ("--case", tmp_path / f"{devices}.json", "--data", folder / "data", "--start", folder / "start.npz")
        out = tmp_path / str(devices)
        levelfield("train", *known, "--threads", 2, "--study", "s", "--seed", 0, "--out", out)
        run = json.loads((out / "run.json").read_text())
        peaks[devices] = run["memory"]["host_peak_bytes"]
        assert run["checks"]["losses_finite"] and run["protocol"]["devices"] == devices
        assert run["measurements"].get("probe_failed") is None and run["measurements"].get("profile_failed") is None
    assert 1.5 < peaks[2] / peaks[1] < 2.5, peaks


@pytest.mark.long
def test_what_goes_wrong_in_another_process_is_said():
    code = """
        import os, signal, sys
        import numpy as np
        from levelfield.backends import load_backend
        from levelfield.level.start import make_start
        from levelfield.level.trial import small_protocol
        from dataclasses import replace
        if __name__ == "__main__":
            protocol = replace(small_protocol("cnn"), devices=2)
            backend = load_backend("torch", 2)(protocol, frozenset(), "cpu", 1)
            weights = make_start(protocol, 0, 8).weights
            backend.load(weights)
            x, y = np.ones((8, 12), np.int32), np.ones(8, np.float32)
            if sys.argv[1] == "killed":
                os.kill(backend.process_ids[0], signal.SIGKILL)
            else:
                x[2:4] = 10**6  # the second device's part of the first batch: no such word
            try:
                backend.train_epoch(x, y, np.arange(8))
            except Exception as error:
                print(type(error).__name__, error)
    """
    for kind, said in (("killed", "device 1 of 2: its process ended"), ("failed", "device 1 of 2: IndexError")):
        with TemporaryDirectory() as folder:
            (Path(folder) / "wrong.py").write_text(dedent(code))
            command = [sys.executable, f"{folder}/wrong.py", kind]
            done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert said in done.stdout, (kind, done.stdout, done.stderr[-2000:])


@pytest.mark.long
def test_an_epoch_of_pytorch_sends_other_processes_their_part_of_the_order_and_no_data():
    code = """
        import pickle
        from dataclasses import replace
        import numpy as np
        from levelfield.backends import load_backend
        from levelfield.level.start import make_start
        from levelfield.level.trial import small_protocol
        if __name__ == "__main__":
            protocol = replace(small_protocol("cnn"), devices=2)
            backend = load_backend("torch", 2)(protocol, frozenset(), "cpu", 1)
            x = np.random.default_rng(0).integers(0, 40, (1003, protocol.length)).astype(np.int32)
            y = (x[:, -1] % 2).astype(np.float32)
            start = make_start(protocol, 0, len(x))
            backend.warm_up(x, y, start.weights)
            sent, send = [], backend.pipes[0].send
            backend.pipes[0].send = lambda what: sent.append((what[0], len(pickle.dumps(what)))) or send(what)
            first, _ = backend.train_epoch(x, y, start.order[0].astype(np.int64))
            backend.load(start.weights)
            turned, _ = backend.train_epoch(x, 1 - y, start.order[0].astype(np.int64))
            backend.load(start.weights)
            again, _ = backend.train_epoch(x, y, start.order[0].astype(np.int64))
            print(sent[0][0], sent[0][1] < x.nbytes / 6, sum(name == "map_data" for name, _ in sent))
            print(np.array_equal(first, again), np.abs(first - turned).max() > 0.01)
    """
    with TemporaryDirectory() as folder:
        (Path(folder) / "sent.py").write_text(dedent(code))
        done = subprocess.run([sys.executable, f"{folder}/sent.py"], capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines()[-2:] == ["train_part True 2", "True True"], (done.stdout, done.stderr[-2000:])
