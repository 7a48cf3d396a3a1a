"""By whom: how a framework trains a model. What each backend declares is read by `levelfield.registry`, without its framework."""

import importlib
import os
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from levelfield import registry
from levelfield.errors import UserError
from levelfield.host import cpus_available

if TYPE_CHECKING:  # a host that runs containers has no numpy
    from levelfield.backends.base import Backend


def confine(device: str, threads: int) -> int:
    """Tells the libraries under a framework, before its import, what they may use; returns the number of threads.

    device: `cpu` hides every GPU. threads: at most as many as the process has CPUs.
    """
    threads = min(threads, cpus_available())
    for variable in ("OMP_NUM_THREADS", "NPROC"):  # NPROC: XLA's thread pools on a CPU
        os.environ[variable] = str(threads)
    if device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    return threads


def load_backend(name: str, devices: int = 1) -> Callable[..., "Backend"]:
    """Imports the framework and returns what makes the backend: its class, with the options of its row.

    devices: how many one run trains on, the protocol's. One framework a process: the environment is set for good. Raises UserError
    where a package is missing, and where the backend cannot use several devices.
    """
    known = registry.backend(name)
    os.environ.update(known.environment)
    module, attribute = known.module, known.attribute
    if devices > 1:
        if known.devices is None:
            raise UserError(f"{name} trains on one device alone: set `devices: 1`")
        module, _, attribute = known.devices.partition(":")
    try:
        made = getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        raise UserError(
            f"backend {name!r} needs the package {error.name!r}, which is not installed: "
            "`make setup`, or run in containers with `snakemake --sdm apptainer`"
        ) from error
    return partial(made, **known.options) if known.options else made
