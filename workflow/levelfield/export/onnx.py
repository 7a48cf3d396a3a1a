"""A run's model as an ONNX file that any ONNX runtime opens: tokens in, probabilities out."""

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from levelfield.errors import UserError
from levelfield.records import load_arrays, write_whole
from levelfield.reference import DIRECTIONS, Weights

OPSET = 17
IR_VERSION = 8
"""Of 2022, with LSTM as of opset 14: what runtimes of the last years read."""
GATES = (0, 3, 1, 2)
"""ONNX orders an LSTM's gates i, o, f, c (onnx.ai, operator LSTM); the canonical layout has i, f, c, o."""


def write(run: Path, out: Path) -> str:
    """Writes `model.onnx`, with what it was trained on and how tokens are encoded as metadata."""
    if not (run / "weights.npz").is_file():
        raise UserError(f"{run / 'weights.npz'} is not there: committed results keep no weights, run the study for them")
    found = json.loads((run / "run.json").read_text())
    protocol = found["protocol"]
    told = {name: str(found[name]) for name in ("study", "case", "seed", "corpus", "data_sha256", "start_sha256", "departures")}
    told |= {name: str(protocol[name]) for name in ("vocabulary", "length", "padding", "truncation")}
    told["tokens"] = "word rank + 3; 0 padding, 1 start, 2 unknown"
    content = to_onnx(load_arrays(run / "weights.npz"), protocol["length"], found["departures"], told).SerializeToString()
    file = out / "model.onnx"
    write_whole(file, content)
    return f"{file}: {len(content):,} bytes, tokens int32 (batch, {protocol['length']}) -> probabilities float32 (batch,)"


def to_onnx(weights: Weights, length: int, departures: list[str], told: dict[str, str]) -> onnx.ModelProto:
    """The model of canonical weights: `tokens` int32 (batch, length) -> `probabilities` float32 (batch,).

    departures: of these `last-step-output` and `extra-tanh` change the model. told: metadata, as text. Raises
    onnx.checker.ValidationError where the model is not valid ONNX.
    """
    units = weights["lstm_1/forward/recurrent_kernel"].shape[0]
    constants = {
        "embedding": weights["embedding"],
        "dense/kernel": weights["dense/kernel"],
        "dense/bias": weights["dense/bias"],
    }
    for layer in ("lstm_1", "lstm_2"):
        constants |= lstm_constants(weights, layer)
    constants["states_of_a_step"] = np.array([0, 0, 2 * units])
    constants["states_of_a_review"] = np.array([-1, 2 * units])
    constants["axis"] = np.array([1])
    last_step = "last-step-output" in departures
    if last_step:
        constants["last"] = np.array(length - 1)

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
        *([helper.make_node("Tanh", ["features"], ["squashed"])] if "extra-tanh" in departures else []),
        helper.make_node(
            "Gemm", ["squashed" if "extra-tanh" in departures else "features", "dense/kernel", "dense/bias"], ["logits"]
        ),
        helper.make_node("Sigmoid", ["logits"], ["column"]),
        helper.make_node("Squeeze", ["column", "axis"], ["probabilities"]),
    ]
    graph = helper.make_graph(
        nodes,
        "levelfield",
        [helper.make_tensor_value_info("tokens", TensorProto.INT32, ["batch", length])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch"])],
        [numpy_helper.from_array(np.array(value, order="C"), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, producer_name="levelfield", opset_imports=[helper.make_opsetid("", OPSET)])
    model.ir_version = IR_VERSION
    helper.set_model_props(model, told)
    onnx.checker.check_model(model, full_check=True)
    return model


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
