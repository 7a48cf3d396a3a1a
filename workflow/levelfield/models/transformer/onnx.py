"""The transformer as ONNX operators of opset 17."""

from typing import Any

import numpy as np
from onnx import NodeProto, helper

from levelfield.models.transformer import EPSILON, PROJECTIONS
from levelfield.study.protocol import Protocol

Weights = dict[str, np.ndarray]
SWAPPED = (0, 2, 1, 3)
"""(batch, length, heads, width of a head) to (batch, heads, length, width of a head), and back."""


def graph(weights: Weights, protocol: Protocol, departures: frozenset[str]) -> tuple[list[NodeProto], dict[str, np.ndarray]]:
    """Nodes from `tokens` int32 (batch, length) to `logits` (batch, outputs), and the constants that they use."""
    heads, each = weights["attention/query/bias"].shape
    constants = {name: value for name, value in weights.items() if not name.startswith("attention/")}
    for name in PROJECTIONS:
        constants[f"attention/{name}/kernel"] = weights[f"attention/{name}/kernel"].reshape(-1, heads * each)
        constants[f"attention/{name}/bias"] = weights[f"attention/{name}/bias"].reshape(-1)
    constants["attention/output/kernel"] = weights["attention/output/kernel"].reshape(heads * each, -1)
    constants["attention/output/bias"] = weights["attention/output/bias"]
    constants["attention/split"] = np.array([0, 0, heads, each])
    constants["attention/joined"] = np.array([0, 0, heads * each])
    constants["attention/scale"] = np.array(each**-0.5, np.float32)
    nodes: list[NodeProto] = []

    def add(operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def dense(name: str, features: str, output: str | None = None) -> str:
        product = add("MatMul", [features, f"{name}/kernel"], f"{name}/product")
        return add("Add", [product, f"{name}/bias"], output or f"{name}/sum")

    def norm(name: str, features: str, added: str) -> str:
        both = add("Add", [features, added], f"{name}/inputs")
        own = [both, f"{name}/gamma", f"{name}/beta"]
        return add("LayerNormalization", own, f"{name}/features", axis=-1, epsilon=EPSILON)

    def split(name: str, features: str, perm: tuple[int, ...]) -> str:
        parts = add("Reshape", [dense(f"attention/{name}", features), "attention/split"], f"attention/{name}/heads")
        return add("Transpose", [parts], f"attention/{name}/by_head", perm=perm)

    words = add("Gather", ["tokens/embedding", "tokens"], "words", axis=0)
    features = add("Add", [words, "positions/embedding"], "embedded")
    query, value = (split(name, features, SWAPPED) for name in ("query", "value"))
    scores = add("MatMul", [query, split("key", features, (0, 2, 3, 1))], "attention/products")
    scores = add("Mul", [scores, "attention/scale"], "attention/scores")
    shares = add("Softmax", [scores], "attention/shares", axis=-1)
    results = add("MatMul", [shares, value], "attention/results")
    results = add("Transpose", [results], "attention/by_token", perm=SWAPPED)
    results = add("Reshape", [results, "attention/joined"], "attention/side_by_side")
    features = norm("norm_1", features, dense("attention/output", results))
    inner = add("Relu", [dense("feed_forward_1", features)], "feed_forward_1/features")
    features = norm("norm_2", features, dense("feed_forward_2", inner))
    mean = add("ReduceMean", [features], "mean", axes=[1], keepdims=0)
    last = add("Relu", [dense("dense", mean)], "dense/features")
    if "double-softmax" in departures:
        add("Softmax", [dense("logits", last)], "logits", axis=-1)
    else:
        dense("logits", last, "logits")
    return nodes, constants
