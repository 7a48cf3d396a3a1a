"""Departures: each named difference from the protocol. Those of the data and of the telling are declared here.

A case lists the departures that its program makes. Those of a model stand in its folder, those of the optimiser in
`backends/departures.py`; a backend and a builder declare which of them they can make.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

ARTICLE = "A. Oudad, Comparing Keras and PyTorch on sentiment classification (2021)"
TUTORIAL = "JAX AI Stack, Text classification with a transformer language model using JAX"


@dataclass(frozen=True)
class Departure:
    kind: Literal["model", "weights", "optimiser", "data", "reporting"]
    """What it changes: `weights` the start (`level/start.py`), `reporting` the finished records (`tell/collect.py`)."""
    meaning: str
    reference: str


DEPARTURES = {
    "drop-last-batch": Departure(
        "data", "The last, smaller batch is left out, in training and in validation.", f"{ARTICLE}, PyTorch side"
    ),
    "drop-last-training-batch": Departure("data", "The last, smaller batch is left out in training.", TUTORIAL),
    "history-not-cleared": Departure(
        "reporting", "An epoch's training figures are means over all epochs so far.", f"{ARTICLE}, PyTorch side"
    ),
    "running-mean-curve": Departure(
        "reporting", "A step's figures are means over the epoch so far, not the batch's own.", f"{ARTICLE}, Keras side"
    ),
}


def drops_last_batch(departures: Iterable[str]) -> bool:
    """Whether training leaves out the last, smaller batch."""
    return bool({"drop-last-batch", "drop-last-training-batch"} & set(departures))


def too_few(departures: Iterable[str], batch_size: int, training: int | None, validation: int | None) -> str | None:
    """Why so many sequences do not do: of training they must make one whole batch, of validation too where its last, smaller one
    is left out. None where they do, and of a number that is not known."""
    if training is not None and training < batch_size:
        return f"batch_size {batch_size} is larger than the training data ({training:,} sequences)"
    if validation is not None and validation < batch_size and "drop-last-batch" in departures:
        return (
            f"batch_size {batch_size} is larger than the validation data ({validation:,} sequences), of which drop-last-batch leaves "
            "nothing"
        )
    return None
