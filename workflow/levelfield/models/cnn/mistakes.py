"""Common mistakes of a convolutional text classifier, computed with the reference: what a program that makes one would give."""

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from levelfield.models.cnn import CONVOLUTIONS, Cnn, windows
from levelfield.models.cnn.reference import Weights, convolved, logits, relu
from levelfield.study.protocol import Protocol

Change = Callable[[np.ndarray], np.ndarray]


def of_outputs(weights: Weights, x: np.ndarray, protocol: Protocol) -> Iterator[tuple[str, Callable[[], np.ndarray]]]:
    """Mistakes of the forward pass: name, and the logits (batch, outputs) that it gives for sequences x (batch, length)."""
    sizes = Cnn.of(protocol)
    length, width, stride = protocol.length, sizes.width, sizes.stride
    otherwise = partial(computed, weights, x, stride)

    for strides in ((1, 1), (stride, 1), (1, stride), (2, 2), (width, width)):
        if strides != (stride, stride) and windows(windows(length, width, strides[0]), width, strides[1]) > 0:
            name = f"the convolutions have the strides {strides[0]} and {strides[1]} instead of {stride}"
            yield name, partial(otherwise, strides=strides)

    yield "time is reduced by its mean instead of its maximum", lambda: otherwise(reduced=lambda f: f.mean(axis=1))
    yield "time is reduced by its sum instead of its maximum", lambda: otherwise(reduced=lambda f: f.sum(axis=1))
    yield "the last position is read instead of the maximum over time", lambda: otherwise(reduced=lambda f: f[:, -1])

    for layers in (CONVOLUTIONS[:1], CONVOLUTIONS[1:], CONVOLUTIONS, ("hidden",), (*CONVOLUTIONS, "hidden")):
        yield f"no ReLU after {' and '.join(layers)}", partial(otherwise, linear=layers)

    same = partial(padded_as_needed, width=width, stride=stride)
    yield "the convolutions pad as `same` does in Keras and Flax", lambda: otherwise(padded=same)
    yield (
        "the convolutions pad by half their width on both sides",
        lambda: otherwise(padded=partial(padded_by, sides=(width // 2,) * 2)),
    )
    yield "the convolutions pad in front (causal)", lambda: otherwise(padded=partial(padded_by, sides=(width - 1, 0)))

    for name, change in (
        ("the kernels are flipped in time: a true convolution", lambda kernel: kernel[::-1]),
        (
            "the kernels are reshaped to (filters, inputs, width), not transposed",
            lambda kernel: kernel.reshape(kernel.shape[::-1]).transpose(2, 1, 0),
        ),
    ):
        yield name, partial(logits, kernels_changed(weights, change), x, protocol)
    yield (
        "inputs and filters of the second kernel are exchanged",
        lambda: logits({**weights, "conv_2/kernel": weights["conv_2/kernel"].swapaxes(1, 2)}, x, protocol),
    )
    yield (
        "the embedded words are reshaped to (batch, channels, time), not transposed",
        lambda: otherwise(embedded=lambda f: f.reshape(len(f), -1, length).swapaxes(1, 2)),
    )

    yield "the embedding is scaled by the root of its width", lambda: otherwise(embedded=lambda f: f * sizes.embedding**0.5)
    yield "id 0 is embedded as zeros (padding_idx, mask_zero)", lambda: otherwise(embedded=lambda f: f * (x != 0)[..., None])
    for factor, how in ((0, "left out"), (2, "added twice")):
        name = f"the convolutions' biases are {how}"
        yield name, partial(logits, biases_times(weights, factor), x, protocol)


def of_update(weights: Weights, moved: Weights) -> Iterator[tuple[str, Callable[[], Weights]]]:
    """Mistakes of the parameters: name, and the weights after a step that should have given `moved`."""

    def unmoved() -> Weights:
        table = moved["embedding"].copy()
        table[0] = weights["embedding"][0]
        return {**moved, "embedding": table}

    yield "the embedding of id 0 is not trained (padding_idx)", unmoved


def computed(
    weights: Weights,
    x: np.ndarray,
    stride: int,
    strides: tuple[int, int] | None = None,
    embedded: Change = lambda features: features,
    padded: Change = lambda features: features,
    linear: tuple[str, ...] = (),
    reduced: Change = lambda features: features.max(axis=1),
) -> np.ndarray:
    """The model's logits with parts of it replaced: `embedded` and `padded` take (batch, time, channels) and give it, `padded`
    before each convolution; `reduced` gives (batch, channels); `linear` are layers without their ReLU."""
    features = embedded(weights["embedding"][x])
    for layer, step in zip(CONVOLUTIONS, strides or (stride, stride), strict=True):
        features = convolved(padded(features), weights[f"{layer}/kernel"], weights[f"{layer}/bias"], step)
        features = features if layer in linear else relu(features)
    hidden = reduced(features) @ weights["hidden/kernel"] + weights["hidden/bias"]
    return (hidden if "hidden" in linear else relu(hidden)) @ weights["dense/kernel"] + weights["dense/bias"]


def padded_by(features: np.ndarray, sides: tuple[int, int]) -> np.ndarray:
    return np.pad(features, ((0, 0), sides, (0, 0)))


def padded_as_needed(features: np.ndarray, width: int, stride: int) -> np.ndarray:
    """So that there are time / stride positions, rounded up; of an odd number of zeros the greater half behind."""
    time = features.shape[1]
    zeros = max((-(-time // stride) - 1) * stride + width - time, 0)
    return padded_by(features, (zeros // 2, zeros - zeros // 2))


def kernels_changed(weights: Weights, change: Change) -> Weights:
    """The convolutions' kernels changed, the other weights as they are."""
    kernels = {f"{layer}/kernel" for layer in CONVOLUTIONS}
    return {name: change(value) if name in kernels else value for name, value in weights.items()}


def biases_times(weights: Weights, factor: float) -> Weights:
    """The convolutions' biases multiplied, the other weights as they are."""
    biases = {f"{layer}/bias" for layer in CONVOLUTIONS}
    return {name: value * factor if name in biases else value for name, value in weights.items()}
