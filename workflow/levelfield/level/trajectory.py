"""What the reference computed from one start, as a file that needs numpy alone: framework containers read it."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from levelfield.records import load_arrays, save_arrays

Weights = dict[str, np.ndarray]
CHECKPOINTS = (1, 10, 50)
"""Steps after which the weights are compared."""


@dataclass
class Trajectory:
    """What the reference computes from one start: all float64."""

    probabilities: np.ndarray
    """Of the first batch at the start, (batch, outputs)."""
    gradients: Weights
    """Of `gradient_batch` at the start."""
    losses: np.ndarray
    """Each step's loss before its update, (steps,)."""
    weights: dict[int, Weights]
    """After 1, 10 and 50 steps, as far as there are so many."""

    def save(self, path: Path) -> None:
        arrays = {"probabilities": self.probabilities, "losses": self.losses}
        arrays |= {f"gradients/{name}": value for name, value in self.gradients.items()}
        arrays |= {f"weights/{step}/{name}": value for step, found in self.weights.items() for name, value in found.items()}
        save_arrays(path, arrays)

    @classmethod
    def load(cls, path: Path) -> "Trajectory":
        arrays = load_arrays(path)
        weights = {}
        for key in [key for key in arrays if key.startswith("weights/")]:
            _, step, name = key.split("/", 2)
            weights.setdefault(int(step), {})[name] = arrays[key]
        gradients = {key.removeprefix("gradients/"): value for key, value in arrays.items() if key.startswith("gradients/")}
        return cls(arrays["probabilities"], gradients, arrays["losses"], weights)


def batches_of(order: np.ndarray, size: int) -> list[np.ndarray]:
    """The rows of each batch that is compared: at most 50."""
    return np.split(order, range(size, len(order), size))[: CHECKPOINTS[-1]]


def gradient_batch(y: np.ndarray, order: np.ndarray, size: int) -> np.ndarray:
    """The rows of the batch whose gradient is compared: of those compared, the one with the most uneven labels.

    In a batch with as many positive as negative labels the gradients of the biases cancel at the start down to float32's
    rounding (3e-5 of their largest entry was seen), and a distance relative to them says nothing about a backend.
    """
    return max(batches_of(order, size), key=lambda rows: np.bincount(y[rows].astype(int)).max() / len(rows))
