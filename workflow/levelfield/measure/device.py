"""One run at a time on a device: a lock per GPU, and one for the processor, held as long as the process that measures."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from levelfield.measure.gpu import Gpu, visible
from levelfield.measure.locks import first_free

SCHEDULER_JOBS = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "JOB_ID")
CPU = "cpu"


@contextmanager
def hold_device(device: str) -> Iterator[Gpu | None]:
    """Holds one GPU, or the processor, for the block, and shows the framework that alone; to be entered before it is imported.

    device: `cpu` hides every GPU, holds the processor and yields None, and so does a machine without NVML or with
    CUDA_VISIBLE_DEVICES empty. Of the GPUs that CUDA_VISIBLE_DEVICES names, or of all, the first that is free is taken; if none
    is, it waits. What a scheduler gave to its job (CPUs, or GPUs by CUDA_VISIBLE_DEVICES) is taken without a lock where it is one.
    """
    if device == CPU:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    else:
        os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    candidates = [] if device == CPU else visible()
    if candidates and len(candidates) == 1 and given_by_scheduler():
        _show(candidates[0])
        yield candidates[0]
    elif not candidates and in_job():
        yield None
    else:
        names = {gpu.uuid: gpu for gpu in candidates} or {CPU: None}
        what = f"a GPU: all {len(candidates)} are busy" if candidates else "this machine's processor"
        name, lock = first_free(list(names), what)
        try:
            if names[name]:
                _show(names[name])
            yield names[name]
        finally:
            os.close(lock)


def in_job() -> bool:
    """Whether a scheduler runs this process."""
    return any(name in os.environ for name in SCHEDULER_JOBS)


def given_by_scheduler() -> bool:
    """Whether a scheduler runs this process and chose its GPUs."""
    return "CUDA_VISIBLE_DEVICES" in os.environ and in_job()


def _show(gpu: Gpu) -> None:
    """Leaves a scheduler's or person's single GPU as they named it; otherwise names the GPU by its UUID."""
    if len(visible()) > 1:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu.uuid
