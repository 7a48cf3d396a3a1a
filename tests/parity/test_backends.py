"""Every backend keeps the contract and is within the bounds of the float64 reference, for each model that it trains.

One process a framework; those that were chosen run beside each other, with a thread each, as many as there are CPUs. On real
reviews where LEVELFIELD_IMDB names an `imdb.npz`, else on synthetic sequences.
"""

import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from textwrap import dedent

import pytest
from chosen import ALL
from outside import installed

from levelfield import host, registry
from levelfield.backends.base import DeviceError
from levelfield.backends.torch import TorchHugePages
from levelfield.models.bilstm import BiLstm
from levelfield.models.cnn import Cnn
from levelfield.models.transformer import Transformer
from levelfield.study.protocol import Case, Protocol

SEQUENCES = 1_600
"""Fifty batches of 32."""
SMALL = {
    "bilstm": BiLstm(embedding=32, units=16),
    "transformer": Transformer(),
    "cnn": Cnn(embedding=32, filters=16, width=5, stride=2, dense=8),
}
QUICK = [("keras-tensorflow", "bilstm"), *(("torch", model) for model in SMALL)]
PAIRS = [(backend, model) for backend in registry.backends() for model in SMALL if registry.supports(backend, model)]


PLAIN = [(backend, model) for backend, model in PAIRS if not registry.backend(backend).like]
PUBLISHED = [pair for number, pair in enumerate(PLAIN) if ALL or number % len(SMALL) == number // len(SMALL) % len(SMALL)]
"""At the published sizes: each framework with one model, another one for each; all by `make faults`."""
OPTIONS = [(backend, "bilstm") for backend in registry.backends() if registry.backend(backend).like]
LOOPS = ("torch-compile", "jax-scan", "flax-scan", "keras-tensorflow-jit", "keras-tensorflow-16-steps", "keras-jax-16-steps")
"""Options that change how steps are made. Of these the contract is tried, with the model that is trained fastest; the others change
memory or arithmetic alone, which the bounds see."""
CONTRACT = [*PLAIN, *((backend, "cnn") for backend in LOOPS)]
ON_A_GPU = ("torch-compile-reduce-overhead", "torch-compile-max-autotune")
BACKEND_SECONDS = 1500
EXAMPLE = Path(__file__).parent / "example_backend"


def levelfield(*arguments, environment=None, may_fail=False):
    """Runs a command in a process of its own, with one thread; returns its output, or fails with it.

    With a lock of its own: nothing here is timed, so that none waits for another.
    """
    command = [sys.executable, "-m", "levelfield", *map(str, arguments)]
    with TemporaryDirectory() as locks:
        variables = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "LEVELFIELD_LOCKS": locks, **(environment or {})}
        done = subprocess.run(command, capture_output=True, text=True, timeout=BACKEND_SECONDS, env=variables)
    assert done.returncode == 0 or may_fail, f"{' '.join(command)}\n{done.stdout}{done.stderr}"
    return done.stdout


def skip_where_it_cannot_run(backend):
    if backend in ON_A_GPU:
        pytest.skip("is about a GPU")
    if backend.endswith("-huge-pages") and host.huge_pages() not in ("always", "madvise"):
        pytest.skip("this kernel gives no huge pages")


def prepare(folder: Path, protocol: Protocol) -> Path:
    """Data, start and reference trajectory of a protocol, through the commands that the rules call."""
    folder.mkdir()
    settings = {"train": SEQUENCES, "validation": 32, "synthetic": "LEVELFIELD_IMDB" not in os.environ}
    data, start = folder / "data", folder / "start.npz"
    sizes = ("--vocabulary", protocol.vocabulary, "--length", protocol.length)
    levelfield("data", "--settings", json.dumps(settings), *sizes, "--downloads", folder, "--out", data)
    given = json.dumps(asdict(protocol))
    levelfield("start", "--protocol", given, "--seed", 0, "--data", data, "--out", start)
    levelfield("reference", "--protocol", given, "--data", data, "--start", start, "--out", folder / "reference.npz")
    return folder


def parity_of(folder: Path, backend: str, protocol: Protocol, departures=()) -> dict:
    protocol = replace(protocol, data_on=registry.backend(backend).data_on[0])
    case = Case("case", backend, tuple(departures), protocol, "cpu")
    case.write(folder / f"{backend}.json")
    known = ("--data", folder / "data", "--start", folder / "start.npz", "--reference", folder / "reference.npz")
    out = folder / f"{backend}.parity.json"
    levelfield("parity", "--case", folder / f"{backend}.json", *known, "--threads", 1, "--out", out)
    return json.loads(out.read_text())


def small(model: str) -> Protocol:
    return Protocol(model=SMALL[model], vocabulary=5_000, length=40, epochs=1)


def whole(model: str) -> Protocol:
    return Protocol(model=registry.model(model).sizes(), epochs=1)


class Ahead:
    """What the chosen tests will ask for, begun before they ask: each piece once, in processes beside each other."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.pool = ThreadPoolExecutor(host.cpus_available())
        self.prepared, self.checked, self.parity = (cache(one) for one in (self._prepared, self._checked, self._parity))

    def _prepared(self, sizes, model: str) -> Future:
        return self.pool.submit(prepare, self.folder / f"{sizes.__name__}-{model}", sizes(model))

    def _checked(self, backend: str) -> Future:
        """Of a framework's own row every model at once, of an option the one that is tried."""
        one = ("--model", "cnn") if backend in LOOPS else ()
        return self.pool.submit(levelfield, "check", backend, *one, may_fail=True)

    def _parity(self, sizes, backend: str, model: str) -> Future:
        prepared = self.prepared(sizes, model)  # begun before what waits for it
        return self.pool.submit(lambda: parity_of(prepared.result(), backend, sizes(model)))


@pytest.fixture(scope="module")
def ahead(request, tmp_path_factory):
    ahead = Ahead(tmp_path_factory.mktemp("ahead"))
    chosen = [item for item in request.session.items if item.module is request.module and hasattr(item, "callspec")]
    for item in chosen:
        begin = BEGUN.get(item.originalname)
        if begin:
            begin(ahead, **item.callspec.params)
    yield ahead
    ahead.pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize(("backend", "model"), [*QUICK, *(pytest.param(*pair, marks=pytest.mark.long) for pair in OPTIONS)])
def test_is_within_the_bounds_in_a_small_model(ahead, backend, model):
    skip_where_it_cannot_run(backend)
    parity = ahead.parity(small, backend, model).result()
    assert parity["passed"] and parity["steps"] == 50, parity["missed"]


@pytest.mark.long
@pytest.mark.parametrize(("backend", "model"), [*PUBLISHED, ("torch-compile", "transformer"), ("torch-compile", "cnn")])
def test_is_within_the_bounds_in_the_published_model(ahead, backend, model):
    skip_where_it_cannot_run(backend)
    parity = ahead.parity(whole, backend, model).result()
    assert parity["passed"] and parity["steps"] == 50, parity["missed"]


@pytest.mark.parametrize(
    ("backend", "model"), [pair if pair[0] == "torch" else pytest.param(*pair, marks=pytest.mark.long) for pair in CONTRACT]
)
def test_keeps_the_contract(ahead, backend, model):
    skip_where_it_cannot_run(backend)
    lines = [line for line in ahead.checked(backend).result().splitlines() if line.split()[1:2] == [model]]
    passed = [line for line in lines if line.startswith("ok")]
    assert len(passed) == 17 and passed == lines, [line for line in lines if line not in passed]


BEGUN = {
    "test_is_within_the_bounds_in_a_small_model": lambda ahead, backend, model: ahead.parity(small, backend, model),
    "test_is_within_the_bounds_in_the_published_model": lambda ahead, backend, model: ahead.parity(whole, backend, model),
    "test_keeps_the_contract": lambda ahead, backend, model: ahead.checked(backend),
}


def test_every_backend_trains_every_model_of_the_house():
    """The benchmark's matrix is whole; a backend from outside may train fewer."""
    assert len(PAIRS) == len(registry.backends()) * len(SMALL) and set(SMALL) == set(registry.models())


def test_a_departure_is_measured_and_misses_the_bounds(ahead):
    folder = ahead.prepared(small, "bilstm").result()
    parity = parity_of(folder, "torch", small("bilstm"), ["second-bias"])
    assert not parity["matched"] and parity["passed"] is False
    assert parity["measured"]["weights_step_1"] == pytest.approx(
        1e-3, rel=0.01
    )  # the bias moved by the learning rate once more
    assert parity["measured"]["gradients"] < 1e-5


PLACED = """
    import json, sys
    import numpy as np
    from dataclasses import replace
    from levelfield import registry
    from levelfield.backends import confine, load_backend
    from levelfield.level.start import make_start
    from levelfield.level.trial import small_protocol
    threads, make, found = confine("cpu", 1), load_backend(sys.argv[1]), []
    for place in registry.backend(sys.argv[1]).data_on:
        protocol = small_protocol("bilstm", place)
        x = np.random.default_rng(0).integers(0, protocol.vocabulary, (39, protocol.length)).astype(np.int32)
        y = (x[:, -1] % 2).astype(np.float32)
        start = make_start(protocol, 0, len(x))
        backend = make(protocol, frozenset(), "cpu", threads)
        backend.load(start.weights)
        losses, correct = backend.train_epoch(x, y, start.order[0].astype(np.int64))
        found.append([losses.tolist(), correct.tolist(), backend.predict(x).tolist()])
    print(json.dumps(found))
"""


@pytest.mark.parametrize(
    "backend", ["torch", *(pytest.param(name, marks=pytest.mark.long) for name in ("jax", "flax", "keras-torch"))]
)
def test_wherever_the_data_lies_every_loss_is_the_same_to_the_bit(backend):
    command = [sys.executable, "-c", dedent(PLACED), backend]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    host, device = json.loads(done.stdout.splitlines()[-1])
    assert len(host[0]) == 10 and host == device


def test_each_framework_whose_program_can_have_its_data_on_the_device_says_so():
    placed = {name for name, model in PLAIN if len(registry.backend(name).data_on) == 2}
    assert placed == {"torch", "jax", "flax", "keras-torch"}


COMPILED = """
    import sys
    import jax
    import numpy as np
    from levelfield.backends import confine, load_backend
    from levelfield.level.start import make_start
    from levelfield.level.trial import small_protocol
    threads, make = confine("cpu", 1), load_backend(sys.argv[1])
    protocol = small_protocol("cnn", sys.argv[2])
    x = np.ones((75, protocol.length), np.int32)
    y = np.ones(75, np.float32)
    start = make_start(protocol, 0, len(x))
    backend = make(protocol, frozenset(), "cpu", threads)
    backend.warm_up(x, y, start.weights, 50)
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(lambda event, *_, **__: compiled.append(event))
    for order in (start.order[0].astype(np.int64),) * 2:
        backend.train_epoch(x, y, order)
        backend.predict(x[:50])
    print([event for event in compiled if "compile" in event])
"""


@pytest.mark.long
@pytest.mark.parametrize(
    ("backend", "place"), [("jax", "host"), ("jax", "device"), ("jax-scan", "device"), ("flax-scan", "device")]
)
def test_nothing_is_left_to_compile_after_the_warm_up(backend, place):
    command = [sys.executable, "-c", dedent(COMPILED), backend, place]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.long
@pytest.mark.parametrize(
    ("backend", "malloc"),
    [
        ("keras-tensorflow-huge-pages", "glibc.malloc.hugetlb=1"),
        ("jax-huge-pages", "glibc.malloc.hugetlb=1"),
        ("keras-tensorflow-kept-memory", "MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=1099511627776"),
        ("torch-kept-memory", "MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=1099511627776"),
    ],
)
def test_the_process_of_a_timed_run_is_started_with_its_backends_environment(ahead, tmp_path, backend, malloc):
    """The C library reads GLIBC_TUNABLES at its start: set later it would be recorded and not heeded."""
    skip_where_it_cannot_run(backend)
    folder, run = ahead.prepared(small, "cnn").result(), tmp_path / backend / "seed-0"
    Case(backend, backend, (), small("cnn"), "cpu").write(tmp_path / "case.json")
    known = ("--case", tmp_path / "case.json", "--data", folder / "data", "--start", folder / "start.npz", "--threads", 1)
    levelfield("train", *known, "--study", "s", "--seed", 0, "--out", run)
    flags = json.loads((run / "run.json").read_text())["machine"]["flags"]
    assert flags["malloc"] == malloc and flags.get("huge_pages", "always") in ("always", "madvise")


@pytest.mark.long
@pytest.mark.parametrize("model", SMALL)
def test_a_run_needs_no_more_than_a_container_has(ahead, tmp_path, model):
    """Parity, training and exchange with PyTorch, all packages of the analysis out of reach."""
    folder, protocol = ahead.prepared(small, model).result(), small(model)
    absent = [
        "pandas",
        "pydantic",
        "autograd",
        "scipy",
        "pyarrow",
        "altair",
        "requests",
        "rich",
        "onnx",
        "tensorflow",
        "jax",
        "keras",
    ]
    (tmp_path / "sitecustomize.py").write_text(f"import sys; sys.modules.update(dict.fromkeys({absent}))\n")
    there = {"PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    Case("torch", "torch", (), protocol, "cpu").write(tmp_path / "torch.json")
    known = ("--case", tmp_path / "torch.json", "--data", folder / "data", "--threads", 1)
    of_start = ("--start", folder / "start.npz")
    reference, parity, run = folder / "reference.npz", tmp_path / "parity.json", tmp_path / "torch/seed-0"
    levelfield("parity", *known, *of_start, "--reference", reference, "--out", parity, environment=there)
    told = ("--study", "s", "--seed", 0, "--parity", parity, "--out", run)
    levelfield("train", *known, *of_start, *told, environment=there)
    levelfield("exchange", *known, "--weights", run / "weights.npz", "--out", tmp_path / "exchange.json", environment=there)
    assert json.loads((run / "run.json").read_text())["checks"]["losses_finite"]


def test_huge_pages_are_used_where_they_were_asked_for():
    """By the kernel's own account of the process that has built the experiment's model, whose embedding is 10 MB."""
    skip_where_it_cannot_run("torch-huge-pages")
    code = """
        import re, sys
        from levelfield.backends import load_backend
        from levelfield.study.protocol import Protocol
        backend = load_backend(sys.argv[1])(Protocol(), frozenset(), "cpu", 1)
        print(re.search(r"AnonHugePages: +(\\d+) kB", open("/proc/self/smaps_rollup").read())[1])
    """
    kilobytes = {
        name: int(subprocess.run([sys.executable, "-c", dedent(code), name], check=True, capture_output=True, text=True).stdout)
        for name in ("torch", "torch-huge-pages")
    }
    unasked = kilobytes["torch"] if host.huge_pages() == "madvise" else 0  # where the kernel gives them always, to `torch` too
    assert kilobytes["torch-huge-pages"] >= unasked + 2_048, kilobytes  # one page at least: the kernel gives what it has


@pytest.mark.parametrize(("backend", "left"), [("torch", True), ("torch-flush-subnormals", False)])
def test_subnormal_numbers_are_flushed_by_every_thread_where_that_was_asked_for(backend, left):
    """In products over a whole array and of matrices, with two threads, and in what autograd does."""
    code = """
        import sys, torch
        from levelfield.backends import load_backend
        from levelfield.models.bilstm import BiLstm
        from levelfield.study.protocol import Protocol
        protocol = Protocol(model=BiLstm(embedding=4, units=3), vocabulary=50, length=12)
        backend = load_backend(sys.argv[1])(protocol, frozenset(), "cpu", 2)
        assert torch.get_num_threads() == 2
        small = torch.full((4_000_000,), 1e-30, requires_grad=True)
        product = small * 1e-10
        product.backward(torch.full((4_000_000,), 1e-30))
        matrix = torch.full((512, 512), 1e-30) @ torch.full((512, 512), 1e-10)
        print(backend.flags().get("subnormals"), *(int((x != 0).sum()) for x in (product.detach(), small.grad, matrix)))
    """
    done = subprocess.run([sys.executable, "-c", dedent(code), backend], check=True, capture_output=True, text=True)
    flag, *counts = done.stdout.split()
    assert flag == ("None" if left else "flushed")
    assert [int(count) for count in counts] == ([4_000_000, 4_000_000, 262_144] if left else [0, 0, 0])


@pytest.mark.long
def test_the_profile_of_a_loop_over_time_steps_fits_into_memory():
    """Keras's on PyTorch without a GPU; without care it took 4 GB for the experiment's 200 time steps, 24 GB for 800."""
    code = """
        import numpy as np
        from levelfield.backends import load_backend
        from levelfield.host import peak_resident_bytes
        from levelfield.study.protocol import Protocol
        from levelfield.level.start import make_start
        backend = load_backend("keras-torch")(Protocol(), frozenset(), "cpu", 1)
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
        TorchHugePages(small("bilstm"), frozenset(), "cuda", 1)
    monkeypatch.setattr(host, "SYS", Path("/nowhere"))
    with pytest.raises(DeviceError, match="leave the case out"):
        TorchHugePages(small("bilstm"), frozenset(), "cpu", 1)


def test_a_backend_outside_the_package_is_installed_and_checked(tmp_path):
    """As `backends/README.md` tells a newcomer; no network is needed. It trains the LSTM and nothing else."""
    site = installed(shutil.copytree(EXAMPLE, tmp_path / "source"), tmp_path / "site")
    there = {"PYTHONPATH": os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])}
    assert "torch-cells (torch-cells): 17 of 17 checks passed, bilstm\n" in levelfield(
        "check", "torch-cells", environment=there
    )


def test_an_unknown_backend_is_said_in_one_line():
    done = subprocess.run([sys.executable, "-m", "levelfield", "check", "torch-cells"], capture_output=True, text=True)
    assert done.returncode == 2 and "unknown backend 'torch-cells'; there are" in done.stderr
