"""Which rows are for training and which for validation, and what number each label has."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from levelfield.data.rows import Rows
from levelfield.errors import UserError

SHARE, SEED = 0.2, 0
"""Of each label's rows for validation, and the seed that draws them, where the config says neither."""
MOST_LABELS = 1000


@dataclass(frozen=True)
class Split:
    """A part's rows, in its order."""

    codes: np.ndarray
    """int64 (rows,): class numbers; −1 for rows that are left out."""
    validation: np.ndarray
    """bool (rows,)."""


def classes(training: Rows, own: Rows | None, wanted: tuple[str, ...] | None) -> tuple[tuple[str, ...], list[np.ndarray]]:
    """The labels, as text sorted, and each part's class numbers, −1 for rows of labels other than those wanted.

    Raises UserError for fewer than two labels, more than 1,000, or a label that the training part does not have.
    """
    counts: list[dict[str, int]] = []
    numbers: list[np.ndarray] = []
    known: dict[str, int] = {}
    for rows in (training, own) if own else (training,):
        found = _numbered(rows, known)
        numbers.append(found)
        counted = np.bincount(found, minlength=len(known)).tolist()
        counts.append({label: counted[number] for label, number in known.items()})
    used = sorted(wanted) if wanted else sorted(label for label in known if counts[0].get(label) or counts[-1].get(label))
    if wanted and len(set(wanted)) < len(wanted):
        raise UserError("data.labels: a label stands there twice")
    for label in used:
        if not counts[0].get(label):
            where = f"; {own.path} has it" if own and counts[-1].get(label) else ""
            raise UserError(
                f"{training.path}: no row has the label {label!r}{where}: it has {_some(counts[0])}; name those to be used in data.labels"
            )
    if len(used) < 2:
        raise UserError(f"{training.path}: every row has the label {used[0]!r}: two at least are needed; is data.label right?")
    if len(used) > MOST_LABELS:
        raise UserError(
            f"{training.path}: column {training.label} has {len(used):,} labels, as {_some(counts[0])}; {MOST_LABELS:,} at most are "
            "told apart: is data.label right?"
        )
    table = np.full(len(known), -1, np.int64)
    for number, label in enumerate(used):
        if label in known:
            table[known[label]] = number
    return tuple(used), [table[part] for part in numbers]


def _some(counts: dict[str, int]) -> str:
    labels = sorted(label for label, count in counts.items() if count)
    return ", ".join(map(repr, labels[:8])) + (", …" if len(labels) > 8 else "")


def _numbered(rows: Rows, known: dict[str, int]) -> np.ndarray:
    """Each row's label as a number, in the order in which labels come."""
    found = []
    with tqdm(desc=f"labels of {rows.path.name}", unit=" rows", disable=None, leave=False, delay=2) as bar:
        for block in rows.blocks(labels_alone=True):
            encoded = block.labels.dictionary_encode()
            table = np.array([known.setdefault(label, len(known)) for label in encoded.dictionary.to_pylist()], np.int64)
            if len(known) > 1000 * MOST_LABELS:
                raise UserError(f"{rows.path}: column {rows.label} has more than a million labels: is data.label right?")
            found.append(table[np.asarray(encoded.indices)])
            bar.update(len(block.labels))
    return np.concatenate(found)


def split(codes: np.ndarray, count: int, share: float, seed: int) -> np.ndarray:
    """bool (rows,): which rows are for validation: of each label the share, rounded, drawn by the seed; a label's only row never."""
    rng, chosen = np.random.default_rng(seed), np.zeros(len(codes), bool)
    for number in range(count):
        rows = np.flatnonzero(codes == number)
        wanted = min(max(1, round(share * len(rows))), len(rows) - 1)
        chosen[rng.permutation(rows)[:wanted]] = True
    return chosen


def taken(block: pa.Array, keep: np.ndarray) -> pa.Array:
    """The rows of a block that are kept."""
    return block if keep.all() else block.filter(pa.array(keep))


def told(path: Path, share: float | None, seed: int | None) -> str:
    """How the rows were split, in words."""
    return f"{share or SHARE:.0%} of each label's rows of {path.name} kept for validation, drawn with the seed {seed or SEED}"
