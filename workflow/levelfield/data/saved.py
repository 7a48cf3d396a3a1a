"""A data set that Hugging Face's `datasets` saved: which Arrow files it is made of, and whether they are sound."""

import json
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Any

import pyarrow as pa

from levelfield.errors import UserError

BYTES = {pa.string(): pa.binary(), pa.large_string(): pa.large_binary(), pa.string_view(): pa.binary_view()}
"""What text is where nobody asks whether it is UTF-8."""


def by_datasets(folder: Path) -> bool:
    """Whether a folder is a data set that `datasets` saved."""
    return any((folder / name).exists() for name in ("state.json", "dataset_info.json", "dataset_dict.json"))


def label_names(folder: Path, column: str) -> list[str] | None:
    """The names that a ClassLabel's numbers stand for; None of another column."""
    feature = (_described(folder / "dataset_info.json").get("features") or {}).get(column)
    return feature.get("names") if isinstance(feature, dict) else None


def schema(folder: Path) -> pa.Schema:
    """The columns of a saved data set, and their types."""
    return _reader(arrow_files(folder)[0]).schema


def arrow_files(folder: Path) -> list[Path]:
    """The files of a saved data set, in its own order: those of the folder alone, which its checksum is of."""
    if (folder / "dataset_dict.json").exists():
        splits = [str(name) for name in _described(folder / "dataset_dict.json").get("splits") or ()]
        if not splits:
            raise UserError(f"{folder / 'dataset_dict.json'}: names no parts: save the data set anew with `save_to_disk`")
        raise UserError(
            f"{folder}: has no part named train; it has {', '.join(splits)}: name one in data.file, {folder / splits[0]}"
        )
    state = _described(folder / "state.json")
    if state.get("_indices_data_files"):
        raise UserError(f"{folder}: its rows are a selection that is kept apart: save it after `dataset.flatten_indices()`")
    names = [file["filename"] for file in state.get("_data_files") or []] or _only_arrow_file(folder)
    if not names or any(PurePath(name).name != name or name.startswith(".") for name in names):
        raise UserError(f"{folder}: names no Arrow files of its own: save the data set anew with `save_to_disk`")
    for name in names:
        if not (folder / name).is_file():
            raise UserError(f"{folder / name}: is not there, though {folder / 'state.json'} names it: fetch the data set anew")
    return [folder / name for name in names]


def _only_arrow_file(folder: Path) -> list[str]:
    """Of a folder that has no list of its files; UserError where several of them may be meant: the parts in the cache of `datasets`."""
    names = sorted(file.name for file in folder.glob("*.arrow") if not file.name.startswith("cache-"))
    if len(names) > 1:
        raise UserError(
            f"{folder}: holds {', '.join(names[:6])}{', …' if len(names) > 6 else ''}, and no state.json that says which of them belong "
            "together, as the cache of Hugging Face's `datasets`: save the data set with `save_to_disk`, and name that folder"
        )
    return names


def _reader(file: Path) -> pa.RecordBatchReader:
    source = pa.memory_map(str(file))
    try:
        return pa.ipc.open_stream(source)
    except pa.ArrowInvalid:
        source.seek(0)
        found = pa.ipc.open_file(source)
        return pa.RecordBatchReader.from_batches(found.schema, (found.get_batch(n) for n in range(found.num_record_batches)))


def sound(file: Path, wanted: list[str]) -> Iterator[pa.RecordBatch]:
    """The batches of an Arrow file, the columns wanted looked through. Raises UserError for those that are damaged.

    Arrow takes a file's word for where a text begins and ends, and for which entry of a dictionary is meant: it would read from
    anywhere in memory. The columns stay where they lie, and of text the offsets alone are read.
    """
    for batch in _reader(file):
        for name in dict.fromkeys(wanted):
            try:
                _refuse_unsound(batch.column(batch.schema.names.index(name)), len(batch))
            except pa.ArrowException as error:
                said = f"column {name}: {' '.join(str(error).split())}"
                raise UserError(f"{file}: damaged ({said}): save the data set anew with `save_to_disk`") from None
        yield batch


def _refuse_unsound(column: pa.Array, rows: int) -> None:
    """Raises pa.ArrowException where what an array tells of itself leads beyond its bytes, and where it has not as many rows as
    its batch."""
    column.validate()
    if len(column) != rows:
        raise pa.ArrowInvalid(f"{len(column)} rows in a batch of {rows}")
    if pa.types.is_dictionary(column.type):
        column = pa.DictionaryArray.from_arrays(column.indices, _as_bytes(column.dictionary), safe=False)
    _as_bytes(column).validate(full=True)


def _as_bytes(column: pa.Array) -> pa.Array:
    """Text as bytes, which stay where they lie: whether they are UTF-8 is asked later, and of the rows alone that are used."""
    kind = BYTES.get(column.type)
    if kind is None:
        return column
    return pa.Array.from_buffers(kind, len(column), column.buffers(), column.null_count, column.offset)


def _described(file: Path) -> dict[str, Any]:
    """What a JSON file of a saved data set holds; nothing where it is not there."""
    if not file.exists():
        return {}
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file}: damaged ({error}): save the data set anew with `save_to_disk`") from None
    if not isinstance(told, dict):
        raise UserError(f"{file}: damaged (found a {type(told).__name__}): save the data set anew with `save_to_disk`")
    return told
