"""The bag of words in float64, for autograd to differentiate."""

import autograd.numpy as np

from levelfield.models.base import MATCHED
from levelfield.study.protocol import Protocol

DEPARTURES = ("sum-of-words",)
"""Of kind `model`, those that `logits` makes."""


def logits(weights: dict, x: np.ndarray, protocol: Protocol, departures: frozenset[str] = MATCHED) -> np.ndarray:
    """Logits (batch, outputs) of sequences x (batch, time)."""
    reduced = np.sum if "sum-of-words" in departures else np.mean
    return reduced(weights["embedding"][x], axis=1) @ weights["dense/kernel"] + weights["dense/bias"]
