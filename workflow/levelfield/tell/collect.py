"""Collects a study's records into `runs.parquet`, `epochs.parquet` and `steps.parquet`: tidy, one row a thing.

Every run that `study.json` plans has its row in `runs.parquet`, also those that failed or are missing. Departures of
kind `reporting` are applied here: they change what a program reports, not what it computes, so they stand in columns of
their own (`reported_…`) beside the true figures.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from levelfield.measure import kernels
from levelfield.measure.spoilt import spoilt
from levelfield.models.base import model_of
from levelfield.records import Epoch, Latency, Machine, Memory, Run, Steps, Times
from levelfield.study.config import Study
from levelfield.study.protocol import Case, Protocol, Sizes
from levelfield.tell import older
from levelfield.tell.coherence import FIRST_STEPS, allowed_apart, annotate
from levelfield.tell.kept import BrokenRecord, Records, edited, parsed
from levelfield.tell.outcomes import STATUS, Record, load_study, outcomes, read_parity

ROW_GROUP = 1_000_000
"""Step rows held in memory before they are written: about 40 MB."""
NESTED = ("protocol", "machine", "times", "memory", "latency", "measurements")
"""Fields of a run whose own fields become columns."""


def collect(folder: Path) -> dict[str, int]:
    """Writes the three tables of the study in `folder`; returns how many runs have which status."""
    folder = Path(folder)
    study, records = load_study(folder), Records(folder)
    runs, epochs, statuses, losses = [], [], [], {}
    with _whole(folder / "steps.parquet") as part, StepWriter(part, [case.name for case in study.expanded]) as steps:
        for case, seed, status, error, record in outcomes(folder, study):
            statuses.append(status)
            runs.append(_run_row(study, case, seed, status, error, record))
            runs[-1]["earlier_takes"] = _earlier_takes(records, record.run) if record else None
            if record:
                epochs += _epoch_rows(record)
                steps.add(record)
                losses[case.name, seed] = record.steps.loss[:FIRST_STEPS]
    annotate(study, runs, losses, allowances(folder, study))
    with _whole(folder / "epochs.parquet") as part:
        pq.write_table(pa.Table.from_pylist(epochs, EPOCH_SCHEMA), part)
    with _whole(folder / "runs.parquet") as part:
        pq.write_table(pa.Table.from_pylist(runs, _run_schema(runs)), part)
    return {status: statuses.count(status) for status in STATUS}


def allowances(folder: Path, study: Study) -> dict[str, float | None]:
    """By case how far its first losses may be off; None where its parity tells no bound."""

    def allowance(name: str) -> float | None:
        try:
            return allowed_apart(read_parity(folder, name))
        except BrokenRecord:
            return None  # its runs are barred and say so

    return {case.name: allowance(case.name) for case in study.expanded}


def _run_row(study: Study, case: Case, seed: int, status: str, error: str | None, record: Record | None) -> dict[str, Any]:
    """A row of `runs.parquet`: the plan for every run, the record's fields under their own names for finished ones."""
    row: dict[str, Any] = {"study": study.study, "case": case.name, "backend": case.backend, "seed": seed}
    row |= {"departures": list(case.departures), "status": status, "error": error, "accepted": study.accepted.get(case.name)}
    row |= {f"protocol_{key}": value for key, value in vars(case.protocol).items()}
    row |= {"protocol_model": case.protocol.model.name, "protocol_sizes": asdict(case.protocol)["model"]}
    if record:
        run = record.run
        row["unclean"] = "; ".join(spoilt(run.checks, run.measurements)) or None
        own = {name: value for name, value in vars(run).items() if name not in NESTED}
        latency = {f"latency_{key}": value for key, value in vars(run.latency).items()} if run.latency else {}
        row = (
            run.measurements | _kernel(case, run) | own | vars(run.machine) | vars(run.times) | vars(run.memory) | latency | row
        )
    return {key: _flat(value) for key, value in row.items()}


def _kernel(case: Case, run: Run) -> dict[str, str | None]:
    """The kernel in today's word, by the names that the record has, where an earlier version said what its model says no more."""
    known = model_of(case.protocol).kernels
    if run.measurements.get("kernel") == older.NO_KERNEL != known.otherwise:
        return {"kernel": kernels.verdict(run.kernels, known) or known.otherwise}
    return {}


def _earlier_takes(records: Records, run: Run) -> str | None:
    """What became of a run's takes before the one that stands, as JSON: number, seconds of training, why it was spoilt, when; None of a run
    that was taken once. One whose record is gone or damaged is told as such."""
    found = []
    for number in range(1, run.take or 1):
        take: dict[str, Any] = {"take": number, "train_seconds": None, "unclean": "its record is not there, or damaged"}
        take |= {"started": None, "ended": None}
        try:
            told = parsed(records.read(f"runs/{run.case}/seed-{run.seed}/takes/{number}/run.json"))
            if edited(told) is None:
                told = older.run(told)
                reasons = "; ".join(spoilt(told["checks"], told["measurements"]))
                moments = {name: told[name] and _utc(told[name]) for name in ("started", "ended") if name in told}
                take |= {"train_seconds": float(told["times"]["train_seconds"]), "unclean": reasons} | moments
        except (BrokenRecord, ValueError, RecursionError, KeyError, TypeError, AttributeError):
            pass
        found.append(take)
    return json.dumps(found) if found else None


def _utc(moment: str) -> str:
    return datetime.fromisoformat(moment).astimezone(UTC).isoformat()


def _flat(value: Any) -> Any:
    """Lists as text with commas, dictionaries as JSON text: Parquet's nested columns are no good in a CSV or a filter."""
    if isinstance(value, list):
        return ", ".join(value)
    return json.dumps(value, sort_keys=True) if isinstance(value, dict) else value


def _arrow(hint: Any) -> pa.DataType:
    """The column type of a field: text for lists, dictionaries, literals and a model's name, else the scalar's."""
    if get_origin(hint) in (list, dict, tuple, Literal) or hint is Sizes:
        return pa.string()
    kinds = [kind for kind in get_args(hint) or (hint,) if kind is not NoneType]
    return {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}[kinds[0]]


def run_columns() -> dict[str, pa.DataType]:
    """Columns of `runs.parquet` and their types, without the `measurements`, whose names only the records know."""
    own = get_type_hints(Run)
    identity = {name: _arrow(own.pop(name)) for name in ("study", "case", "backend", "departures", "seed")}
    for name in NESTED:
        own.pop(name)
    columns = (
        identity
        | {
            "status": pa.string(),
            "error": pa.string(),
            "accepted": pa.string(),
            "unclean": pa.string(),
            "incoherent": pa.string(),
        }
        | {
            "first_losses_apart": pa.float64(),
            "session": pa.int64(),
            "block": pa.string(),
            "position": pa.int64(),
            "earlier_takes": pa.string(),
        }
        | {name: _arrow(hint) for name, hint in own.items()}
    )
    for model, prefix in ((Protocol, "protocol_"), (Machine, ""), (Times, ""), (Memory, ""), (Latency, "latency_")):
        columns |= {prefix + name: _arrow(hint) for name, hint in get_type_hints(model).items()}
    return columns | {"protocol_sizes": pa.string()}


def _run_schema(rows: list[dict[str, Any]]) -> pa.Schema:
    """`run_columns` and one column for each measurement that any run has: text where any value is text, and then all of them."""
    columns = run_columns()
    measurements = dict.fromkeys(name for row in rows for name in row if name not in columns)
    for name in measurements:
        text = any(isinstance(row.get(name), str) for row in rows)
        columns[name] = pa.string() if text else pa.float64()
        for row in rows if text else ():
            row[name] = None if row.get(name) is None else str(row[name])
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


def _epoch_rows(record: Record) -> list[dict[str, Any]]:
    rows = [{"case": record.run.case, "seed": record.run.seed} | vars(epoch) for epoch in record.epochs]
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
        self.rows = 0

    def __enter__(self) -> "StepWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self._write()
        self.writer.close()

    def add(self, record: Record) -> None:
        run, steps, rows = record.run, record.steps, record.steps.epoch.size
        case = pa.DictionaryArray.from_arrays(pa.array(np.full(rows, self.index[run.case], np.int32)), self.names)
        columns = [case, np.full(rows, run.seed), steps.epoch, np.arange(1, rows + 1)]
        columns += [steps.loss, steps.accuracy, steps.sequences]
        if "running-mean-curve" in run.departures:
            columns += [running_means(steps.loss, steps), running_means(steps.accuracy, steps)]
        else:
            columns += [pa.nulls(rows, pa.float32())] * 2
        arrays = [
            pa.array(column, field.type) if isinstance(column, np.ndarray) else column
            for column, field in zip(columns, STEP_SCHEMA, strict=True)
        ]
        self.waiting.append(pa.RecordBatch.from_arrays(arrays, schema=STEP_SCHEMA))
        self.rows += rows
        if self.rows >= ROW_GROUP:
            self._write()

    def _write(self) -> None:
        if self.waiting:
            self.writer.write_table(pa.Table.from_batches(self.waiting).combine_chunks(), row_group_size=ROW_GROUP)
            self.waiting, self.rows = [], 0


@contextmanager
def _whole(file: Path) -> Iterator[Path]:
    """A name to write under; moved to `file` at the end, removed after an error."""
    part = file.with_name(f".{file.name}.part")
    try:
        yield part
        part.replace(file)
    except OSError as error:
        error.filename = str(file)
        raise
    finally:
        part.unlink(missing_ok=True)
