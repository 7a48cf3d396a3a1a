"""Where a study's records lie: in files of their own, as the runs left them, or kept together in two. One reader for both.

`records.jsonl` has a line a file, `{"file": "runs/torch/seed-0/run.json", "json": {…}}`, with its `text` where it is no JSON;
`records.parquet` a row a `steps.npz`, its arrays as lists. What lies at its own place goes before what is kept.
"""

import io
import json
import os
import re
import stat
import zipfile
from functools import cached_property, lru_cache
from pathlib import Path, PurePosixPath
from typing import Any, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from levelfield.errors import UserError
from levelfield.records import HASHED, load_arrays, packed, sha256_of_run, write_whole

LINES, STEPS = "records.jsonl", "records.parquet"
PATTERNS = (
    "parity/*.json",
    "exchange/*.json",
    "start/**/seed-*.npz.sha256",
    "logs/parity/*.log",
    "runs/*/*/run.json",
    "runs/*/*/epochs.csv",
    "runs/*/*/steps.npz",
    "runs/*/*/failure.json",
    "runs/*/*/takes/*/run.json",
    "runs/*/*/takes/*/epochs.csv",
    "runs/*/*/takes/*/steps.npz",
)
"""The files that are kept together: all that a study's telling is made from, beside `study.json` and `data/data.json`."""
ARRAYS = {"epoch": pa.int32(), "loss": pa.float32(), "accuracy": pa.float32(), "sequences": pa.int32()}
LINE = re.compile(rb'\{"file": "([^"\\]+)", "(?:json|text)": (.*)', re.DOTALL)
LARGEST = {".json": 64 * 2**20, ".csv": 64 * 2**20, ".sha256": 2**10, ".log": 64 * 2**20, ".npz": 2**31}
"""Bytes of a file of each kind, at most: no record is that large, and what is larger is not read into memory."""


class BrokenRecord(Exception):
    """A record that is not whole, or not what its place says it is; the message names the file."""


class Records:
    """The records of the study in `folder`; a file's name is its path in that folder, with `/`."""

    def __init__(self, folder: Path):
        self.folder = Path(folder)

    def there(self, name: str) -> bool:
        """Whether there is anything of that name, be it a link to nothing."""
        return os.path.lexists(self.folder / name) or name in self._lines or name in self._rows

    def names(self, pattern: str) -> list[str]:
        """The files whose name fits a pattern, sorted."""
        found = {file.relative_to(self.folder).as_posix() for file in self.folder.glob(pattern)}
        fits = re.compile(re.escape(pattern).replace(r"\*\*/", "(?:.*/)?").replace(r"\*", "[^/]*"))
        kept = {name for name in (*self._lines, *self._rows) if fits.fullmatch(name) and ".." not in name.split("/")}
        return sorted(found | kept)

    def read(self, name: str) -> bytes:
        """The content of a file; raises BrokenRecord where it is not there, no file, or larger than any record is."""
        file = self.folder / name
        if os.path.lexists(file):
            return _regular(file, name)
        if name in self._lines:
            content = self._lines[name]
            if content is None:
                raise BrokenRecord(f"{name}: stands twice in {LINES}")
            return content if name.endswith(".json") else str(json.loads(content)).encode()
        if name.endswith(".npz") and (broken := self._unreadable):
            raise BrokenRecord(f"{STEPS}: {broken}")
        if name not in self._rows:
            raise BrokenRecord(f"{name}: is not there")
        table, row = self._table, self._rows[name]
        if row is None:
            raise BrokenRecord(f"{name}: stands twice in {STEPS}")
        assert table is not None
        return packed({array: table[array][row].values.to_numpy(zero_copy_only=False) for array in ARRAYS})

    @cached_property
    def _lines(self) -> dict[str, bytes | None]:
        """Name to the JSON text that stands in `records.jsonl`; None where a name stands there twice."""
        file = self.folder / LINES
        if not file.is_file():
            return {}
        told = file.stat()
        return _lines_of(file.absolute(), (told.st_ino, told.st_mtime_ns, told.st_size))

    @cached_property
    def _table(self) -> pa.Table | None:
        file = self.folder / STEPS
        return pq.read_table(file).combine_chunks() if file.is_file() else None

    @cached_property
    def _unreadable(self) -> str | None:
        """Why `records.parquet` cannot be read, if so."""
        try:
            missing = set() if self._table is None else {"file", *ARRAYS} - set(self._table.column_names)
        except (pa.ArrowException, OSError) as error:
            return f"cannot be read: {one_line(error)}"
        return f"has no column {', '.join(sorted(missing))}" if missing else None

    @cached_property
    def _rows(self) -> dict[str, int | None]:
        """Name to the row of `records.parquet`; None where a name stands there twice."""
        found: dict[str, int | None] = {}
        if self._unreadable or self._table is None:
            return found
        for row, name in enumerate(self._table["file"].to_pylist()):
            found[name] = None if name in found else row
        return found


@lru_cache(maxsize=2)
def _lines_of(file: Path, state: tuple[int, int, int]) -> dict[str, bytes | None]:
    """What `Records._lines` tells, read once for all who ask while the file is as it is: a study's telling asks a thousand times."""
    found: dict[str, bytes | None] = {}
    for number, line in enumerate(file.read_bytes().splitlines(), 1):
        told = LINE.fullmatch(line)
        if not told:
            raise UserError(f"{file}: line {number} names no file: it is cut off or altered; fetch it anew")
        name = told[1].decode(errors="replace")
        found[name] = None if name in found else told[2].rstrip().removesuffix(b"}")
    return found


def _regular(file: Path, name: str) -> bytes:
    try:
        told = file.stat()
        if not stat.S_ISREG(told.st_mode):
            raise BrokenRecord(f"{name}: is {'a folder' if stat.S_ISDIR(told.st_mode) else 'no file'}")
        if told.st_size > (most := LARGEST[PurePosixPath(name).suffix]):
            raise BrokenRecord(f"{name}: has {told.st_size:,} bytes: no record has more than {most:,}")
        return file.read_bytes()
    except FileNotFoundError:
        raise BrokenRecord(f"{name}: is a link to nothing") from None
    except OSError as error:
        raise BrokenRecord(f"{name}: cannot be read: {error.strerror}") from None


def parsed(content: bytes) -> dict[str, Any]:
    """The object that a JSON text in UTF-8 holds; raises ValueError for all that no record of ours has in it.

    That is: NaN and infinities, whole numbers that do not fit into 64 bits, a key twice, text that is none.
    """
    value = json.loads(content.decode(), parse_constant=_no_number, object_pairs_hook=_once)
    if not isinstance(value, dict):
        raise ValueError("is no JSON object")
    waiting: list[Any] = [value]
    while waiting:
        found = waiting.pop()
        if isinstance(found, dict):
            waiting += [*found.keys(), *found.values()]
        elif isinstance(found, list):
            waiting += found
        elif isinstance(found, str):
            found.encode()
        elif isinstance(found, float) and abs(found) == float("inf"):
            raise ValueError("a number in it is too large")
        elif isinstance(found, int) and not -(2**63) <= found < 2**63:
            raise ValueError("a whole number in it is too large")
    return value


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"{word} in it is no number that was measured")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key stands twice in it")
    return found


def edited(values: dict[str, Any]) -> str | None:
    """Why a `run.json` is not what was written, by its own checksum; nothing is known of earlier versions, which had none."""
    told = values.get("sha256")
    if told is None:
        return "its sha256 is gone: edited" if any(values.get(name) for name in HASHED) else None
    found = sha256_of_run(values)
    return None if told == found else f"is not as it was written: sha256 {found[:12]}, it says {str(told)[:12]}: edited"


def one_line(error: BaseException, most: int = 200) -> str:
    """What an error says, on one line of at most so many characters."""
    told = " ".join(str(error).split()) or type(error).__name__
    return told if len(told) <= most else f"{told[: most - 1]}…"


def keep(source: Path, folder: Path) -> None:
    """Writes the records of the study in `source`, kept or not, together into `folder`.

    What cannot be read as what it should be stays a file at its own place, so that it is told as damaged there, too.
    """
    records = Records(source)
    lines: list[str] = []
    rows: dict[str, list[str | np.ndarray]] = {"file": [], **{name: [] for name in ARRAYS}}
    for name in [name for pattern in PATTERNS for name in records.names(pattern)]:
        if name.startswith("logs/") and records.there(name.removeprefix("logs/").replace(".log", ".json")):
            continue  # a proof that was given needs no log
        content = records.read(name)
        arrays, line = (_steps(content), None) if name.endswith(".npz") else (None, _line(name, content))
        if arrays:
            rows["file"].append(name)
            for column, values in arrays.items():
                rows[column].append(values)
        elif line:
            lines.append(line)
        else:
            write_whole(folder / name, content)
    write_whole(folder / LINES, "".join(lines).encode())
    schema = pa.schema({"file": pa.string()} | {name: pa.list_(kind) for name, kind in ARRAYS.items()})
    steps = io.BytesIO()
    pq.write_table(pa.table(rows, schema), steps, compression="zstd")
    write_whole(folder / STEPS, steps.getvalue())


def arrays_of(content: bytes, most: int = LARGEST[".npz"]) -> dict[str, np.ndarray]:
    """The arrays of an `.npz`; raises ValueError where they say to unpack to more than `most` bytes, before any is."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        size = sum(entry.file_size for entry in archive.infolist())
    if size > most:
        raise ValueError(f"its arrays have {size:,} bytes, at most {most:,} are expected")
    return load_arrays(io.BytesIO(content))


def _steps(content: bytes) -> dict[str, np.ndarray] | None:
    """The arrays of a `steps.npz`; None where they are not those that a run writes."""
    try:
        arrays = arrays_of(content)
    except Exception:  # whatever it is: the file stays as it is, and is told as damaged
        return None
    kinds = {name: (array.dtype, array.ndim) for name, array in arrays.items()}
    return arrays if kinds == {name: (np.dtype(kind.to_pandas_dtype()), 1) for name, kind in ARRAYS.items()} else None


def _line(name: str, content: bytes) -> str | None:
    """A file's line in `records.jsonl`; None where it is not what a run writes."""
    try:
        value = parsed(content) if name.endswith(".json") else content.decode()
        if isinstance(value, str) and value.encode() != content:
            return None
    except (ValueError, RecursionError):
        return None
    return json.dumps({"file": name, "text" if isinstance(value, str) else "json": value}, ensure_ascii=False) + "\n"
