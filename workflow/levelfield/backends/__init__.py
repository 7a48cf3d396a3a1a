"""The registry: which backends there are, and what must be set before their framework is imported.

A backend of another package registers itself with an entry point of the group `levelfield.backends`, whose name is the
backend's and whose value is its class (`my_package.my_module:MyBackend`).
"""

import importlib
import os
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from levelfield.errors import UserError
from levelfield.measure.host import cpus_available

if TYPE_CHECKING:  # a host that runs containers has no numpy
    from levelfield.backends.base import Backend

GROUP = "levelfield.backends"


@dataclass(frozen=True)
class Registered:
    """Where a backend's class is, the image that it runs in, and its environment variables, set before the import."""

    target: str
    image: str
    environment: dict[str, str] = field(default_factory=dict)


TENSORFLOW = {"TF_FORCE_GPU_ALLOW_GROWTH": "true", "TF_CPP_MIN_LOG_LEVEL": "2"}
JAX = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
KERAS = "levelfield.backends.keras:Keras"

BACKENDS = {
    "keras-tensorflow": Registered(KERAS, "tensorflow", {"KERAS_BACKEND": "tensorflow", **TENSORFLOW}),
    "keras-jax": Registered(KERAS, "jax", {"KERAS_BACKEND": "jax", **JAX}),
    "keras-torch": Registered(KERAS, "torch", {"KERAS_BACKEND": "torch"}),
    "torch": Registered("levelfield.backends.torch:Torch", "torch"),
    "torch-compile": Registered("levelfield.backends.torch:TorchCompile", "torch"),
    "torch-huge-pages": Registered("levelfield.backends.torch:TorchHugePages", "torch", {"THP_MEM_ALLOC_ENABLE": "1"}),
    "jax": Registered("levelfield.backends.jax:Jax", "jax", JAX),
}


def registered() -> dict[str, Registered]:
    """This package's backends and those that installed packages registered; the latter's image has their own name."""
    others = {point.name: Registered(point.value, point.name) for point in entry_points(group=GROUP)}
    return others | BACKENDS


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


def load_class(name: str) -> type["Backend"]:
    """Imports the framework and returns the backend's class. One framework a process: the environment is set for good."""
    known = registered()
    if name not in known:
        raise UserError(f"unknown backend {name!r}; there are {', '.join(sorted(known))}")
    os.environ.update(known[name].environment)
    module, _, attribute = known[name].target.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        raise UserError(
            f"backend {name!r} needs the package {error.name!r}, which is not installed: "
            "`make setup`, or run in containers with `snakemake --sdm apptainer`"
        ) from error
