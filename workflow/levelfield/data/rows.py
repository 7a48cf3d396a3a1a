"""Labelled rows from files and folders as people keep them, a block at a time, whatever their size.

A table is CSV, TSV, JSON lines or Parquet; a folder holds a folder of `.txt` for each label, or is what Hugging Face's
`datasets` saved (Arrow files). Errors name the file, the row (counted from 1, a table's heading apart) and the column.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from levelfield.data.origin import files_of
from levelfield.errors import UserError

BLOCK_BYTES = 2**24
"""Of a CSV or JSON file read together; no row may be longer."""
BLOCK_ROWS = 8192
DELIMITERS = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
JSON_LINES = (".jsonl", ".ndjson", ".json")
PARQUET = (".parquet", ".pq")
VALIDATION = ("validation", "valid", "val", "dev", "test")
"""Names of a validation part beside `train`, the first one there is."""
KNOWN = ", ".join((*DELIMITERS, *JSON_LINES, *PARQUET))


@dataclass(frozen=True)
class Block:
    """Rows that follow each other."""

    first: int
    """The number of its first row, from 1."""
    content: pa.Array
    """Texts (string), or token ids (list of integers); empty where only labels were asked for."""
    labels: pa.Array
    """Labels as text."""


@dataclass(frozen=True)
class Rows:
    """One part of a data set, to be read as often as is needed."""

    path: Path
    text: str
    """Column of the content."""
    label: str
    ids: bool = False
    """The content is token ids."""

    def blocks(self, labels_alone: bool = False) -> Iterator[Block]:
        """Every row, checked; raises UserError for what is missing or of another kind."""
        if labels_alone and (self.path.is_file() or saved_by_datasets(self.path)):
            _refuse_without(self.path, columns(self.path, [self.text, self.label]), [self.text, self.label])
        first = 1
        for texts, labels in self.read(labels_alone):
            if not labels_alone:
                texts = self._tokens(texts, first) if self.ids else self._strings(texts, first)
            yield Block(first, texts, self._labels(labels, first))
            first += len(labels)
        if first == 1:
            raise UserError(f"{self.path}: holds no rows")

    def read(self, labels_alone: bool) -> Iterator[tuple[pa.Array, pa.Array]]:
        """Content and labels as they stand in the file."""
        kind, wanted = self.path.suffix.lower(), [self.label] if labels_alone else [self.text, self.label]
        try:
            if self.path.is_dir():
                read = _saved if saved_by_datasets(self.path) else _folders
                yield from read(self.path, wanted)
            elif kind in DELIMITERS:
                yield from _pairs(_csv(self.path, DELIMITERS[kind], wanted, self.label), wanted)
            elif kind in JSON_LINES:
                yield from _pairs(_json(self.path, wanted, self.text, self.ids), wanted)
            elif kind in PARQUET:
                yield from _pairs(_parquet(self.path, wanted), wanted)
            else:
                raise UserError(
                    f"{self.path}: unknown kind of file {kind or 'without ending'!r}; allowed: {KNOWN}, or a folder"
                )
        except pa.ArrowInvalid as error:
            raise UserError(f"{self.path}: {_diagnosis(self.path, kind, wanted, error)}") from None
        except OSError as error:
            raise UserError(f"{self.path}: cannot be read: {error.strerror or ' '.join(str(error).split())}") from None

    def _fault(self, first: int, bad: pa.Array, column: str, what: str) -> None:
        """Raises UserError for the first row that is bad."""
        place = pc.index(bad, True).as_py()
        if place >= 0:
            raise UserError(f"{self.path}: row {first + place:,}, column {column}: {what}")

    def _strings(self, texts: pa.Array, first: int) -> pa.Array:
        if pa.types.is_dictionary(texts.type):
            texts = texts.dictionary_decode()
        self._fault(first, pc.is_null(texts), self.text, "no text")
        if not (pa.types.is_string(texts.type) or pa.types.is_large_string(texts.type) or pa.types.is_binary(texts.type)):
            hint = "; token ids already made: write `source: encoded`" if pa.types.is_list(texts.type) else ""
            raise UserError(f"{self.path}: column {self.text}: found {texts.type}, expected text{hint}")
        try:
            return texts.cast(pa.large_string())
        except pa.ArrowInvalid:
            for place, text in enumerate(texts.cast(pa.binary())):
                try:
                    text.as_py().decode()
                except UnicodeDecodeError as error:
                    raise UserError(
                        f"{self.path}: row {first + place:,}, column {self.text}: no UTF-8 ({error.reason} at byte {error.start}): "
                        "save the file as UTF-8"
                    ) from None
            raise

    def _tokens(self, rows: pa.Array, first: int) -> pa.Array:
        lists = pa.types.is_list(rows.type) or pa.types.is_large_list(rows.type) or pa.types.is_fixed_size_list(rows.type)
        if not lists or not pa.types.is_integer(rows.type.value_type):
            raise UserError(f"{self.path}: column {self.text}: found {rows.type}, expected lists of whole numbers")
        self._fault(first, pc.is_null(rows), self.text, "no token ids")
        rows = rows.cast(pa.large_list(rows.type.value_type))
        values = rows.flatten()
        bad = pc.fill_null(pc.or_(pc.less(values, 0), pc.greater(values, 2**31 - 1)), True)
        if pc.any(bad).as_py():
            found = values[pc.index(bad, True).as_py()]
            row = pc.list_parent_indices(rows)[pc.index(bad, True).as_py()].as_py()
            raise UserError(
                f"{self.path}: row {first + row:,}, column {self.text}: found the token id {found}, expected 0 to 2³¹ − 1"
            )
        return rows

    def _labels(self, labels: pa.Array, first: int) -> pa.Array:
        if pa.types.is_dictionary(labels.type):
            labels = labels.dictionary_decode()
        self._fault(first, pc.is_null(labels), self.label, "no label")
        if pa.types.is_nested(labels.type):
            raise UserError(f"{self.path}: column {self.label}: found {labels.type}, expected one label a row")
        try:
            labels = labels.cast(pa.string())
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            raise UserError(
                f"{self.path}: column {self.label}: found {labels.type}, expected labels as text or numbers"
            ) from None
        labels = pc.utf8_trim_whitespace(labels)
        self._fault(first, pc.equal(labels, ""), self.label, "no label")
        return labels


def parts(path: Path, text: str, label: str, validation: Path | None, ids: bool = False) -> tuple[Rows, Rows | None]:
    """The training rows and the validation rows, where `path` has a part of its own for them or `validation` names it."""
    inside = {folder.name: folder for folder in path.iterdir() if folder.is_dir()} if path.is_dir() else {}
    if validation or "train" not in inside:
        return Rows(path, text, label, ids), Rows(validation, text, label, ids) if validation else None
    own = next((inside[name] for name in VALIDATION if name in inside), None)
    return Rows(inside["train"], text, label, ids), Rows(own, text, label, ids) if own else None


def columns(path: Path, wanted: Sequence[str] = ()) -> list[str]:
    """A table's columns; of a folder of folders none. wanted: those that are looked at where the file is damaged."""
    kind = path.suffix.lower()
    found: list[str] = []
    try:
        if path.is_dir():
            if saved_by_datasets(path):
                found = _reader(_arrow_files(path)[0]).schema.names
        elif kind in DELIMITERS:
            found = _csv(path, DELIMITERS[kind], None, None).schema.names
        elif kind in JSON_LINES:
            found = pa.json.open_json(path, read_options=_json_blocks()).schema.names
        elif kind in PARQUET:
            found = pa.parquet.ParquetFile(path).schema_arrow.names
        else:
            raise UserError(f"{path}: unknown kind of file {kind or 'without ending'!r}; allowed: {KNOWN}, or a folder")
    except pa.ArrowInvalid as error:
        raise UserError(f"{path}: {_diagnosis(path, kind, wanted, error)}") from None
    return found


def saved_by_datasets(folder: Path) -> bool:
    return any((folder / name).exists() for name in ("state.json", "dataset_info.json", "dataset_dict.json"))


def _pairs(batches: Iterator[pa.RecordBatch], wanted: list[str]) -> Iterator[tuple[pa.Array, pa.Array]]:
    for batch in batches:
        if len(batch):
            yield batch.column(batch.schema.names.index(wanted[0])), batch.column(batch.schema.names.index(wanted[-1]))


def _refuse_without(path: Path, found: list[str], wanted: list[str]) -> None:
    for column in wanted:
        if found.count(column) != 1:
            times = "twice" if column in found else "no"
            raise UserError(
                f"{path}: {times} column {column!r}; it has {', '.join(map(repr, found))}: name the right ones in data.text and data.label"
            )


def _csv(
    path: Path, delimiter: str, wanted: Sequence[str] | None, label: str | None, threads: bool = True
) -> pa.RecordBatchReader:
    """wanted: the columns read, the label as text and the rest as bytes, which are looked at afterwards; None: all, as they seem."""
    types = {name: pa.string() if name == label else pa.binary() for name in wanted or ()}
    return pa.csv.open_csv(
        path,
        read_options=pa.csv.ReadOptions(block_size=BLOCK_BYTES, use_threads=threads),
        parse_options=pa.csv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
        convert_options=pa.csv.ConvertOptions(include_columns=wanted, column_types=types),
    )


def _json_blocks() -> "pa.json.ReadOptions":
    return pa.json.ReadOptions(block_size=BLOCK_BYTES)


def _json(path: Path, wanted: list[str], text: str, ids: bool) -> pa.RecordBatchReader:
    schema = pa.schema([(text, pa.list_(pa.int64()) if ids else pa.string())])
    return pa.json.open_json(path, read_options=_json_blocks(), parse_options=pa.json.ParseOptions(explicit_schema=schema))


def _parquet(path: Path, wanted: list[str]) -> Iterator[pa.RecordBatch]:
    yield from pa.parquet.ParquetFile(path).iter_batches(BLOCK_ROWS, columns=wanted)


def _arrow_files(folder: Path) -> list[Path]:
    """The files of a saved data set, in its own order."""
    if (folder / "dataset_dict.json").exists():
        names = json.loads((folder / "dataset_dict.json").read_text(encoding="utf-8"))["splits"]
        raise UserError(
            f"{folder}: has no part named train; it has {', '.join(names)}: name one in data.file, {folder / names[0]}"
        )
    state = json.loads((folder / "state.json").read_text(encoding="utf-8")) if (folder / "state.json").exists() else {}
    if state.get("_indices_data_files"):
        raise UserError(f"{folder}: its rows are a selection that is kept apart: save it after `dataset.flatten_indices()`")
    files = [folder / file["filename"] for file in state.get("_data_files", [])] or sorted(folder.glob("*.arrow"))
    outside = [file for file in files if file.resolve().parent != folder.resolve()]
    if not files or outside:
        raise UserError(f"{folder}: names no Arrow files of its own: save the data set anew with `save_to_disk`")
    return files


def _reader(file: Path) -> pa.RecordBatchReader:
    source = pa.memory_map(str(file))
    try:
        return pa.ipc.open_stream(source)
    except pa.ArrowInvalid:
        source.seek(0)
        found = pa.ipc.open_file(source)
        return pa.RecordBatchReader.from_batches(found.schema, (found.get_batch(n) for n in range(found.num_record_batches)))


def _saved(folder: Path, wanted: list[str]) -> Iterator[tuple[pa.Array, pa.Array]]:
    """What `datasets` saved; numbers of a ClassLabel become its names."""
    info = folder / "dataset_info.json"
    features = (json.loads(info.read_text(encoding="utf-8")).get("features") or {}) if info.exists() else {}
    names = (features.get(wanted[-1]) or {}).get("names")
    for file in _arrow_files(folder):
        reader = _reader(file)
        for content, labels in _pairs(reader, wanted):
            if names and pa.types.is_integer(labels.type):
                inside = pc.and_(pc.greater_equal(labels, 0), pc.less(labels, len(names)))
                labels = pa.array(names).take(pc.if_else(inside, labels, None))
            yield content, labels


def _folders(folder: Path, wanted: list[str]) -> Iterator[tuple[pa.Array, pa.Array]]:
    """A folder for each label, a `.txt` for each row."""
    found = [file for file in files_of(folder) if file.suffix == ".txt" and len(file.relative_to(folder).parts) == 2]
    if not found:
        raise UserError(f"{folder}: holds neither folders of .txt files, one folder for each label, nor what `datasets` saved")
    for first in range(0, len(found), 1024):
        part = found[first : first + 1024]
        contents = [b"" if len(wanted) == 1 else file.read_bytes() for file in part]
        if len(wanted) > 1:
            for file, content in zip(part, contents, strict=True):
                try:
                    content.decode()
                except UnicodeDecodeError as error:
                    raise UserError(f"{file}: no UTF-8 ({error.reason} at byte {error.start}): save it as UTF-8") from None
        yield pa.array(contents, pa.binary()), pa.array([file.parent.name for file in part])


def _diagnosis(path: Path, kind: str, wanted: Sequence[str], error: Exception) -> str:
    """What is wrong in which row: pyarrow's own words where it tells the row, else found by reading row by row."""
    told = " ".join(str(error).split())
    if kind in DELIMITERS and wanted:
        try:
            for _ in _csv(path, DELIMITERS[kind], wanted, wanted[-1], threads=False):
                pass
        except pa.ArrowKeyError:  # its columns could not be told: what was said at first holds
            pass
        except pa.ArrowInvalid as again:
            told = " ".join(str(again).split()).replace("Row #", "line ")
    if kind in JSON_LINES:
        with path.open("rb") as file:
            types: dict[str, type] = {}
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                try:
                    row = json.loads(line)
                except ValueError as found:
                    return f"row {number:,}: {found}; expected one JSON object a line"
                if not isinstance(row, dict):
                    return (
                        f"row {number:,}: found a {type(row).__name__}, expected an object with the columns {', '.join(wanted)}"
                    )
                for column in wanted:
                    if row.get(column) is None:
                        return f"row {number:,}, column {column}: missing"
                    if types.setdefault(column, type(row[column])) is not type(row[column]):
                        return (
                            f"row {number:,}, column {column}: found a {type(row[column]).__name__}, above it is a "
                            f"{types[column].__name__}"
                        )
    if "UTF8" in told:
        return f"{told}: save the file as UTF-8"
    return told
