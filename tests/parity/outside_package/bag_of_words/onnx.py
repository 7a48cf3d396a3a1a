"""The bag of words as ONNX operators."""

import numpy as np
from onnx import NodeProto, helper

from levelfield.study.protocol import Protocol


def graph(weights: dict, protocol: Protocol, departures: frozenset[str]) -> tuple[list[NodeProto], dict[str, np.ndarray]]:
    """Nodes from `tokens` int32 (batch, length) to `logits` (batch, outputs), and the constants that they take."""
    mean = helper.make_node("ReduceMean", ["embedded"], ["features"], axes=[1], keepdims=0)
    total = helper.make_node("ReduceSum", ["embedded", "time"], ["features"], keepdims=0)
    return [
        helper.make_node("Gather", ["embedding", "tokens"], ["embedded"], axis=0),
        total if "sum-of-words" in departures else mean,
        helper.make_node("Gemm", ["features", "dense/kernel", "dense/bias"], ["logits"]),
    ], {**weights, "time": np.array([1])}
