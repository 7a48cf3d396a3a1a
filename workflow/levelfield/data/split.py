"""Which rows are for training and which for validation, and what number each label has."""

import json
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from levelfield.data import saved
from levelfield.data.formats import TEXT, left_out
from levelfield.data.rows import Rows, parts
from levelfield.errors import UserError
from levelfield.study.data import Data

SHARE, SEED = 0.2, 0
"""Of each label's rows for validation, and the seed that draws them, where the config says neither."""
MOST_LABELS = 1000


@dataclass(frozen=True)
class Divided:
    """The rows of own data, and what becomes of each."""

    rows: list[Rows]
    """One part that is divided, or the training part and that for validation."""
    labels: tuple[str, ...]
    codes: list[np.ndarray]
    """int64 (rows,) of each part: class numbers; −1 for rows that are left out."""
    validation: list[np.ndarray]
    """bool (rows,) of each part."""
    why: str


def divide(data: Data, content: str, ids: bool = False) -> Divided:
    """The rows that `data.file` and `data.validation_file` name, their labels read and their validation part chosen.

    content: the column of the content where the config names none. ids: it holds token ids.
    """
    assert data.file is not None
    training, own = parts(data.file, data.validation_file)
    if own and not data.validation_file:
        for key in ("validation_share", "split_seed"):
            if getattr(data, key) is not None:
                raise UserError(
                    f"data.{key}: {data.file} has a part for validation, {own.name}: leave it out, or name {training} in data.file"
                )
    found = [
        Rows(path, data.text or content, data.label or "label", ids, selected=data.labels is not None)
        for path in (training, own)
        if path
    ]
    labels, codes = classes(found[0], found[1] if own else None, data.labels)
    if own:
        why = f"validation by {own.name}"
        chosen = [np.zeros(len(codes[0]), bool), np.ones(len(codes[1]), bool)]
    else:
        why = told(data.file, data.validation_share, data.split_seed)
        seed = SEED if data.split_seed is None else data.split_seed
        chosen = [split(codes[0], len(labels), data.validation_share or SHARE, seed)]
    if others := sum(left_out(rows.path) for rows in found):
        why += f"; {others:,} {'file' if others == 1 else 'files'} left out, being no {TEXT}"
    return Divided(found, labels, codes, chosen, f"data.file names it; {why}")


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
        counts.append({label: counted[number] for label, number in known.items() if label})
    if wanted and (len(set(wanted)) < len(wanted) or "" in wanted):
        raise UserError("data.labels: a label stands there twice, or is empty")
    used = sorted(wanted) if wanted else sorted(label for label in known if counts[0].get(label) or counts[-1].get(label))
    _refuse_alike(used, known, [rows for rows in (training, own) if rows], numbers)
    refuse_labels(used, counts, [str(rows.path) for rows in (training, own) if rows], training.label)
    table = np.full(len(known), -1, np.int64)
    for number, label in enumerate(used):
        if label in known:
            table[known[label]] = number
    return tuple(used), [table[part] for part in numbers]


def refuse_labels(used: Sequence[str], counts: Sequence[Mapping[str, int]], names: Sequence[str], column: str | None) -> None:
    """Raises UserError unless there are 2 to 1,000 labels, each of which the training part has.

    counts: the rows of each label in each part, `names` what these are called. column: that of a table; None of what has no columns.
    """
    for label in used:
        if not counts[0].get(label):
            where = f"; {names[1]} has it" if counts[-1].get(label) else ""
            hint = "; name those to be used in data.labels" if column else ""
            if alike := next((other for other in counts[0] if counts[0][other] and _normal(other) == _normal(label)), None):
                hint = f"; it has {alike!a}, which differs from {label!a} in Unicode's normal form alone: write that one, as {_written(alike)}"
            raise UserError(f"{names[0]}: no row has the label {label!r}{where}: it has {_some(counts[0])}{hint}")
    hint = "; is data.label right?" if column else ""
    if len(used) < 2:
        raise UserError(f"{names[0]}: every row has the label {used[0]!r}: two at least are needed{hint}")
    if len(used) > MOST_LABELS:
        raise UserError(
            f"{names[0]}: column {column} has {len(used):,} labels, as {_some(counts[0])}; {MOST_LABELS:,} at most are told apart{hint}"
        )


def _normal(label: str) -> str:
    """In Unicode's composed form: letters with their accents as one sign each."""
    return label if label.isascii() else unicodedata.normalize("NFC", label)


def _written(label: str) -> str:
    """A label in a config, in signs that every editor leaves as they are."""
    return json.dumps(label)


def _refuse_alike(used: Sequence[str], known: Mapping[str, int], parts: Sequence[Rows], numbers: Sequence[np.ndarray]) -> None:
    """Raises UserError where a label that is used is written in two of Unicode's normal forms: it would be two classes, which look alike.

    known: each label's number; numbers: those of the rows of each part.
    """
    wanted, seen = {_normal(label) for label in used}, dict[str, str]()
    for label in known:
        first = seen.setdefault(_normal(label), label)
        if first != label and _normal(label) in wanted:
            told = " and ".join(f"{one!a} ({_where(known[one], parts, numbers)})" for one in (first, label))
            raise UserError(
                f"{parts[0].path}: the label {label!r} is written in two of Unicode's normal forms, which look alike: {told}: make them "
                'one, as `unicodedata.normalize("NFC", label)` does in Python'
            )


def _where(number: int, parts: Sequence[Rows], numbers: Sequence[np.ndarray]) -> str:
    """The first row of a label: its part and its place."""
    for rows, found in zip(parts, numbers, strict=True):
        places = np.flatnonzero(found == number)
        if len(places):
            row = f"row {places[0] + 1:,}, column {rows.label}"
            return (
                f"a folder in {rows.path}" if rows.path.is_dir() and not saved.by_datasets(rows.path) else f"{rows.path}, {row}"
            )
    raise AssertionError("every label has a row")


def _some(counts: Mapping[str, int]) -> str:
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
    return f"{100 * (share or SHARE):.6g}% of each label's rows of {path.name} kept for validation, drawn with the seed {seed or SEED}"
