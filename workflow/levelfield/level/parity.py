"""Parity: how far a backend is from the float64 reference in outputs, gradients and first steps, before it is timed.

What a case passes here is its whole training procedure on real batches, on the machine and in the container that will
time it: first the warm-up, which must leave no trace, then a batch's outputs and gradients, then 50 steps. It is held against
bounds that were derived with the reference (`bounds.py`), tensor by tensor, the same ones on every device.
"""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from levelfield.backends.base import Backend, Weights, evaluate
from levelfield.level.trajectory import (
    TRAINED,
    Bounds,
    Distances,
    Trajectory,
    distance,
    finite,
    first_distances,
    output_distances,
    weight_distances,
)
from levelfield.records import write_json
from levelfield.study.departures import drops_last_batch

WARM_UP = "weights_after_warm_up"


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
    """Distance from the reference by quantity, of the tensor that is nearest to its bound or beyond it; None: not a finite
    number. Gradients over the tensor's largest entry (or its bound, where there is nothing but rounding), `moved_step_<n>` over
    the norm of what the tensor has moved by, `travelled_step_<n>` a share of one length; else absolute."""
    bounds: dict[str, float]
    """Of that tensor; empty where not bounded."""
    missed: list[str] = field(default_factory=list)
    """Each bound that was missed, as a sentence."""
    gradients: dict[str, float | None] = field(default_factory=dict)
    """Each parameter's gradient: largest difference over the reference's largest entry, or its bound where that is larger."""
    weights: dict[str, dict[str, float | None]] = field(default_factory=dict)
    """Step to each parameter's largest absolute difference."""
    losses: list[float | None] = field(default_factory=list)
    """Each step's absolute difference in loss."""
    nearest: dict[str, str] = field(default_factory=dict)
    """Quantity to the tensor of which `measured` and `bounds` tell."""
    shares: dict[str, float | None] = field(default_factory=dict)
    """Quantity to that distance over its bound."""
    gradient_bounds: dict[str, float] = field(default_factory=dict)
    """Beside `gradients`."""
    cpu: str | None = None
    """The processor's name; None in records of earlier versions, as the next two."""
    gpu: str | None = None
    image: str | None = None
    """Digest of the container image, None outside one."""

    @property
    def barred(self) -> bool:
        """Whether the case must not be timed."""
        return self.matched and self.passed is False

    def write(self, path: Path) -> None:
        write_json(path, self)


@dataclass
class Measured:
    """How far a backend is from the reference."""

    steps: int
    distances: Distances
    losses: list[float | None]


def measure(
    backend: Backend,
    weights: Weights,
    reference: Trajectory,
    x: np.ndarray,
    y: np.ndarray,
    departures: frozenset[str] = frozenset(),
) -> Measured:
    """Distances of a backend from the reference.

    weights: those that the case loads. x, y: the training data, of which the reference says the rows. The weights are loaded by the
    warm-up alone, so that whatever it leaves behind, in weights or optimiser, shows. departures: where they leave an epoch's smaller
    batch out, it is.
    """
    batches, drops = reference.batches, drops_last_batch(departures)
    backend.warm_up(x, y, weights)
    restored = backend.weights()
    first = batches[0]
    again = over_batches(reference.sizes)
    outputs = evaluate(backend, x[first[again]], y[first[again]]).probabilities
    _, gradients = backend.gradients(x[first], y[first])

    # a departure may give a weight another shape: then there is nothing to hold it against
    same = [name for name, value in reference.gradients.items() if name in weights and value.shape == weights[name].shape]
    distances = {WARM_UP: {name: distance(restored[name], value) for name, value in weights.items()}}
    distances |= first_distances(
        outputs, {name: gradients[name] for name in same}, reference.probabilities[again], reference.gradients
    )
    losses: list[float | None] = []
    done = 0
    for step in sorted({*reference.weights, len(batches)}):  # a smaller batch ends its part, as it ends an epoch
        part = [rows for rows in batches[done:step] if not drops or len(rows) == reference.sizes.max()]
        found, right = backend.train_epoch(x, y, np.concatenate([np.empty(0, np.int64), *part]))
        off = [finite(value) for value in np.abs(found - reference.losses[done : done + len(found)])]
        losses += off
        if step == 1 and len(reference.trained):
            outputs = evaluate(backend, x[first[again]], y[first[again]]).probabilities
            distances |= output_distances(TRAINED, outputs, reference.trained[again])
        if step in reference.weights:
            held = backend.weights()
            moved = {name: held[name] for name in same}
            distances |= weight_distances(step, moved, reference.weights[step], reference.start)
            if len(off) == step - done:
                distances[f"loss_step_{step}"] = {"loss": off[-1]}
                if len(reference.right):
                    distances[f"right_step_{step}"] = {"right": abs(float(right[-1]) - float(reference.right[step - 1]))}
        done = step
    return Measured(len(batches), distances, losses)


def over_batches(sizes: np.ndarray) -> np.ndarray:
    """The first batch's sequences as an evaluation of several batches has them: two whole ones, in which each stands at another place,
    and a smaller one. Positions in the batch, int64; sizes: of the steps' batches (steps,)."""
    place = np.arange(sizes[0])
    smaller = sizes.min() if sizes.min() < sizes[0] else max(1, sizes[0] // 2)
    return np.concatenate([place, np.roll(place, 1), place[:smaller]])


def computed_in(precision: str, device: str) -> str:
    """The precision whose bounds hold on a device: a CPU has no TF32 and computes float32."""
    return "float32" if (precision, device) == ("tf32", "cpu") else precision


def judge(found: Measured, bounds: Bounds, finer: Bounds | None = None) -> dict[str, Any]:
    """What was found against the bounds of its precision, by the names of Parity's fields.

    A quantity is judged tensor by tensor, and told of the one with the largest share of its bound; a warm-up's bound is 0. finer: the
    bounds of float32 where a coarser precision was computed in: what is nowhere beyond them was computed in float32, and would be
    timed under another name. A reference of an earlier version has no bound for how far tensors went: then it is not judged.
    """
    judged = {name: values for name, values in found.distances.items() if name in bounds or not name.startswith("travelled")}
    found = replace(found, distances=judged)
    bounds = {WARM_UP: dict.fromkeys(found.distances[WARM_UP], 0.0), **bounds}
    nearest, measured, shares, held = {}, {}, {}, {}
    for quantity, distances in found.distances.items():
        known = {tensor: share(value, bounds[quantity][tensor]) for tensor, value in distances.items()}
        tensor = max(known, key=known.__getitem__)
        # where a tensor's gradient is nothing but rounding there is nothing else than its bound to tell it over
        scale = max(1.0, bounds[quantity][tensor]) if quantity.startswith(("gradients", "moved", "travelled")) else 1.0
        value, bound = distances[tensor], bounds[quantity][tensor] / scale
        nearest[quantity], shares[quantity] = tensor, finite(known[tensor])
        measured[quantity], held[quantity] = None if value is None else value / scale, bound
    missed = [
        f"{name}: {'not finite' if value is None else format(value, '.2g')}, bound {held[name]:.1g}"
        + (f" ({nearest[name]})" if nearest[name] not in (name, "loss", "right") else "")
        for name, value in measured.items()
        if value is None or value > held[name]
    ]
    if finer and all(within(found.distances[quantity], finer[quantity]) for quantity in ("probabilities", "gradients")):
        missed.append(
            "precision: outputs and gradients are within what float32 explains, and a coarser one was asked for: set `precision: float32` "
            "where the device has no other (TF32: GPUs from compute capability 8.0 on)"
        )
    lost = next((step for step, value in enumerate(found.losses, 1) if value is None), None)
    if lost:
        missed.append(f"loss of step {lost}: not finite")
    scales = {name: max(1.0, bounds["gradients"][name]) for name in found.distances["gradients"]}
    return {
        "steps": found.steps,
        "measured": measured,
        "bounded": True,
        "passed": not missed,
        "bounds": held,
        "missed": missed,
        "nearest": nearest,
        "shares": shares,
        "gradients": {n: None if v is None else v / scales[n] for n, v in found.distances["gradients"].items()},
        "gradient_bounds": {name: bounds["gradients"][name] / scale for name, scale in scales.items()},
        "weights": {
            name.removeprefix("weights_step_"): values
            for name, values in found.distances.items()
            if name.startswith("weights_step_")
        },
        "losses": found.losses,
    }


def within(distances: dict[str, float | None], bounds: dict[str, float]) -> bool:
    return all(share(value, bounds[tensor]) <= 1 for tensor, value in distances.items())


def share(value: float | None, bound: float) -> float:
    """Of its bound; infinite where it is beyond a bound of 0, or no finite number."""
    if value is None:
        return np.inf
    return value / bound if bound else np.inf if value else 0.0
