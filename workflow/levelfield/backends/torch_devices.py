"""PyTorch on several devices: DistributedDataParallel, a process for each device, started by the run itself.

On GPUs the processes exchange gradients through NCCL, on a CPU through gloo. The run's own process has the first device. DDP means
the devices' gradients, so each one's loss is its part of the batch's mean, times the number of devices.
"""

import ctypes
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from datetime import timedelta
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import numpy as np
import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from levelfield.backends.base import Backend, Progress, Weights, no_logits, no_steps, silent
from levelfield.backends.devices import enough, filled, joined, part
from levelfield.backends.torch import Torch, find_device, loss_and_right, profiled
from levelfield.study.protocol import Protocol

Found = TypeVar("Found")
MEETING = timedelta(minutes=2)
"""In which all processes have met, and each of them comes to what they do together; PyTorch waits for half an hour."""


class Member(Torch):
    """One process's part: the model on its device, and what it does with its part of the data."""

    def __init__(self, protocol: Protocol, device: str, threads: int, rank: int, meeting: str):
        self.rank, self.count = rank, protocol.devices
        if device == "cuda":
            torch.cuda.set_device(rank)
        super().__init__(protocol, frozenset(), device, max(1, threads // self.count))
        # all are on this machine, whatever its name resolves to
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo0" if sys.platform == "darwin" else "lo")
        means = "nccl" if device == "cuda" else "gloo"
        distributed.init_process_group(
            means, init_method=f"file://{meeting}", rank=rank, world_size=self.count, timeout=MEETING
        )
        self.forward = DistributedDataParallel(self.model, device_ids=[rank] if device == "cuda" else None)

    @property
    def size(self) -> int:
        """Sequences of a batch that are this device's."""
        return self.protocol.batch_size // self.count

    def load_with(self, weights: Weights, seed: int) -> None:
        self.draw_from(seed)
        self.load(weights)

    def _shared(self, tokens: torch.Tensor, labels: torch.Tensor, shares: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """This device's part of the batch's mean loss and of its right answers; makes the gradients of the whole batch."""
        losses, right = loss_and_right(self.forward(tokens), labels, reduction="none")
        loss = (losses * shares).sum()
        (loss * self.count).backward()  # DDP means over the devices
        return loss.detach(), (right & (shares > 0)).sum()

    def map_data(self, folder: str) -> None:
        """Takes the sequences and labels that lie there to be trained on. They are mapped: the processes share their memory."""
        self.x, self.y = (np.load(Path(folder, f"{name}.npy"), mmap_mode="r") for name in ("x", "y"))

    def train_part(
        self,
        rows: np.ndarray,
        shares: np.ndarray,
        sequences: int = 0,
        progress: Progress = silent,
        wait: bool = False,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Trains on this device's part of what it holds. rows, shares: as `part` gives them; sequences: of all devices.

        Returns every step's mean loss and right answers of the whole batch, added up over the devices once, before the last step
        is told to `progress`; until then it hears of this device's part.
        """
        tensors = [self._tokens(self.x[rows]), self._labels(self.y[rows]), torch.from_numpy(shares)]
        if self.device == "cuda":  # so that no copy of a batch is waited for
            tensors = [whole.pin_memory() for whole in tensors]
        batches = [whole.split(self.size) for whole in tensors]
        steps = len(batches[0])
        losses = torch.empty(steps, device=self.device)
        correct = torch.empty(steps, dtype=torch.int32, device=self.device)
        done, seen, times = 0, 0, 1

        def so_far() -> tuple[float, float]:
            return losses[:done].mean().item() * times, correct[:done].sum().item() * times / seen

        self.model.train()
        for step, batch in enumerate(zip(*batches, strict=True)):
            self.optimizer.zero_grad(set_to_none=True)
            losses[step], correct[step] = self._shared(*(values.to(self.device, non_blocking=True) for values in batch))
            self._update()
            last = step + 1 == steps
            if last:
                distributed.all_reduce(losses)
                distributed.all_reduce(correct)
            if wait:
                self.synchronize()
            done, seen, times = step + 1, min((step + 1) * self.size * self.count, sequences), 1 if last else self.count
            progress(done, so_far)
        return losses.cpu().numpy(), correct.cpu().numpy()

    @torch.inference_mode()
    def predict_part(self, x: np.ndarray) -> np.ndarray:
        self.model.eval()
        return torch.cat([self.model(batch.to(self.device)) for batch in self._tokens(x).split(self.size)]).cpu().numpy()

    def gradients_part(self, x: np.ndarray, y: np.ndarray, shares: np.ndarray) -> tuple[float, Weights]:
        self.model.train()
        self.model.zero_grad()
        batch = (self._tokens(x), self._labels(y), torch.from_numpy(shares))
        loss, _ = self._shared(*(values.to(self.device) for values in batch))
        distributed.all_reduce(loss)
        found = {name: view(own[0].grad).cpu().numpy().copy() for name, view, own in self.model.layout()}
        self.model.zero_grad()
        return loss.item(), found


def serve(pipe: Connection, arguments: tuple[Any, ...]) -> None:
    """Another process of the run: makes its member, then does what it is told until the run's own process ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: not even one that waits for its GPU is left behind
    try:
        member = Member(*arguments)
        while True:
            name, given = pipe.recv()
            pipe.send((None, getattr(member, name)(*given)))
    except EOFError:
        pass
    except Exception as error:
        pipe.send((f"{type(error).__name__}: {error}", None))
        raise


class TorchDevices(Backend):
    """What the run holds: the first member, and a pipe to each of the others. One at a time in a process.

    Arrays that are trained on are handed over the first time that they come, which is in the warm-up, and must not change then.
    """

    def __init__(self, protocol: Protocol, departures: frozenset[str], device: str, threads: int):
        self.device, self.protocol, self.threads = find_device(device, "PyTorch"), protocol, threads
        if self.device == "cuda":
            enough(torch.cuda.device_count(), protocol.devices, "PyTorch")
        if distributed.is_initialized():
            distributed.destroy_process_group()
        self.folder = TemporaryDirectory(prefix="levelfield-")
        known = (protocol, self.device, threads)
        meeting, context = f"{self.folder.name}/meeting", multiprocessing.get_context("spawn")
        self.pipes, self.processes = [], []
        for rank in range(1, protocol.devices):
            mine, theirs = context.Pipe()
            process = context.Process(target=serve, args=(theirs, (*known, rank, meeting)), daemon=True)
            process.start()
            theirs.close()  # so that the end of the process is the end of the pipe
            self.pipes.append(mine)
            self.processes.append(process)
        self.held: tuple[np.ndarray, np.ndarray] | None = None
        self.first = self._with_others(lambda: Member(*known, 0, meeting))

    def _with_others(self, work: Callable[[], Found]) -> Found:
        """What `work` returns; where it fails since another process did, that one's error."""
        try:
            return work()
        except Exception as error:
            for device, pipe in enumerate(self.pipes, 1):
                if pipe.poll(1.0):
                    self._answer(device, pipe)
            raise error

    def _answer(self, device: int, pipe: Connection) -> Any:
        """What another process returned. Raises RuntimeError where it failed, or is gone."""
        try:
            wrong, answer = pipe.recv()
        except (EOFError, OSError):
            wrong = "its process ended: the last lines of the run's log say where"
        if wrong:
            raise RuntimeError(f"device {device} of {self.protocol.devices}: {wrong}")
        return answer

    def _all(self, name: str, *given: list[Any], **mine: Any) -> list[Any]:
        """Lets every member do `name`, and returns their answers. given: of each argument one for each member. mine: for the first."""
        parts = list(zip(*given, strict=True)) or [()] * self.protocol.devices

        def work() -> Any:
            for pipe, own in zip(self.pipes, parts[1:], strict=True):
                pipe.send((name, own))
            return getattr(self.first, name)(*parts[0], **mine)

        first = self._with_others(work)
        return [first, *(self._answer(device, pipe) for device, pipe in enumerate(self.pipes, 1))]

    def _parts(self, *values: np.ndarray) -> list[list[np.ndarray]]:
        size, devices = self.protocol.batch_size, self.protocol.devices
        return [[part(value, size, devices, device) for device in range(devices)] for value in values]

    def _hand_over(self, x: np.ndarray, y: np.ndarray) -> None:
        """Lets every process have the data once, so that an epoch sends it no more than its part of the order."""
        if self.held is not None and self.held[0] is x and self.held[1] is y:
            return
        for name, values in (("x", x), ("y", y)):
            file = Path(self.folder.name, f"{name}.npy")
            file.unlink(missing_ok=True)  # who has mapped what lay there keeps it
            np.save(file, values)
        self._all("map_data", [self.folder.name] * self.protocol.devices)
        self.held = x, y

    @property
    def batch_size(self) -> int:
        return self.protocol.batch_size

    @property
    def process_ids(self) -> list[int]:
        return [process.pid for process in self.processes if process.pid is not None]

    def load(self, weights: Weights) -> None:
        devices = self.protocol.devices
        self._all("load_with", [weights] * devices, [self.seed] * devices)

    def weights(self) -> Weights:
        return self.first.weights()

    def parameters(self) -> int:
        return self.first.parameters()

    def train_epoch(
        self, x: np.ndarray, y: np.ndarray, order: np.ndarray, progress: Progress = silent, wait: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        if not len(order):
            return no_steps()
        self._hand_over(x, y)
        rows, shares = filled(order, self.protocol.batch_size, self.protocol.devices)
        trained: list[tuple[np.ndarray, np.ndarray]] = self._all(
            "train_part", *self._parts(rows, shares), sequences=len(order), progress=progress, wait=wait
        )
        return trained[0]

    def predict(self, x: np.ndarray) -> np.ndarray:
        if not len(x):
            return no_logits(self.protocol)
        rows, _ = filled(np.arange(len(x)), self.protocol.batch_size, self.protocol.devices)
        return joined(self._all("predict_part", *self._parts(x[rows])), self.protocol.batch_size)[: len(x)]

    def gradients(self, x: np.ndarray, y: np.ndarray) -> tuple[float, Weights]:
        rows, shares = filled(np.arange(len(x)), self.protocol.batch_size, self.protocol.devices)
        found: list[tuple[float, Weights]] = self._all("gradients_part", *self._parts(x[rows], y[rows], shares))
        return found[0]

    def synchronize(self) -> None:
        if self.device == "cuda":
            self._all("synchronize")

    def versions(self) -> dict[str, str]:
        nccl = {"nccl": ".".join(map(str, torch.cuda.nccl.version()))} if self.device == "cuda" else {}
        return self.first.versions() | nccl

    def flags(self) -> dict[str, str]:
        found = self.first.flags() | {"distribution": f"DistributedDataParallel, {distributed.get_backend()}"}
        if self.device == "cpu" and self.threads < self.protocol.devices:
            found["crowded"] = f"{self.protocol.devices} processes share {self.threads} granted CPU{'s' * (self.threads > 1)}"
        return found

    def peak_memory(self) -> tuple[int | None, int | None]:
        """Of all devices together."""
        if self.device == "cpu":
            return None, None
        allocated, reserved = zip(*self._all("peak_memory"), strict=True)
        return sum(allocated), sum(reserved)

    def reset_peak_memory(self) -> None:
        if self.device == "cuda":
            self._all("reset_peak_memory")

    def kernels(self, x: np.ndarray, y: np.ndarray) -> list[str]:
        """Of the first device."""
        return profiled(lambda: self.train_epoch(x, y, np.arange(len(x))), self.device)
