"""Labelled rows in every form that people keep them, as pairs of arrays (content, labels), a block at a time whatever their size.

CSV, TSV, JSON lines, Parquet, what Hugging Face's `datasets` saved (Arrow files), and a folder of `.txt` for each label. Whatever is
wrong with a file is a UserError that names it.
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from levelfield.data import saved
from levelfield.data.origin import files_of
from levelfield.errors import UserError

BLOCK_BYTES = 2**24
"""Of a file, or of the content in it, read together; no row of a text file may be longer."""
BLOCK_ROWS, BLOCK_FILES = 8192, 1024
HEAD_BYTES = 2**22
"""Of JSON lines that are looked at for their columns, and for what these hold."""
BUFFER_BYTES = 2**20
"""Of a column of a Parquet file fetched together: without it a whole row group lies in memory."""
DELIMITERS = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
SEPARATORS = (";", "\t", ",", "|")
"""What tables are separated by; the last two tell least, since text has them."""
JSON_LINES = (".jsonl", ".ndjson", ".json")
PARQUET = (".parquet", ".pq")
TEXT = ".txt"
TRAINING = ("train", "training")
VALIDATION = ("validation", "valid", "val", "dev", "eval", "test", "testing")
"""Names of a validation part beside the training part, the first one there is."""
KNOWN = ", ".join((*DELIMITERS, *JSON_LINES, *PARQUET))
QUOTED = r'^"(?:[^"]|"")*"$'
"""A field that stands between quotation marks, those within it doubled."""
FAULTS = (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError, pa.ArrowException)
"""What reading a damaged file may raise."""
Pair = tuple[pa.Array, pa.Array]


def read(path: Path, wanted: list[str], ids: bool = False) -> Iterator[Pair]:
    """The columns `wanted` as they stand in the file: the content and the label, or the label alone, which is both of the pair then.
    ids: the content is token ids."""
    kind = path.suffix.lower()
    try:
        if path.is_dir():
            yield from _saved(path, wanted) if saved.by_datasets(path) else _folders(path, labels_alone=len(wanted) == 1)
        elif kind in DELIMITERS:
            pairs = _pairs(_csv(path, wanted), wanted)
            yield from pairs if _quotes(path) else ((_unquoted(content), _unquoted(label)) for content, label in pairs)
        elif kind in JSON_LINES:
            yield from _pairs(_json(path, wanted, ids), wanted)
        elif kind in PARQUET:
            yield from _pairs(_parquet(path, wanted), wanted)
        else:
            raise _unknown(path)
    except FAULTS as error:
        raise _told(path, wanted, ids, error) from None


def columns(path: Path, wanted: Sequence[str] = ()) -> list[str]:
    """A table's columns; of a folder of folders none. wanted: those that are looked at where the file is damaged."""
    kind = path.suffix.lower()
    found: list[str] = []
    try:
        if path.is_dir():
            found = saved.schema(path).names if saved.by_datasets(path) else []
        elif kind in DELIMITERS:
            _refuse_separator(path)
            found = _csv(path, None).schema.names
        elif kind in JSON_LINES:
            found = list(_head(path, wanted))
        elif kind in PARQUET:
            found = pa.parquet.ParquetFile(path, pre_buffer=False).schema_arrow.names
        else:
            raise _unknown(path)
    except FAULTS as error:
        raise _told(path, wanted, False, error) from None
    return found


def holds_lists(path: Path, column: str) -> bool:
    """Whether a column of a table holds lists, as token ids are."""
    try:
        if path.is_dir():
            kind: pa.DataType = saved.schema(path).field(column).type
        elif path.suffix.lower() in JSON_LINES:
            return list in _head(path, [column])[column]
        elif path.suffix.lower() in PARQUET:
            kind = pa.parquet.ParquetFile(path, pre_buffer=False).schema_arrow.field(column).type
        else:
            return False
    except FAULTS as error:
        raise _told(path, [column], False, error) from None
    return bool(pa.types.is_nested(kind))


def left_out(path: Path) -> int:
    """How many files in a folder's folders are read by nobody, since they are no `.txt`; 0 of what is no folder of folders."""
    if not path.is_dir() or saved.by_datasets(path):
        return 0
    return sum(file.suffix.lower() != TEXT and len(file.relative_to(path).parts) > 1 for file in files_of(path))


def _pairs(batches: Iterable[pa.RecordBatch], wanted: list[str]) -> Iterator[Pair]:
    """The columns of each batch, cut where their content is more than a block."""
    for batch in batches:
        names = batch.schema.names
        content, labels = batch.column(names.index(wanted[0])), batch.column(names.index(wanted[-1]))
        step = max(1, len(batch) * BLOCK_BYTES // max(1, content.nbytes))
        for first in range(0, len(batch), step):
            yield content.slice(first, step), labels.slice(first, step)


def _csv(path: Path, wanted: Sequence[str] | None, threads: bool = True) -> pa.RecordBatchReader:
    """wanted: the columns read, the label as text and the rest as bytes, which are looked at afterwards; None: all, as they seem."""
    types = {name: pa.binary() for name in wanted or ()} | ({wanted[-1]: pa.string()} if wanted else {})
    quotes = _quotes(path)
    return pa.csv.open_csv(
        path,
        read_options=pa.csv.ReadOptions(block_size=BLOCK_BYTES, use_threads=threads),
        parse_options=pa.csv.ParseOptions(
            delimiter=DELIMITERS[path.suffix.lower()], quote_char='"' if quotes else False, newlines_in_values=quotes
        ),
        convert_options=pa.csv.ConvertOptions(include_columns=wanted, column_types=types),
    )


def _refuse_separator(path: Path) -> None:
    """Raises UserError for a table whose heading is separated by another sign than its ending says."""
    with path.open("rb") as file:
        heading = next((line for line in iter(lambda: file.readline(HEAD_BYTES), b"") if line.strip()), b"")
    own = DELIMITERS[path.suffix.lower()].encode()
    other = next((sign for sign in SEPARATORS if sign.encode() in heading), None)
    if own not in heading and other:
        raise UserError(
            f"{path}: the heading is separated by {other!r} and not by {own.decode()!r}: save it with commas as .csv, or with tabs as .tsv"
        )


def _quotes(path: Path) -> bool:
    """Whether fields may hold delimiters and line ends between quotation marks: in a `.csv`, and where a heading is quoted, too. In
    other files a text that begins with such a mark would take in all that follows, up to the next one."""
    if DELIMITERS[path.suffix.lower()] == ",":
        return True
    with path.open("rb") as file:
        return file.read(4).removeprefix(b"\xef\xbb\xbf").startswith(b'"')


def _unquoted(fields: pa.Array) -> pa.Array:
    """Without the marks of fields that stand between them: some writers quote those fields alone that need it."""
    quoted = pc.match_substring_regex(fields, QUOTED)
    if not pc.any(quoted).as_py():
        return fields
    inner = pc.replace_substring(pc.replace_substring_regex(fields, r'(?s)^"(.*)"$', r"\1"), '""', '"')
    return pc.if_else(quoted, inner, fields)


def _json(path: Path, wanted: list[str], ids: bool) -> pa.RecordBatchReader:
    """The columns wanted alone, so that it is of no account what the others hold."""
    content, label = wanted[0], wanted[-1]
    kinds = _head(path, wanted).get(label, set())
    if kinds & {list, dict}:
        raise UserError(f"{path}: column {label}: found a {_name(kinds & {list, dict})}, expected one label a row")
    schema = [(label, _label_type(kinds))]
    if len(wanted) > 1:
        schema.append((content, pa.list_(pa.int64()) if ids else pa.string()))
    return pa.json.open_json(
        path,
        read_options=pa.json.ReadOptions(block_size=BLOCK_BYTES),
        parse_options=pa.json.ParseOptions(explicit_schema=pa.schema(schema), unexpected_field_behavior="ignore"),
    )


def _label_type(kinds: set[type]) -> pa.DataType:
    if kinds == {bool}:
        return pa.bool_()
    if kinds and kinds <= {int, float}:
        return pa.float64() if float in kinds else pa.int64()
    return pa.string()


def _name(kinds: set[type]) -> str:
    return sorted(kind.__name__ for kind in kinds)[0]


def _head(path: Path, wanted: Sequence[str]) -> dict[str, set[type]]:
    """Each column of the first rows, and the kinds of what it holds, null apart."""
    kinds: dict[str, set[type]] = {}
    for _, row, end in _objects(path, wanted):
        for name, value in row.items():
            kinds.setdefault(name, set()).update(set() if value is None else {type(value)})
        if end > HEAD_BYTES:
            break
    if not kinds:
        raise UserError(f"{path}: holds no rows")
    return kinds


def _objects(path: Path, wanted: Sequence[str]) -> Iterator[tuple[int, dict[str, Any], int]]:
    """Each row of JSON lines: its number from 1, the object, where it ends in the file. UserError for what is none."""
    number, expected = 0, f"an object with the columns {', '.join(wanted)}" if wanted else "one JSON object a line"
    with path.open("rb") as file:
        while line := file.readline(BLOCK_BYTES + 1):
            if not line.strip():
                continue
            number += 1
            if len(line) > BLOCK_BYTES:
                what = "found a list" if line.lstrip()[:1] == b"[" else f"longer than {BLOCK_BYTES:,} bytes"
                raise UserError(f"{path}: row {number:,}: {what}, expected {expected}")
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise UserError(f"{path}: row {number:,}: {error}; expected one JSON object a line") from None
            if not isinstance(row, dict):
                raise UserError(f"{path}: row {number:,}: found a {type(row).__name__}, expected {expected}")
            yield number, row, file.tell()


def _parquet(path: Path, wanted: list[str]) -> Iterator[pa.RecordBatch]:
    file = pa.parquet.ParquetFile(path, pre_buffer=False, buffer_size=BUFFER_BYTES, page_checksum_verification=True)
    yield from file.iter_batches(_rows_at_once(file.metadata, wanted), columns=wanted)


def _rows_at_once(metadata: Any, wanted: list[str]) -> int:
    """As many rows as have a block's bytes where the file's rows are largest, by its own account."""
    largest = 1.0
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        chunks = [group.column(n) for n in range(group.num_columns)]
        size = sum(chunk.total_uncompressed_size for chunk in chunks if _is_of(chunk.path_in_schema, wanted))
        largest = max(largest, size / max(1, group.num_rows))
    return max(1, min(BLOCK_ROWS, int(BLOCK_BYTES / largest)))


def _is_of(path: str, wanted: Sequence[str]) -> bool:
    """Whether a path of a Parquet file is that of a column wanted, or within it. A column's own name may have dots."""
    return any(path == name or path.startswith(f"{name}.") for name in wanted)


def _saved(folder: Path, wanted: list[str]) -> Iterator[Pair]:
    """What `datasets` saved; numbers of a ClassLabel become its names, −1 and others that have none no label."""
    names = saved.label_names(folder, wanted[-1])
    for file in saved.arrow_files(folder):
        try:
            for content, labels in _pairs(saved.sound(file, wanted), wanted):
                if names and pa.types.is_integer(labels.type):
                    inside = pc.and_(pc.greater_equal(labels, 0), pc.less(labels, len(names)))
                    labels = pa.array(names).take(pc.if_else(inside, labels, None))
                yield content, labels
        except FAULTS as error:
            raise _told(file, wanted, False, error) from None


def _folders(folder: Path, labels_alone: bool) -> Iterator[Pair]:
    """A folder for each label, a `.txt` for each row, in folders of its own where there are such."""
    waiting: list[tuple[Path, str]] = []
    size = 0
    found = [(file, file.relative_to(folder).parts) for file in files_of(folder) if file.suffix.lower() == TEXT]
    found = [(file, parts) for file, parts in found if len(parts) > 1]
    if not found:
        raise UserError(f"{folder}: holds neither folders of .txt files, one folder for each label, nor what `datasets` saved")
    for file, (label, *inner) in found:
        if not _is_utf8(label):
            raise UserError(f"{folder}: the name of the folder {label!a} is no UTF-8: rename it, since it is a label")
        if len(inner) > 1 and label.lower() in (*TRAINING, *VALIDATION):
            raise UserError(
                f"{folder}: {label} holds folders of text, as a part does: name it in data.file or data.validation_file"
            )
        length = 0 if labels_alone else file.stat().st_size
        if length > BLOCK_BYTES:
            raise UserError(f"{file}: has {length:,} bytes; a text may have {BLOCK_BYTES:,} at most")
        if waiting and (size + length > BLOCK_BYTES or len(waiting) == BLOCK_FILES):
            yield _texts(waiting, labels_alone)
            waiting, size = [], 0
        waiting.append((file, label))
        size += length
    yield _texts(waiting, labels_alone)


def _is_utf8(name: str) -> bool:
    """Whether a file's name is text: bytes that are none stand in it as halves of pairs."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _texts(files: list[tuple[Path, str]], labels_alone: bool) -> Pair:
    contents = []
    for file, _ in files:
        contents.append(b"" if labels_alone else file.read_bytes())
        try:
            contents[-1].decode()
        except UnicodeDecodeError as error:
            raise UserError(f"{file}: no UTF-8 ({error.reason} at byte {error.start}): save it as UTF-8") from None
    return pa.array(contents, pa.binary()), pa.array([label for _, label in files], pa.string())


def _unknown(path: Path) -> UserError:
    return UserError(f"{path}: unknown kind of file {path.suffix.lower() or 'without ending'!r}; allowed: {KNOWN}, or a folder")


def _told(path: Path, wanted: Sequence[str], ids: bool, error: BaseException) -> UserError:
    """What is wrong with a file, by the error that reading it raised."""
    said = " ".join(str(error).split())
    if isinstance(error, UnicodeError):
        return UserError(f"{path}: no UTF-8 ({said}): save the file as UTF-8")
    if isinstance(error, pa.ArrowInvalid):
        return UserError(f"{path}: {_diagnosis(path, wanted, ids, said)}")
    if isinstance(error, OSError):
        return UserError(f"{error.filename or path}: cannot be read: {error.strerror or said}")
    return UserError(f"{path}: cannot be read: {type(error).__name__}: {said}")


def _diagnosis(path: Path, wanted: Sequence[str], ids: bool, said: str) -> str:
    """What is wrong in which row: pyarrow's own words where it tells the row, else found by reading row by row."""
    kind = path.suffix.lower() if path.is_file() else ""
    if kind in DELIMITERS and wanted:
        try:
            for _ in _csv(path, wanted, threads=False):
                pass
        except pa.ArrowInvalid as again:
            said = " ".join(str(again).split())
        except FAULTS:  # its columns could not be told: what was said at first holds
            pass
        # pyarrow counts the heading
        said = re.sub(r"Row #(\d+)", lambda found: f"row {int(found[1]) - 1:,}", said)
        if "Expected" in said and not _quotes(path):
            said += "; a text with tabs or line ends in it: quote the heading, too, or save the file as .csv or .parquet"
    if kind in JSON_LINES and wanted:
        said = _odd_one(path, wanted, ids) or said
    return f"{said}: save the file as UTF-8" if "UTF8" in said else said


def _odd_one(path: Path, wanted: Sequence[str], ids: bool) -> str | None:
    """The first row of JSON lines in which a column holds another kind than it should."""
    numbers = _head(path, wanted).get(wanted[-1], set())
    above: type | None = None
    for number, row, _ in _objects(path, wanted):
        for column in wanted:
            here, value = f"row {number:,}, column {column}", row.get(column)
            if value is None:  # a missing one is told as it is read
                continue
            if len(wanted) > 1 and column == wanted[0]:
                if not isinstance(value, list if ids else str):
                    return f"{here}: found a {type(value).__name__}, expected {'a list of token ids' if ids else 'text'}"
            elif above is None:
                above = type(value)
            elif type(value) is not above and not {type(value), above} <= numbers <= {int, float}:
                return f"{here}: found a {type(value).__name__}, above it is a {above.__name__}"
    return None
