"""Backends that go wrong: each is told as failed, with its cause and the last lines of its log; the study goes on; a rerun tries those."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import pytest
from checkout import ROOT, Checkout
from chosen import ALL
from jobs import LSTM, Tiny
from outside import made_known

from levelfield import host, registry
from levelfield.records import load_arrays

FAULTY, OUTSIDE = ROOT / "tests/faulty_backend", ROOT / "tests/parity/outside_package"
MODEL = {"name": "bag-of-words", "embedding": 4}
FAILS = {
    "memory": ("Unable to allocate 8.00 GiB", "MemoryError"),
    "killed": (r"SIGKILL (out of memory?)", ""),
    "crash": ("SIGSEGV (a crash in compiled code)", "Segmentation fault"),
    "abort": ("SIGABRT (a crash in compiled code)", "std::bad_alloc"),
    "garbage-crash": ("SIGSEGV", "\\xff"),
    "leaves": ("SystemExit: 0", "go_wrong"),
    "exits": ("ended with exit code 0 and no record", "the licence has expired"),
    "import": ("ImportError: libfaulty.so.1", "Traceback"),
}
"""Fault to what is said of it, and what its log's last lines hold."""
STANDS = {
    "probe": {"probe_failed": "RuntimeError: the device was lost"},
    "profile": {"profile_failed": "RuntimeError: the profiler crashed at its end"},
    "profile-crash": {"extras_failed": "take 1 was ended by SIGSEGV"},
}
"""Fault in an extra to the reason that the record gives."""
DIVERGES = ("nan", "diverges")
SHORT = "from levelfield.commands.rules import train; train.HANG = 1 / 4"
"""Of a minute that is granted, 15 s."""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Tiny:
    folder = tmp_path_factory.mktemp("tiny")
    made_known(OUTSIDE, folder / "site")
    made_known(FAULTY, folder / "site")
    return Tiny.made(folder, MODEL, (folder / "site", FAULTY, OUTSIDE))


def told(out: Path) -> dict:
    """What the failure of a run says; nothing of the run stands beside it."""
    assert not (out / "run.json").exists()
    return json.loads((out / "failure.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("fault", FAILS)
def test_a_run_that_goes_wrong_leaves_its_cause_and_the_last_lines_of_its_log(tiny, tmp_path, fault):
    done = tiny.train(f"faulty-{fault}", tmp_path / "run")
    cause, last = FAILS[fault]
    failure = told(tmp_path / "run")
    assert done.returncode == 2 and cause in done.stdout, done.stdout[-2000:]
    assert cause in failure["error"] and last in failure["log_tail"] and len(failure["log_tail"]) <= 16_000
    assert (failure["case"], failure["seed"]) == (f"faulty-{fault}", 0) and failure["seconds"] > 0
    assert tiny.train(f"faulty-{fault}", tmp_path / "run", environment={"FAULTY": "mended"}).returncode == 0
    assert (tmp_path / "run/run.json").exists() and not (tmp_path / "run/failure.json").exists()


def test_a_run_that_hangs_is_ended_and_says_so(tiny, tmp_path):
    done = tiny.train("faulty-hangs", tmp_path / "run", "--minutes", 1, code=SHORT)
    failure = told(tmp_path / "run")
    assert done.returncode == 2 and "did not end within" in failure["error"] and "waiting for a peer" in failure["log_tail"]


@pytest.mark.parametrize("fault", [*STANDS, "profile-hangs"])
def test_a_run_whose_extra_goes_wrong_stands(tiny, tmp_path, fault):
    """Whatever the extra does: it raises, crashes in compiled code, hangs."""
    done = tiny.train(f"faulty-{fault}", tmp_path / "run", "--minutes", 1, code=SHORT if fault == "profile-hangs" else "")
    assert done.returncode == 0, done.stdout[-2000:]
    run = json.loads((tmp_path / "run/run.json").read_text())
    for name, reason in STANDS.get(fault, {"extras_failed": "did not end within"}).items():
        assert reason in run["measurements"][name]
    assert not (tmp_path / "run/failure.json").exists() and run["kernels"] == []
    assert len(load_arrays(tmp_path / "run/steps.npz")["loss"]) == 10 and (tmp_path / "run/weights.npz").exists()


def test_a_program_may_print_anything(tiny, tmp_path):
    done = tiny.train("faulty-garbage", tmp_path / "run")
    assert done.returncode == 0 and done.stdout.count("\\xff\x00") >= 2 * 2 * 4095, "the log is whole"
    assert json.loads((tmp_path / "run/run.json").read_text())["checks"]["losses_finite"]


@pytest.mark.parametrize("fault", DIVERGES)
def test_a_loss_that_is_no_number_is_recorded_as_that(tiny, tmp_path, fault):
    done = tiny.train(f"faulty-{fault}", tmp_path / "run")
    assert done.returncode == 0, done.stdout[-2000:]
    assert json.loads((tmp_path / "run/run.json").read_text())["checks"]["losses_finite"] is False


def faulty_checkout(folder: Path, **changes) -> Checkout:
    checkout = Checkout.made(folder)
    for package in (OUTSIDE / "bag_of_words", OUTSIDE / "plain_numpy"):
        shutil.copytree(package, folder / "workflow" / package.name, ignore=shutil.ignore_patterns("__pycache__"))
    for file in FAULTY.glob("*.py"):
        shutil.copy(file, folder / "workflow")
    for project in (FAULTY, OUTSIDE):
        made_known(project, folder / "workflow")
    protocol = {"model": MODEL, "vocabulary": 50, "length": 12, "batch_size": 16}
    checkout.study(protocol=protocol, data={"synthetic": True, "train": 72, "validation": 24}, **changes)
    return checkout


def written(folder: Path) -> dict[str, int]:
    """When the record of each finished run was written."""
    return {file.parts[-3]: file.stat().st_mtime_ns for file in folder.glob("results/small/runs/*/*/run.json")}


@pytest.mark.long
def test_a_study_goes_on_past_them_and_a_rerun_tries_just_these(tmp_path):
    stand = {f"faulty-{fault}" for fault in (*STANDS, *DIVERGES, "garbage", "none")}
    failing = {f"faulty-{fault}" for fault in FAILS}
    checkout = faulty_checkout(tmp_path, cases=sorted(stand | failing), parity=False)
    done = checkout.snakemake()
    assert done.returncode != 0
    first = written(tmp_path)
    assert set(first) == stand
    runs = pd.read_parquet(tmp_path / "results/small/runs.parquet").set_index("case")
    assert set(runs.index[runs["status"] == "finished"]) == stand and set(runs.index[runs["status"] == "failed"]) == failing
    for fault, (cause, _) in FAILS.items():
        assert cause in runs.loc[f"faulty-{fault}", "error"]
    board, page = ((tmp_path / "results/small" / name).read_text() for name in ("tables/leaderboard.md", "report.html"))
    assert board.count("1 diverged") == len(DIVERGES) and f"In 2 of {len(stand)} runs a loss was not finite" in page
    done = checkout.snakemake(FAULTY="mended")
    assert done.returncode == 0, done.stdout[-3000:]
    again = written(tmp_path)
    assert set(again) == stand | failing and {case: again[case] for case in stand} == first


@pytest.mark.long
def test_one_that_goes_wrong_in_its_proof_is_told_as_failed(tmp_path):
    """Where parity is asked for, it is there that a backend goes wrong first."""
    faults = ("nan", "crash", "memory", "import")
    checkout = faulty_checkout(tmp_path, cases=["faulty-none", *(f"faulty-{fault}" for fault in faults)])
    assert checkout.snakemake().returncode != 0
    assert set(written(tmp_path)) == {"faulty-none"}
    runs = pd.read_parquet(tmp_path / "results/small/runs.parquet").set_index("case")
    assert runs.loc["faulty-nan", "status"] == "failed-parity" and "not finite" in runs.loc["faulty-nan", "error"]
    for fault, cause in (("crash", "Segmentation fault"), ("memory", "Unable to allocate"), ("import", "libfaulty.so.1")):
        assert runs.loc[f"faulty-{fault}", "status"] == "failed" and cause in runs.loc[f"faulty-{fault}", "error"], fault
    done = checkout.snakemake("--forcerun", "parity", FAULTY="mended")
    assert done.returncode == 0 and len(written(tmp_path)) == 5, done.stdout[-3000:]


LARGE = 10_000_000
"""Words: their vectors of 4 numbers take 160 MB, and as much for each moment."""
IN_ITS_WAY = (
    "memor", "alloc", "RESOURCE_EXHAUSTED", "SIGABRT", "SIGKILL", "SIGSEGV", "bad_alloc", "OOM", "out of resource",
)  # fmt: skip
"""How frameworks say that memory is short; some crash."""
LIMITED = """
import re, resource
from levelfield import backends
load = backends.load_backend
def with_little_memory(name):
    made = load(name)
    used = int(re.search(r"VmSize:\\s+(\\d+)", open("/proc/self/status").read())[1]) << 10
    resource.setrlimit(resource.RLIMIT_AS, (used + (96 << 20),) * 2)
    return made
backends.load_backend = with_little_memory
"""
BROKEN_EXTRAS = """
from levelfield import backends
load = backends.load_backend
def broken(*asked):
    made = load(*asked)
    def make(*arguments):
        backend = made(*arguments)
        train_epoch = backend.train_epoch
        def probed(x, y, order, *rest, wait=False, **more):
            if wait or True in rest:
                raise RuntimeError("the device was lost")
            return train_epoch(x, y, order, *rest, **more)
        def kernels(x, y):
            raise RuntimeError("the profiler crashed at its end")
        backend.train_epoch, backend.kernels = probed, kernels
        return backend
    return make
backends.load_backend = broken
"""
GOES_WRONG = """
import ctypes, os, time
import numpy as np
from levelfield import backends
from levelfield.measure import calibrate
load, calibration = backends.load_backend, calibrate.of_this_machine
def go_wrong(part):
    if {fault!r} == part + "-crashes":
        ctypes.string_at(0)
    if {fault!r} == part + "-hangs":
        print("waiting for a peer", flush=True)
        time.sleep(3600)
def faulty(*asked):
    made = load(*asked)
    def make(*arguments):
        backend = made(*arguments)
        train_epoch, kernels, warm_up, warm = backend.train_epoch, backend.kernels, backend.warm_up, []
        def warmed(*arguments, **more):
            warm_up(*arguments, **more)
            warm.append(True)
        def trained(x, y, order, *rest, **more):
            if warm:
                go_wrong("probe" if more.get("wait") or True in rest else "training")
                if {fault!r} == "training-prints":
                    os.write(1, bytes(range(256)) * 4096)
            losses, right = train_epoch(x, y, order, *rest, **more)
            return (np.full_like(losses, np.nan) if warm and {fault!r} == "training-nan" else losses), right
        def profiled(x, y):
            go_wrong("profile")
            return kernels(x, y)
        backend.train_epoch, backend.kernels, backend.warm_up = trained, profiled, warmed
        return backend
    return make
def calibrated(*arguments):
    go_wrong("calibration")
    return calibration(*arguments)
backends.load_backend, calibrate.of_this_machine = faulty, calibrated
"""
WRONG = {
    "training-nan": None, "training-prints": None,
    "training-crashes": "SIGSEGV (a crash in compiled code)", "training-hangs": "did not end within",
    **{f"{part}-{how}": told for part in ("probe", "profile", "calibration")
       for how, told in (("crashes", "was ended by SIGSEGV"), ("hangs", "did not end within"))},
}  # fmt: skip
"""Fault of a real framework to what is said of it, where it fails in its training or in an extra after it."""
LONGER = "from levelfield.commands.rules import train; train.HANG = 3"
"""Of a minute that is granted, 180 s: a framework may take 15 to be imported, four beside other tests more."""
OWN = [name for name in registry.backends() if not registry.backend(name).like]
EACH = [(fault, backend) for fault in WRONG for backend in OWN]
BROKEN_IMPORT = "raise ImportError('libbroken.so.1: cannot open shared object file')\n"


@pytest.fixture(scope="module")
def real(tmp_path_factory) -> Tiny:
    return Tiny.made(tmp_path_factory.mktemp("real"), LSTM)


@pytest.fixture(scope="module")
def large(tmp_path_factory) -> Tiny:
    return Tiny.made(tmp_path_factory.mktemp("large"), LSTM, vocabulary=LARGE)


def beside(tiny: Tiny, folder: Path, code: str) -> dict[str, str]:
    """An environment in which `code` is run at the start of every Python, takes among them."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(f"import sys\nif 'take' in sys.orig_argv:\n    exec({code!r})\n")
    return {"PYTHONPATH": f"{folder}:{tiny.environment['PYTHONPATH']}"}


@pytest.mark.long
@pytest.mark.parametrize("backend", OWN)
def test_each_backend_that_cannot_be_imported_runs_out_of_memory_or_fails_in_its_extras(real, large, tmp_path, backend):
    (tmp_path / "broken").mkdir()
    for name in ("torch", "tensorflow", "jax", "flax", "keras"):
        (tmp_path / f"broken/{name}.py").write_text(BROKEN_IMPORT)
    (tmp_path / "calibration").write_text("no folder")

    def broken_import():
        known = {"PYTHONPATH": f"{tmp_path / 'broken'}:{real.environment['PYTHONPATH']}"}
        return real.train(backend, tmp_path / "import", environment=known | locks("a"))

    def short_of_memory():
        return large.train(backend, tmp_path / "memory", environment=beside(real, tmp_path / "b", LIMITED) | locks("b"))

    def broken_extras():
        known = beside(real, tmp_path / "c", BROKEN_EXTRAS) | locks("c")
        return real.train(backend, tmp_path / "extras", "--calibration", tmp_path / "calibration", environment=known)

    def locks(name: str) -> dict[str, str]:
        (tmp_path / f"locks-{name}").mkdir()
        return {"LEVELFIELD_LOCKS": str(tmp_path / f"locks-{name}")}

    with ThreadPoolExecutor(host.cpus_available()) as pool:
        imported, memory, extras = (
            job.result() for job in [pool.submit(work) for work in (broken_import, short_of_memory, broken_extras)]
        )
    assert imported.returncode == 2 and "libbroken.so.1" in told(tmp_path / "import")["error"], imported.stdout[-2000:]
    failure = told(tmp_path / "memory")
    said = failure["error"] + failure["log_tail"]
    assert memory.returncode == 2 and any(word.lower() in said.lower() for word in IN_ITS_WAY), memory.stdout[-3000:]
    assert extras.returncode == 0, extras.stdout[-3000:]
    run = json.loads((tmp_path / "extras/run.json").read_text())
    assert {"probe_failed", "profile_failed", "calibration_failed"} <= set(run["measurements"]), run["measurements"]
    assert run["latency"] is None and run["kernels"] == [] and run["measurements"]["share_of_limit"] is None
    assert not (tmp_path / "extras/failure.json").exists()


SOME = EACH if ALL else [(fault, OWN[place % len(OWN)]) for place, fault in enumerate(WRONG)]
HANGING = [pair for pair in SOME if pair[0].endswith("hangs")]


def judged(tiny: Tiny, folder: Path, fault: str, backend: str) -> None:
    """Trains with a fault, and looks whether it cost its run or its extra alone. The run has locks of its own."""
    hangs, out = fault.endswith("hangs"), folder / f"{fault}-{backend}/run"
    (out.parent / "locks").mkdir(parents=True)
    known = beside(tiny, out.parent / "faulty", GOES_WRONG.format(fault=fault)) | {
        "LEVELFIELD_LOCKS": str(out.parent / "locks")
    }
    options = ("--calibration", out.parent / "calibration", "--minutes", 1 if hangs else 10)
    done = tiny.train(backend, out, *options, environment=known, code=LONGER if hangs else "")
    if fault in ("training-crashes", "training-hangs"):
        assert done.returncode == 2 and WRONG[fault] in told(out)["error"], done.stdout[-3000:]
        assert fault == "training-crashes" or "waiting for a peer" in told(out)["log_tail"]
        mended = tiny.train(backend, out, *options)
        assert mended.returncode == 0 and (out / "run.json").exists() and not (out / "failure.json").exists()
        return
    assert done.returncode == 0, done.stdout[-3000:]
    run = json.loads((out / "run.json").read_text())
    assert not (out / "failure.json").exists() and (out / "weights.npz").exists() and not (out / "takes").exists()
    assert run["checks"]["losses_finite"] == (fault != "training-nan")
    if WRONG[fault]:
        assert WRONG[fault] in run["measurements"]["extras_failed"]


@pytest.mark.long
@pytest.mark.parametrize(("fault", "backend"), [pair for pair in SOME if pair not in HANGING])
def test_each_fault_of_a_real_framework_costs_its_run_or_its_extra_alone(real, tmp_path, fault, backend):
    """A crash in compiled code, in the training and in each extra after it; losses that are none; every byte there is."""
    judged(real, tmp_path, fault, backend)


@pytest.mark.long
@pytest.mark.parametrize("four", [HANGING[first : first + 4] for first in range(0, len(HANGING), 4)])
def test_each_hang_of_a_real_framework_costs_its_run_or_its_extra_alone(real, tmp_path, four):
    """Four at a time, since they wait."""
    with ThreadPoolExecutor(len(four)) as pool:
        for job in [pool.submit(judged, real, tmp_path, *pair) for pair in four]:
            job.result()
