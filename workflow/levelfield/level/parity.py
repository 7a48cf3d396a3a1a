"""Parity: how far a backend is from the float64 reference in outputs, gradients and first steps, before it is timed.

What a case passes here is its whole training procedure on real batches, on the machine and in the container that will
time it: first the warm-up, which must leave no trace, then a batch's outputs and gradients, then 50 steps.
"""

from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np

from levelfield.backends.base import Backend, Weights, evaluate
from levelfield.level.trajectory import CHECKPOINTS, Trajectory
from levelfield.models.base import Bounds, model_of
from levelfield.records import write_json
from levelfield.study.protocol import Case, Protocol


@dataclass
class Parity:
    """The content of `parity/<case>.json`."""

    case: str
    backend: str
    departures: list[str]
    matched: bool
    """Whether the case must pass; one with departures is measured and shown."""
    seed: int
    device: str
    precision: str
    versions: dict[str, str]
    protocol_sha256: str
    start_sha256: str
    corpus: str
    steps: int
    """Steps compared: 50, or as many batches as an epoch of the data has."""
    bounded: bool
    """Whether there are bounds for this device and precision."""
    passed: bool | None
    """None: not bounded."""
    measured: dict[str, float | None]
    """Distances from the reference, named as in Bounds, and some more; None: not a finite number."""
    bounds: dict[str, float]
    """Of the distances that were measured; empty where not bounded."""
    missed: list[str] = field(default_factory=list)
    """Each bound that was missed, as a sentence."""
    gradients: dict[str, float | None] = field(default_factory=dict)
    """Each parameter's gradient: largest difference over the reference's largest entry."""
    weights: dict[str, dict[str, float | None]] = field(default_factory=dict)
    """Step to each parameter's largest absolute difference."""
    losses: list[float | None] = field(default_factory=list)
    """Each step's absolute difference in loss."""

    @property
    def barred(self) -> bool:
        """Whether the case must not be timed."""
        return self.matched and self.passed is False

    def write(self, path: Path) -> None:
        write_json(path, self)


def measure(case: Case, backend: Backend, weights: Weights, reference: Trajectory, x: np.ndarray, y: np.ndarray) -> dict:
    """Distances of a backend from the reference, by the names of Parity's fields.

    weights: those that the case loads. x, y: the training data, of which the reference says the rows. The weights are loaded by the
    warm-up alone, so that whatever it leaves behind, in weights or optimiser, shows.
    """
    steps, size = len(reference.losses), case.protocol.batch_size
    backend.warm_up(x, y, weights)
    restored = backend.weights()
    order = reference.rows
    first = order[:size]
    outputs = evaluate(backend, x[first], y[first]).probabilities
    _, gradients = backend.gradients(x[first], y[first])
    losses, after, done = [], {}, 0
    for step in [step for step in CHECKPOINTS if step < steps] + [steps]:
        found, _ = backend.train_epoch(x, y, order[done * size : step * size])
        losses.append(found)
        done = step
        if step in reference.weights:
            after[step] = backend.weights()
    differences = np.abs(np.concatenate(losses) - reference.losses[: sum(map(len, losses))])

    # a departure may give a weight another shape: then there is nothing to hold it against
    same = [name for name, value in reference.gradients.items() if value.shape == weights[name].shape]
    largest = gradient_distances(case.protocol, gradients, {name: reference.gradients[name] for name in same})
    moved = {
        step: {name: distance(found[name], reference.weights[step][name]) for name in same} for step, found in after.items()
    }
    measured = {
        "weights_after_warm_up": worst(distance(restored[name], value) for name, value in weights.items()),
        "probabilities": distance(outputs, reference.probabilities),
        "gradients": worst(largest.values()),
    }
    measured |= {f"loss_step_{step}": finite(differences[step - 1]) for step in CHECKPOINTS if step <= len(differences)}
    measured |= {f"weights_step_{step}": worst(values.values()) for step, values in moved.items()}
    return {
        "steps": steps,
        "measured": measured,
        "gradients": largest,
        "weights": {str(step): values for step, values in moved.items()},
        "losses": [finite(value) for value in differences],
    }


def judge(measured: dict[str, float | None], bounds: Bounds | None) -> dict:
    """Whether what was measured is within the bounds, by the names of Parity's fields."""
    if bounds is None:
        return {"bounded": False, "passed": None, "bounds": {}, "missed": []}
    known = {name: bound for name, bound in asdict(bounds).items() if name in measured}
    missed = [
        f"{name}: {'not finite' if measured[name] is None else format(measured[name], '.2g')}, bound {bound:.0e}"
        for name, bound in known.items()
        if measured[name] is None or measured[name] > bound
    ]
    return {"bounded": True, "passed": not missed, "bounds": known, "missed": missed}


def gradient_distances(protocol: Protocol, found: Weights, expected: Weights) -> dict[str, float | None]:
    """Each parameter's gradient: largest difference over the largest entry expected of it, or of what it is judged beside."""
    beside = model_of(protocol).cancelling
    scales = {name: np.abs(expected[beside.get(name, name)]).max() for name in expected}
    return {name: distance(found[name], value, scales[name]) for name, value in expected.items()}


def distance(found: np.ndarray, expected: np.ndarray, scale: float = 1.0) -> float | None:
    """Largest absolute difference over `scale`; None where it is not a finite number."""
    return finite(np.max(np.abs(found.astype(np.float64) - expected)) / scale)


def finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def worst(values) -> float | None:
    """The largest; None where one of them is not finite."""
    values = list(values)
    return None if None in values else max(values)
