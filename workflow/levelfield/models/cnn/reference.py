"""The convolutional model's float64 reference in `autograd`'s numpy, which differentiates it.

A step of 32 × 200 tokens at the published sizes takes about 0.1 s on one core.
"""

from typing import TYPE_CHECKING

from levelfield.models.base import MATCHED
from levelfield.models.cnn import CONVOLUTIONS, Cnn
from levelfield.study.protocol import Protocol

if TYPE_CHECKING:
    import numpy as np  # autograd has the same functions, and no types
else:
    import autograd.numpy as np

Weights = dict[str, np.ndarray]
LEAST_MARGIN = 1e-7
"""Beyond it float32 crossed no kink in 268 of 268 batches (PyTorch, ten starts)."""


def convolved(features: np.ndarray, kernel: np.ndarray, bias: np.ndarray, stride: int) -> np.ndarray:
    """A cross-correlation without padding: (batch, time, inputs) and (width, inputs, filters) to (batch, positions, filters).

    One product for each of the kernel's positions, with the features that it meets there in all windows.
    """
    width = len(kernel)
    end = (features.shape[1] - width) // stride * stride + 1
    found: np.ndarray = sum(features[:, k : k + end : stride] @ kernel[k] for k in range(width)) + bias
    return found


def relu(values: np.ndarray) -> np.ndarray:
    """max(values, 0), with slope 0 at 0, as frameworks have it."""
    return np.where(values > 0, values, 0.0)


def classified(weights: Weights, features: np.ndarray) -> np.ndarray:
    """Logits (batch, outputs) of what is left of time, (batch, filters): the hidden and the last dense layer."""
    hidden = relu(features @ weights["hidden/kernel"] + weights["hidden/bias"])
    return hidden @ weights["dense/kernel"] + weights["dense/bias"]


def logits(weights: Weights, x: np.ndarray, protocol: Protocol, departures: frozenset[str] = MATCHED) -> np.ndarray:
    """Logits (batch, outputs) of sequences x (batch, length). Where several windows are the maximum, all share its gradient."""
    features = weights["embedding"][x]
    for layer in CONVOLUTIONS:
        features = relu(convolved(features, weights[f"{layer}/kernel"], weights[f"{layer}/bias"], Cnn.of(protocol).stride))
    return classified(weights, np.max(features, axis=1))


def margin(weights: Weights, x: np.ndarray, protocol: Protocol) -> float:
    """How near the batch comes to a kink: the least argument of a ReLU that matters, or the least lead of a maximum.

    A window with the same tokens as the leading one is no rival: it has the same value and the same gradient.
    """
    sizes = Cnn.of(protocol)
    size, stride = sizes.width, sizes.stride
    first, second = CONVOLUTIONS
    arguments = convolved(weights["embedding"][x], weights[f"{first}/kernel"], weights[f"{first}/bias"], stride)
    found = convolved(relu(arguments), weights[f"{second}/kernel"], weights[f"{second}/bias"], stride)
    largest = found.max(axis=1)
    hidden = relu(largest) @ weights["hidden/kernel"] + weights["hidden/bias"]
    seen = size + (size - 1) * stride  # tokens that a position of the second convolution sees
    windows = np.stack([x[:, place : place + seen] for place in np.arange(found.shape[1]) * stride**2], axis=1)
    leading = windows[np.arange(len(x))[:, None], found.argmax(axis=1)]
    rival = (windows[:, :, None, :] != leading[:, None]).any(axis=3) & (largest > 0)[:, None]
    lead = np.where(rival, largest[:, None] - found, np.inf).min()
    return float(min(np.abs(arguments).min(), np.abs(largest).min(), np.abs(hidden).min(), lead))
