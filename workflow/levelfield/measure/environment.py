"""What ran: the machine record of a run."""

import os
import platform
import re
import socket
from collections.abc import Collection, Mapping

from levelfield import host
from levelfield.backends.base import Backend
from levelfield.errors import without_secrets
from levelfield.measure import gpu
from levelfield.measure.soft import asked
from levelfield.records import Machine

STEERING = (
    "CUBLAS_", "CUDA_", "CUDNN_", "DNNL_", "FLAX_", "GLIBC_TUNABLES", "GOMP_", "JAX_", "KERAS_", "KMP_", "LD_PRELOAD", "MALLOC_",
    "MKL_", "NCCL_", "NVIDIA_", "OMP_", "ONEDNN_", "OPENBLAS_", "PYTORCH_", "TF_", "TORCH", "TRITON_", "XLA_",
)  # fmt: skip
"""Beginnings of the names of variables that frameworks, their libraries and the allocator read."""
TERRAFORM = (
    "TF_CLI_", "TF_DATA_DIR", "TF_IGNORE", "TF_INPUT", "TF_IN_AUTOMATION", "TF_LOG", "TF_PLUGIN_CACHE", "TF_REATTACH_", "TF_REGISTRY_",
    "TF_STATE_", "TF_WORKSPACE",
)  # fmt: skip
"""Variables of Terraform, which begin as TensorFlow's do and steer nothing here (its documentation, "Environment Variables")."""
SECRET = re.compile(
    r"TOKEN|SECRET|PASSW|PASSPHRASE|CREDENTIAL|COOKIE|APIKEY|(^|_)(KEYS?|PASS|AUTH|PAT|VAR)(_|$)", re.IGNORECASE
)
"""In the name of a variable that may hold a secret, whatever it begins with: NVIDIA_API_KEY; TF_VAR_… and TF_TOKEN_… are Terraform's."""
SCHEDULER = ("SLURM_JOB_ID", "SLURMD_NODENAME", "SLURM_JOB_PARTITION", "SLURM_STEP_GPUS", "CUDA_VISIBLE_DEVICES")


def machine(backend: Backend, threads: int, device: gpu.Gpu | None = None, declared: Collection[str] = ()) -> Machine:
    """The machine as this process finds it. device: the GPU that the run holds; only told where the backend uses it. declared: names of
    variables that the backend's row sets. Versions and flags that the framework fails to tell are left out."""
    used = device if backend.device == "cuda" else None
    versions: dict[str, str] = asked("versions", backend.versions, {})
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
        gpu_uuid=used.uuid if used and not used.cut else None,
        driver=used.driver if used else None,
        cuda=versions.get("cuda"),
        cudnn=versions.get("cudnn"),
        versions=versions,
        flags=asked("flags", backend.flags, {}),
        scheduler={name: os.environ[name] for name in SCHEDULER if name in os.environ},
        host_id=host.host_id(),
        boot=host.boot(),
        environment=steering(os.environ, declared),
    )


def steering(environment: Mapping[str, str], declared: Collection[str] = ()) -> dict[str, str]:
    """The variables that steer a framework, by the beginnings of their names or because a backend declares them, sorted; none that may hold a secret, no secret within the values of others, and `~` for
    the folder of the person who runs it."""
    home = environment.get("HOME", "").rstrip("/")
    told = {
        name: without_secrets(value)
        for name, value in sorted(environment.items())
        if (name in declared or (name.startswith(STEERING) and not name.startswith(TERRAFORM))) and not SECRET.search(name)
    }
    return {name: value.replace(f"{home}/", "~/") for name, value in told.items()} if home else told
