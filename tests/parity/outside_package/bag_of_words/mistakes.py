"""Common mistakes of a bag of words: what a program that makes one would give."""

from collections.abc import Callable, Iterator

import numpy as np

from levelfield.study.protocol import Protocol


def of_outputs(weights: dict, x: np.ndarray, protocol: Protocol) -> Iterator[tuple[str, Callable[[], np.ndarray]]]:
    """Name, and the logits (batch, outputs) that it gives for sequences x."""
    real = (x != 0)[..., None]

    def without_padding() -> np.ndarray:
        features = (weights["embedding"][x] * real).sum(axis=1) / real.sum(axis=1)
        return features @ weights["dense/kernel"] + weights["dense/bias"]

    yield "the mean leaves out padding", without_padding
