"""The reference: a protocol's model in float64, its gradient and Adam in numpy, that every backend is measured against.

A model's own `reference.py` has its logits, written for `autograd`, which differentiates numpy; where that is too slow over
many steps it has the gradient by hand, too. The loss and Adam are the same for all models.
"""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType

import numpy as np

from levelfield.level.trajectory import Trajectory, Weights, checkpoints, compared_batches
from levelfield.models.base import MATCHED, model_of
from levelfield.study.protocol import Protocol


def _module(protocol: Protocol) -> ModuleType:
    return importlib.import_module(f"{model_of(protocol).package}.reference")


def logits(
    protocol: Protocol, weights: Mapping[str, np.ndarray], x: np.ndarray, departures: frozenset[str] = MATCHED
) -> np.ndarray:
    """Logits (batch, outputs) of sequences x (batch, time), of the model with its departures of kind `model`."""
    return np.asarray(_module(protocol).logits(weights, x, protocol, departures))


def logits_and_back(
    protocol: Protocol, weights: Mapping[str, np.ndarray], x: np.ndarray, departures: frozenset[str] = MATCHED
) -> tuple[np.ndarray, Callable[[np.ndarray], Weights]]:
    """Logits, and the function that gives every weight's gradient for one of the logits (batch, outputs)."""
    module = _module(protocol)
    if hasattr(module, "logits_and_back"):
        by_hand: tuple[np.ndarray, Callable[[np.ndarray], Weights]] = module.logits_and_back(weights, x, protocol, departures)
        return by_hand
    from autograd import make_vjp

    back, found = make_vjp(lambda values: module.logits(values, x, protocol, departures))(weights)
    return np.asarray(found), lambda error: {name: np.asarray(value) for name, value in back(error).items()}


def probabilities(logits: np.ndarray) -> np.ndarray:
    """Of (batch, outputs): the logistic function of one output, the softmax of several."""
    if logits.shape[1] == 1:
        found: np.ndarray = 1 / (1 + np.exp(-logits))
    else:
        shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
        found = shifted / shifted.sum(axis=1, keepdims=True)
    return found


def loss_and_slope(logits: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray]:
    """Mean cross-entropy of a batch, binary for one output, and its gradient with respect to the logits.

    y: labels (batch,), class numbers.
    """
    if logits.shape[1] == 1:
        z = logits[:, 0]
        loss = np.mean(np.logaddexp(0, z) - z * y)
        return float(loss), (probabilities(logits) - y[:, None]) / len(y)
    rows, classes = np.arange(len(y)), y.astype(int)
    loss = np.mean(np.logaddexp.reduce(logits, axis=1) - logits[rows, classes])
    slope = probabilities(logits)
    slope[rows, classes] -= 1
    return float(loss), slope / len(y)


def right(logits: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Which sequences are on the right side: boolean (batch,)."""
    found: np.ndarray = (logits[:, 0] > 0) == (y > 0.5) if logits.shape[1] == 1 else logits.argmax(axis=1) == y
    return found


def gradients(
    protocol: Protocol, weights: Weights, x: np.ndarray, y: np.ndarray, departures: frozenset[str] = MATCHED
) -> tuple[float, Weights]:
    """Mean loss of one batch and its gradient with respect to every weight (float64, canonical names)."""
    found, back = logits_and_back(protocol, weights, x, departures)
    loss, slope = loss_and_slope(found, y)
    return loss, back(slope)


BLOCK = 1 << 15
"""Numbers of a weight that Adam takes at a time."""


class Adam:
    """Adam (Kingma and Ba 2015) in the second form of its section 2, which Keras documents: w −= α_t · m / (√v + ε),
    α_t = α · √(1 − β₂^t) / (1 − β₁^t)."""

    def __init__(self, protocol: Protocol, weights: Weights):
        self.protocol, self.steps = protocol, 0
        self.first = {name: np.zeros_like(value) for name, value in weights.items()}
        self.second = {name: np.zeros_like(value) for name, value in weights.items()}

    def update(self, weights: Weights, gradients: Weights) -> None:
        """Moves the weights one step, in place."""
        p = self.protocol
        self.steps += 1
        rate = p.learning_rate * np.sqrt(1 - p.beta_2**self.steps) / (1 - p.beta_1**self.steps)
        for name, gradient in gradients.items():
            rows = max(1, BLOCK * len(gradient) // gradient.size)
            for first in range(0, len(gradient), rows):  # a block at a time stays in the processor's cache
                block = slice(first, first + rows)
                m, v, slope = self.first[name][block], self.second[name][block], gradient[block]
                m += (slope - m) * (1 - p.beta_1)
                v += (slope**2 - v) * (1 - p.beta_2)
                self.move(weights[name][block], rate * m / (np.sqrt(v) + p.epsilon))

    def move(self, weights: np.ndarray, step: np.ndarray) -> None:
        """Moves a block of weights, in place."""
        weights -= step


def clear_of_kinks(protocol: Protocol, weights: Weights, x: np.ndarray, coarse: float = 1.0) -> bool:
    """Whether a batch is so far from the model's kinks (a ReLU's 0, two equal maxima) that float32's rounding, or one so many times
    as coarse, crosses none.

    At a kink the gradient jumps: there two correct programs differ by what one unit contributes. True of a model that has none.
    """
    module = _module(protocol)
    return not hasattr(module, "margin") or module.margin(weights, x, protocol) > coarse * module.LEAST_MARGIN


@dataclass(frozen=True)
class Step:
    """What the reference found in one step; its weights after it."""

    number: int
    compared: bool
    """Whether loss and weights are compared after it."""
    rows: np.ndarray
    probabilities: np.ndarray
    gradients: Weights
    loss: float
    weights: Weights


def trajectory(
    protocol: Protocol,
    start: Weights,
    x: np.ndarray,
    y: np.ndarray,
    order: np.ndarray,
    beside: Callable[[Step], None] = lambda step: None,
) -> Trajectory:
    """Trains on at most 50 batches of `order` (rows of x) from the weights `start`; which, and in what order: `compared_batches`.

    beside: is told each step.
    """
    start = {name: value.astype(np.float64) for name, value in start.items()}
    weights = {name: value.copy() for name, value in start.items()}
    batches = compared_batches(y, order, protocol.batch_size, lambda rows: clear_of_kinks(protocol, weights, x[rows]))
    adam, losses, answers, held = Adam(protocol, weights), [], [], {}
    for number, rows in enumerate(batches, 1):
        found, back = logits_and_back(protocol, weights, x[rows])
        loss, slope = loss_and_slope(found, y[rows].astype(np.float64))
        slopes = back(slope)
        adam.update(weights, slopes)
        compared = number in checkpoints(len(batches))
        step = Step(number, compared, rows, probabilities(found), slopes, loss, weights)
        losses.append(loss)
        answers.append(int(right(found, y[rows]).sum()))
        if number == 1:
            first, trained = step, probabilities(logits(protocol, weights, x[rows]))
        if compared:
            held[number] = {name: value.copy() for name, value in weights.items()}
        beside(step)
    sizes = np.array([len(rows) for rows in batches])
    return Trajectory(
        np.concatenate(batches),
        sizes,
        first.probabilities,
        trained,
        first.gradients,
        np.array(losses),
        held,
        start,
        np.array(answers),
    )
