"""What ran: the machine record of a run."""

import os
import platform
import socket

from levelfield import host
from levelfield.backends.base import Backend
from levelfield.measure import gpu
from levelfield.records import Machine

STEERING = ("CUBLAS_", "CUDA_", "CUDNN_", "DNNL_", "FLAX_", "GOMP_", "JAX_", "KERAS_", "KMP_", "LD_PRELOAD", "MALLOC_", "MKL_")
STEERING += (
    "NCCL_",
    "NVIDIA_",
    "OMP_",
    "ONEDNN_",
    "OPENBLAS_",
    "PYTORCH_",
    "TF_",
    "TORCH",
    "TRITON_",
    "XLA_",
    "GLIBC_TUNABLES",
)
"""Beginnings of the names of variables that frameworks, their libraries and the allocator read."""
SCHEDULER = ("SLURM_JOB_ID", "SLURMD_NODENAME", "SLURM_JOB_PARTITION", "CUDA_VISIBLE_DEVICES")


def machine(backend: Backend, threads: int, device: gpu.Gpu | None = None) -> Machine:
    """The machine as this process finds it. device: the GPU that the run holds; only told where the backend uses it."""
    used = device if backend.device == "cuda" else None
    versions = backend.versions()
    return Machine(
        host=socket.gethostname(),
        cpu=host.cpu_model(),
        cpus=host.cpus_available(),
        threads=threads,
        memory_bytes=host.memory_bytes(),
        system=platform.platform(),
        python=platform.python_version(),
        device=backend.device,
        gpu=used.name if used else None,
        gpu_uuid=used.uuid if used else None,
        driver=used.driver if used else None,
        cuda=versions.get("cuda"),
        cudnn=versions.get("cudnn"),
        versions=versions,
        flags=backend.flags(),
        scheduler={name: os.environ[name] for name in SCHEDULER if name in os.environ},
        host_id=host.host_id(),
        boot=host.boot(),
        environment={name: value for name, value in sorted(os.environ.items()) if name.startswith(STEERING)},
    )
