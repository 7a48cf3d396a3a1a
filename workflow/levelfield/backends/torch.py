"""PyTorch: a training loop, Adam; eager, compiled in three ways, with its memory in huge pages, or with subnormal numbers flushed to 0."""

import ctypes
import os
from collections.abc import Callable, Iterator

import numpy as np
import torch
import torch._dynamo  # the first optimiser would import it: 1.5 s that belong to the framework's import
from torch import nn
from torch.nn import functional

from levelfield import registry
from levelfield.backends.base import (
    Backend,
    DeviceError,
    Progress,
    Weights,
    cuda_versions,
    malloc_told,
    no_logits,
    no_steps,
    refuse_too_old,
    refuse_without_glibc,
    refuse_without_huge_pages,
    silent,
)
from levelfield.backends.departures import CLIP_NORM, FRAMEWORK_EPSILON
from levelfield.host import huge_pages
from levelfield.study.protocol import Protocol

BACKENDS = {
    "torch": {
        "class": "Torch",
        "image": "torch",
        "devices": "levelfield.backends.torch_devices:TorchDevices",
        "departures": ["clip-norm", "framework-epsilon"],
        "data_on": ["host", "device"],
    },
    "torch-compile": {"like": "torch", "options": {"compiled": "default"}},
    "torch-compile-reduce-overhead": {"like": "torch", "options": {"compiled": "reduce-overhead"}},
    "torch-compile-max-autotune": {"like": "torch", "options": {"compiled": "max-autotune"}},
    "torch-huge-pages": {"like": "torch", "class": "TorchHugePages", "environment": {"THP_MEM_ALLOC_ENABLE": "1"}},
    "torch-kept-memory": {
        "like": "torch",
        "class": "TorchKeptMemory",
        "environment": {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "1099511627776"},
    },
    "torch-flush-subnormals": {"like": "torch", "class": "TorchFlushSubnormals"},
}

GRAPHS = ("reduce-overhead", "max-autotune")  # modes of torch.compile that use CUDA graphs
M_MMAP_THRESHOLD = -3  # of mallopt(3)


def profiled(work: Callable[[], object], device: str) -> list[str]:
    """Names of the operations and GPU kernels that `work` ran; empty where it ran on a GPU and no kernel of it is named.

    The profiler's many small records would lie between the large blocks that a step frees, and keep glibc from using these
    again: 24 GB for Keras's loop over 800 time steps. Large blocks are therefore taken from the kernel, apart from the heap.
    """
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
        mallopt(M_MMAP_THRESHOLD, 1 << 20)
    with torch.profiler.profile() as profile:
        work()
    events = profile.key_averages()
    told = device == "cpu" or any(event.device_type == torch.profiler.DeviceType.CUDA for event in events)
    return sorted({event.key for event in events}) if told else []


def find_device(device: str, framework: str) -> str:
    """`cuda` or `cpu`, what is used. Raises DeviceError for `cuda` without a GPU, and for one that PyTorch's build is too new for."""
    if device == "cpu" or not torch.cuda.is_available():
        if device == "cuda":
            raise DeviceError(f"device is cuda, but {framework} finds no GPU: set `device: cpu` or `auto`")
        return "cpu"
    refuse_too_old(torch.cuda.get_device_capability(), torch.cuda.get_arch_list(), "PyTorch")
    return "cuda"


def versions_of_cuda(device: str) -> dict[str, str]:
    """Versions of CUDA and cuDNN, of the installed packages; what PyTorch itself tells where it is installed without them."""
    if device == "cpu" or not torch.version.cuda:
        return {}
    found: dict[str, str] = {"cuda": torch.version.cuda}
    if number := torch.backends.cudnn.version():  # 92000; before cuDNN 9: 8902
        scale = 10_000 if number >= 90_000 else 1_000
        found["cudnn"] = f"{number // scale}.{number % scale // 100}.{number % 100}"
    return found | cuda_versions(torch.version.cuda.partition(".")[0])


def be_deterministic(wanted: bool) -> None:
    """Asks for deterministic kernels, of cuBLAS as well, which reads the variable when it is first used."""
    if wanted:
        os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    torch.use_deterministic_algorithms(wanted)


def loss_and_right(logits: torch.Tensor, labels: torch.Tensor, reduction: str = "mean") -> tuple[torch.Tensor, torch.Tensor]:
    """Mean cross-entropy of logits (batch, outputs), binary for one output, and which answers are right; with the reduction `none`
    each sequence's cross-entropy."""
    if logits.shape[1] == 1:
        scores = logits.squeeze(1)
        losses = functional.binary_cross_entropy_with_logits(scores, labels, reduction=reduction)
        return losses, (scores > 0) == (labels > 0.5)
    return functional.cross_entropy(logits, labels, reduction=reduction), logits.argmax(dim=1) == labels


def onednn_serves(precision: str) -> bool:
    """Whether oneDNN computes in this precision on this CPU. Where it cannot (bfloat16 without AVX-512), PyTorch under `autocast` asks it
    for an LSTM all the same, and ends with "could not create a primitive descriptor" (pytorch#187334)."""
    if precision != "bfloat16" or not torch.backends.mkldnn.is_available():
        return True
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


class Torch(Backend):
    """compiled: the same program through `torch.compile` in this mode, which leaves calls like `nn.LSTM` as they are. `reduce-overhead`
    and `max-autotune` put what they compile into CUDA graphs, the latter after trying several kernels for each product.
    Each size of a batch has a program of its own: left to itself `torch.compile` makes one for any size when it meets a second one, and
    whole batches run that one from then on.
    """

    def __init__(self, protocol: Protocol, departures: frozenset[str], device: str, threads: int, compiled: str | None = None):
        self.device = find_device(device, "PyTorch")
        if self.device == "cpu" and compiled in GRAPHS:
            raise DeviceError(
                f"torch-compile-{compiled} is about a GPU, on a CPU it is torch-compile: leave the case out, or set `device: cuda`"
            )
        torch.set_num_threads(threads)
        be_deterministic(protocol.deterministic)
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = protocol.precision == "tf32"
        torch.backends.mkldnn.enabled = onednn_serves(protocol.precision)  # type: ignore[assignment]  # a descriptor, typed as itself
        self.protocol = protocol
        self.departures = departures
        self.model = registry.builder(protocol.model.name, "torch").Model(protocol, departures).to(self.device)
        if compiled:
            # what PyTorch 2.13 keeps of a compiled program is not told apart by the CPU's vectors: made for AVX2 and loaded where the
            # compiler takes AVX-512 (another machine's, or `ATEN_CPU_CAPABILITY`), it writes beyond its arrays. And each run compiles for itself
            torch.compiler.config.force_disable_caches = True
        self.forward = torch.compile(self.model, mode=compiled, dynamic=False) if compiled else self.model
        self.trainable = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = self._adam()

    def _adam(self) -> torch.optim.Adam:
        own_epsilon = "framework-epsilon" in self.departures
        return torch.optim.Adam(
            self.trainable,
            lr=self.protocol.learning_rate,
            betas=(self.protocol.beta_1, self.protocol.beta_2),
            eps=FRAMEWORK_EPSILON if own_epsilon else self.protocol.epsilon,
            fused=True,
        )

    @property
    def batch_size(self) -> int:
        return self.protocol.batch_size

    @property
    def lies_on(self) -> str:
        kind: str = self.trainable[0].device.type
        return kind

    def _tokens(self, x: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(x))

    def _labels(self, y: np.ndarray) -> torch.Tensor:
        """In the type that PyTorch's losses ask for: class numbers as int64."""
        labels = torch.from_numpy(np.ascontiguousarray(y))
        return labels if labels.is_floating_point() else labels.long()

    def _batches(self, *tensors: torch.Tensor) -> Iterator[tuple[torch.Tensor, ...]]:
        """Batches in order, on the device. Those that lie on the host are in pinned memory, so that no copy of one is waited for."""
        if self.protocol.data_on == "device":
            tensors = tuple(whole.to(self.device) for whole in tensors)
        elif self.device == "cuda":
            tensors = tuple(whole.pin_memory() for whole in tensors)
        for batch in zip(*(whole.split(self.protocol.batch_size) for whole in tensors), strict=True):
            yield tuple(part.to(self.device, non_blocking=True) for part in batch)

    @torch.no_grad()
    def load(self, weights: Weights) -> None:
        for name, view, (first, *others) in self.model.layout():
            view(first).copy_(torch.from_numpy(weights[name].copy()))
            for other in others:
                other.zero_()
        self.optimizer = self._adam()
        self.steps_done = 0
        torch.manual_seed(self.seed)

    @torch.no_grad()
    def weights(self) -> Weights:
        # of several parameters the model computes with the sum
        return {name: view(sum(own[1:], own[0])).cpu().numpy().copy() for name, view, own in self.model.layout()}

    def parameters(self) -> int:
        return sum(p.numel() for p in self.trainable)

    def _step(self, tokens: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        self.optimizer.zero_grad(set_to_none=True)
        loss, right = loss_and_right(self.forward(tokens), labels)
        loss.backward()
        self._update()
        return loss.detach(), right.sum()

    def _update(self) -> None:
        """The optimiser's step, on the gradients as they are."""
        if "clip-norm" in self.departures:
            nn.utils.clip_grad_norm_(self.trainable, CLIP_NORM)
        self.steps_done += 1
        if "framework-epsilon" not in self.departures:
            # torch divides by √v̂ + ε, the protocol by √v + ε: the same where ε is scaled as v̂ is
            self.optimizer.param_groups[0]["eps"] = self.protocol.epsilon / (1 - self.protocol.beta_2**self.steps_done) ** 0.5
        self.optimizer.step()

    def train_epoch(
        self, x: np.ndarray, y: np.ndarray, order: np.ndarray, progress: Progress = silent, wait: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        size = self.protocol.batch_size
        if not len(order):
            return no_steps()
        steps = -(-len(order) // size)
        losses = torch.empty(steps, device=self.device)
        correct = torch.empty(steps, dtype=torch.int32, device=self.device)
        done = 0

        def so_far() -> tuple[float, float]:
            return losses[:done].mean().item(), correct[:done].sum().item() / min(done * size, len(order))

        self.model.train()
        for step, (tokens, labels) in enumerate(self._batches(self._tokens(x[order]), self._labels(y[order]))):
            losses[step], correct[step] = self._step(tokens, labels)
            if wait:
                self.synchronize()
            done = step + 1
            progress(done, so_far)
        return losses.cpu().numpy(), correct.cpu().numpy()

    @torch.inference_mode()
    def predict(self, x: np.ndarray) -> np.ndarray:
        if not len(x):
            return no_logits(self.protocol)
        self.model.eval()
        # copied, since a CUDA graph writes each batch's into the same place
        logits = [self.forward(batch).clone() for (batch,) in self._batches(self._tokens(x))]
        return torch.cat(logits).cpu().numpy()

    def gradients(self, x: np.ndarray, y: np.ndarray) -> tuple[float, Weights]:
        self.model.train()
        self.model.zero_grad()
        loss, _ = loss_and_right(self.forward(self._tokens(x).to(self.device)), self._labels(y).to(self.device))
        loss.backward()
        found = {name: view(own[0].grad).cpu().numpy().copy() for name, view, own in self.model.layout()}
        self.model.zero_grad()
        return loss.item(), found

    def synchronize(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()

    def versions(self) -> dict[str, str]:
        return {"torch": torch.__version__} | versions_of_cuda(self.device)

    def flags(self) -> dict[str, str]:
        return {
            "precision": self.protocol.precision,
            "tf32_matmul": str(torch.backends.cuda.matmul.allow_tf32),
            "tf32_cudnn": str(torch.backends.cudnn.allow_tf32),
            "onednn": str(torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled),
            "threads": str(torch.get_num_threads()),
        }

    def peak_memory(self) -> tuple[int | None, int | None]:
        if self.device == "cpu":
            return None, None
        return torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()

    def reset_peak_memory(self) -> None:
        if self.device == "cuda":
            torch.cuda.reset_peak_memory_stats()

    def kernels(self, x: np.ndarray, y: np.ndarray) -> list[str]:
        return profiled(lambda: self.train_epoch(x, y, np.arange(len(x))), self.device)


class TorchHugePages(Torch):
    """The same program on a CPU, its tensors in pages of 2 MiB: PyTorch's own switch, which the registry sets before the import.

    Without it the memory of a large step, handed back to the kernel after it, comes anew in pages of 4 KiB at the next.
    """

    def __init__(self, protocol: Protocol, departures: frozenset[str], device: str, threads: int):
        refuse_without_huge_pages("torch-huge-pages", device)
        super().__init__(protocol, departures, "cpu", threads)

    def flags(self) -> dict[str, str]:
        return super().flags() | {"huge_pages": str(huge_pages())}


class TorchKeptMemory(Torch):
    """The same program on a CPU, its memory never handed back to the kernel: the C library's own switches, which it reads at its start
    (mallopt(3), "Environment variables"): no block is mapped by itself, and the heap is not cut until 1 TiB of it is free."""

    def __init__(self, protocol: Protocol, departures: frozenset[str], device: str, threads: int):
        refuse_without_glibc("torch-kept-memory", device)
        super().__init__(protocol, departures, "cpu", threads)

    def flags(self) -> dict[str, str]:
        return super().flags() | {"malloc": malloc_told()}


class TorchFlushSubnormals(Torch):
    """The same program on a CPU, numbers below float32's normal range taken for 0, as TensorFlow and JAX take them.

    The processor's flag is each thread's own, and a new thread has it as the one that starts it: it is set before PyTorch's pool starts.
    """

    def __init__(self, protocol: Protocol, departures: frozenset[str], device: str, threads: int):
        if device == "cuda":
            raise DeviceError("torch-flush-subnormals is about a CPU's arithmetic: set `device: cpu` or `auto`")
        if not torch.set_flush_denormal(True):
            raise DeviceError("torch-flush-subnormals: this processor cannot flush subnormal numbers: leave the case out")
        super().__init__(protocol, departures, "cpu", threads)

    def flags(self) -> dict[str, str]:
        product = torch.full((1,), 1e-30) * 1e-10
        return super().flags() | {"subnormals": "kept" if product.item() else "flushed"}
