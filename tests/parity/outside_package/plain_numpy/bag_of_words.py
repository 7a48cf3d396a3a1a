"""The bag of words in NumPy, forward and backward by hand."""

from collections.abc import Callable

import numpy as np

DEPARTURES = ("sum-of-words",)

Weights = dict[str, np.ndarray]


def build(protocol, departures: frozenset[str]) -> Callable[[Weights, np.ndarray], tuple[np.ndarray, Callable]]:
    """The function (weights, tokens) -> logits (batch, outputs), and every weight's gradient as a function of theirs."""
    share = 1 if "sum-of-words" in departures else 1 / protocol.length

    def logits(weights: Weights, tokens: np.ndarray) -> tuple[np.ndarray, Callable[[np.ndarray], Weights]]:
        features = weights["embedding"][tokens].sum(axis=1) * share

        def back(error: np.ndarray) -> Weights:
            table = np.zeros_like(weights["embedding"])
            np.add.at(table, tokens, (error @ weights["dense/kernel"].T * share)[:, None])
            return {"embedding": table, "dense/kernel": features.T @ error, "dense/bias": error.sum(axis=0)}

        return features @ weights["dense/kernel"] + weights["dense/bias"], back

    return logits
