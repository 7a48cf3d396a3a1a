"""Labelled rows from files and folders, checked, a block at a time, to be read as often as is needed.

Errors name the file, the row (counted from 1, a table's heading apart) and the column.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from levelfield.data import formats, saved
from levelfield.errors import UserError


@dataclass(frozen=True)
class Block:
    """Rows that follow each other."""

    first: int
    """The number of its first row, from 1."""
    content: pa.Array
    """Texts (large_string), or token ids (large_list of integers), of the rows that are used; as they stand in the file where only
    labels were asked for."""
    labels: pa.Array
    """Labels as text (large_string) of all its rows; empty where a row has none."""
    places: np.ndarray
    """int64: which of its rows are used, from 0."""

    @property
    def span(self) -> slice:
        """Where its rows stand among all, from 0."""
        return slice(self.first - 1, self.first - 1 + len(self.labels))


@dataclass(frozen=True)
class Rows:
    """One part of a data set, to be read as often as is needed."""

    path: Path
    text: str
    """Column of the content."""
    label: str
    ids: bool = False
    """The content is token ids."""
    selected: bool = False
    """The labels used are named: a row without one is among those left out, and no error."""

    def blocks(self, labels_alone: bool = False, used: np.ndarray | None = None) -> Iterator[Block]:
        """Every row, checked; raises UserError for what is missing or of another kind.

        used: bool (rows,), which rows' content is given; what the others hold is of no account. All where None.
        """
        if labels_alone and (self.path.is_file() or saved.by_datasets(self.path)):
            _refuse_without(self.path, formats.columns(self.path, [self.text, self.label]), [self.text, self.label])
        first = 1
        for texts, labels in formats.read(self.path, [self.label] if labels_alone else [self.text, self.label], self.ids):
            places = np.arange(len(labels))
            if used is not None:
                if first - 1 + len(labels) > len(used):
                    raise UserError(f"{self.path}: grew while it was read: try again")
                places = np.flatnonzero(used[first - 1 : first - 1 + len(labels)])
            if not labels_alone:
                if len(places) < len(labels):
                    texts = _plain(texts).take(pa.array(places))
                texts = self._tokens(texts, first + places) if self.ids else self._strings(texts, first + places)
            yield Block(first, texts, self._labels(labels, first + np.arange(len(labels))), places)
            first += len(labels)
        if first == 1:
            raise UserError(f"{self.path}: holds no rows")

    def _fault(self, numbers: np.ndarray, bad: pa.Array, column: str, what: str) -> None:
        """Raises UserError for the first row that is bad. numbers: int64, those of the rows, from 1."""
        place = pc.index(bad, True).as_py()
        if place >= 0:
            raise UserError(f"{self.path}: row {numbers[place]:,}, column {column}: {what}")

    def _strings(self, texts: pa.Array, numbers: np.ndarray) -> pa.Array:
        if pa.types.is_dictionary(texts.type):
            texts = texts.dictionary_decode()
        self._fault(numbers, pc.is_null(texts), self.text, "no text")
        if not _is_text(texts.type):
            hint = "; token ids already made: write `source: encoded`" if pa.types.is_list(texts.type) else ""
            raise UserError(f"{self.path}: column {self.text}: found {texts.type}, expected text{hint}")
        return self._utf8(texts, numbers, self.text)

    def _utf8(self, texts: pa.Array, numbers: np.ndarray, column: str) -> pa.Array:
        """Texts or bytes as large_string: what a file says is text may be none."""
        content = texts.cast(pa.large_binary())
        try:
            return content.cast(pa.large_string())
        except pa.ArrowInvalid:
            for number, text in zip(numbers, content, strict=True):
                try:
                    (text.as_py() or b"").decode()
                except UnicodeDecodeError as error:
                    raise UserError(
                        f"{self.path}: row {number:,}, column {column}: no UTF-8 ({error.reason} at byte {error.start}): "
                        "save the file as UTF-8"
                    ) from None
            raise

    def _tokens(self, rows: pa.Array, numbers: np.ndarray) -> pa.Array:
        lists = pa.types.is_list(rows.type) or pa.types.is_large_list(rows.type) or pa.types.is_fixed_size_list(rows.type)
        if not lists or not pa.types.is_integer(rows.type.value_type):
            raise UserError(f"{self.path}: column {self.text}: found {rows.type}, expected lists of whole numbers")
        self._fault(numbers, pc.is_null(rows), self.text, "no token ids")
        rows = rows.cast(pa.large_list(rows.type.value_type))
        values = rows.flatten()
        bad = pc.fill_null(pc.or_(pc.less(values, 0), pc.greater(values, 2**31 - 1)), True)
        if pc.any(bad).as_py():
            found = values[pc.index(bad, True).as_py()]
            row = pc.list_parent_indices(rows)[pc.index(bad, True).as_py()].as_py()
            raise UserError(
                f"{self.path}: row {numbers[row]:,}, column {self.text}: found the token id {found}, expected 0 to 2³¹ − 1"
            )
        return rows

    def _labels(self, labels: pa.Array, numbers: np.ndarray) -> pa.Array:
        if pa.types.is_dictionary(labels.type):
            labels = labels.dictionary_decode()
        if pa.types.is_nested(labels.type):
            raise UserError(f"{self.path}: column {self.label}: found {labels.type}, expected one label a row")
        if pa.types.is_floating(labels.type):
            labels = pc.if_else(pc.is_nan(labels.cast(pa.float64())), None, labels)
        if _is_text(labels.type):
            labels = self._utf8(labels, numbers, self.label)
        try:
            labels = labels.cast(pa.large_string())
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            raise UserError(
                f"{self.path}: column {self.label}: found {labels.type}, expected labels as text or numbers"
            ) from None
        labels = pc.fill_null(pc.utf8_trim_whitespace(labels), "")
        if not self.selected:
            self._fault(numbers, pc.equal(labels, ""), self.label, "no label")
        return labels


def _plain(texts: pa.Array) -> pa.Array:
    """Texts that pyarrow takes rows of: of views it cannot as yet."""
    view = pa.types.is_string_view(texts.type) or pa.types.is_binary_view(texts.type)
    return texts.cast(pa.large_binary()) if view else texts


def _is_text(kind: pa.DataType) -> bool:
    """Text, or bytes that may be."""
    of = pa.types
    return any(
        is_kind(kind)
        for is_kind in (
            of.is_string,
            of.is_large_string,
            of.is_string_view,
            of.is_binary,
            of.is_large_binary,
            of.is_binary_view,
        )
    )


def parts(path: Path, validation: Path | None) -> tuple[Path, Path | None]:
    """Where the training rows are and where the validation rows: `path` may have a part of its own for them, `validation` names it."""
    inside = _parts_in(path)
    training = next((inside[name] for name in formats.TRAINING if name in inside), None)
    if validation:
        within = _parts_in(validation)
        if any(name in within for name in formats.TRAINING):
            names = sorted(folder.name for folder in within.values())
            other = next((folder for name, folder in within.items() if name not in formats.TRAINING), validation)
            raise UserError(f"{validation}: has the parts {', '.join(names)}: name one in data.validation_file, as {other}")
        return training or path, validation
    if training is None:
        return path, None
    if _is_label(training):
        raise UserError(
            f"{training}: holds texts, and no folder for each label: a part for training has such folders; where {training.name!r} is a "
            f"label like {', '.join(sorted(repr(folder.name) for folder in inside.values() if folder != training)[:4]) or 'others'}, give its "
            f"folder another name, as {training.name}-label"
        )
    own = next((inside[name] for name in formats.VALIDATION if name in inside), None)
    others = sorted(folder.name for folder in inside.values() if folder != training)
    if own is None and others:
        raise UserError(
            f"{path}: has {training.name} beside {', '.join(others)}, and no part of the name that one for validation has "
            f"({', '.join(formats.VALIDATION)}): name it in data.validation_file, or {training} alone in data.file"
        )
    return training, own


def _is_label(folder: Path) -> bool:
    """Whether a folder holds texts and no folders, as that of a label does."""
    inside = [entry for entry in folder.iterdir() if entry.name[0] != "."]
    texts = any(entry.suffix.lower() == formats.TEXT for entry in inside)
    return texts and not any(entry.is_dir() for entry in inside) and not saved.by_datasets(folder)


def _parts_in(path: Path) -> dict[str, Path]:
    """The folders in a folder, hidden ones apart, by their names in lower case."""
    if not path.is_dir():
        return {}
    return {folder.name.lower(): folder for folder in sorted(path.iterdir()) if folder.name[0] != "." and folder.is_dir()}


def _refuse_without(path: Path, found: list[str], wanted: list[str]) -> None:
    for column in wanted:
        if found.count(column) != 1:
            times = "twice" if column in found else "no"
            raise UserError(
                f"{path}: {times} column {column!r}; it has {', '.join(map(repr, found))}: name the right ones in data.text and data.label"
            )
