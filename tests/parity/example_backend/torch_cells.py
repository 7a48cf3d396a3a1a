"""An example of a backend outside the package: the LSTM written out cell by cell in PyTorch, and Adam in five lines.

Its weights are held in the canonical layout, so that nothing has to be turned round on the way in or out. It holds its one
model itself: this module is its builder of `bilstm`, too, and says which of that model's departures it makes.
"""

import numpy as np
import torch

from levelfield.backends.base import Backend, DeviceError, Progress, Weights, no_logits, no_steps, silent
from levelfield.study.protocol import Protocol

BACKENDS = {"torch-cells": {"image": "torch", "departures": ["clip-norm"]}}
DEPARTURES = ("last-step-output", "extra-tanh")


def right(logits: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Which answers are right, of one output or of several."""
    return (logits[:, 0] > 0) == (y > 0.5) if logits.shape[1] == 1 else logits.argmax(axis=1) == y


class TorchCells(Backend):
    def __init__(self, protocol: Protocol, departures: frozenset[str], device: str, threads: int):
        if device == "cuda":
            raise DeviceError("torch-cells runs on the CPU alone: set `device: cpu` or `auto`")
        if protocol.precision == "bfloat16":
            raise ValueError("torch-cells computes in float32 alone")
        torch.set_num_threads(threads)
        self.device = "cpu"
        self.protocol = protocol
        self.departures = departures
        self.own: dict[str, torch.Tensor] = {}

    @property
    def batch_size(self) -> int:
        return self.protocol.batch_size

    def load(self, weights: Weights) -> None:
        self.own = {name: torch.tensor(value, requires_grad=True) for name, value in weights.items()}
        self.first = {name: torch.zeros_like(value) for name, value in self.own.items()}
        self.second = {name: torch.zeros_like(value) for name, value in self.own.items()}
        self.steps = 0

    def weights(self) -> Weights:
        return {name: value.detach().numpy().copy() for name, value in self.own.items()}

    def parameters(self) -> int:
        return sum(value.numel() for value in self.own.values())

    def gates(self, arguments: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Input gate, forget gate, candidate and output gate from their arguments (batch, 4·units)."""
        i, f, c, o = arguments.chunk(4, dim=1)
        return torch.sigmoid(i), torch.sigmoid(f), torch.tanh(c), torch.sigmoid(o)

    def direction(self, layer: str, direction: str, inputs: torch.Tensor) -> list[torch.Tensor]:
        """Hidden states, one a time step, in the order in which they came about; inputs (time, batch, inputs)."""
        kernel, recurrent, bias = (self.own[f"{layer}/{direction}/{part}"] for part in ("kernel", "recurrent_kernel", "bias"))
        hidden = cell = torch.zeros(inputs.shape[1], recurrent.shape[0])
        states = []
        for arguments in inputs @ kernel + bias:
            i, f, c, o = self.gates(arguments + hidden @ recurrent)
            cell = f * cell + i * c
            hidden = o * torch.tanh(cell)
            states.append(hidden)
        return states

    def features(self, forward: list[torch.Tensor], backward: list[torch.Tensor]) -> torch.Tensor:
        """What the dense layer reads: each direction's state after the whole sequence."""
        last = backward[0] if "last-step-output" in self.departures else backward[-1]
        found = torch.cat([forward[-1], last], dim=1)
        return torch.tanh(found) if "extra-tanh" in self.departures else found

    def forward(self, tokens: np.ndarray) -> torch.Tensor:
        """Logits (batch, outputs) of tokens (batch, time)."""
        inputs = self.own["embedding"][torch.tensor(tokens.T)]
        ahead, behind = self.direction("lstm_1", "forward", inputs), self.direction("lstm_1", "backward", inputs.flip(0))
        inputs = torch.cat([torch.stack(ahead), torch.stack(behind[::-1])], dim=2)
        ahead, behind = self.direction("lstm_2", "forward", inputs), self.direction("lstm_2", "backward", inputs.flip(0))
        return self.features(ahead, behind) @ self.own["dense/kernel"] + self.own["dense/bias"]

    def slopes(self, x: np.ndarray, y: np.ndarray) -> tuple[torch.Tensor, torch.Tensor, dict[str, torch.Tensor]]:
        """Logits, loss and gradients of one batch."""
        logits, labels = self.forward(x), torch.tensor(y)
        if logits.shape[1] == 1:
            loss = torch.nn.functional.binary_cross_entropy_with_logits(logits[:, 0], labels)
        else:
            loss = torch.nn.functional.cross_entropy(logits, labels.long())
        return logits.detach(), loss.detach(), dict(zip(self.own, torch.autograd.grad(loss, self.own.values()), strict=True))

    def gradients(self, x: np.ndarray, y: np.ndarray) -> tuple[float, Weights]:
        _, loss, found = self.slopes(x, y)
        return loss.item(), {name: value.numpy() for name, value in found.items()}

    @torch.no_grad()
    def update(self, gradients: dict[str, torch.Tensor]) -> None:
        """One step of the protocol's Adam."""
        p = self.protocol
        self.steps += 1
        rate = p.learning_rate * (1 - p.beta_2**self.steps) ** 0.5 / (1 - p.beta_1**self.steps)
        for name, gradient in gradients.items():
            self.first[name].mul_(p.beta_1).add_((1 - p.beta_1) * gradient)
            self.second[name].mul_(p.beta_2).add_((1 - p.beta_2) * gradient**2)
            self.own[name] -= rate * self.first[name] / (self.second[name].sqrt() + p.epsilon)

    def train_epoch(
        self, x: np.ndarray, y: np.ndarray, order: np.ndarray, progress: Progress = silent, wait: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        size, losses, correct = self.batch_size, [], []
        if not len(order):
            return no_steps()
        for rows in np.split(order, range(size, len(order), size)):
            logits, loss, gradients = self.slopes(x[rows], y[rows])
            if "clip-norm" in self.departures:
                norm = torch.cat([value.flatten() for value in gradients.values()]).norm()
                gradients = {name: value * min(1, 5 / norm) for name, value in gradients.items()}
            losses.append(loss.item())
            correct.append(int(right(logits.numpy(), y[rows]).sum()))
            self.update(gradients)
            progress(len(losses), lambda: (float(np.mean(losses)), sum(correct) / min(len(losses) * size, len(order))))
        return np.array(losses, np.float32), np.array(correct, np.int32)

    @torch.no_grad()
    def predict(self, x: np.ndarray) -> np.ndarray:
        if not len(x):
            return no_logits(self.protocol)
        return torch.cat(
            [self.forward(x[first : first + self.batch_size]) for first in range(0, len(x), self.batch_size)]
        ).numpy()

    def synchronize(self) -> None:
        pass  # a CPU has nothing in flight

    def versions(self) -> dict[str, str]:
        return {"torch": torch.__version__}
