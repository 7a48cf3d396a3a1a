"""Exchange: weights that one case trained, evaluated by every other, as a matrix whose rows must agree."""

import csv
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from levelfield.backends.base import Backend, evaluate
from levelfield.records import load_arrays, write_json, write_whole

BOUND = 1e-4
"""Largest spread of a row's accuracies: 2.5 of 25,000 validated reviews, whose probabilities stand at 0.5 to within rounding."""


@dataclass
class Exchanged:
    """The content of `exchange/<case>.json`: one case's evaluation of everyone's weights."""

    case: str
    backend: str
    device: str
    seed: int
    corpus: str
    validation_sequences: int
    accuracy: dict[str, float]
    """By the case that trained the weights."""
    loss: dict[str, float]


def trained_by(weights: Path) -> tuple[str, int]:
    """Case and seed of `runs/<case>/seed-<n>/weights.npz`."""
    return weights.parent.parent.name, int(weights.parent.name.removeprefix("seed-"))


def evaluate_all(
    backend: Backend, files: list[Path], x: np.ndarray, y: np.ndarray
) -> tuple[dict[str, float], dict[str, float]]:
    """Accuracy and loss of the weights of each file, by the case that trained them."""
    accuracy, loss = {}, {}
    for file in files:
        backend.load(load_arrays(file))
        found = evaluate(backend, x, y)
        accuracy[trained_by(file)[0]], loss[trained_by(file)[0]] = found.accuracy, found.loss
    return accuracy, loss


def matrix(records: list[Exchanged]) -> dict[str, Any]:
    """Accuracies and losses {trained by: {evaluated by: value}}, each row's spread, and whether all rows agree."""
    trainers = list(dict.fromkeys(name for record in records for name in record.accuracy))
    table = {
        figure: {
            name: {record.case: getattr(record, figure)[name] for record in records if name in getattr(record, figure)}
            for name in trainers
        }
        for figure in ("accuracy", "loss")
    }
    spread = {name: max(row.values()) - min(row.values()) for name, row in table["accuracy"].items()}
    first = records[0]
    return {
        "seed": first.seed,
        "corpus": first.corpus,
        "validation_sequences": first.validation_sequences,
        **table,
        "accuracy_spread": spread,
        "bound": BOUND,
        "agree": max(spread.values()) <= BOUND,
    }


def write_matrix(folder: Path, records: list[Exchanged]) -> dict[str, Any]:
    """Writes exchange.json and, a row a pair, exchange.csv into `folder`; returns the former."""
    found = matrix(records)
    write_json(folder / "exchange.json", found)
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["trained_by", "evaluated_by", "accuracy", "loss"])
    for trainer, row in found["accuracy"].items():
        rows.writerows([trainer, case, repr(value), repr(found["loss"][trainer][case])] for case, value in row.items())
    write_whole(folder / "exchange.csv", text.getvalue().encode())
    return found


def read(path: Path) -> Exchanged:
    return Exchanged(**json.loads(Path(path).read_text(encoding="utf-8")))
