"""The bounds of parity: the largest distances from the reference that rounding explains, found by trainings that are rounded.

Beside each step of the reference a few trainings make the same step, every operation of theirs off as `rounding.py` says. What the
farthest of them is off by, the bound of that precision, model, size, batch and tensor is. No bound is a number that was read off a
framework; which factors were widened, and after what, `README.md` beside this tells.
"""

from dataclasses import dataclass, field

import numpy as np

from levelfield.errors import UserError
from levelfield.level.reference import (
    Adam,
    Step,
    clear_of_kinks,
    gradients,
    logits,
    logits_and_back,
    loss_and_slope,
    probabilities,
    trajectory,
)
from levelfield.level.rounding import MARGIN, SINGLE, UNITS, Rounding, exact, rounded
from levelfield.level.trajectory import (
    SMALLER,
    TRAINED,
    Bounds,
    Distances,
    Trajectory,
    Weights,
    first_distances,
    gradient_distances,
    output_distances,
    undecided,
    weight_distances,
)
from levelfield.study.protocol import Protocol

FIRST = 8
"""Trainings that make the first steps, up to that of the smaller batch; on the first one's outputs and gradients are compared."""
LONG = 1
"""Of these, those that go on: what it is off by at a step counts for each later one, so that 50 steps are 50 draws."""
LATER = 3
"""Times what that training is off by after the first step: there rounding has grown, and of two trainings that are rounded alike either may
be the farther one, so that the largest of so few draws is no bound on the next."""
WAY = 0.1
"""At least, of `travelled`: where rounding has made two trainings part, how long a tensor's way is differs by up to 0.02 between rounded
trainings of a small Transformer after 50 steps, in one of four; a program that stands still from step 10 on is off by 0.4, one that goes on
at half its rate by 0.3."""
COARSE = {"float32": 1.0, "tf32": 2.0**13, "bfloat16": 2.0**16}
"""How much coarser than float32's a precision's rounding is: a kink is so much farther away before a batch is clear of it. Of one that is
not, the gradient jumps in some entries, by chance in other ones than any of few trainings shows: `LATER` times of it from the first step on."""
SEED = 20
OPTIMISER = 8
"""Roundings of Adam's step: its moments, root, quotient and products."""


def asked_precisions(protocol: Protocol) -> list[str]:
    """Those of which a reference needs bounds: float32's, too, since a CPU has no TF32 and computes float32 there, and since of a coarser
    precision it has to be seen that it was computed in."""
    return list(dict.fromkeys(["float32", protocol.precision]))


def proven(protocol: Protocol, start: Weights, x: np.ndarray, y: np.ndarray, order: np.ndarray) -> Trajectory:
    """The reference's trajectory with its bounds; arguments as `reference.trajectory`'s."""
    envelopes = {name: Envelope(protocol, name, start, x, y) for name in asked_precisions(protocol)}

    def beside(step: Step) -> None:
        for envelope in envelopes.values():
            envelope.follow(step)

    with np.errstate(over="ignore", invalid="ignore"):  # what diverges is told in one line
        found = trajectory(protocol, start, x, y, order, beside)
    found.bounds = {name: envelope.bounds for name, envelope in envelopes.items()}
    return found


def gradient_bounds(protocol: Protocol, weights: Weights, x: np.ndarray, y: np.ndarray) -> dict[str, float]:
    """Of each tensor's gradient of one batch in float32, over the reference's largest entry."""
    _, expected = gradients(protocol, weights, x, y)
    known: Bounds = {}
    for seed in range(FIRST):
        _, slopes, _ = Training(protocol, "float32", weights, seed).step(x, y)
        _widen(known, {"gradients": gradient_distances(slopes, expected)})
    times = 1 if clear_of_kinks(protocol, weights, x) else LATER
    return {name: times * value for name, value in known["gradients"].items()}


def _widen(known: Bounds, found: Distances) -> None:
    for name, values in found.items():
        held = known.setdefault(name, {})
        for tensor, value in values.items():
            if value is None:
                raise UserError(
                    f"the float64 reference or its rounded training gives no finite number ({name} of {tensor}): the protocol diverges in the first steps that "
                    f"are compared; lower `learning_rate`, or take decays nearer to 1"
                )
            held[tensor] = max(held.get(tensor, 0.0), value)


class RoundedAdam(Adam):
    """Adam in float32, and with its 1 - β^t, which float32 has off by half a unit of 1: as much of itself as it is small."""

    def __init__(self, protocol: Protocol, weights: Weights, rounding: Rounding):
        super().__init__(protocol, weights)
        self.rounding, self.rate = rounding, 1.0

    def update(self, weights: Weights, gradients: Weights) -> None:
        decays = [beta ** (self.steps + 1) for beta in (self.protocol.beta_1, self.protocol.beta_2)]
        self.rate = 1 + MARGIN * SINGLE * sum(self.rounding.generator.normal() * decay / (1 - decay) for decay in decays)
        super().update(weights, gradients)

    def move(self, weights: np.ndarray, step: np.ndarray) -> None:
        """What does not move is not rounded."""
        moves = step != 0
        if moves.any():
            moved = self.rounding.result(weights - self.rounding.result(step, OPTIMISER) * self.rate)
            np.copyto(weights, moved, where=moves)


class Training:
    """A training whose every operation is rounded."""

    def __init__(self, protocol: Protocol, precision: str, start: Weights, seed: int):
        self.protocol = protocol
        self.rounding = Rounding(precision, np.random.default_rng([SEED, seed]))
        self.single = self.rounding.single()
        self.weights = {name: value.astype(np.float64) for name, value in start.items()}
        self.adam = RoundedAdam(protocol, self.weights, self.single)

    def step(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, Weights, float]:
        """Probabilities, gradients and loss of a batch; moves the weights."""
        found, back = logits_and_back(self.protocol, self.rounding.of(self.weights), x)
        outcome = rounded(exact(found), self.single)  # the loss is float32's in every precision
        outputs = exact(probabilities(outcome))
        loss, slope = loss_and_slope(outcome, y.astype(np.float64))
        slopes = {name: exact(value) for name, value in back(slope).items()}
        self.adam.update(self.weights, slopes)
        return outputs, slopes, loss

    def outputs(self, x: np.ndarray) -> np.ndarray:
        """Probabilities of a batch with the weights as they are."""
        found = logits(self.protocol, self.rounding.of(self.weights), x)
        return exact(probabilities(rounded(exact(found), self.single)))


@dataclass
class Envelope:
    """The largest distances of some rounded trainings from the reference that they follow."""

    protocol: Protocol
    precision: str
    start: Weights
    x: np.ndarray
    y: np.ndarray
    bounds: Bounds = field(default_factory=dict)
    """Up to the steps done."""

    def __post_init__(self) -> None:
        self.trainings = [Training(self.protocol, self.precision, self.start, seed) for seed in range(FIRST)]
        self.so_far: Bounds = {}
        self.off = 0.0
        self.clear = True

    def follow(self, step: Step) -> None:
        """Makes the step with every training, and widens the bounds."""
        if step.number == 1:
            exact_start = {name: value.astype(np.float64) for name, value in self.start.items()}
            self.clear = clear_of_kinks(self.protocol, exact_start, self.x[step.rows], COARSE[self.precision])
            trained = probabilities(logits(self.protocol, step.weights, self.x[step.rows]))
        for training in self.trainings:
            outputs, slopes, loss = training.step(self.x[step.rows], self.y[step.rows])
            self.off = max(self.off, float(np.abs(outputs - step.probabilities).max()))
            if step.number == 1:
                _widen(self.bounds, first_distances(outputs, slopes, step.probabilities, step.gradients))
                _widen(self.bounds, output_distances(TRAINED, training.outputs(self.x[step.rows]), trained))
            after = weight_distances(0, training.weights, step.weights, self.start)
            _widen(self.so_far, after | {"loss_step_0": {"loss": abs(float(loss) - step.loss)}})
        if step.number == 1:
            # outputs after the step are off by what it is off by, and by their own rounding
            self.bounds[TRAINED] = {name: LATER * value for name, value in self.bounds[TRAINED].items()}
            if not self.clear:
                self.bounds["gradients"] = {name: LATER * value for name, value in self.bounds["gradients"].items()}
        if step.number == SMALLER:
            del self.trainings[LONG:]
        if step.compared:
            for name, values in self.so_far.items():
                jumps = step.number > 1 or (not self.clear and not name.startswith("loss"))
                times = LATER if jumps else 1
                least = WAY if name.startswith("travelled") else 0.0
                self.bounds[name.replace("0", str(step.number))] = {
                    tensor: max(least, times * v) for tensor, v in values.items()
                }
            # answers that so much rounding may turn: the others are as the reference's
            self.bounds[f"right_step_{step.number}"] = {"right": float(undecided(step.probabilities, LATER * self.off))}
            self._turned(step)

    def _turned(self, step: Step) -> None:
        """Where a step of Adam, which is about α at first, was turned round in one entry, it may be in any, by twice α a step, and in
        one more: how many turn is a matter of chance, and where few do, the most of few draws is soon met. After the first step what the other
        tensors are off by follows from that: `LATER` times once more."""
        rate = self.protocol.learning_rate
        turn = 2 * rate * step.number * (1 + MARGIN * UNITS[self.precision])
        largest, moved = (self.bounds[f"{kind}_step_{step.number}"] for kind in ("weights", "moved"))
        turned = {tensor for tensor, value in largest.items() if value > rate}
        for tensor, value in largest.items():
            if turned and tensor not in turned and step.number > 1:
                largest[tensor], moved[tensor] = LATER * value, LATER * moved[tensor]
            if tensor in turned:
                gone = np.linalg.norm(step.weights[tensor] - self.start[tensor]) or 1.0
                largest[tensor], moved[tensor] = max(value, turn), float(np.hypot(moved[tensor], turn / gone))
