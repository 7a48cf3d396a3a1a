"""The reference: the protocol's model, gradient and Adam in float64, by hand in numpy, that every backend is measured against.

Arrays are time-major, (time, direction, batch, …): both directions of a layer run in one pass, each over its own order
of time (the backward one over the flipped sequence), and all that does not depend on the step before stands outside
the loop. One step of 32 × 200 tokens at the reference experiment's sizes takes about 0.5 s on one core.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from levelfield.protocol import Protocol
from levelfield.records import load_arrays, save_arrays

Weights = dict[str, np.ndarray]
DIRECTIONS = ("forward", "backward")
CHECKPOINTS = (1, 10, 50)
"""Steps after which the weights are compared."""


@dataclass
class Layer:
    """A bidirectional LSTM (Hochreiter and Schmidhuber 1997, with forget gates; gate order i, f, c, o) and one pass's memory."""

    kernel: np.ndarray
    """(2, inputs, 4·units)"""
    recurrent: np.ndarray
    """(2, units, 4·units)"""
    bias: np.ndarray
    """(2, 4·units)"""

    @classmethod
    def of(cls, weights: Weights, name: str) -> "Layer":
        return cls(
            *(np.stack([weights[f"{name}/{d}/{part}"] for d in DIRECTIONS]) for part in ("kernel", "recurrent_kernel", "bias"))
        )

    def forward(self, inputs: np.ndarray) -> np.ndarray:
        """Hidden states (time, 2, batch, units), each direction in its own order of time, for inputs (time, batch, inputs)."""
        time, batch, _ = inputs.shape
        units = self.recurrent.shape[1]
        self.inputs = np.stack([inputs, inputs[::-1]])
        gates = np.stack([self.inputs[d] @ self.kernel[d] + self.bias[d] for d in (0, 1)], axis=1)
        self.cells, self.hidden = np.zeros((2, time + 1, 2, batch, units))
        self.squashed = np.empty((time, 2, batch, units))
        # sigmoid(z) = (tanh(z / 2) + 1) / 2: one call of tanh does all four gates
        half = np.repeat([0.5, 0.5, 1.0, 0.5], units)
        shift = np.repeat([0.5, 0.5, 0.0, 0.5], units)
        for t in range(time):
            gates[t] = np.tanh((gates[t] + self.hidden[t] @ self.recurrent) * half) * half + shift
            i, f, c, o = np.split(gates[t], 4, axis=-1)
            self.cells[t + 1] = f * self.cells[t] + i * c
            self.squashed[t] = np.tanh(self.cells[t + 1])
            self.hidden[t + 1] = o * self.squashed[t]
        self.gates = gates
        return self.hidden[1:]

    def backward(self, upstream: np.ndarray) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
        """Gradients of the inputs and of (kernel, recurrent, bias), given those of the hidden states, by backpropagation through time."""
        time, _, batch, units = upstream.shape
        i, f, c, o = np.split(self.gates, 4, axis=-1)
        through_cell = o * (1 - self.squashed**2)
        # what the gradient of the cell (i, f, c) or of the hidden state (o) is multiplied with to give that of a gate's argument
        slopes = np.concatenate(
            [c * i * (1 - i), self.cells[:-1] * f * (1 - f), i * (1 - c**2), self.squashed * o * (1 - o)], axis=-1
        ).reshape(time, 2, batch, 4, units)
        arguments = np.empty_like(slopes)
        cell, hidden = np.zeros((2, 2, batch, units))
        back = self.recurrent.swapaxes(1, 2)
        for t in reversed(range(time)):
            hidden = hidden + upstream[t]
            cell = cell + hidden * through_cell[t]
            arguments[t, ..., :3, :] = cell[..., None, :] * slopes[t, ..., :3, :]
            arguments[t, ..., 3, :] = hidden * slopes[t, ..., 3, :]
            hidden = arguments[t].reshape(2, batch, 4 * units) @ back
            cell = cell * f[t]
        rows = arguments.swapaxes(0, 1).reshape(2, time * batch, 4 * units)
        kernel = self.inputs.reshape(2, time * batch, -1).swapaxes(1, 2) @ rows
        recurrent = self.hidden[:-1].swapaxes(0, 1).reshape(2, time * batch, units).swapaxes(1, 2) @ rows
        inputs = (rows @ self.kernel.swapaxes(1, 2)).reshape(2, time, batch, -1)
        return inputs[0] + inputs[1, ::-1], (kernel, recurrent, rows.sum(axis=1))


def side_by_side(hidden: np.ndarray) -> np.ndarray:
    """Both directions in the sequence's order of time: (time, 2, batch, units) to (time, batch, 2·units)."""
    return np.concatenate([hidden[:, 0], hidden[::-1, 1]], axis=-1)


def forward(weights: Weights, x: np.ndarray) -> tuple[np.ndarray, tuple[Layer, Layer, np.ndarray]]:
    """Logits (batch,) of sequences x (batch, time), and what the backward pass needs of the way there."""
    first, second = Layer.of(weights, "lstm_1"), Layer.of(weights, "lstm_2")
    hidden = first.forward(weights["embedding"][x.T])
    last = np.concatenate(list(second.forward(side_by_side(hidden))[-1]), axis=-1)
    return (last @ weights["dense/kernel"] + weights["dense/bias"])[:, 0], (first, second, last)


def probabilities(logits: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-logits))


def gradients(weights: Weights, x: np.ndarray, y: np.ndarray) -> tuple[float, Weights]:
    """Mean binary cross-entropy of one batch and its gradient with respect to every weight (float64, canonical names)."""
    logits, (first, second, last) = forward(weights, x)
    loss = float(np.mean(np.logaddexp(0, logits) - logits * y))
    error = ((probabilities(logits) - y) / len(y))[:, None]
    found = {"dense/kernel": last.T @ error, "dense/bias": error.sum(axis=0)}

    upstream = np.zeros((x.shape[1], 2, len(x), last.shape[1] // 2))
    upstream[-1] = np.stack(np.split(error @ weights["dense/kernel"].T, 2, axis=-1))
    inputs, second_found = second.backward(upstream)
    ahead, behind = np.split(inputs, 2, axis=-1)
    embedded, first_found = first.backward(np.stack([ahead, behind[::-1]], axis=1))

    for name, parts in (("lstm_1", first_found), ("lstm_2", second_found)):
        for part, value in zip(("kernel", "recurrent_kernel", "bias"), parts, strict=True):
            found |= {f"{name}/{direction}/{part}": value[d] for d, direction in enumerate(DIRECTIONS)}
    found["embedding"] = np.zeros_like(weights["embedding"])
    np.add.at(found["embedding"], x.T, embedded)
    return loss, {name: found[name] for name in weights}


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
            m, v = self.first[name], self.second[name]
            m += (gradient - m) * (1 - p.beta_1)
            v += (gradient**2 - v) * (1 - p.beta_2)
            weights[name] -= rate * m / (np.sqrt(v) + p.epsilon)


@dataclass
class Trajectory:
    """What the reference computes from one start: all float64."""

    probabilities: np.ndarray
    """Of the first batch at the start, (batch,)."""
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
    return max(batches_of(order, size), key=lambda rows: abs(float(np.mean(y[rows])) - 0.5))


def trajectory(protocol: Protocol, start: Weights, x: np.ndarray, y: np.ndarray, order: np.ndarray) -> Trajectory:
    """Trains on the batches of `order` (rows of x, at most 50 batches are taken) from the weights `start`."""
    weights = {name: value.astype(np.float64) for name, value in start.items()}
    uneven = gradient_batch(y, order, protocol.batch_size)
    _, compared = gradients(weights, x[uneven], y[uneven].astype(np.float64))
    adam, losses, checkpoints = Adam(protocol, weights), [], {}
    for step, rows in enumerate(batches_of(order, protocol.batch_size), 1):
        loss, found = gradients(weights, x[rows], y[rows].astype(np.float64))
        losses.append(loss)
        if step == 1:
            outputs = probabilities(forward(weights, x[rows])[0])
        adam.update(weights, found)
        if step in CHECKPOINTS:
            checkpoints[step] = {name: value.copy() for name, value in weights.items()}
    return Trajectory(outputs, compared, np.array(losses), checkpoints)
