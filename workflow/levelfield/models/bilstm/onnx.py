"""The LSTM as nodes of an ONNX graph."""

import numpy as np
import onnx
from onnx import helper

from levelfield.models.bilstm import DIRECTIONS, LAYERS, BiLstm
from levelfield.study.protocol import Protocol

GATES = (0, 3, 1, 2)
"""ONNX orders an LSTM's gates i, o, f, c (onnx.ai, operator LSTM); the canonical layout has i, f, c, o."""

Weights = dict[str, np.ndarray]


def graph(weights: Weights, protocol: Protocol, departures: frozenset[str]) -> tuple[list[onnx.NodeProto], Weights]:
    """Nodes from `tokens` int32 (batch, length) to `logits` (batch, outputs), and the constants that they use."""
    units = BiLstm.of(protocol).units
    constants = {name: weights[name] for name in ("embedding", "dense/kernel", "dense/bias")}
    for layer in LAYERS:
        constants |= lstm_constants(weights, layer)
    constants["states_of_a_step"] = np.array([0, 0, 2 * units])
    constants["states_of_a_review"] = np.array([-1, 2 * units])
    last_step, tanh = "last-step-output" in departures, "extra-tanh" in departures
    if last_step:
        constants["last"] = np.array(protocol.length - 1)

    def lstm(layer: str, inputs: str, outputs: list[str]) -> onnx.NodeProto:
        names = [inputs, *(f"{layer}/{part}" for part in ("W", "R", "B"))]
        return helper.make_node("LSTM", names, outputs, layer, hidden_size=units, direction="bidirectional")

    nodes = [
        helper.make_node("Transpose", ["tokens"], ["by_time"], perm=[1, 0]),
        helper.make_node("Gather", ["embedding", "by_time"], ["embedded"], axis=0),
        lstm("lstm_1", "embedded", ["states_1"]),  # (length, 2, batch, units)
        helper.make_node("Transpose", ["states_1"], ["states_1_by_review"], perm=[0, 2, 1, 3]),
        helper.make_node("Reshape", ["states_1_by_review", "states_of_a_step"], ["features_1"]),
        lstm("lstm_2", "features_1", ["states_2", "final"]),  # final: (2, batch, units)
        *([helper.make_node("Gather", ["states_2", "last"], ["last_states"], axis=0)] if last_step else []),
        helper.make_node("Transpose", ["last_states" if last_step else "final"], ["by_review"], perm=[1, 0, 2]),
        helper.make_node("Reshape", ["by_review", "states_of_a_review"], ["features"]),
        *([helper.make_node("Tanh", ["features"], ["squashed"])] if tanh else []),
        helper.make_node("Gemm", ["squashed" if tanh else "features", "dense/kernel", "dense/bias"], ["logits"]),
    ]
    return nodes, constants


def lstm_constants(weights: Weights, layer: str) -> dict[str, np.ndarray]:
    """ONNX's W (2, 4·units, inputs), R (2, 4·units, units) and B (2, 8·units), whose second half, a second bias, is 0."""

    def both(part: str) -> np.ndarray:
        found = []
        for direction in DIRECTIONS:
            blocks = np.split(weights[f"{layer}/{direction}/{part}"].T, 4)
            found.append(np.concatenate([blocks[gate] for gate in GATES]))
        return np.stack(found)

    bias = both("bias")
    return {
        f"{layer}/W": both("kernel"),
        f"{layer}/R": both("recurrent_kernel"),
        f"{layer}/B": np.concatenate([bias, np.zeros_like(bias)], axis=1),
    }
