"""The transformer's float64 reference in autograd's numpy: features (batch, time, width), heads (batch, heads, time, width).

One gradient of 32 x 200 tokens at the published sizes takes about 0.12 s on one core.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from autograd.tracer import getval

from levelfield.models.base import MATCHED
from levelfield.models.transformer import EPSILON, PROJECTIONS
from levelfield.study.protocol import Protocol

if TYPE_CHECKING:
    import numpy as np  # autograd has the same functions, and no types
else:
    import autograd.numpy as np

Weights = dict[str, np.ndarray]
LEAST_MARGIN = 5e-7
"""Some five times float32's rounding of a ReLU's argument, whose terms are of the size of 1."""
DEPARTURES = ("double-softmax",)
"""Of kind `model`, those that `logits` makes of the same weights."""


def logits(weights: Weights, x: np.ndarray, protocol: Protocol, departures: frozenset[str] = MATCHED) -> np.ndarray:
    """Logits (batch, outputs) of sequences x (batch, time); how wide heads are is told by the weights."""
    features = embedded(weights, x)
    features = normalised(weights, "norm_1", features + attention(weights, features))
    features = normalised(weights, "norm_2", features + feed_forward(weights, features))
    found = classified(weights, np.mean(features, axis=1))
    return softmax(found) if "double-softmax" in departures else found


def embedded(weights: Weights, x: np.ndarray) -> np.ndarray:
    features: np.ndarray = weights["tokens/embedding"][x] + weights["positions/embedding"]
    return features


def attention(weights: Weights, features: np.ndarray) -> np.ndarray:
    """Multi-head self-attention (Vaswani et al. 2017), every token to every token; (batch, time, width) both ways."""
    query, key, value = (split(weights, name, features) for name in PROJECTIONS)
    scores = query @ np.swapaxes(key, -1, -2) / np.sqrt(query.shape[-1])
    return joined(weights, softmax(scores) @ value)


def split(weights: Weights, name: str, features: np.ndarray) -> np.ndarray:
    """The heads' queries, keys or values, (batch, heads, time, width of a head)."""
    kernel, bias = weights[f"attention/{name}/kernel"], weights[f"attention/{name}/bias"]
    flat = features @ np.reshape(kernel, (kernel.shape[0], -1)) + np.reshape(bias, -1)
    return np.swapaxes(np.reshape(flat, (*features.shape[:2], *bias.shape)), 1, 2)


def joined(weights: Weights, heads: np.ndarray) -> np.ndarray:
    """The heads side by side through the output's kernel, (batch, time, width)."""
    kernel = weights["attention/output/kernel"]
    flat = np.reshape(np.swapaxes(heads, 1, 2), (heads.shape[0], heads.shape[2], -1))
    features: np.ndarray = flat @ np.reshape(kernel, (-1, kernel.shape[-1])) + weights["attention/output/bias"]
    return features


def softmax(scores: np.ndarray) -> np.ndarray:
    """Over the last axis; what is subtracted to keep exp within range changes neither value nor gradient."""
    shifted = np.exp(scores - getval(scores).max(axis=-1, keepdims=True))
    shares: np.ndarray = shifted / np.sum(shifted, axis=-1, keepdims=True)
    return shares


def normalised(weights: Weights, name: str, features: np.ndarray, epsilon: float = EPSILON) -> np.ndarray:
    """LayerNorm over the last axis (Ba et al. 2016): ε is added to the variance, whose divisor is the width."""
    centred = features - np.mean(features, axis=-1, keepdims=True)
    variance = np.mean(centred**2, axis=-1, keepdims=True)
    return scaled(weights, name, centred, np.sqrt(variance + epsilon))


def scaled(weights: Weights, name: str, centred: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    features: np.ndarray = centred / deviation * weights[f"{name}/gamma"] + weights[f"{name}/beta"]
    return features


def relu(values: np.ndarray) -> np.ndarray:
    return values * (values > 0)


def feed_forward(weights: Weights, features: np.ndarray, activation: Callable[[np.ndarray], np.ndarray] = relu) -> np.ndarray:
    return dense(weights, "feed_forward_2", activation(dense(weights, "feed_forward_1", features)))


def classified(weights: Weights, features: np.ndarray, activation: Callable[[np.ndarray], np.ndarray] = relu) -> np.ndarray:
    """Features (batch, width) -> (batch, outputs)."""
    return dense(weights, "logits", activation(dense(weights, "dense", features)))


def dense(weights: Weights, name: str, features: np.ndarray) -> np.ndarray:
    return features @ weights[f"{name}/kernel"] + weights[f"{name}/bias"]


def margin(weights: Weights, x: np.ndarray, protocol: Protocol) -> float:
    """How near the batch comes to a kink: the least argument of a ReLU."""
    features = embedded(weights, x)
    features = normalised(weights, "norm_1", features + attention(weights, features))
    inner = dense(weights, "feed_forward_1", features)
    features = normalised(weights, "norm_2", features + feed_forward(weights, features))
    return float(min(np.abs(inner).min(), np.abs(dense(weights, "dense", np.mean(features, axis=1))).min()))
