"""A run's model as an ONNX file that any ONNX runtime opens: tokens in, probabilities out."""

import importlib
import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from levelfield.errors import UserError
from levelfield.models.base import model_of
from levelfield.records import load_arrays, write_whole
from levelfield.study.protocol import Protocol

Weights = dict[str, np.ndarray]
OPSET = 17
IR_VERSION = 8
"""Of 2022, with LSTM as of opset 14: what runtimes of the last years read."""


def write(run: Path, out: Path) -> str:
    """Writes `model.onnx`, with what it was trained on and how tokens are encoded as metadata."""
    if not (run / "weights.npz").is_file():
        raise UserError(f"{run / 'weights.npz'} is not there: committed results keep no weights, run the study for them")
    found = json.loads((run / "run.json").read_text(encoding="utf-8"))
    protocol = Protocol.of(found["protocol"])
    told = {name: str(found[name]) for name in ("study", "case", "seed", "corpus", "data_sha256", "start_sha256", "departures")}
    told |= {name: str(getattr(protocol, name)) for name in ("vocabulary", "length", "padding", "truncation")}
    told["model"] = json.dumps(found["protocol"]["model"])
    told["tokens"] = "word rank + 3; 0 padding, 1 start, 2 unknown"
    content = to_onnx(load_arrays(run / "weights.npz"), protocol, found["departures"], told).SerializeToString()
    file = out / "model.onnx"
    write_whole(file, content)
    return f"{file}: {len(content):,} bytes, tokens int32 (batch, {protocol.length}) -> probabilities float32"


def to_onnx(weights: Weights, protocol: Protocol, departures: list[str], told: dict[str, str]) -> onnx.ModelProto:
    """The model of canonical weights: `tokens` int32 (batch, length) -> `probabilities` float32.

    They are (batch,) for one output, (batch, outputs) for several. departures: those of kind `model` change it. told: metadata,
    as text. Raises onnx.checker.ValidationError where the model is not valid ONNX.
    """
    own = importlib.import_module(f"{model_of(protocol).package}.onnx")
    nodes, constants = own.graph(weights, protocol, frozenset(departures))
    outputs = protocol.model.outputs
    if outputs == 1:
        constants = constants | {"output_axis": np.array([1])}
        last = [
            helper.make_node("Sigmoid", ["logits"], ["column"]),
            helper.make_node("Squeeze", ["column", "output_axis"], ["probabilities"]),
        ]
    else:
        last = [helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1)]
    graph = helper.make_graph(
        [*nodes, *last],
        "levelfield",
        [helper.make_tensor_value_info("tokens", TensorProto.INT32, ["batch", protocol.length])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch"] if outputs == 1 else ["batch", outputs])],
        [numpy_helper.from_array(np.array(value, order="C"), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, producer_name="levelfield", opset_imports=[helper.make_opsetid("", OPSET)])
    model.ir_version = IR_VERSION
    helper.set_model_props(model, told)
    onnx.checker.check_model(model, full_check=True)
    return model
