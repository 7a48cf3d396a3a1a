"""The convolutional model as ONNX operators (opset 17)."""

import numpy as np
from onnx import NodeProto, helper

from levelfield.models.cnn import CONVOLUTIONS, Cnn
from levelfield.study.protocol import Protocol


def graph(
    weights: dict[str, np.ndarray], protocol: Protocol, departures: frozenset[str]
) -> tuple[list[NodeProto], dict[str, np.ndarray]]:
    """Nodes from `tokens` int32 (batch, length) to `logits` (batch, outputs), and the constants that they take.

    ONNX has sequences as (batch, channels, time) and kernels as (filters, inputs, width). Dropout has no part in a prediction.
    """
    constants = dict(weights)
    nodes = [
        helper.make_node("Gather", ["embedding", "tokens"], ["embedded"], axis=0),
        helper.make_node("Transpose", ["embedded"], ["channels_first"], perm=[0, 2, 1]),
    ]
    features = "channels_first"
    for layer in CONVOLUTIONS:
        kernel, bias = f"{layer}/kernel", f"{layer}/bias"
        constants[kernel] = weights[kernel].transpose(2, 1, 0)
        nodes += [
            helper.make_node("Conv", [features, kernel, bias], [layer], layer, strides=[Cnn.of(protocol).stride]),
            helper.make_node("Relu", [layer], [f"{layer}/relu"]),
        ]
        features = f"{layer}/relu"
    nodes += [
        helper.make_node("ReduceMax", [features], ["maximum"], axes=[2], keepdims=0),
        helper.make_node("Gemm", ["maximum", "hidden/kernel", "hidden/bias"], ["hidden"]),
        helper.make_node("Relu", ["hidden"], ["hidden/relu"]),
        helper.make_node("Gemm", ["hidden/relu", "dense/kernel", "dense/bias"], ["logits"]),
    ]
    return nodes, constants
