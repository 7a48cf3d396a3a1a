"""Departures: each named difference from the protocol. Those of the data and of the telling are declared here.

A case lists the departures that its program makes. Those of a model stand in its folder, those of the optimiser in
`backends/departures.py`; a backend and a builder declare which of them they can make.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

ARTICLE = "A. Oudad, Comparing Keras and PyTorch on sentiment classification (2021)"
TUTORIAL = "JAX AI Stack, Text classification with transformer model (jax-ml/jax-ai-stack, commit 2801700)"
WORKERS = 4
"""Of the tutorial's loader (Grain): worker i has the sequences i, i + 4, … of an epoch's order."""


@dataclass(frozen=True)
class Departure:
    kind: Literal["model", "weights", "optimiser", "data", "reporting"]
    """What it changes: `weights` the start (`level/start.py`), `reporting` the finished records (`tell/collect.py`)."""
    meaning: str
    reference: str
    other_loss: bool = False
    """Whether the loss becomes another function: then it is compared with no other program's."""


DEPARTURES = {
    "drop-last-batch": Departure(
        "data", "The last, smaller batch is left out, in training and in validation.", f"{ARTICLE}, PyTorch side"
    ),
    "drop-last-training-batch": Departure(
        "data", "The last, smaller batch is left out in training.", "what one worker of Grain's would leave out"
    ),
    "drop-last-batch-of-each-worker": Departure(
        "data",
        "Four workers make the batches of training, each of every fourth sequence, and are asked in turn; each leaves its last, smaller "
        "one out.",
        TUTORIAL,
    ),
    "same-order-each-epoch": Departure("data", "Every epoch has the order of the first one.", TUTORIAL),
    "no-start-token": Departure("data", "No start id stands before a sequence.", TUTORIAL),
    "history-not-cleared": Departure(
        "reporting", "An epoch's training figures are means over all epochs so far.", f"{ARTICLE}, PyTorch side"
    ),
    "running-mean-curve": Departure(
        "reporting", "A step's figures are means over the epoch so far, not the batch's own.", f"{ARTICLE}, Keras side"
    ),
}


def drops_last_batch(departures: Iterable[str]) -> bool:
    """Whether training leaves out the last, smaller batch."""
    return bool({"drop-last-batch", "drop-last-training-batch", "drop-last-batch-of-each-worker"} & set(departures))


def of_each_worker(sequences: int) -> list[int]:
    """How many of so many sequences each worker has."""
    return [len(range(worker, sequences, WORKERS)) for worker in range(WORKERS)]


def trained_on(departures: Iterable[str], sequences: int, batch_size: int) -> int:
    """How many of so many sequences an epoch trains on."""
    departures = set(departures)
    if "drop-last-batch-of-each-worker" in departures:
        return sum(mine // batch_size * batch_size for mine in of_each_worker(sequences))
    return sequences // batch_size * batch_size if drops_last_batch(departures) else sequences


def too_few(departures: Iterable[str], batch_size: int, training: int | None, validation: int | None) -> str | None:
    """Why so many sequences do not do: of training they must make one whole batch, of validation too where its last, smaller one
    is left out. None where they do, and of a number that is not known."""
    departures = set(departures)
    if training is not None and training < batch_size:
        return f"batch_size {batch_size} is larger than the training data ({training:,} sequences)"
    if training is not None and not trained_on(departures, training, batch_size):
        return (
            f"batch_size {batch_size} is larger than what each of {WORKERS} workers has of the training data ({training:,} sequences), of "
            "which drop-last-batch-of-each-worker leaves nothing"
        )
    if validation is not None and validation < batch_size and "drop-last-batch" in departures:
        return (
            f"batch_size {batch_size} is larger than the validation data ({validation:,} sequences), of which drop-last-batch leaves "
            "nothing"
        )
    return None


def without_start(departures: Iterable[str], padding: str, truncation: str, encoded: bool) -> str | None:
    """Why no start id can be left out, where that is asked for. encoded: the data are token ids already, of which nobody
    knows whether one is a start."""
    if "no-start-token" not in departures:
        return None
    if encoded:
        return "no-start-token: of token ids that are made already it is not known which is a start: leave the departure out"
    if (padding, truncation) != ("pre", "pre"):
        return (
            f"no-start-token: found padding {padding} and truncation {truncation}, expected pre of both: at the other side one more word of the "
            "sequence would be needed in its place"
        )
    return None
