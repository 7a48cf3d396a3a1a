"""A spoilt run is taken again, whatever its result; a take that dies leaves its cause; nothing of a take is lost."""

import json
import os
import signal
import subprocess
import sys
import time
from argparse import Namespace
from contextlib import contextmanager
from pathlib import Path

import pytest
from pretended_gpus import a_gpu, pretended_machine  # noqa: F401

from levelfield.commands.rules import take, train
from levelfield.errors import NodeError, UserError
from levelfield.measure import hang
from levelfield.measure.spoilt import spoilt
from levelfield.plan.finished import WHOLE
from levelfield.records import set_aside
from levelfield.study.protocol import Case, Protocol, digest

NOISE = "other work took 40% of the CPUs"
DIES = "dies"


@pytest.fixture
def job(tmp_path, monkeypatch):
    """A job whose takes are pretended; `takes(noise, …)` says what each finds, and the job is run with `retakes=…`."""
    case = tmp_path / "case.json"
    Case("torch", "torch", device="cpu").write(case)
    monkeypatch.setenv("LEVELFIELD_LOCKS", str(tmp_path))
    out = tmp_path / "run"
    given = {"study": "s", "case": case, "seed": 3, "data": tmp_path, "start": tmp_path, "threads": 1, "calibration": None}
    given |= {"image": None, "out": out, "parity": None, "minutes": None}

    class Job:
        folder = out

        def takes(self, *found, same=None):
            def take(args, number, failure):
                noise, accuracy, checks = found[number - 1]
                if isinstance(noise, Exception):
                    raise noise
                if noise is DIES:
                    raise UserError("take 2 was ended by SIGSEGV")
                for name in ("epochs.csv", "steps.npz", "weights.npz"):
                    (out / name).write_text(str(number))
                record = {"take": number, "checks": checks, "measurements": {"noise_warning": noise}, "accuracy": accuracy}
                record |= same or {}
                (out / "run.json").write_text(json.dumps(record))

            monkeypatch.setattr(train, "take", take)

        def run(self, retakes=2, **others):
            train.run(Namespace(**given | {"retakes": retakes} | others))

        @property
        def last(self):
            return json.loads((out / "run.json").read_text())["take"]

    return Job()


@pytest.mark.parametrize(
    ("found", "retakes", "last"),
    [
        ([None], 2, 1),
        ([NOISE, None], 2, 2),
        ([NOISE, NOISE, None], 2, 3),
        ([NOISE, NOISE, NOISE], 2, 3),
        ([NOISE], 0, 1),
    ],
)
def test_a_spoilt_run_is_taken_again_at_most_so_often(job, found, retakes, last, capsys):
    job.takes(*((noise, 0.8, {"no_stall": True}) for noise in found))
    job.run(retakes)
    assert job.last == last
    assert not (job.folder / "failure.json").exists()
    kept = sorted(path.name for path in job.folder.glob("takes/*"))
    assert kept == [str(number) for number in range(1, last)]
    for number in kept:
        assert json.loads((job.folder / "takes" / number / "run.json").read_text())["take"] == int(number)
        assert (job.folder / "takes" / number / "steps.npz").read_text() == number
    assert ("no claim rests on it" in capsys.readouterr().out) == (found[last - 1] is not None)


def test_a_retake_that_dies_costs_itself_alone(job, capsys):
    job.takes((NOISE, 0.8, {}), (DIES, None, {}))
    job.run()
    assert job.last == 1 and not (job.folder / "failure.json").exists()
    assert {(job.folder / name).read_text() for name in ("epochs.csv", "steps.npz", "weights.npz")} == {"1"}
    assert "SIGSEGV: take 1 stands, no claim rests on it" in capsys.readouterr().out


def test_a_first_take_that_dies_is_the_runs_failure(job):
    job.takes((DIES, None, {}))
    with pytest.raises(UserError, match="SIGSEGV"):
        job.run()


@pytest.mark.parametrize(("seconds", "last"), [(100, 2), (400, 1)])
def test_no_retake_is_begun_that_the_granted_minutes_may_not_bear(job, monkeypatch, seconds, last):
    job.takes((NOISE, 0.8, {}), (None, 0.8, {}))
    pretended, now = train.take, [0.0]

    def lasting(*arguments):
        now[0] += seconds
        pretended(*arguments)

    monkeypatch.setattr(train, "take", lasting)
    monkeypatch.setattr(train.time, "monotonic", lambda: now[0])
    job.run(minutes=10)
    assert job.last == last


def of_this_run(monkeypatch) -> dict:
    """What a record of the job's run says of its making."""
    monkeypatch.setattr(train, "load_description", lambda folder: {"sha256": "d" * 64})
    same = {"protocol_sha256": digest(Protocol()), "commit": "c" * 40, "backend": "torch", "departures": []}
    return same | {"data_sha256": "d" * 64, "image": None}


@pytest.mark.parametrize(("retakes", "last"), [(2, 2), (0, 1)])
def test_a_job_that_was_ended_in_a_retake_goes_on_with_the_next(job, monkeypatch, retakes, last):
    """The spoilt take that was there counts, and is what stands where no other is allowed."""
    same = of_this_run(monkeypatch)
    job.takes((NOISE, 0.8, {}), (train.EndedFromOutside("take 2 did not end: killed by SIGTERM"), None, {}), same=same)
    with pytest.raises(UserError, match="SIGTERM"):
        job.run()
    assert (job.folder / "takes/1/run.json").exists() and not (job.folder / "run.json").exists()
    job.takes(("never made", 0, {}), (None, 0.9, {}), same=same)
    job.run(retakes)
    assert job.last == last and (job.folder / "takes/1/run.json").exists() == (last == 2)


@pytest.mark.parametrize("retakes", [2, 0])
def test_a_take_that_had_finished_before_its_job_was_ended_stands(job, monkeypatch, retakes, capsys):
    """Ended in its extras: the workflow deletes what the job wrote, and the next attempt finds the take that was set aside,
    whatever was committed meanwhile."""
    same = of_this_run(monkeypatch)
    job.takes((None, 0.8, {}), same=same)
    making = train.take

    def ended_in_its_extras(args, number, failure):
        making(args, number, failure)
        set_aside(args.out, args.out / "takes" / str(number))
        raise train.EndedFromOutside("killed by SIGTERM")

    monkeypatch.setattr(train, "take", ended_in_its_extras)
    with pytest.raises(UserError, match="SIGTERM"):
        job.run(retakes)
    for name in WHOLE:
        (job.folder / name).unlink()
    monkeypatch.setattr(train, "take", lambda *_: pytest.fail("it was trained again"))
    monkeypatch.setenv("LEVELFIELD_COMMIT", "d" * 40)
    job.run(retakes)
    assert job.last == 1 and not (job.folder / "failure.json").exists() and not list(job.folder.glob("takes/*/run.json"))
    assert json.loads((job.folder / "run.json").read_text())["commit"] == "c" * 40
    assert "take 1 had finished before its job was ended: it stands" in capsys.readouterr().out


@pytest.mark.parametrize("ended_by", [train.EndedFromOutside("killed by SIGTERM"), KeyboardInterrupt()])
def test_a_take_stands_though_its_job_is_ended_at_the_very_last(job, monkeypatch, ended_by):
    """While it looks whether the clock was set back: the workflow deletes what the job wrote, and the copy that was set aside is there."""
    same = of_this_run(monkeypatch)
    job.takes((None, 0.8, {}), same=same)
    making = train.take

    def set_aside_too(args, number, failure):
        making(args, number, failure)
        set_aside(args.out, args.out / "takes" / str(number))

    def ended(folder):
        raise ended_by

    looked = train.pulled_back
    monkeypatch.setattr(train, "take", set_aside_too)
    monkeypatch.setattr(train, "pulled_back", ended)
    with pytest.raises(type(ended_by)):
        job.run()
    for name in WHOLE:
        (job.folder / name).unlink()
    monkeypatch.setattr(train, "take", lambda *_: pytest.fail("it was trained again"))
    monkeypatch.setattr(train, "pulled_back", looked)
    job.run()
    assert job.last == 1 and not (job.folder / "failure.json").exists() and not (job.folder / "takes").exists()


def test_what_a_killed_snakemakes_job_finished_while_this_one_waited_stands(job, monkeypatch):
    """The orphan held the device: when it is free, the run is there."""
    same = of_this_run(monkeypatch)
    job.takes((None, 0.8, {}), same=same)
    orphans, held = train.take, train.hold_devices

    @contextmanager
    def waited_for(device, count):
        orphans(None, 1, None)
        (job.folder / "failure.json").unlink()
        with held(device, count) as gpus:
            yield gpus

    monkeypatch.setattr(train, "hold_devices", waited_for)
    monkeypatch.setattr(train, "take", lambda *_: pytest.fail("it was trained again"))
    job.run()
    assert job.last == 1 and not (job.folder / "failure.json").exists()


@pytest.mark.parametrize("what", ["backend", "departures", "protocol_sha256", "data_sha256", "image"])
def test_takes_of_another_program_do_not_count_and_it_is_said(job, monkeypatch, what, capsys):
    same = of_this_run(monkeypatch)
    job.takes((NOISE, 0.8, {}), (train.EndedFromOutside("killed"), None, {}), same=same | {what: "another"})
    with pytest.raises(UserError):
        job.run()
    job.takes((None, 0.8, {}), same=same)
    job.run()
    assert job.last == 1 and not (job.folder / "takes").exists()
    assert "what an earlier job left of take 1 does not count" in capsys.readouterr().out


def test_takes_of_another_commit_count_and_each_says_of_which_it_is(job, monkeypatch):
    """As a run that has finished stands, whatever is committed after it."""
    same = of_this_run(monkeypatch)
    job.takes((NOISE, 0.8, {}), (train.EndedFromOutside("killed"), None, {}), same=same)
    with pytest.raises(UserError):
        job.run()
    monkeypatch.setenv("LEVELFIELD_COMMIT", "d" * 40)
    job.takes(("never made", 0, {}), (None, 0.9, {}), same=same | {"commit": "d" * 40})
    job.run()
    told = [json.loads((folder / "run.json").read_text()) for folder in (job.folder / "takes/1", job.folder)]
    assert [(run["take"], run["commit"]) for run in told] == [(1, "c" * 40), (2, "d" * 40)]


def test_takes_of_an_earlier_making_of_the_run_are_gone(job):
    job.takes((NOISE, 0.8, {}), (None, 0.8, {}))
    job.run()
    job.takes((None, 0.8, {}))
    job.run()
    assert job.last == 1 and not list(job.folder.glob("takes/*"))


@pytest.mark.parametrize("accuracy", [0.0, 0.99, None])
def test_what_the_run_learnt_decides_nothing(job, accuracy):
    job.takes((None, accuracy, {"no_stall": True, "losses_fell": False, "losses_finite": False}))
    job.run()
    assert job.last == 1


@pytest.mark.parametrize("check", ["no_stall", "device_idle", "times_agree"])
def test_checks_of_the_times_spoil_a_run(check):
    assert len(spoilt({check: False}, {"noise_warning": NOISE})) == 2
    assert spoilt({check: True}, {"noise_warning": None}) == spoilt({}, {}) == []


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", r"SIGKILL \(out of memory\?\)"),
        ("import ctypes; ctypes.string_at(0)", r"SIGSEGV"),
        ("import os; os.abort()", "SIGABRT"),
        ("import os; os._exit(3)", "exit code 3"),
        ("import time; time.sleep(60)", "hangs"),
    ],
)
def test_a_take_that_dies_leaves_its_cause(job, tmp_path, monkeypatch, script, told):
    python = tmp_path / "python"
    python.write_text(f"#!{sys.executable}\n{script}\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setattr(train, "HANG", 1 / 60 if told == "hangs" else 1)  # a host may write a core first
    with pytest.raises(UserError, match=told):
        job.run(minutes=1)
    failure = json.loads((job.folder / "failure.json").read_text())
    assert "take 1" in failure["error"] and failure["seed"] == 3 and failure["seconds"] >= 0


def test_a_take_that_cannot_be_killed_is_told_and_not_waited_for(job, tmp_path, monkeypatch):
    """As in a call into a driver that hangs: the kernel ends no process there."""
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\nexec sleep 60\n")
    python.chmod(0o755)
    kill, hanging = train.subprocess.Popen.kill, []
    monkeypatch.setattr(sys, "executable", str(python))
    monkeypatch.setattr(train, "HANG", 1 / 60)
    monkeypatch.setattr(hang, "KILL_SECONDS", 0.2)
    monkeypatch.setattr("levelfield.training.said.WAIT_SECONDS", 0.2)
    monkeypatch.setattr(train.subprocess.Popen, "kill", lambda process: hanging.append(process))
    began = time.monotonic()
    with pytest.raises(train.TakeError, match=r"hangs.*cannot be killed.*another machine may do"):
        job.run(minutes=1)
    assert time.monotonic() - began < 20
    kill(hanging[0])
    hanging[0].wait()
    failure = json.loads((job.folder / "failure.json").read_text())
    assert "cannot be killed" in failure["error"] and failure["for_good"] is False


WATCHED = """
import subprocess, sys, time
code = "from levelfield.host import end_with_the_job as e; e(); print(1, flush=True); import time; time.sleep(60)"
child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
child.stdout.readline()
print(child.pid, flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
def test_a_take_ends_with_its_job_even_when_that_is_killed():
    job = subprocess.Popen([sys.executable, "-c", WATCHED], stdout=subprocess.PIPE, text=True)
    child = int(job.stdout.readline())
    job.kill()
    job.wait()
    for _ in range(100):
        try:
            os.kill(child, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    os.kill(child, signal.SIGKILL)
    pytest.fail("the take outlived its job")


def options(folder) -> list[str]:
    """What a job and its takes are told, of a case that is written into the folder; of data and start there is none."""
    Case("torch", "torch", device="cpu").write(folder / "case.json")
    given = {"study": "s", "case": folder / "case.json", "seed": 3, "data": folder, "start": folder, "threads": 1}
    return [text for name, value in (given | {"out": folder / "run"}).items() for text in (f"--{name}", str(value))]


def started(folder, script: str) -> subprocess.Popen:
    """`levelfield train`, whose takes are this script of the shell in the place of Python."""
    python = folder / "python"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    code = f"import sys; from levelfield.commands import cli; sys.executable = {str(python)!r}; sys.exit(cli.main())"
    environment = os.environ | {"LEVELFIELD_LOCKS": str(folder)}
    return subprocess.Popen([sys.executable, "-c", code, "train", *options(folder)], env=environment, start_new_session=True)


def test_a_job_that_is_ended_from_outside_says_so(tmp_path):
    job = started(tmp_path, "exec sleep 60")
    _until_its_take_is(job, tmp_path, b"sleep")
    job.terminate()
    assert job.wait(10) == 2
    assert "did not end: killed by SIGTERM" in json.loads((tmp_path / "run/failure.json").read_text())["error"]


def _until_its_take_is(job: subprocess.Popen, folder: Path, command: bytes) -> None:
    deadline = time.monotonic() + 120
    while not (folder / "run/failure.json").exists() or command not in _children(job.pid):
        assert job.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)


def _children(pid: int) -> bytes:
    return subprocess.run(["ps", "--no-headers", "-o", "args", "--ppid", str(pid)], capture_output=True, check=False).stdout


def _in_group(group: int) -> list[str]:
    """The command lines of a process group, those that have ended apart."""
    listed = subprocess.run(["ps", "-eo", "pgid,stat,args"], capture_output=True, text=True, check=True).stdout.splitlines()[1:]
    rows = [line.split(None, 2) for line in listed]
    return [args for number, state, args in rows if int(number) == group and not state.startswith("Z")]


def test_a_job_that_is_killed_while_its_take_starts_leaves_none_behind(tmp_path):
    """Before the take could ask the kernel to end it with its job: it would train on a device that is free again."""
    job = started(tmp_path, f'sleep 2\nexec "{sys.executable}" "$@"')
    _until_its_take_is(job, tmp_path, b"levelfield take")
    before = (tmp_path / "run/failure.json").read_bytes()
    job.kill()
    job.wait()
    deadline = time.monotonic() + 60
    while (left := _in_group(job.pid)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left
    assert (tmp_path / "run/failure.json").read_bytes() == before, "it did not even begin"


@pytest.mark.parametrize("alive", [True, False])
def test_a_take_begins_under_its_own_job_alone(tmp_path, alive):
    ended = subprocess.Popen(["true"])
    ended.wait()
    pid = os.getpid() if alive else ended.pid
    command = [sys.executable, "-m", "levelfield", "take", *options(tmp_path), "--job-pid", str(pid)]
    done = subprocess.run(command, env=os.environ | {"LEVELFIELD_LOCKS": str(tmp_path)}, capture_output=True, text=True)
    assert done.returncode, "there is no start to train from"
    assert (f"the job that this belongs to, process {ended.pid}, has ended" in done.stderr) == (not alive), done.stderr
    assert (str(tmp_path) in done.stderr) == alive, "it asked for the start"


def test_a_job_that_is_told_to_end_while_it_starts_its_take_says_so(job, monkeypatch):
    def starting(*_, **__):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1)

    before = signal.signal(signal.SIGTERM, lambda *_: None)
    monkeypatch.setattr(train.subprocess, "Popen", starting)
    try:
        with pytest.raises(train.EndedFromOutside, match="SIGTERM"):
            job.run()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert "killed by SIGTERM" in json.loads((job.folder / "failure.json").read_text())["error"]


def test_a_take_to_which_nvml_does_not_tell_its_jobs_card_is_none_on_the_processor(tmp_path, monkeypatch, machine):
    """The driver was updated while the job waited for the card, or it was lost."""
    Case("torch", "torch").write(tmp_path / "case.json")
    machine(a_gpu(1), errors={"nvmlDeviceGetCount": 18})
    monkeypatch.setattr("levelfield.training.train.train", lambda *_: pytest.fail("it was trained"))
    with pytest.raises(NodeError, match="no GPU can be held: NVML is in error"):
        take.take(Namespace(case=tmp_path / "case.json", image=None, threads=1, out=tmp_path))


def test_a_calibration_that_cannot_be_killed_ends_its_job(job, monkeypatch, tmp_path, machine):
    """It still computes on the card, beside which nothing can be timed."""
    Case("jax", "jax", device="cuda").write(tmp_path / "case.json")
    machine(a_gpu(1))
    monkeypatch.setattr(train, "takes", lambda *_: pytest.fail("it was trained"))

    def stuck(*_):
        raise NodeError("it cannot be killed")

    monkeypatch.setattr(train.calibrate, "of_this_machine", stuck)
    with pytest.raises(NodeError):
        job.run(calibration=tmp_path / "calibrations")
    failure = json.loads((job.folder / "failure.json").read_text())
    assert "cannot be killed" in failure["error"] and failure["for_good"] is False


def test_a_card_is_calibrated_before_the_first_take(job, monkeypatch, tmp_path, machine, capsys):
    """Later the framework has taken most of its memory."""
    asked = []
    Case("jax", "jax", device="cuda").write(tmp_path / "case.json")
    machine(a_gpu(1))
    monkeypatch.setattr(train, "takes", lambda *_: asked.append("take"))

    def calibrated(folder, protocol, threads, gpu):
        asked.append((folder, gpu.uuid))
        raise RuntimeError("exclusive")

    monkeypatch.setattr(train.calibrate, "of_this_machine", calibrated)
    job.run(calibration=tmp_path / "calibrations")
    assert asked == [(tmp_path / "calibrations", "GPU-111"), "take"]
    assert "jax: the calibration failed: RuntimeError: exclusive" in capsys.readouterr().out
