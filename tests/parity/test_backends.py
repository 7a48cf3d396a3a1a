"""Every backend keeps the contract and is within the bounds of the float64 reference, one process a framework.

On real reviews where LEVELFIELD_IMDB names an `imdb.npz`, else on synthetic sequences.
"""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from textwrap import dedent

import pytest

from levelfield import host
from levelfield.backends import BACKENDS
from levelfield.backends.base import DeviceError
from levelfield.backends.torch import TorchHugePages
from levelfield.study.protocol import Case, Protocol

SEQUENCES = 1_600
"""Fifty batches of 32."""
SMALL = Protocol(vocabulary=5_000, length=40, embedding=32, units=16, epochs=1)
QUICK = ("keras-tensorflow", "torch")
BACKEND_SECONDS = 500


def levelfield(*arguments, environment=None):
    """Runs a command in a process of its own, with one thread; returns its output, or fails with it."""
    command = [sys.executable, "-m", "levelfield", *map(str, arguments)]
    variables = {**os.environ, "OPENBLAS_NUM_THREADS": "1", **(environment or {})}
    done = subprocess.run(command, capture_output=True, text=True, timeout=BACKEND_SECONDS, env=variables)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
    return done.stdout


def skip_without_huge_pages(backend="torch-huge-pages"):
    if backend == "torch-huge-pages" and host.huge_pages() not in ("always", "madvise"):
        pytest.skip("this kernel gives no huge pages")


def prepare(folder, protocol: Protocol):
    """Data, start and reference trajectory of a protocol, through the commands that the rules call."""
    settings = {"train": SEQUENCES, "validation": 32, "synthetic": "LEVELFIELD_IMDB" not in os.environ}
    data, start = folder / "data", folder / "start.npz"
    sizes = ("--vocabulary", protocol.vocabulary, "--length", protocol.length)
    levelfield("data", "--settings", json.dumps(settings), *sizes, "--downloads", folder, "--out", data)
    given = json.dumps(asdict(protocol))
    levelfield("start", "--protocol", given, "--seed", 0, "--data", data, "--out", start)
    levelfield("reference", "--protocol", given, "--data", data, "--start", start, "--out", folder / "reference.npz")
    return folder


def parity_of(folder, backend: str, protocol: Protocol, departures=()) -> dict:
    case = Case("case", backend, tuple(departures), protocol, "cpu")
    case.write(folder / f"{backend}.json")
    known = ("--data", folder / "data", "--start", folder / "start.npz", "--reference", folder / "reference.npz")
    out = folder / f"{backend}.parity.json"
    levelfield("parity", "--case", folder / f"{backend}.json", *known, "--threads", 1, "--out", out)
    return json.loads(out.read_text())


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return prepare(tmp_path_factory.mktemp("small"), SMALL)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return prepare(tmp_path_factory.mktemp("whole"), Protocol(epochs=1))


@pytest.mark.parametrize("backend", [b if b == "torch" else pytest.param(b, marks=pytest.mark.long) for b in BACKENDS])
def test_keeps_the_contract(backend):
    skip_without_huge_pages(backend)
    assert f"{backend}: 16 of 16 checks passed" in levelfield("check", backend)


@pytest.mark.parametrize("backend", QUICK)
def test_is_within_the_bounds_in_a_small_model(small, backend):
    parity = parity_of(small, backend, SMALL)
    assert parity["passed"] and parity["steps"] == 50, parity["missed"]


@pytest.mark.long
@pytest.mark.parametrize("backend", BACKENDS)
def test_is_within_the_bounds_in_the_experiments_model(whole, backend):
    skip_without_huge_pages(backend)
    parity = parity_of(whole, backend, Protocol(epochs=1))
    assert parity["passed"] and parity["steps"] == 50, parity["missed"]


def test_a_departure_is_measured_and_misses_the_bounds(small):
    parity = parity_of(small, "torch", SMALL, ["second-bias"])
    assert not parity["matched"] and parity["passed"] is False
    assert parity["measured"]["weights_step_1"] == pytest.approx(
        1e-3, rel=0.01
    )  # the bias moved by the learning rate once more
    assert parity["measured"]["gradients"] < 1e-5


def test_huge_pages_are_used_where_they_were_asked_for():
    """By the kernel's own account of the process that has built the experiment's model, whose embedding is 10 MB."""
    skip_without_huge_pages()
    code = """
        import re, sys
        from levelfield.backends import load_class
        from levelfield.study.protocol import Protocol
        backend = load_class(sys.argv[1])(Protocol(), frozenset(), "cpu", 1)
        print(re.search(r"AnonHugePages: +(\\d+) kB", open("/proc/self/smaps_rollup").read())[1])
    """
    kilobytes = {
        name: int(subprocess.run([sys.executable, "-c", dedent(code), name], check=True, capture_output=True, text=True).stdout)
        for name in ("torch", "torch-huge-pages")
    }
    unasked = kilobytes["torch"] if host.huge_pages() == "madvise" else 0  # where the kernel gives them always, to `torch` too
    assert kilobytes["torch-huge-pages"] >= unasked + 8_192, kilobytes


@pytest.mark.long
def test_the_profile_of_a_loop_over_time_steps_fits_into_memory():
    """Keras's on PyTorch without a GPU; without care it took 4 GB for the experiment's 200 time steps, 24 GB for 800."""
    code = """
        import numpy as np
        from levelfield.backends import load_class
        from levelfield.host import peak_resident_bytes
        from levelfield.study.protocol import Protocol
        from levelfield.level.start import make_start
        backend = load_class("keras-torch")(Protocol(), frozenset(), "cpu", 1)
        backend.load(make_start(Protocol(), 0, 32).weights)
        x, y = np.ones((32, 200), np.int32), np.ones(32, np.float32)
        backend.train_epoch(x, y, np.arange(32))
        before = peak_resident_bytes()
        assert backend.kernels(x, y)
        print(peak_resident_bytes() - before)
    """
    done = subprocess.run([sys.executable, "-c", dedent(code)], check=True, capture_output=True, text=True)
    assert int(done.stdout.splitlines()[-1]) < 1 << 30


def test_without_huge_pages_the_backend_says_what_to_do(monkeypatch):
    with pytest.raises(DeviceError, match="device: cpu"):
        TorchHugePages(SMALL, frozenset(), "cuda", 1)
    monkeypatch.setattr(host, "SYS", Path("/nowhere"))
    with pytest.raises(DeviceError, match="leave the case out"):
        TorchHugePages(SMALL, frozenset(), "cpu", 1)


def test_a_backend_outside_the_package_is_installed_and_checked(tmp_path):
    """As `backends/README.md` tells a newcomer; no network is needed."""
    source = shutil.copytree(Path(__file__).parent / "example_backend", tmp_path / "source")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, "--target", tmp_path / "site", source], check=True)
    there = os.pathsep.join([str(tmp_path / "site"), os.environ.get("PYTHONPATH", "")])
    assert "torch-cells: 16 of 16 checks passed" in levelfield("check", "torch-cells", environment={"PYTHONPATH": there})


def test_an_unknown_backend_is_said_in_one_line():
    done = subprocess.run([sys.executable, "-m", "levelfield", "check", "torch-cells"], capture_output=True, text=True)
    assert done.returncode == 2 and "unknown backend 'torch-cells'; there are" in done.stderr
