"""PyTorch: an `nn.Module`, a training loop, Adam."""

import ctypes
import os
from collections.abc import Callable

import numpy as np
import torch
import torch._dynamo  # the first optimiser would import it: 1.5 s that belong to the framework's import
from torch import nn
from torch.nn import functional

from levelfield.backends.base import Backend, DeviceError, Progress, Weights, silent
from levelfield.measure.host import huge_pages
from levelfield.protocol import Protocol

CLIP_NORM = 5.0
M_MMAP_THRESHOLD = -3  # of mallopt(3)


class Model(nn.Module):
    """Embedding, two bidirectional LSTM layers, and one logit from the last layer's two final states."""

    def __init__(self, protocol: Protocol, departures: frozenset[str]):
        super().__init__()
        self.embedding = nn.Embedding(protocol.vocabulary, protocol.embedding)
        self.lstm = nn.LSTM(protocol.embedding, protocol.units, num_layers=2, bidirectional=True, batch_first=True)
        self.dense = nn.Linear(2 * protocol.units, 1)
        self.last_step = "last-step-output" in departures
        self.tanh = "extra-tanh" in departures
        self.bfloat16 = protocol.precision == "bfloat16"
        if "second-bias" not in departures:
            # cuDNN's parametrisation has two biases; the second one stays 0, as in the protocol's model there is none
            for name, parameter in self.lstm.named_parameters():
                if name.startswith("bias_hh"):
                    parameter.requires_grad_(False)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """tokens: int32 (batch, length) -> logits (batch,)."""
        with torch.autocast(tokens.device.type, torch.bfloat16, enabled=self.bfloat16):
            output, (hidden, _) = self.lstm(self.embedding(tokens))
        # final states: the forward direction's after the last token, the backward direction's after the first
        features = output[:, -1] if self.last_step else torch.cat((hidden[-2], hidden[-1]), dim=1)
        if self.tanh:
            features = torch.tanh(features)
        return self.dense(features.float()).squeeze(1)


def profiled(work: Callable[[], object]) -> list[str]:
    """Names of the operations and GPU kernels that `work` ran.

    The profiler's many small records would lie between the large blocks that a step frees, and keep glibc from using these
    again: 24 GB for Keras's loop over 800 time steps. Large blocks are therefore taken from the kernel, apart from the heap.
    """
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
        mallopt(M_MMAP_THRESHOLD, 1 << 20)
    with torch.profiler.profile() as profile:
        work()
    return sorted({event.key for event in profile.key_averages()})


def be_deterministic(wanted: bool) -> None:
    """Asks for deterministic kernels, of cuBLAS as well, which reads the variable when it is first used."""
    if wanted:
        os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
    torch.use_deterministic_algorithms(wanted)


class Torch(Backend):
    def __init__(self, protocol: Protocol, departures: frozenset[str], device: str, threads: int):
        if device == "cuda" and not torch.cuda.is_available():
            raise DeviceError("device is cuda, but PyTorch finds no GPU: set `device: cpu` or `auto`")
        self.device = "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"
        torch.set_num_threads(threads)
        be_deterministic(protocol.deterministic)
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = protocol.precision == "tf32"
        self.protocol = protocol
        self.departures = departures
        self.model = Model(protocol, departures).to(self.device)
        self.forward = self.model
        self.trainable = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = self._adam()

    def _adam(self) -> torch.optim.Adam:
        own_epsilon = "framework-epsilon" in self.departures
        return torch.optim.Adam(
            self.trainable,
            lr=self.protocol.learning_rate,
            betas=(self.protocol.beta_1, self.protocol.beta_2),
            eps=1e-8 if own_epsilon else self.protocol.epsilon,
            fused=True,
        )

    @property
    def batch_size(self) -> int:
        return self.protocol.batch_size

    def _layout(self):
        """Canonical name, parameter, and whether the one is the other's transpose."""
        yield "embedding", self.model.embedding.weight, False
        for layer in (0, 1):
            for direction, suffix in (("forward", ""), ("backward", "_reverse")):
                for name, own in (("kernel", "weight_ih"), ("recurrent_kernel", "weight_hh"), ("bias", "bias_ih")):
                    parameter = getattr(self.model.lstm, f"{own}_l{layer}{suffix}")
                    yield f"lstm_{layer + 1}/{direction}/{name}", parameter, name != "bias"
        yield "dense/kernel", self.model.dense.weight, True
        yield "dense/bias", self.model.dense.bias, False

    @torch.no_grad()
    def load(self, weights: Weights) -> None:
        for name, parameter in self.model.lstm.named_parameters():
            if name.startswith("bias_hh"):
                parameter.zero_()
        for name, parameter, transposed in self._layout():
            value = torch.from_numpy(weights[name].copy())
            parameter.copy_(value.T if transposed else value)
        self.optimizer = self._adam()
        self.steps_done = 0

    @torch.no_grad()
    def weights(self) -> Weights:
        found = {}
        for name, parameter, transposed in self._layout():
            value = parameter
            if name.startswith("lstm") and name.endswith("bias"):
                value = parameter + self._second_bias(name)  # what the model computes with is the sum
            found[name] = (value.T if transposed else value).contiguous().cpu().numpy().copy()
        return found

    def _second_bias(self, name: str) -> torch.Tensor:
        layer, direction, _ = name.split("/")
        suffix = "_reverse" if direction == "backward" else ""
        return getattr(self.model.lstm, f"bias_hh_l{int(layer[-1]) - 1}{suffix}")

    def parameters(self) -> int:
        return sum(p.numel() for p in self.trainable)

    def _step(self, tokens: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        self.optimizer.zero_grad(set_to_none=True)
        logits = self.forward(tokens)
        loss = functional.binary_cross_entropy_with_logits(logits, labels)
        loss.backward()
        if "clip-norm" in self.departures:
            nn.utils.clip_grad_norm_(self.trainable, CLIP_NORM)
        self.steps_done += 1
        if "framework-epsilon" not in self.departures:
            # torch divides by √v̂ + ε, the protocol by √v + ε: the same where ε is scaled as v̂ is
            self.optimizer.param_groups[0]["eps"] = self.protocol.epsilon / (1 - self.protocol.beta_2**self.steps_done) ** 0.5
        self.optimizer.step()
        return loss.detach(), ((logits > 0) == (labels > 0.5)).sum()

    def train_epoch(self, x: np.ndarray, y: np.ndarray, order: np.ndarray, progress: Progress = silent, wait: bool = False):
        size = self.protocol.batch_size
        if "drop-last-batch" in self.departures:
            order = order[: len(order) // size * size]
        tokens = torch.from_numpy(x[order]).to(self.device)
        labels = torch.from_numpy(y[order]).to(self.device)
        steps = -(-len(order) // size)
        losses = torch.empty(steps, device=self.device)
        correct = torch.empty(steps, dtype=torch.int32, device=self.device)
        self.model.train()
        for step, (batch, targets) in enumerate(zip(tokens.split(size), labels.split(size), strict=True)):
            losses[step], correct[step] = self._step(batch, targets)
            if wait:
                self.synchronize()
            progress(
                step + 1, lambda n=step + 1: (losses[:n].mean().item(), correct[:n].sum().item() / min(n * size, len(order)))
            )
        return losses.cpu().numpy(), correct.cpu().numpy()

    @torch.inference_mode()
    def predict(self, x: np.ndarray) -> np.ndarray:
        self.model.eval()
        tokens = torch.from_numpy(np.ascontiguousarray(x)).to(self.device)
        logits = [self.forward(batch) for batch in tokens.split(self.protocol.batch_size)]
        return torch.cat(logits).cpu().numpy()

    def gradients(self, x: np.ndarray, y: np.ndarray) -> tuple[float, Weights]:
        self.model.train()
        self.model.zero_grad()
        logits = self.forward(torch.from_numpy(np.ascontiguousarray(x)).to(self.device))
        loss = functional.binary_cross_entropy_with_logits(logits, torch.from_numpy(np.ascontiguousarray(y)).to(self.device))
        loss.backward()
        found = {
            name: (p.grad.T if transposed else p.grad).contiguous().cpu().numpy() for name, p, transposed in self._layout()
        }
        self.model.zero_grad()
        return loss.item(), found

    def synchronize(self) -> None:
        if self.device == "cuda":
            torch.cuda.synchronize()

    def versions(self) -> dict[str, str]:
        found = {"torch": torch.__version__}
        if torch.version.cuda:
            found |= {"cuda": torch.version.cuda, "cudnn": str(torch.backends.cudnn.version())}
        return found

    def flags(self) -> dict[str, str]:
        return {
            "precision": self.protocol.precision,
            "tf32_matmul": str(torch.backends.cuda.matmul.allow_tf32),
            "tf32_cudnn": str(torch.backends.cudnn.allow_tf32),
            "onednn": str(torch.backends.mkldnn.is_available()),
            "threads": str(torch.get_num_threads()),
        }

    def peak_memory(self) -> tuple[int | None, int | None]:
        if self.device == "cpu":
            return None, None
        return torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()

    def kernels(self, x: np.ndarray, y: np.ndarray) -> list[str]:
        return profiled(lambda: self.train_epoch(x, y, np.arange(len(x))))


class TorchCompile(Torch):
    """The same program through `torch.compile`, which compiles around `nn.LSTM` and leaves that call as it is."""

    def __init__(self, protocol: Protocol, departures: frozenset[str], device: str, threads: int):
        super().__init__(protocol, departures, device, threads)
        self.forward = torch.compile(self.model)


class TorchHugePages(Torch):
    """The same program on a CPU, its tensors in pages of 2 MiB: PyTorch's own switch, which the registry sets before the import.

    Without it the LSTM's memory, handed back to the kernel after every step, comes anew in pages of 4 KiB at the next.
    """

    def __init__(self, protocol: Protocol, departures: frozenset[str], device: str, threads: int):
        if device == "cuda":
            raise DeviceError("torch-huge-pages is about a CPU's memory: set `device: cpu` or `auto`")
        if huge_pages() not in ("always", "madvise"):
            raise DeviceError(
                "torch-huge-pages: this kernel gives no huge pages: leave the case out, or as root "
                "`echo madvise > /sys/kernel/mm/transparent_hugepage/enabled`"
            )
        super().__init__(protocol, departures, "cpu", threads)

    def flags(self) -> dict[str, str]:
        return super().flags() | {"huge_pages": huge_pages()}
