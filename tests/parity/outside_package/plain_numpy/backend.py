"""The loop and Adam in NumPy; two rows, in float32 and in float64."""

import numpy as np

from levelfield import registry
from levelfield.backends.base import Backend, DeviceError, Progress, Weights, no_logits, no_steps, silent
from levelfield.backends.departures import CLIP_NORM
from levelfield.study.protocol import Protocol

BACKENDS = {
    "plain-numpy": {
        "framework": "plain-numpy",
        "image": "plain-numpy",
        "environment": {"OPENBLAS_NUM_THREADS": "1", "PLAIN_NUMPY_IS_PLAIN": "yes"},
        "departures": ["clip-norm"],
    },
    "plain-numpy-float64": {"like": "plain-numpy", "options": {"dtype": "float64"}},
}


def loss_slope_right(logits: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray, int]:
    """Mean cross-entropy, its gradient for the logits, and how many answers are right."""
    if logits.shape[1] == 1:
        z = logits[:, 0]
        loss, chances, truth = np.logaddexp(0, z) - z * y, 1 / (1 + np.exp(-logits)), y[:, None]
        right = (z > 0) == (y > 0.5)
    else:
        total = np.logaddexp.reduce(logits, axis=1, keepdims=True)
        truth = np.eye(logits.shape[1], dtype=logits.dtype)[y]
        loss, chances, right = (total - logits * truth).sum(axis=1), np.exp(logits - total), logits.argmax(axis=1) == y
    return loss.mean(), ((chances - truth) / len(y)).astype(logits.dtype), int(right.sum())


class PlainNumpy(Backend):
    device = "cpu"

    def __init__(self, protocol: Protocol, departures: frozenset[str], device: str, threads: int, dtype: str = "float32"):
        if device == "cuda":
            raise DeviceError("plain-numpy runs on the CPU alone: set `device: cpu` or `auto`")
        self.protocol, self.departures, self.dtype = protocol, departures, np.dtype(dtype)
        self.logits = registry.builder(protocol.model.name, "plain-numpy").build(protocol, departures)

    @property
    def batch_size(self) -> int:
        return self.protocol.batch_size

    def load(self, weights: Weights) -> None:
        self.own = {name: value.astype(self.dtype) for name, value in weights.items()}
        self.first, self.second = ({name: np.zeros_like(value) for name, value in self.own.items()} for _ in range(2))
        self.steps = 0

    def weights(self) -> Weights:
        return {name: value.astype(np.float32) for name, value in self.own.items()}

    def parameters(self) -> int:
        return sum(value.size for value in self.own.values())

    def _update(self, gradients: Weights) -> None:
        """One step of the protocol's Adam."""
        p = self.protocol
        self.steps += 1
        rate = p.learning_rate * (1 - p.beta_2**self.steps) ** 0.5 / (1 - p.beta_1**self.steps)
        for name, gradient in gradients.items():
            m, v = self.first[name], self.second[name]
            m += (gradient - m) * (1 - p.beta_1)
            v += (gradient**2 - v) * (1 - p.beta_2)
            self.own[name] -= rate * m / (np.sqrt(v) + p.epsilon)

    def train_epoch(self, x: np.ndarray, y: np.ndarray, order: np.ndarray, progress: Progress = silent, wait: bool = False):
        size, losses, correct = self.batch_size, [], []
        if not len(order):
            return no_steps()
        for rows in np.split(order, range(size, len(order), size)):
            logits, back = self.logits(self.own, x[rows])
            loss, slope, right = loss_slope_right(logits, y[rows])
            gradients = back(slope)
            if "clip-norm" in self.departures:
                norm = np.sqrt(sum(np.sum(value**2) for value in gradients.values()))
                gradients = {name: value * min(1, CLIP_NORM / norm) for name, value in gradients.items()}
            self._update(gradients)
            losses.append(loss)
            correct.append(right)
            progress(len(losses), lambda: (float(np.mean(losses)), sum(correct) / min(len(losses) * size, len(order))))
        return np.array(losses, np.float32), np.array(correct, np.int32)

    def predict(self, x: np.ndarray) -> np.ndarray:
        if not len(x):
            return no_logits(self.protocol)
        batches = np.split(x, range(self.batch_size, len(x), self.batch_size))
        return np.concatenate([self.logits(self.own, batch)[0] for batch in batches]).astype(np.float32)

    def gradients(self, x: np.ndarray, y: np.ndarray) -> tuple[float, Weights]:
        logits, back = self.logits(self.own, x)
        loss, slope, _ = loss_slope_right(logits, y)
        return float(loss), {name: value.astype(np.float32) for name, value in back(slope).items()}

    def synchronize(self) -> None:
        pass  # NumPy has nothing in flight

    def versions(self) -> dict[str, str]:
        return {"numpy": np.__version__}
