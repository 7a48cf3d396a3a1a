"""Common mistakes of a bidirectional LSTM, computed with the reference: what a program that makes one would give."""

from collections.abc import Callable, Iterator
from functools import partial
from itertools import permutations

import numpy as np

from levelfield.models.bilstm import DIRECTIONS, LAYERS
from levelfield.models.bilstm.reference import Layer, Weights, logits, side_by_side
from levelfield.study.protocol import Protocol

GATES = "ifco"


def of_outputs(weights: Weights, x: np.ndarray, protocol: Protocol) -> Iterator[tuple[str, Callable[[], np.ndarray]]]:
    """Mistakes of the forward pass: name, and the logits that it gives for sequences x."""
    for order in permutations(range(4)):
        if order != (0, 1, 2, 3):
            name = f"the gates stand in the order {', '.join(GATES[g] for g in order)} instead of {', '.join(GATES)}"
            yield name, partial(logits, gates_reordered(weights, order), x, protocol)
    for factor, name in ((2, "the LSTM's bias is added twice"), (0, "the LSTM's bias is left out")):
        yield name, partial(logits, lstm_biases_times(weights, factor), x, protocol)
    yield "the backward states of layer 1 are not put back into the sequence's order", lambda: unflipped(weights, x)


def of_update(weights: Weights, moved: Weights) -> Iterator[tuple[str, Callable[[], Weights]]]:
    """Mistakes of the parameters: name, and the weights after a step that should have given `moved`."""
    yield (
        "a second bias is trained: Adam moves their sum twice as far",
        lambda: {name: 2 * value - weights[name] if _lstm_bias(name) else value for name, value in moved.items()},
    )


def unflipped(weights: Weights, x: np.ndarray) -> np.ndarray:
    first, second = (Layer.of(weights, name) for name in LAYERS)
    hidden = first.forward(weights["embedding"][x.T]).copy()
    hidden[:, 1] = hidden[::-1, 1]
    last = np.concatenate(list(second.forward(side_by_side(hidden))[-1]), axis=-1)
    return last @ weights["dense/kernel"] + weights["dense/bias"]


def gates_reordered(weights: Weights, order: tuple[int, ...]) -> Weights:
    """Weights with which the reference computes what a program computes that reads block k as gate `order[k]`."""
    back = np.argsort(order)
    return {
        name: np.concatenate([np.split(value, 4, axis=-1)[k] for k in back], axis=-1) if name.startswith("lstm") else value
        for name, value in weights.items()
    }


def lstm_biases_times(weights: Weights, factor: float) -> Weights:
    return {name: value * factor if _lstm_bias(name) else value for name, value in weights.items()}


def _lstm_bias(name: str) -> bool:
    return name in {f"{layer}/{direction}/bias" for layer in LAYERS for direction in DIRECTIONS}
