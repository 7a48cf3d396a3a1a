"""Locks of devices: two runs on one processor wait for each other, and who waits learns for whom."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from levelfield.errors import UserError
from levelfield.measure import device, locks


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    monkeypatch.setenv(locks.ELSEWHERE, str(tmp_path))
    monkeypatch.setattr(locks, "POLL_SECONDS", 0.01)
    for name in ("CUDA_VISIBLE_DEVICES", *device.SCHEDULER_JOBS):
        monkeypatch.delenv(name, raising=False)


def test_two_runs_on_the_processor_wait_for_each_other(capsys):
    order = []

    def second():
        with device.hold_device("cpu"):
            order.append("second")

    with device.hold_device("cpu"):
        waiting = threading.Thread(target=second)
        waiting.start()
        time.sleep(0.1)
        order.append("first")
    waiting.join(5)
    assert order == ["first", "second"]
    told = capsys.readouterr().err
    assert told.count("waiting") == 1 and f"process {os.getpid()} of" in told


def test_two_jobs_of_a_scheduler_have_processors_of_their_own_and_two_runs_of_one_job_have_not(monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    monkeypatch.setattr(locks, "WAIT_SECONDS", 0.05)
    with device.hold_device("cpu"):
        with pytest.raises(UserError, match="waited"), device.hold_device("cpu"):
            pass
        monkeypatch.setenv("SLURM_JOB_ID", "8")
        with device.hold_device("cpu"):
            pass


def test_a_lock_whose_file_was_cleared_away_is_none(tmp_path):
    """Two who hold files of one name that are not one file would both measure."""
    with device.hold_device("cpu"):
        (tmp_path / "levelfield-cpu.lock").unlink()
        made, replaced = locks._open, []

        def opened(path):
            found = made(path)
            if not replaced:  # between the opening and the lock another one clears it away, and makes it anew
                path.unlink()
                replaced.append(os.open(path, os.O_CREAT | os.O_RDONLY))
            return found

        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(locks, "_open", opened)
            _, (held,) = locks.first_free(["cpu"], "the processor")
        assert os.path.samestat(os.fstat(held), (tmp_path / "levelfield-cpu.lock").stat())
        os.close(held)
        os.close(replaced[0])


def test_nobody_waits_for_ever(monkeypatch):
    monkeypatch.setattr(locks, "WAIT_SECONDS", 0.05)
    told = pytest.raises(UserError, match=rf"process {os.getpid()} of .*{locks.ELSEWHERE}")
    with device.hold_device("cpu"), told, device.hold_device("cpu"):
        pass


def test_a_disk_that_knows_no_locks_is_told_with_the_way_out(monkeypatch):
    """As a network's may be: then nobody could be held off."""

    def without_locks(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(locks.fcntl, "flock", without_locks)
    told = pytest.raises(UserError, match=rf"levelfield-cpu.lock: cannot be locked: .*{locks.ELSEWHERE}")
    with told, device.hold_device("cpu"):
        pass


@pytest.mark.parametrize("kind", ["link", "pipe", "folder", "no folder"])
def test_what_is_no_lock_is_refused_at_once(tmp_path, monkeypatch, kind):
    path = tmp_path / "levelfield-cpu.lock"
    if kind == "link":
        path.symlink_to(tmp_path / "elsewhere")
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        monkeypatch.setenv(locks.ELSEWHERE, str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match=locks.ELSEWHERE), device.hold_device("cpu"):
        pass
    assert not (tmp_path / "elsewhere").exists()


def test_the_runs_of_a_block_do_not_wait_for_the_lock_that_the_block_holds(monkeypatch):
    monkeypatch.setattr(locks, "WAIT_SECONDS", 0.05)
    with device.hold_device("cpu"):
        monkeypatch.setenv(locks.HELD, "cpu")
        with device.hold_device("cpu"):
            pass
        monkeypatch.setenv(locks.HELD, "GPU-of-another-block")
        with pytest.raises(UserError, match="waited"), device.hold_device("cpu"):
            pass
    monkeypatch.setenv(locks.HELD, "cpu")
    told = pytest.raises(UserError, match="waited")
    with device.hold_device("cpu"):  # nobody held it: it is held now
        monkeypatch.delenv(locks.HELD)
        with told, device.hold_device("cpu"):
            pass


def test_the_lock_of_a_block_that_is_killed_is_held_by_what_it_started(tmp_path, monkeypatch):
    """The Snakemake inside a block outlives its `kill -9`: until its runs have ended nobody else takes the device."""
    code = (
        "import os, subprocess, sys, time\n"
        "from levelfield.measure.device import hold_devices\n"
        "with hold_devices('cpu', 1, handed_on=sys.argv[1] == 'yes'):\n"
        "    child = subprocess.Popen(['sleep', '60'], close_fds=False)\n"
        "    print(child.pid, flush=True)\n"
        "    time.sleep(60)\n"
    )
    for name in device.SCHEDULER_JOBS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LEVELFIELD_LOCKS", str(tmp_path))
    for handed_on in ("yes", "no"):
        job = subprocess.Popen([sys.executable, "-c", code, handed_on], stdout=subprocess.PIPE, text=True)
        child = int(job.stdout.readline())
        job.kill()
        job.wait()
        file = os.open(tmp_path / "levelfield-cpu.lock", os.O_RDONLY)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            free = True
        except BlockingIOError:
            free = False
        os.close(file)
        os.kill(child, signal.SIGKILL)
        assert free == (handed_on == "no")
        time.sleep(0.2)  # until the child's end has let the lock go
