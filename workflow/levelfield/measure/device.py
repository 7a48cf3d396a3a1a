"""One run at a time on a device: a lock per GPU, and one for the processor, held as long as the process that measures."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from levelfield.errors import UserError
from levelfield.measure.gpu import Gpu, visible
from levelfield.measure.locks import first_free

SCHEDULER_JOBS = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "JOB_ID")
CPU = "cpu"


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
    if too few are, it waits. What a scheduler gave to its job (CPUs, or GPUs by CUDA_VISIBLE_DEVICES) is taken without a lock where
    it is as many. handed_on: a child that is started with `close_fds=False` holds the locks, too, so that they outlive this process where
    the child does. Raises UserError where there are fewer.
    """
    if device == CPU:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    else:
        os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    candidates = [] if device == CPU else visible()
    if candidates and len(candidates) < count:
        raise UserError(f"devices is {count}, but this run may use {len(candidates)} GPU{'s' * (len(candidates) > 1)}")
    if candidates and len(candidates) == count and given_by_scheduler():
        _show(candidates)
        yield candidates
    elif not candidates and in_job():
        yield []
    else:
        names: dict[str, Gpu | None] = {gpu.uuid: gpu for gpu in candidates} or {CPU: None}
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


def in_job() -> bool:
    """Whether a scheduler runs this process."""
    return any(name in os.environ for name in SCHEDULER_JOBS)


def given_by_scheduler() -> bool:
    """Whether a scheduler runs this process and chose its GPUs."""
    return "CUDA_VISIBLE_DEVICES" in os.environ and in_job()


def _show(gpus: list[Gpu]) -> None:
    """Leaves a scheduler's or person's own choice as they named it; otherwise names the GPUs by their UUIDs."""
    if len(visible()) > len(gpus):
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(gpu.uuid for gpu in gpus)
