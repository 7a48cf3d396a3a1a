"""What the reference computed from one start, as a file that needs numpy alone: framework containers read it."""

from collections.abc import Callable
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

    rows: np.ndarray
    """Rows of the training data in the order in which they are trained on, int64: the first batch first, see `compared_rows`."""
    probabilities: np.ndarray
    """Of the first batch at the start, (batch, outputs)."""
    gradients: Weights
    """Of the first batch at the start."""
    losses: np.ndarray
    """Each step's loss before its update, (steps,)."""
    weights: dict[int, Weights]
    """After 1, 10 and 50 steps, as far as there are so many."""

    def save(self, path: Path) -> None:
        arrays = {"rows": self.rows, "probabilities": self.probabilities, "losses": self.losses}
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
        return cls(arrays["rows"], arrays["probabilities"], gradients, arrays["losses"], weights)


def batches_of(order: np.ndarray, size: int) -> list[np.ndarray]:
    """The rows of each batch that is compared: at most 50."""
    return np.split(order, range(size, len(order), size))[: CHECKPOINTS[-1]]


def compared_rows(
    y: np.ndarray, order: np.ndarray, size: int, clear: Callable[[np.ndarray], bool] = lambda rows: True
) -> np.ndarray:
    """The rows of the batches that are compared, in the order of `order` but for one that is moved to the front.

    Outputs, gradient and first step are compared on the first batch, and so it is the one with the most uneven labels: in a
    batch with as many positive as negative labels the gradients of the biases cancel at the start down to float32's rounding
    (3e-5 of their largest entry was seen), and a distance relative to them says nothing about a backend. clear: whether a batch,
    given its rows, is away from the kinks of the model, where the gradient is another on each side and rounding decides; the
    first of the most uneven such batches is taken, and where there is none the most uneven of all.
    """
    batches = batches_of(order, size)
    uneven = sorted((rows for rows in batches if len(rows) == size), key=lambda rows: -np.bincount(y[rows].astype(int)).max())
    first = next((rows for rows in uneven if clear(rows)), (uneven or batches)[0])
    return np.concatenate([first, *(rows for rows in batches if rows is not first)]).astype(np.int64)
