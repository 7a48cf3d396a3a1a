"""The LSTM's float64 reference: forward and backward by hand in numpy, since `autograd` takes far longer over 200 time steps.

Arrays are time-major, (time, direction, batch, …): both directions of a layer run in one pass, each over its own order
of time (the backward one over the flipped sequence), and all that does not depend on the step before stands outside
the loop. One step of 32 × 200 tokens at the reference experiment's sizes takes about 0.5 s on one core.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from levelfield.models.base import MATCHED
from levelfield.models.bilstm import DIRECTIONS, LAYERS
from levelfield.study.protocol import Protocol

Weights = dict[str, np.ndarray]
PARTS = ("kernel", "recurrent_kernel", "bias")
DEPARTURES = ("last-step-output", "extra-tanh")
"""Of kind `model`, those that `logits` makes."""


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
        return cls(*(np.stack([weights[f"{name}/{d}/{part}"] for d in DIRECTIONS]) for part in PARTS))

    def forward(self, inputs: np.ndarray) -> np.ndarray:
        """Hidden states (time, 2, batch, units), each direction in its own order of time, for inputs (time, batch, inputs)."""
        time, batch, _ = inputs.shape
        units = self.recurrent.shape[1]
        self.inputs = np.stack([inputs, inputs[::-1]])
        gates = np.stack([self.inputs[d] @ self.kernel[d] + self.bias[d] for d in (0, 1)], axis=1)
        # arrays like the gates, so that simulated rounding (level/rounding.py) goes on in them
        self.cells, self.hidden = np.zeros_like(gates, shape=(2, time + 1, 2, batch, units))
        self.squashed = np.empty_like(gates, shape=(time, 2, batch, units))
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
        hidden: np.ndarray = self.hidden[1:]
        return hidden

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


def forward(
    weights: Weights, x: np.ndarray, departures: frozenset[str] = MATCHED
) -> tuple[np.ndarray, tuple[Layer, Layer, np.ndarray]]:
    """Logits (batch, outputs) of sequences x (batch, time), and what the backward pass needs of the way there."""
    first, second = (Layer.of(weights, name) for name in LAYERS)
    hidden = second.forward(side_by_side(first.forward(weights["embedding"][x.T])))
    behind = hidden[0, 1] if "last-step-output" in departures else hidden[-1, 1]  # its first step reads the last token
    features = np.concatenate([hidden[-1, 0], behind], axis=-1)
    if "extra-tanh" in departures:
        features = np.tanh(features)
    return features @ weights["dense/kernel"] + weights["dense/bias"], (first, second, features)


def logits(weights: Weights, x: np.ndarray, protocol: Protocol, departures: frozenset[str] = MATCHED) -> np.ndarray:
    """Logits (batch, outputs) of sequences x (batch, time)."""
    return forward(weights, x, departures)[0]


def logits_and_back(
    weights: Weights, x: np.ndarray, protocol: Protocol, departures: frozenset[str] = MATCHED
) -> tuple[np.ndarray, Callable[[np.ndarray], Weights]]:
    """Logits, and the function that gives every weight's gradient for one of the logits, (batch, outputs)."""
    found, (first, second, features) = forward(weights, x, departures)

    def back(error: np.ndarray) -> Weights:
        slopes = {"dense/kernel": features.T @ error, "dense/bias": error.sum(axis=0)}
        upstream = np.zeros((x.shape[1], 2, len(x), features.shape[1] // 2))
        of_features = error @ weights["dense/kernel"].T
        if "extra-tanh" in departures:
            of_features = of_features * (1 - features**2)
        last = 0 if "last-step-output" in departures else -1
        upstream[-1, 0], upstream[last, 1] = np.split(of_features, 2, axis=-1)
        inputs, second_found = second.backward(upstream)
        ahead, behind = np.split(inputs, 2, axis=-1)
        embedded, first_found = first.backward(np.stack([ahead, behind[::-1]], axis=1))
        for name, parts in zip(LAYERS, (first_found, second_found), strict=True):
            for part, value in zip(PARTS, parts, strict=True):
                slopes |= {f"{name}/{direction}/{part}": value[d] for d, direction in enumerate(DIRECTIONS)}
        slopes["embedding"] = np.zeros_like(weights["embedding"])
        np.add.at(slopes["embedding"], x.T, embedded)
        return {name: slopes[name] for name in weights}

    return found, back
