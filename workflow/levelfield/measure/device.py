"""One run at a time on a GPU: a lock per GPU, held as long as the process that measures."""

import fcntl
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from levelfield.measure.gpu import Gpu, visible

# Not TMPDIR, which differs between users and jobs: everyone who measures on this machine must see the same files.
LOCKS = Path("/tmp")
SCHEDULER_JOBS = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "JOB_ID")
POLL_SECONDS = 1.0


@contextmanager
def hold_device(device: str) -> Iterator[Gpu | None]:
    """Holds one GPU for the block and shows the framework that one alone; to be entered before the framework is imported.

    device: `cpu` hides every GPU and yields None, and so does a machine without NVML or with CUDA_VISIBLE_DEVICES empty.
    Of the GPUs that CUDA_VISIBLE_DEVICES names, or of all, the first that is free is taken; if none is, it waits. A
    scheduler's job that has CUDA_VISIBLE_DEVICES set takes the first of its GPUs without a lock: they are its own.
    """
    if device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
        yield None
        return
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    candidates = visible()
    if not candidates:
        yield None
        return
    if given_by_scheduler():
        _show(candidates[0])
        yield candidates[0]
        return
    gpu, lock = _first_free(candidates)
    try:
        _show(gpu)
        yield gpu
    finally:
        os.close(lock)


def given_by_scheduler() -> bool:
    """Whether a scheduler runs this process and chose its GPUs."""
    return "CUDA_VISIBLE_DEVICES" in os.environ and any(name in os.environ for name in SCHEDULER_JOBS)


def _show(gpu: Gpu) -> None:
    """Leaves a scheduler's or person's single GPU as they named it; otherwise names the GPU by its UUID."""
    if len(visible()) > 1:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu.uuid


def _first_free(candidates: list[Gpu]) -> tuple[Gpu, int]:
    """The first GPU whose lock could be had, and the descriptor that holds it; waits until there is one."""
    waiting = False
    while True:
        for gpu in candidates:
            lock = _open(LOCKS / f"levelfield-{gpu.uuid}.lock")
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return gpu, lock
            except BlockingIOError:
                os.close(lock)
        if not waiting:
            print(f"waiting for a GPU: all {len(candidates)} are held by other runs", file=sys.stderr, flush=True)
        waiting = True
        time.sleep(POLL_SECONDS)


def _open(path: Path) -> int:
    """Opens the lock file, which another user may own: in /tmp such a file can be opened, but not with O_CREAT."""
    try:
        return os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        created = os.open(path, os.O_RDONLY | os.O_CREAT, 0o666)
        os.fchmod(created, 0o666)
        return created
