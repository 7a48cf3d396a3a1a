"""A machine's calibration, about a second: the rate of matrix products, memory bandwidth, on a GPU a model's bare fused kernel.

On the CPU NumPy's BLAS multiplies, on a GPU PyTorch's cuBLAS and cuDNN do: the same yardstick for every backend.
"""

import importlib
import json
import math
import operator
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from levelfield.errors import NodeError
from levelfield.host import cpu_model
from levelfield.measure.clock import Stopwatch
from levelfield.measure.gpu import Gpu
from levelfield.measure.hang import killed
from levelfield.measure.limit import Calibration, bare_key
from levelfield.measure.noise import Restlessness
from levelfield.models.base import model_of
from levelfield.records import write_json
from levelfield.study.protocol import Protocol

FOLDER = ".calibration"
CPU_SIZE, GPU_SIZE = 1536, 8192
"""Rows and columns of the matrices: 7 and 1,100 billion operations, 0.05 s on a core and 0.02 s on an H100."""
COPIED = 4 << 20
"""Float32 values copied: 16 MiB read and as many written."""
REPEATS = 7
LONGEST_SECONDS = 300
"""For a measurement of about a second, on a GPU with the import of PyTorch."""


def of_this_machine(folder: Path, protocol: Protocol, threads: int, gpu: Gpu | None) -> Calibration | None:
    """The calibration kept in `folder` for this machine, made first where there is none for the protocol or no calm one.

    gpu: the GPU that the run used; the measuring process sees it through CUDA_VISIBLE_DEVICES. None on a GPU without
    PyTorch, and on a card's slice when it is not told which. Raises RuntimeError where the measurement failed, TimeoutExpired
    where it hangs, NodeError where it cannot even be killed.
    """
    if gpu and gpu.cut:
        return None
    path = folder / f"{machine_key(threads, gpu)}.json"
    found = read(path)
    bare = gpu is not None and model_of(protocol).bare is not None
    if found and not found.warning and (not bare or bare_key(protocol) in found.bare_step_seconds):
        return found
    if gpu and find_spec("torch") is None:
        return None
    command = [sys.executable, "-m", "levelfield", "calibrate", str(path), "--threads", str(threads)]
    command += ["--job-pid", str(os.getpid())]
    command += ["--gpu", gpu.name or gpu.uuid, "--protocol", json.dumps(asdict(protocol))] if gpu else []
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        code = process.wait(LONGEST_SECONDS)
    except subprocess.TimeoutExpired:
        if not killed(process):
            raise NodeError(
                f"the calibration did not end within {LONGEST_SECONDS} s, and it cannot be killed: a call into the driver "
                "hangs: restart the machine"
            ) from None
        raise
    except BaseException:  # this process is told to end
        killed(process)
        raise
    if code:
        exclusive = (
            "; a GPU in exclusive compute mode lets no second process in: `nvidia-smi --query-gpu=compute_mode --format=csv`"
        )
        raise RuntimeError(f"ended with exit code {code}, its reason stands in the log{exclusive if gpu else ''}")
    return read(path)


def machine_key(threads: int, gpu: Gpu | None) -> str:
    """The name of a machine's file: host, threads, and the GPU's UUID."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", f"{socket.gethostname()}-{threads}-{gpu.uuid if gpu else 'cpu'}")


def read(path: Path) -> Calibration | None:
    """The calibration of a file; None where there is none, or one that is damaged or that another version wrote."""
    try:
        found = Calibration(**json.loads(path.read_text(encoding="utf-8")))
        rates = [*found.products_per_second.values(), found.bytes_per_second, *found.bare_step_seconds.values()]
        return found if all(0 < rate < math.inf for rate in rates) else None
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return None


def measure(path: Path, threads: int, gpu: str | None, protocol: Protocol | None) -> Calibration:
    """Measures and writes `path`. Of what stands there already the higher rates are kept, and times of other bare kernels.

    protocol: whose model's bare kernel is timed on a GPU. The BLAS's number of threads is the process's own affair: see `commands/calibrate.py`."""
    before = read(path)
    bare = dict(before.bare_step_seconds) if before else {}
    with Restlessness(threads=threads, on_gpu=gpu is not None) as rest:
        if gpu:
            import torch

            library = f"PyTorch {torch.__version__}, CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}"
            products, copied = gpu_products(), gpu_copy()
            if protocol and (module := model_of(protocol).bare):
                bare[bare_key(protocol)] = importlib.import_module(module).step_seconds(protocol)
        else:
            blas = np.show_config(mode="dicts").get("Build Dependencies", {}).get("blas", {})
            library = f"NumPy {np.__version__}, {blas.get('name', 'a BLAS')} {blas.get('version', '')}".strip()
            products, copied = cpu_products(), cpu_copy(threads)
    if before:
        products = {name: max(rate, before.products_per_second.get(name, 0.0)) for name, rate in products.items()}
        copied = max(copied, before.bytes_per_second)
    now, said = datetime.now(UTC).isoformat(timespec="seconds"), rest.measurements()["noise_warning"]
    warning = None if said is None else str(said)
    found = Calibration(socket.gethostname(), cpu_model(), threads, gpu, now, library, products, copied, bare, warning)
    write_json(path, found)
    return found


def best_seconds(work: Callable[[], object], synchronize: Callable[[], None] = lambda: None) -> float:
    """The shortest of some runs after one to warm up: a limit is what the machine can do when nothing disturbs it."""
    seconds = []
    for _ in range(1 + REPEATS):
        with Stopwatch(synchronize, time.perf_counter) as watch:
            work()
        seconds.append(watch.seconds)
    return min(seconds[1:])


def cpu_products() -> dict[str, float]:
    """Operations a second in float32; TF32 is the same on a CPU, which has none."""
    matrix = np.ones((CPU_SIZE, CPU_SIZE), np.float32)
    rate = 2 * CPU_SIZE**3 / best_seconds(lambda: matrix @ matrix)
    return {"float32": rate, "tf32": rate}


def cpu_copy(threads: int) -> float:
    """Bytes a second, the array divided among the threads."""
    parts = [(np.zeros(COPIED // threads, np.float32), np.ones(COPIED // threads, np.float32)) for _ in range(threads)]
    with ThreadPoolExecutor(threads) as pool:
        seconds = best_seconds(lambda: list(pool.map(lambda part: np.copyto(*part), parts)))
    return 2 * 4 * COPIED / seconds


def gpu_products() -> dict[str, float]:
    """Operations a second in each precision."""
    import torch

    rates = {}
    for precision, dtype in (("float32", torch.float32), ("tf32", torch.float32), ("bfloat16", torch.bfloat16)):
        torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
        # numbers as in training: ones draw less power, so that the clock stays higher than it would
        matrix = torch.randn((GPU_SIZE, GPU_SIZE), device="cuda").to(dtype)
        rates[precision] = 2 * GPU_SIZE**3 / best_seconds(partial(operator.matmul, matrix, matrix), torch.cuda.synchronize)
    return rates


def gpu_copy() -> float:
    import torch

    source = torch.randn(COPIED, device="cuda")
    target = torch.empty_like(source)
    return 2 * 4 * COPIED / best_seconds(lambda: target.copy_(source), torch.cuda.synchronize)
