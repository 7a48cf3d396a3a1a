"""One run at a time on a device: a lock per GPU, and one for the processor, held as long as the process that measures."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

from levelfield.errors import NodeError
from levelfield.measure.gpu import Gpu, hidden, silence, visible
from levelfield.measure.locks import HELD, first_free

SCHEDULER_JOBS = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "JOB_ID")
GIVEN = ("CUDA_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL", "SLURM_JOB_GPUS", "SLURM_STEP_GPUS")
"""Variables by which a scheduler tells a job which cards it gave it."""
CPU = "cpu"


def usable(device: str) -> list[Gpu]:
    """The GPUs that a run on `device` may use, in CUDA's order; none for `cpu`, and none where NVML knows of none.

    Raises NodeError where NVML hangs or is in error, unless CUDA_VISIBLE_DEVICES leaves no GPU to anybody: a framework may find a
    card that could then be neither held nor watched, or it finds none, and `auto` would be timed on the processor without a word.
    """
    found = [] if device == CPU else visible()
    if device != CPU and not found and not hidden() and (reason := silence()):
        raise NodeError(f"device is {device}, and no GPU can be held: {reason}; `device: cpu` does without")
    return found


@contextmanager
def hold_device(device: str) -> Iterator[Gpu | None]:
    """Holds one GPU, or the processor, for the block, and yields it; None for the processor."""
    with hold_devices(device, 1) as held:
        yield held[0] if held else None


@contextmanager
def hold_devices(device: str, count: int, handed_on: bool = False) -> Iterator[list[Gpu]]:
    """Holds `count` GPUs, or the processor, for the block, and shows the framework those alone; to be entered before it is imported.

    device: `cpu` hides every GPU, holds the processor and yields none, and so does a machine without NVML or with
    CUDA_VISIBLE_DEVICES empty. Of the GPUs that CUDA_VISIBLE_DEVICES names, or of all, the first that are free are taken, all at once;
    if too few are, it waits. Inside a scheduler's job the locks are the job's own: two runs of one job wait for each other, and two jobs,
    to which the scheduler gave what they have, do not; a job that was given no cards takes them as anyone on the machine does. GPUs are
    numbered as NVML numbers them, whatever CUDA_DEVICE_ORDER said. handed_on: a child that is started with `close_fds=False` holds the
    locks, too, so that they outlive this process where the child does. Raises NodeError where there are fewer, and where NVML
    hangs or is in error, as `usable` does.
    """
    if device == CPU:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    else:
        # another order would have another card work than the one that is watched
        os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
    candidates = usable(device)
    if candidates and len(candidates) < count:
        raise NodeError(f"devices is {count}, but this run may use {len(candidates)} GPU{'s' * (len(candidates) > 1)}")
    names: dict[str, Gpu | None] = {lock_of(gpu): gpu for gpu in candidates} or {lock_of(None): None}
    wanted = "a GPU: all" if count == 1 else f"{count} GPUs: too many of"
    what = f"{wanted} {len(candidates)} are busy" if candidates else "this machine's processor"
    held, locks = first_free(list(names), what, count if candidates else 1)
    for lock in locks:
        os.set_inheritable(lock, handed_on)
    try:
        found = [gpu for gpu in map(names.get, held) if gpu]
        if found:
            _show(found)
        yield found
    finally:
        for lock in locks:
            os.close(lock)


def hold_processor() -> None:
    """Holds the processor until this process ends: for a framework that computes on it though a GPU is held for the run."""
    first_free([lock_of(None)], "this machine's processor")


def lock_of(gpu: Gpu | None) -> str:
    """The name of the lock of a GPU, or of the processor; inside a scheduler's job one of the job's own, of a GPU where the scheduler
    gave it to the job."""
    job = next((os.environ[name] for name in SCHEDULER_JOBS if os.environ.get(name)), None)
    # what a block held before it named its card for its runs, they hold
    if gpu and (gpu.uuid in os.environ.get(HELD, "").split(",") or not any(os.environ.get(name) for name in GIVEN)):
        job = None
    return (gpu.uuid if gpu else CPU) + (f"-job-{re.sub('[^0-9A-Za-z]', '-', job)}" if job else "")


def _show(gpus: list[Gpu]) -> None:
    """Leaves a scheduler's or person's own choice as they named it; otherwise names the GPUs by their UUIDs."""
    if len(visible()) > len(gpus):
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(gpu.uuid for gpu in gpus)
