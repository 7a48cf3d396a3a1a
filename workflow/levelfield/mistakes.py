"""Common mistakes, computed with the reference: what a program that makes one would give. `check.py` names the one it finds."""

from collections.abc import Callable, Iterator
from itertools import permutations

import numpy as np

from levelfield.protocol import Protocol
from levelfield.reference import Adam, Weights, forward, gradients, probabilities, side_by_side

GATES = "ifco"


def named(found, mistakes: Iterator[tuple[str, Callable[[], object]]], distance, bound: float) -> str | None:
    """The first mistake that explains what was found to within the bound."""
    return next((name for name, expected in mistakes if distance(found, expected()) <= bound), None)


def of_outputs(weights: Weights, x: np.ndarray) -> Iterator[tuple[str, Callable[[], np.ndarray]]]:
    """Mistakes of the forward pass: name, and the probabilities that it gives for sequences x."""
    for name, departure in (
        ("the dense layer reads the last time step, where the backward LSTM has seen one token", "last-step-output"),
        ("there is a tanh before the dense layer", "extra-tanh"),
    ):
        yield name, lambda departure=departure: departed_outputs(weights, x, departure)
    for order in permutations(range(4)):
        if order != (0, 1, 2, 3):
            name = f"the gates stand in the order {', '.join(GATES[g] for g in order)} instead of {', '.join(GATES)}"
            yield name, lambda order=order: outputs(gates_reordered(weights, order), x)
    for factor, name in ((2, "the LSTM's bias is added twice"), (0, "the LSTM's bias is left out")):
        yield name, lambda factor=factor: outputs(lstm_biases_times(weights, factor), x)
    yield "the backward states of layer 1 are not put back into the sequence's order", lambda: unflipped_outputs(weights, x)


def outputs(weights: Weights, x: np.ndarray) -> np.ndarray:
    """Probabilities (sequences,) of the protocol's model."""
    return probabilities(forward(weights, x)[0])


def departed_outputs(weights: Weights, x: np.ndarray, departure: str) -> np.ndarray:
    """Probabilities of the model with the departure `last-step-output` or `extra-tanh`."""
    _, (_, second, features) = forward(weights, x)
    if departure == "last-step-output":
        features = np.concatenate([second.hidden[-1, 0], second.hidden[1, 1]], axis=-1)
    else:
        features = np.tanh(features)
    return probabilities((features @ weights["dense/kernel"] + weights["dense/bias"])[:, 0])


def unflipped_outputs(weights: Weights, x: np.ndarray) -> np.ndarray:
    _, (first, second, _) = forward(weights, x)
    hidden = first.hidden[1:].copy()
    hidden[:, 1] = hidden[::-1, 1]
    last = np.concatenate(list(second.forward(side_by_side(hidden))[-1]), axis=-1)
    return probabilities((last @ weights["dense/kernel"] + weights["dense/bias"])[:, 0])


def gates_reordered(weights: Weights, order: tuple[int, ...]) -> Weights:
    """Weights with which the reference computes what a program computes that reads block k as gate `order[k]`."""
    back = np.argsort(order)
    return {
        name: np.concatenate([np.split(value, 4, axis=-1)[k] for k in back], axis=-1) if name.startswith("lstm") else value
        for name, value in weights.items()
    }


def lstm_biases_times(weights: Weights, factor: float) -> Weights:
    return {name: value * factor if _lstm_bias(name) else value for name, value in weights.items()}


def of_update(
    protocol: Protocol, weights: Weights, x: np.ndarray, y: np.ndarray
) -> Iterator[tuple[str, Callable[[], Weights]]]:
    """Mistakes of the optimiser: name, and the weights after one step on the batch x, y."""
    _, slopes = gradients(weights, x, y)
    a, b = protocol.learning_rate, (1 - protocol.beta_2) ** 0.5

    def moved(epsilon: float) -> Weights:
        # the first step of Adam is α · g / (|g| + ε / √(1 − β₂)) in the protocol's form, α · g / (|g| + ε) in the paper's first
        return {name: weights[name] - a * slopes[name] / (np.abs(slopes[name]) + epsilon) for name in weights}

    yield (
        "a second bias is trained: Adam moves their sum twice as far",
        lambda: _biases_twice(weights, moved(protocol.epsilon / b)),
    )
    yield "Adam's ε stands beside √v̂ instead of √v: m̂ / (√v̂ + ε)", lambda: moved(protocol.epsilon)
    for epsilon in (1e-7, 1e-8):
        name = f"Adam's ε is {epsilon:.0e} instead of the protocol's {protocol.epsilon:.0e}"
        yield name, lambda epsilon=epsilon: moved(epsilon)
        yield name, lambda epsilon=epsilon: moved(epsilon / b)
    yield (
        "duplicate slices of the embedding's gradient are squared one by one",
        lambda: _sparse(protocol, weights, x, y, slopes),
    )


def _biases_twice(weights: Weights, moved: Weights) -> Weights:
    return {name: 2 * value - weights[name] if _lstm_bias(name) else value for name, value in moved.items()}


def _lstm_bias(name: str) -> bool:
    return name.startswith("lstm") and name.endswith("bias")


def _sparse(protocol: Protocol, weights: Weights, x: np.ndarray, y: np.ndarray, slopes: Weights) -> Weights:
    """Each place of the batch gets an embedding row of its own, whose gradient is then one slice."""
    rows = weights["embedding"][x.ravel()]
    _, each = gradients({**weights, "embedding": rows}, np.arange(x.size).reshape(x.shape), y)
    squares = np.zeros_like(weights["embedding"])
    np.add.at(squares, x.ravel(), each["embedding"] ** 2)
    moved = {name: value.copy() for name, value in weights.items()}
    Adam(protocol, weights).update(moved, slopes)
    slope, b = slopes["embedding"], (1 - protocol.beta_2) ** 0.5
    moved["embedding"] = weights["embedding"] - protocol.learning_rate * slope / (np.sqrt(squares) + protocol.epsilon / b)
    return moved
