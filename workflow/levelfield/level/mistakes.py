"""Common mistakes, computed with the reference: what a program that makes one would give. `check.py` names the one it finds.

Those of a model stand in its `mistakes.py`; a departure that nobody asked for is a mistake, too. Those of the optimiser are
the same for all models.
"""

import importlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import TypeVar

import numpy as np

from levelfield.errors import UserError
from levelfield.level import reference
from levelfield.level.reference import Adam, gradients, probabilities
from levelfield.level.trajectory import Weights
from levelfield.models.base import model_of, shapes
from levelfield.study.protocol import Protocol

Found = TypeVar("Found")


def named(
    found: Found, mistakes: Iterator[tuple[str, Callable[[], Found]]], distance: Callable[[Found, Found], float], bound: float
) -> str | None:
    """The first mistake that explains what was found to within the bound."""
    return next((name for name, expected in mistakes if distance(found, expected()) <= bound), None)


def outputs(protocol: Protocol, weights: Weights, x: np.ndarray, departures: frozenset[str] = frozenset()) -> np.ndarray:
    """Probabilities (sequences, outputs) of the protocol's model, or of the model with departures."""
    return probabilities(reference.logits(protocol, weights, x, departures))


def reproducible(protocol: Protocol) -> list[str]:
    """The departures of the model whose outputs the reference gives from the same weights, and that change them."""
    model = model_of(protocol)
    made = getattr(importlib.import_module(f"{model.package}.reference"), "DEPARTURES", ())
    of_model = [name for name, departure in model.departures.items() if departure.kind == "model" and name in made]
    return [name for name in of_model if _same_shapes(protocol, name)]


def _same_shapes(protocol: Protocol, departure: str) -> bool:
    """Whether a departure leaves the weights' shapes as they are; one that the model's sizes refuse is none that could be made."""
    try:
        return shapes(protocol, frozenset({departure})) == shapes(protocol)
    except UserError:
        return False


def of_outputs(protocol: Protocol, weights: Weights, x: np.ndarray) -> Iterator[tuple[str, Callable[[], np.ndarray]]]:
    """Mistakes of the forward pass: name, and the probabilities that it gives for sequences x."""
    model = model_of(protocol)
    for name in reproducible(protocol):
        yield f"{name}: {model.departures[name].meaning}", partial(outputs, protocol, weights, x, frozenset({name}))
    for name, logits in importlib.import_module(f"{model.package}.mistakes").of_outputs(weights, x, protocol):
        yield name, partial(_probabilities, logits)


def _probabilities(logits: Callable[[], np.ndarray]) -> np.ndarray:
    return probabilities(np.asarray(logits()))


def of_update(
    protocol: Protocol, weights: Weights, x: np.ndarray, y: np.ndarray
) -> Iterator[tuple[str, Callable[[], Weights]]]:
    """Mistakes of the optimiser: name, and the weights after one step on the batch x, y."""
    _, slopes = gradients(protocol, weights, x, y)
    a, b = protocol.learning_rate, (1 - protocol.beta_2) ** 0.5

    def moved(epsilon: float) -> Weights:
        # the first step of Adam is α · g / (|g| + ε / √(1 − β₂)) in the protocol's form, α · g / (|g| + ε) in the paper's first
        return {name: weights[name] - a * slopes[name] / (np.abs(slopes[name]) + epsilon) for name in weights}

    own = importlib.import_module(f"{model_of(protocol).package}.mistakes")
    if hasattr(own, "of_update"):
        yield from own.of_update(weights, moved(protocol.epsilon / b))
    yield "Adam's ε stands beside √v̂ instead of √v: m̂ / (√v̂ + ε)", lambda: moved(protocol.epsilon)
    for epsilon in (value for value in (1e-7, 1e-8) if value != protocol.epsilon):
        name = f"Adam's ε is {epsilon:.0e} instead of the protocol's {protocol.epsilon:.0e}"
        yield name, partial(moved, epsilon / b)
        yield f"{name}, and stands beside √v̂", partial(moved, epsilon)
    yield (
        "duplicate slices of the embedding's gradient are squared one by one",
        lambda: sparse_step(protocol, weights, x, y),
    )


def sparse_step(protocol: Protocol, weights: Weights, x: np.ndarray, y: np.ndarray) -> Weights:
    """The weights after one step that squares duplicate slices of the embedding's gradient one by one.

    Each place of the batch gets an embedding row of its own, whose gradient is then one slice.
    """
    _, slopes = gradients(protocol, weights, x, y)
    table = next(iter(weights))  # in Keras's order of variables the words' embedding comes first
    rows = weights[table][x.ravel()]
    _, each = gradients(protocol, {**weights, table: rows}, np.arange(x.size).reshape(x.shape), y)
    squares = np.zeros_like(weights[table])
    np.add.at(squares, x.ravel(), each[table] ** 2)
    moved = {name: value.copy() for name, value in weights.items()}
    Adam(protocol, weights).update(moved, slopes)
    slope, b = slopes[table], (1 - protocol.beta_2) ** 0.5
    moved[table] = weights[table] - protocol.learning_rate * slope / (np.sqrt(squares) + protocol.epsilon / b)
    return moved
