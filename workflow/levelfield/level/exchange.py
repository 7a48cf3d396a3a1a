"""Exchange: weights that one case trained, evaluated by every other, as a matrix whose rows must agree.

They agree where their accuracies differ by no more sequences than have an answer that rounding decides, and every loss is finite.
"""

import csv
import io
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from levelfield.backends.base import Backend, evaluate
from levelfield.level.trajectory import finite, undecided
from levelfield.records import load_arrays, write_json, write_whole

NEAR = {"float32": 1e-5, "tf32": 4e-3, "bfloat16": 3e-2}
"""By precision, how near to its alternative a probability may be, half the difference between the two, for rounding to decide which
is the larger. Seen of a trained Transformer (400 reviews, PyTorch against JAX, a CPU): at most 2e-7 apart in float32, 1.3e-2 in
bfloat16, where 2 answers turned; TF32 stands between them, by its unit (2⁻¹¹ beside bfloat16's 2⁻⁸), and was not measured."""


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
    loss: dict[str, float | None]
    """None: not finite."""
    undecided: dict[str, int] = field(default_factory=dict)
    """Sequences whose answer rounding decides; empty in records of earlier versions, which then must agree in every one."""


def trained_by(weights: Path) -> tuple[str, int]:
    """Case and seed of `runs/<case>/seed-<n>/weights.npz`."""
    return weights.parent.parent.name, int(weights.parent.name.removeprefix("seed-"))


def evaluate_all(
    backend: Backend, files: list[Path], x: np.ndarray, y: np.ndarray, precision: str
) -> tuple[dict[str, float], dict[str, float | None], dict[str, int]]:
    """Accuracy, loss and undecided sequences of the weights of each file, by the case that trained them.

    precision: what the backend computes in.
    """
    accuracy, loss, near = {}, {}, {}
    for file in files:
        backend.load(load_arrays(file))
        found, name = evaluate(backend, x, y), trained_by(file)[0]
        accuracy[name], loss[name] = found.accuracy, finite(found.loss)
        near[name] = undecided(found.probabilities, NEAR[precision])
    return accuracy, loss, near


def matrix(records: list[Exchanged]) -> dict[str, Any]:
    """Accuracies and losses {trained by: {evaluated by: value}}, each row's spread and bound, and which rows agree.

    A row's bound: the most undecided sequences that one of its cases tells of, as a share of all; `bound`: the largest of them, or one
    sequence where there is none.
    """
    trainers = list(dict.fromkeys(name for record in records for name in record.accuracy))
    table = {
        figure: {
            name: {record.case: getattr(record, figure)[name] for record in records if name in getattr(record, figure)}
            for name in trainers
        }
        for figure in ("accuracy", "loss")
    }
    first = records[0]
    sequences = first.validation_sequences
    spread = {name: max(row.values()) - min(row.values()) for name, row in table["accuracy"].items()}
    most = {name: max(record.undecided.get(name, 0) for record in records) for name in trainers}
    agrees = {
        name: round(spread[name] * sequences) <= most[name] and None not in table["loss"][name].values() for name in trainers
    }
    return {
        "seed": first.seed,
        "corpus": first.corpus,
        "validation_sequences": sequences,
        **table,
        "accuracy_spread": spread,
        "bounds": {name: count / sequences for name, count in most.items()},
        "bound": max(1, *most.values()) / sequences,
        "agrees": agrees,
        "agree": all(agrees.values()),
    }


def write_matrix(folder: Path, records: list[Exchanged]) -> dict[str, Any]:
    """Writes exchange.json and, a row a pair, exchange.csv into `folder`; returns the former."""
    found = matrix(records)
    write_json(folder / "exchange.json", found)
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["trained_by", "evaluated_by", "accuracy", "loss"])
    for trainer, row in found["accuracy"].items():
        losses = {case: "" if loss is None else repr(loss) for case, loss in found["loss"][trainer].items()}
        rows.writerows([trainer, case, repr(value), losses[case]] for case, value in row.items())
    write_whole(folder / "exchange.csv", text.getvalue().encode())
    return found


def read(path: Path) -> Exchanged:
    return Exchanged(**json.loads(Path(path).read_text(encoding="utf-8")))
