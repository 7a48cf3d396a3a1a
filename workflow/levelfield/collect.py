"""Collects a study's records into `runs.parquet`, `epochs.parquet` and `steps.parquet`: tidy, one row a thing.

Every run that `study.json` plans has its row in `runs.parquet`, also those that failed or are missing. Departures of
kind `reporting` are applied here: they change what a program reports, not what it computes, so they stand in columns of
their own (`reported_…`) beside the true figures.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import NoneType
from typing import Literal, get_args, get_origin, get_type_hints
from zipfile import BadZipFile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import TypeAdapter, ValidationError

from levelfield.errors import UserError
from levelfield.protocol import Case, Protocol
from levelfield.records import Epoch, Latency, Machine, Memory, Run, Steps, Times, load_arrays, read_epochs
from levelfield.study import Study

RUN, EPOCHS = TypeAdapter(Run), TypeAdapter(list[Epoch])
STATUS = ("finished", "failed", "missing", "failed-parity")
ROW_GROUP = 1_000_000
"""Step rows held in memory before they are written: about 40 MB."""


class BrokenRecord(Exception):
    """A record that is not whole, or not what its place says it is; the message names the file."""


@dataclass
class Record:
    """All that one finished run left behind."""

    run: Run
    epochs: list[Epoch]
    steps: Steps


def collect(folder: Path) -> dict[str, int]:
    """Writes the three tables of the study in `folder`; returns how many runs have which status."""
    folder = Path(folder)
    study = load_study(folder)
    runs, epochs, statuses = [], [], []
    with _whole(folder / "steps.parquet") as part, StepWriter(part, [case.name for case in study.expanded]) as steps:
        for case, seed, status, error, record in outcomes(folder, study):
            statuses.append(status)
            runs.append(_run_row(study, case, seed, status, error, record and record.run))
            if record:
                epochs += _epoch_rows(record)
                steps.add(record)
    with _whole(folder / "epochs.parquet") as part:
        pq.write_table(pa.Table.from_pylist(epochs, EPOCH_SCHEMA), part)
    with _whole(folder / "runs.parquet") as part:
        pq.write_table(pa.Table.from_pylist(runs, _run_schema(runs)), part)
    return {status: statuses.count(status) for status in STATUS}


def load_study(folder: Path) -> Study:
    """The study that `study.json` in `folder` describes; raises UserError where there is none."""
    file = Path(folder) / "study.json"
    try:
        return Study.model_validate_json(file.read_bytes())
    except FileNotFoundError:
        raise UserError(f"{file} is not there: give the folder of a study, such as results/article") from None
    except ValidationError as error:
        raise UserError(f"{file}: {_first(error)}; it is written by `snakemake`: delete it and run that again") from None


def outcomes(folder: Path, study: Study) -> Iterator[tuple[Case, int, str, str | None, Record | None]]:
    """(case, seed, status, error, record) of each planned run, the cases in the study's order; a record where finished."""
    for case in study.expanded:
        barred = _parity_missed(folder / "parity" / f"{case.name}.json") if study.parity and case.matched else None
        for seed in study.seeds:
            run = folder / "runs" / case.name / f"seed-{seed}"
            if barred:
                yield case, seed, "failed-parity", barred, None
                continue
            try:
                if (run / "run.json").exists():
                    yield case, seed, "finished", None, read_record(run, case, seed)
                elif (run / "failure.json").exists():
                    yield case, seed, "failed", _json(run / "failure.json")["error"], None
                else:
                    yield case, seed, "missing", None, None
            except BrokenRecord as error:
                yield case, seed, "failed", str(error), None


def read_record(folder: Path, case: Case, seed: int) -> Record:
    """Reads and validates what the run in `folder` left; raises BrokenRecord naming the first file that is not whole."""
    run = _read(folder / "run.json", lambda file: RUN.validate_json(file.read_bytes()))
    if (run.case, run.seed) != (case.name, seed):
        raise BrokenRecord(f"{folder / 'run.json'}: is of {run.case}, seed {run.seed}; expected {case.name}, seed {seed}")
    planned = asdict(case.protocol)
    for key, value in run.protocol.items():
        if key in planned and planned[key] != value:
            raise BrokenRecord(f"{folder / 'run.json'}: ran with {key} {value}, the study says {planned[key]}: run `snakemake`")
    epochs = _read(folder / "epochs.csv", lambda file: EPOCHS.validate_python(read_epochs(file)))
    if [epoch.epoch for epoch in epochs] != list(range(1, case.protocol.epochs + 1)):
        raise BrokenRecord(f"{folder / 'epochs.csv'}: {len(epochs)} epochs, expected {case.protocol.epochs}")
    steps = _read(folder / "steps.npz", lambda file: Steps(**load_arrays(file)))
    shapes = {field.name: getattr(steps, field.name).shape for field in fields(Steps)}
    if len(set(shapes.values())) != 1 or steps.epoch.ndim != 1:
        raise BrokenRecord(f"{folder / 'steps.npz'}: arrays of unequal length: {shapes}")
    whole = run.train_sequences // case.protocol.batch_size
    dropped = "drop-last-batch" in case.departures or run.train_sequences % case.protocol.batch_size == 0
    expected = case.protocol.epochs * (whole if dropped else whole + 1)
    if steps.epoch.size != expected:
        raise BrokenRecord(f"{folder / 'steps.npz'}: {steps.epoch.size} steps, expected {expected}")
    return Record(run, epochs, steps)


def _read(file: Path, read):
    """What `read(file)` gives; any of the ways in which a file can be missing, cut off or foreign is one BrokenRecord."""
    try:
        return read(file)
    except ValidationError as error:
        raise BrokenRecord(f"{file}: {_first(error)}") from None
    except FileNotFoundError:
        raise BrokenRecord(f"{file}: is not there") from None
    except (OSError, ValueError, TypeError, KeyError, EOFError, BadZipFile) as error:
        raise BrokenRecord(f"{file}: cannot be read: {error}") from None


def _json(file: Path) -> dict:
    return _read(file, lambda file: json.loads(file.read_bytes()))


def _first(error: ValidationError) -> str:
    """The first of a validation's errors as `key: found: allowed`."""
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc'])) or 'content'}: {first['msg']}"


def _parity_missed(file: Path) -> str | None:
    """Which bounds the case missed, with its figures; None where it passed or was not measured."""
    if not file.exists():
        return None
    parity = _json(file)
    if parity["passed"]:
        return None
    missed = [
        f"{name} {parity['measured'][name]:.2g}, bound {bound:.2g}"
        for name, bound in parity["bounds"].items()
        if not parity["measured"][name] <= bound
    ]
    return f"parity missed: {'; '.join(missed)}"


def _run_row(study: Study, case: Case, seed: int, status: str, error: str | None, run: Run | None) -> dict:
    """A row of `runs.parquet`: the plan for every run, the record's fields under their own names for finished ones."""
    row = {"study": study.study, "case": case.name, "backend": case.backend, "departures": list(case.departures), "seed": seed}
    row |= {"status": status, "error": error}
    row |= {f"protocol_{key}": value for key, value in asdict(case.protocol).items()}
    if run:
        values = asdict(run)
        nested = [values.pop(name) for name in ("measurements", "machine", "times", "memory")]
        values |= {f"latency_{key}": value for key, value in (values.pop("latency") or {}).items()}
        values.pop("protocol")
        for part in nested:
            row = part | row
        row = values | row
    return {key: _flat(value) for key, value in row.items()}


def _flat(value):
    """Lists as text with commas, dictionaries as JSON text: Parquet's nested columns are no good in a CSV or a filter."""
    if isinstance(value, list):
        return ", ".join(value)
    return json.dumps(value, sort_keys=True) if isinstance(value, dict) else value


def _arrow(hint) -> pa.DataType:
    """The column type of a field: text for lists, dictionaries and literals, else the scalar's."""
    if get_origin(hint) in (list, dict, tuple, Literal):
        return pa.string()
    kinds = [kind for kind in get_args(hint) or (hint,) if kind is not NoneType]
    return {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}[kinds[0]]


def _schema(model: type, prefix: str = "") -> dict[str, pa.DataType]:
    nested = (Machine, Times, Memory)
    hints = {name: hint for name, hint in get_type_hints(model).items() if hint not in nested}
    return {prefix + name: _arrow(hint) for name, hint in hints.items()}


def run_columns() -> dict[str, pa.DataType]:
    """Columns of `runs.parquet` and their types, without the `measurements`, whose names only the records know."""
    own = get_type_hints(Run)
    identity = {name: _arrow(own.pop(name)) for name in ("study", "case", "backend", "departures", "seed")}
    for name in ("protocol", "machine", "times", "memory", "latency", "measurements"):
        own.pop(name)
    columns = identity | {"status": pa.string(), "error": pa.string()} | {name: _arrow(hint) for name, hint in own.items()}
    for model, prefix in ((Protocol, "protocol_"), (Machine, ""), (Times, ""), (Memory, ""), (Latency, "latency_")):
        columns |= {prefix + name: _arrow(hint) for name, hint in get_type_hints(model).items()}
    return columns


def _run_schema(rows: list[dict]) -> pa.Schema:
    """`run_columns` and one column for each measurement that any run has: text where any value is text."""
    columns = run_columns()
    for row in rows:
        for name in row.keys() - columns.keys():
            columns[name] = pa.float64()
    for name in columns.keys() - run_columns().keys():
        if any(isinstance(row.get(name), str) for row in rows):
            columns[name] = pa.string()
    return pa.schema(columns)


EPOCH_SCHEMA = pa.schema(
    {"case": pa.string(), "seed": pa.int64()}
    | {name: _arrow(hint) for name, hint in get_type_hints(Epoch).items()}
    | {"reported_train_loss": pa.float64(), "reported_train_accuracy": pa.float64()}
)

STEP_SCHEMA = pa.schema(
    {
        "case": pa.dictionary(pa.int32(), pa.string()),
        "seed": pa.int32(),
        "epoch": pa.int32(),
        "step": pa.int32(),
        "loss": pa.float32(),
        "accuracy": pa.float32(),
        "sequences": pa.int32(),
        "reported_loss": pa.float32(),
        "reported_accuracy": pa.float32(),
    }
)


def _epoch_rows(record: Record) -> list[dict]:
    rows = [{"case": record.run.case, "seed": record.run.seed} | asdict(epoch) for epoch in record.epochs]
    if "history-not-cleared" in record.run.departures:
        for name in ("train_loss", "train_accuracy"):
            so_far = np.cumsum([row[name] for row in rows]) / np.arange(1, len(rows) + 1)
            for row, value in zip(rows, so_far.tolist(), strict=True):
                row[f"reported_{name}"] = value
    return rows


def running_means(values: np.ndarray, steps: Steps) -> np.ndarray:
    """Means over the epoch so far, weighted by the size of the batches, as Keras's progress shows them; shape (steps,)."""
    found = np.empty(len(values))
    for epoch in np.unique(steps.epoch):
        mine = steps.epoch == epoch
        sizes = steps.sequences[mine].astype(float)
        found[mine] = np.cumsum(values[mine] * sizes) / np.cumsum(sizes)
    return found


class StepWriter:
    """Writes `steps.parquet` in row groups: the steps of 10,000 runs (15 million rows) never stand in memory at once."""

    def __init__(self, file: Path, cases: list[str]):
        self.names, self.index = pa.array(cases), {case: index for index, case in enumerate(cases)}
        self.writer = pq.ParquetWriter(file, STEP_SCHEMA, compression="zstd")
        self.waiting: list[pa.RecordBatch] = []

    def __enter__(self) -> "StepWriter":
        return self

    def __exit__(self, *_) -> None:
        self._write()
        self.writer.close()

    def add(self, record: Record) -> None:
        run, steps, rows = record.run, record.steps, record.steps.epoch.size
        case = pa.DictionaryArray.from_arrays(pa.array(np.full(rows, self.index[run.case], np.int32)), self.names)
        columns = [
            case,
            np.full(rows, run.seed),
            steps.epoch,
            np.arange(1, rows + 1),
            steps.loss,
            steps.accuracy,
            steps.sequences,
        ]
        if "running-mean-curve" in run.departures:
            columns += [running_means(steps.loss, steps), running_means(steps.accuracy, steps)]
        else:
            columns += [pa.nulls(rows)] * 2
        arrays = [
            pa.array(column).cast(field.type) if isinstance(column, np.ndarray) else column.cast(field.type)
            for column, field in zip(columns, STEP_SCHEMA, strict=True)
        ]
        self.waiting.append(pa.RecordBatch.from_arrays(arrays, schema=STEP_SCHEMA))
        if sum(batch.num_rows for batch in self.waiting) >= ROW_GROUP:
            self._write()

    def _write(self) -> None:
        if self.waiting:
            self.writer.write_table(pa.Table.from_batches(self.waiting).combine_chunks(), row_group_size=ROW_GROUP)
            self.waiting = []


@contextmanager
def _whole(file: Path) -> Iterator[Path]:
    """A name to write under; moved to `file` at the end, removed after an error."""
    part = file.with_name(f".{file.name}.part")
    try:
        yield part
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)
