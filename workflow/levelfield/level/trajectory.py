"""What the reference computed from one start, and how far off rounding may be, as a file that needs numpy alone: framework
containers read it."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from levelfield.errors import UserError
from levelfield.records import load_arrays, save_arrays

Distances = dict[str, dict[str, float | None]]
"""Quantity (`probabilities`, `gradients`, `probabilities_step_1`, `loss_step_<n>`, `right_step_<n>`, `weights_step_<n>`, `moved_step_<n>`,
`travelled_step_<n>`) to tensor to distance; None: not a finite number. What is no tensor of its own has one key, its own name."""
Bounds = dict[str, dict[str, float]]
"""The same, of what is allowed."""
Weights = dict[str, np.ndarray]
MOST = 50
"""Steps that are compared, at most."""
MANY = 32
"""Entries of a tensor that must have moved for how far all of them went to be no matter of a single one."""
TRAINED = "probabilities_step_1"
"""What the first batch gives after the first step: that answers are those of the weights that were trained."""
SMALLER = 3
"""The step whose batch is an epoch's smaller last one, where there is one: early, while bounds are narrow."""


@dataclass
class Trajectory:
    """What the reference computes from one start: all float64."""

    rows: np.ndarray
    """Rows of the training data in the order in which they are trained on, int64: see `compared_batches`."""
    sizes: np.ndarray
    """Of each step's batch, int64 (steps,)."""
    probabilities: np.ndarray
    """Of the first batch at the start, (batch, outputs)."""
    trained: np.ndarray
    """Of the first batch after the first step, (batch, outputs); of none in a file of an earlier version."""
    gradients: Weights
    """Of the first batch at the start."""
    losses: np.ndarray
    """Each step's loss before its update, (steps,)."""
    weights: dict[int, Weights]
    """After the steps of `checkpoints`."""
    start: Weights
    """Before them, float64."""
    right: np.ndarray
    """Each step's right answers before its update, int64 (steps,); empty in a file of an earlier version."""
    bounds: dict[str, Bounds] = field(default_factory=dict)
    """Of each precision that may be asked, the largest distances that rounding explains: see `bounds.py`."""

    @property
    def batches(self) -> list[np.ndarray]:
        """The rows of each step."""
        return np.split(self.rows, np.cumsum(self.sizes)[:-1])

    def save(self, path: Path) -> None:
        names = ("rows", "sizes", "probabilities", "trained", "losses", "right")
        arrays = {name: getattr(self, name) for name in names}
        arrays |= {f"gradients/{name}": value for name, value in self.gradients.items()}
        weights = {0: self.start, **self.weights}
        arrays |= {f"weights/{step}/{name}": value for step, found in weights.items() for name, value in found.items()}
        arrays["bounds"] = np.array(json.dumps(self.bounds))
        save_arrays(path, arrays)

    @classmethod
    def load(cls, path: Path) -> "Trajectory":
        """Raises UserError for a file from before bounds were derived."""
        arrays = load_arrays(path)
        if "bounds" not in arrays:
            raise UserError(f"{path} has no bounds, it was written by an older Levelfield: delete it and run snakemake again")
        weights: dict[int, Weights] = {}
        for key in [key for key in arrays if key.startswith("weights/")]:
            _, step, name = key.split("/", 2)
            weights.setdefault(int(step), {})[name] = arrays[key]
        gradients = {key.removeprefix("gradients/"): value for key, value in arrays.items() if key.startswith("gradients/")}
        start, bounds = weights.pop(0), json.loads(str(arrays["bounds"]))
        outputs, rows = arrays["probabilities"], arrays["rows"]
        if "sizes" not in arrays:  # written when the smaller batch came last, if at all
            arrays["sizes"] = np.diff([*range(0, len(rows), len(outputs)), len(rows)])
        arrays = {"right": np.zeros(0, np.int64), "trained": outputs[:0]} | arrays
        plain = {name: arrays[name] for name in ("rows", "sizes", "probabilities", "trained", "losses", "right")}
        return cls(**plain, gradients=gradients, weights=weights, start=start, bounds=bounds)


def gradient_distances(found: Weights, expected: Weights) -> dict[str, float | None]:
    """Of each tensor found, the largest difference over the largest entry expected."""
    return {name: distance(value, expected[name], np.abs(expected[name]).max()) for name, value in found.items()}


def output_distances(name: str, outputs: np.ndarray, expected: np.ndarray) -> Distances:
    """Of the first batch's probabilities, absolute."""
    return {name: {name: distance(outputs, expected)}}


def first_distances(outputs: np.ndarray, gradients: Weights, expected: np.ndarray, slopes: Weights) -> Distances:
    """Of the first batch: probabilities and gradients."""
    return output_distances("probabilities", outputs, expected) | {"gradients": gradient_distances(gradients, slopes)}


def weight_distances(step: int, found: Weights, expected: Weights, start: Weights) -> Distances:
    """After a step: each tensor's largest absolute difference; the norm of the difference over that of all it moved by; and by what share
    the way that it went is longer or shorter, which stays alike where rounding has made two trainings part."""
    largest, moved, travelled = {}, {}, {}
    for name, value in found.items():
        gone, way = value.astype(np.float64, copy=False) - start[name], expected[name] - start[name]
        off, norm = gone - way, float(np.linalg.norm(way)) or 1.0
        largest[name], moved[name] = finite(np.max(np.abs(off))), finite(float(np.linalg.norm(off)) / norm)
        if np.count_nonzero(way) >= MANY:
            travelled[name] = finite(abs(float(np.linalg.norm(gone)) / norm - 1))
    several = {f"travelled_step_{step}": travelled} if travelled else {}
    return {f"weights_step_{step}": largest, f"moved_step_{step}": moved} | several


def distance(found: np.ndarray, expected: np.ndarray | float, scale: float = 1.0) -> float | None:
    """Largest absolute difference over `scale`, or itself where that is 0; None where it is not a finite number."""
    return finite(np.max(np.abs(found.astype(np.float64) - expected)) / (scale or 1.0))


def finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def undecided(probabilities: np.ndarray, off: float) -> int:
    """Of how many sequences it is open on which side they are, where probabilities (batch, outputs) may be off by so much."""
    if probabilities.shape[1] == 1:
        return int((np.abs(probabilities - 0.5) <= off).sum())
    second, first = np.sort(probabilities, axis=1)[:, -2:].T
    return int((first - second <= 2 * off).sum())


def checkpoints(steps: int) -> list[int]:
    """The steps of so many after which loss and weights are compared: the first, that of the smaller batch, the tenth, the last."""
    return [step for step in (1, SMALLER, 10) if step < steps] + [steps]


def compared_batches(
    y: np.ndarray, order: np.ndarray, size: int, clear: Callable[[np.ndarray], bool] = lambda rows: True
) -> list[np.ndarray]:
    """The rows of each batch that is compared, at most 50, in the order of `order` but for two that are moved.

    Outputs, gradient and first step are compared on the first batch, and so it is the one with the most uneven labels: in a
    batch with as many positive as negative labels the gradients of the biases cancel at the start down to float32's rounding
    (3e-5 of their largest entry was seen), and a distance relative to them says nothing about a backend. clear: whether a batch,
    given its rows, is away from the kinks of the model, where the gradient is another on each side and rounding decides; the
    first of the most uneven such batches is taken, and where there is none the most uneven of all. The third is the epoch's
    smaller last one: a program may be right in whole batches alone.
    """
    batches = np.split(order.astype(np.int64), range(size, len(order), size))
    smaller = [rows for rows in batches if len(rows) < size]
    whole = [rows for rows in batches if len(rows) == size][: MOST - len(smaller)]
    if not whole:
        return smaller
    uneven = sorted(whole, key=lambda rows: -np.bincount(y[rows].astype(int)).max())
    first = next((rows for rows in uneven if clear(rows)), uneven[0])
    later = [rows for rows in whole if rows is not first]
    return [first, *later[: SMALLER - 2], *smaller, *later[SMALLER - 2 :]]
