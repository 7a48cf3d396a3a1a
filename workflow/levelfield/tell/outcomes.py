"""What became of each planned run: finished, failed, missing or barred by parity; the records of finished ones, validated.

A file that is cut off, foreign, edited or of another protocol makes its run a failed one, with one line that says `damaged`, names the
file and tells why: it never stops the rest of the study.
"""

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from hashlib import sha256
from math import isfinite
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from levelfield.errors import UserError
from levelfield.level.parity import Parity
from levelfield.plan.outcome import failure_in
from levelfield.records import HASHED, Epoch, Run, Steps, epochs_of
from levelfield.study.config import Study
from levelfield.study.departures import trained_on
from levelfield.study.protocol import Case, digest
from levelfield.tell import older
from levelfield.tell.coherence import Expected
from levelfield.tell.kept import LARGEST, BrokenRecord, Records, arrays_of, edited, one_line, parsed

RUN, PARITY = TypeAdapter(Run), TypeAdapter(Parity)
STATUS = ("finished", "failed", "missing", "failed-parity")
DAMAGED = "damaged: "
"""What the error of a run begins with that left records of which one is not what it should be."""
IN_WORDS = re.compile(r"_warning$")
IN_NUMBERS = re.compile(r"_(seconds|bytes|joules|mhz|watts|percent|share|processes|spread|average|change)$|_per_|^share_of_")
"""Names of measurements that are text, and of those that are numbers."""
MOST_TAKES, MOST_DAYS = 10, 366
"""Of a run; and of days that one may have lasted."""
MOST_SECONDS, STEP_BYTES, HEADERS = 1e9, 32, 2**16
"""Of a part of a run; of a step in `steps.npz`, were its numbers of 64 bits; of that file beside its numbers."""


@dataclass
class Record:
    """All that one finished run left behind."""

    run: Run
    epochs: list[Epoch]
    steps: Steps


def load_study(folder: Path) -> Study:
    """The study that `study.json` in `folder` describes; raises UserError where there is none."""
    file = Path(folder) / "study.json"
    try:
        return Study.model_validate(older.study(json.loads(file.read_bytes())))
    except FileNotFoundError:
        raise UserError(f"{file} is not there: give the folder of a study, such as results/article") from None
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        told = _first(error) if isinstance(error, ValidationError) else f"is no JSON object: {error}"
        raise UserError(f"{file}: {told}; it is written by `snakemake`: delete it and run that again") from None


def outcomes(folder: Path, study: Study) -> Iterator[tuple[Case, int, str, str | None, Record | None]]:
    """(case, seed, status, error, record) of each planned run, the cases in the study's order; a record where finished.

    A run of other data or another start than the study's others is a failed one.
    """
    records = Records(folder)
    expected = Expected(records, study)
    for case in study.expanded:
        barred = _barred(folder, case) if study.parity else None
        for seed in study.seeds:
            if barred:
                yield case, seed, "failed-parity", barred, None
                continue
            try:
                yield case, seed, *_outcome(records, expected, study, case, seed)
            except BrokenRecord as error:
                yield case, seed, "failed", f"{DAMAGED}{error}", None


def _outcome(
    records: Records, expected: Expected, study: Study, case: Case, seed: int
) -> tuple[str, str | None, Record | None]:
    """(status, error, record) of a run; raises BrokenRecord where it left anything that is not whole."""
    place = f"runs/{case.name}/seed-{seed}"
    if records.there(f"{place}/run.json"):
        record = read_record(records, study, case, seed)
        if reason := expected.refuses(record.run, case):
            raise BrokenRecord(f"{place}/run.json: {reason}")
        return "finished", None, record
    if records.there(f"{place}/failure.json"):
        with _reading(f"{place}/failure.json") as file:
            error = parsed(records.read(file)).get("error")
            if not isinstance(error, str):
                raise BrokenRecord(f"{file}: does not say what failed")
            return "failed", error, None
    for folder in (f"runs/{case.name}", place):
        if os.path.lexists(path := records.folder / folder) and not path.is_dir():
            raise BrokenRecord(f"{folder}: is no folder")
    if left := [name for name in HASHED.values() if records.there(f"{place}/{name}")]:
        raise BrokenRecord(f"{place}/run.json: is not there, though {left[0]} is")
    unproven = _unproven(records, case) if study.parity else None
    return "failed" if unproven else "missing", unproven, None


def _barred(folder: Path, case: Case) -> str | None:
    """Why the case must not be timed, if so; a parity file that cannot be read proves nothing and bars it, too."""
    try:
        parity = read_parity(folder, case.name)
    except BrokenRecord as error:
        return f"{DAMAGED}{error}"
    return f"parity missed: {'; '.join(parity.missed)}" if parity and parity.barred else None


def _unproven(records: Records, case: Case) -> str | None:
    """How the job ended that should have proven the case, by its log, where it left no parity; None where it has not begun."""
    log = f"logs/parity/{case.name}.log"
    if records.there(f"parity/{case.name}.json") or not records.there(log):
        return None
    text = records.read(log).decode(errors="replace")
    last = text.strip().rpartition("\n")[2].strip() or "its job was killed, or is still running"
    return f"its parity was not measured: {failure_in(text) or last}"


def read_record(records: Records, study: Study, case: Case, seed: int) -> Record:
    """Reads and validates what a run left; raises BrokenRecord naming the first file that is not whole."""
    place = f"runs/{case.name}/seed-{seed}"
    with _reading(f"{place}/run.json") as file:
        values = parsed(records.read(file))
        if reason := edited(values) or _of_another_version(values):
            raise BrokenRecord(f"{file}: {reason}")
        run = RUN.validate_json(json.dumps(older.run(values)), strict=True)  # no number as text, no truth as number
        if reason := _foreign(run, values, study, case, seed) or _implausible(run):
            raise BrokenRecord(f"{file}: {reason}")
    with _reading(f"{place}/epochs.csv") as file:
        epochs = epochs_of(_unedited(records, file, run.epochs_sha256))
        if reason := _no_epochs(epochs, case.protocol.epochs):
            raise BrokenRecord(f"{file}: {reason}")
    with _reading(f"{place}/steps.npz") as file:
        content, expected = _unedited(records, file, run.steps_sha256), _steps_of(run, case)
        steps = Steps(**arrays_of(content, min(STEP_BYTES * expected + HEADERS, LARGEST[".npz"])))
        if reason := _no_steps(steps, case, expected):
            raise BrokenRecord(f"{file}: {reason}")
        steps = Steps(
            steps.epoch.astype(np.int32),
            steps.loss.astype(np.float32),
            steps.accuracy.astype(np.float32),
            steps.sequences.astype(np.int32),
        )
    return Record(run, epochs, steps)


@contextmanager
def _reading(file: str) -> Iterator[str]:
    """Any of the ways in which a file can be missing, cut off or foreign is one BrokenRecord that names it."""
    try:
        yield file
    except BrokenRecord:
        raise
    except ValidationError as error:
        raise BrokenRecord(f"{file}: {_first(error)}") from None
    except Exception as error:  # a zip, an array, a CSV, JSON and what is in them: each has errors of its own
        raise BrokenRecord(f"{file}: cannot be read: {one_line(error)}") from None


def _of_another_version(values: dict[str, Any]) -> str | None:
    """Which field this version does not know, if there is one: it would be passed over in silence."""
    unknown = sorted(values.keys() - {field.name for field in fields(Run)})
    return f"unknown field {unknown[0]!r}: another version's record" if unknown else None


def _unedited(records: Records, file: str, written: str | None) -> bytes:
    """A file's content; raises BrokenRecord where it is not what was written. written: its checksum, where it was recorded."""
    content = records.read(file)
    found = sha256(content).hexdigest()
    if written not in (None, found):
        raise BrokenRecord(
            f"{file}: is not as it was written: sha256 {found[:12]}, run.json says {written[:12]}: edited or cut off"
        )
    return content


def _foreign(run: Run, values: dict[str, Any], study: Study, case: Case, seed: int) -> str | None:
    """Why a record is not that of this run of this study, if so."""
    if (run.case, run.seed) != (case.name, seed):
        return f"is of {run.case}, seed {run.seed}; expected {case.name}, seed {seed}"
    if run.study != study.study:
        return f"is of the study {run.study}; expected {study.study}"
    if (run.backend, set(run.departures)) != (case.backend, set(case.departures)):
        made = "+".join([run.backend, *run.departures])
        return f"ran {made}, the study says {'+'.join([case.backend, *case.departures])}"
    planned = asdict(case.protocol)
    for key, value in run.protocol.items():
        if key in planned and planned[key] != value:
            return f"ran with {key} {value}, the study says {planned[key]}: run `snakemake`"
    if digest(values["protocol"]) != run.protocol_sha256:
        return "its protocol is not the one that protocol_sha256 is of: run `snakemake`"
    return None


def _implausible(run: Run) -> str | None:
    """What in a record no machine can have measured, if anything."""
    for name, value in vars(run.times).items():
        if value is not None and not 0 <= value < MOST_SECONDS:
            return f"times.{name}: {value:g} is no time"
    for part in ("memory", "latency"):
        for name, value in vars(getattr(run, part) or run.memory).items():
            if value is not None and value < 0:
                return f"{part}.{name}: {value:g} is below 0"
    for name, told in run.measurements.items():
        if (isinstance(told, float) and IN_WORDS.search(name)) or (isinstance(told, str) and IN_NUMBERS.search(name)):
            return f"measurements.{name}: {told!r}: expected {'text' if IN_WORDS.search(name) else 'a number'}, or null"
    if run.train_sequences < 1 or run.validation_sequences < 0 or not 1 <= run.take <= MOST_TAKES:
        return f"{run.train_sequences} training sequences, {run.validation_sequences} for validation, take {run.take}"
    if run.machine.device not in ("cpu", "cuda"):
        return f"machine.device: {run.machine.device!r}: expected cpu or cuda"
    moments = []
    for name in ("started", "ended"):
        if (written := getattr(run, name)) is not None:
            moment = datetime.fromisoformat(written)
            if moment.tzinfo is None or not 2000 <= moment.year < 2200:
                return f"{name}: {written}: expected a time of this century with its zone"
            moments.append(moment)
    if moments and abs(moments[-1] - moments[0]).days > MOST_DAYS:
        return f"ended: {run.ended}: no run lasts from {run.started} to then"
    return None


def _no_epochs(epochs: list[Epoch], expected: int) -> str | None:
    """Why these cannot be the epochs of a run, if so. A loss may be NaN: a training can diverge."""
    if [epoch.epoch for epoch in epochs] != list(range(1, expected + 1)):
        return f"{len(epochs)} epochs, expected {expected}"
    for epoch in epochs:
        for name, value in vars(epoch).items():
            if value is None and name != "energy_joules":
                return f"{name} of an epoch is empty"
            if (name.endswith("_seconds") and not 0 <= value < MOST_SECONDS) or (name == "train_seconds" and value == 0):
                return f"{name} of an epoch is no time: expected a number above 0"
            if name.endswith("_accuracy") and not 0 <= value <= 1:
                return f"{name} of an epoch is {value:g}: expected a share of 1"
            if name.endswith("_per_second") and not value > 0:
                return f"{name} of an epoch is {value:g}: expected a number above 0"
            if value is not None and not name.endswith("_loss") and not isfinite(value):
                return f"{name} of an epoch is not finite"
    return None


def _steps_of(run: Run, case: Case) -> int:
    """How many steps the run must have made."""
    size = case.protocol.batch_size
    return case.protocol.epochs * -(-trained_on(case.departures, run.train_sequences, size) // size)


def _no_steps(steps: Steps, case: Case, expected: int) -> str | None:
    """Why these cannot be the steps of a run, if so."""
    arrays = {field.name: getattr(steps, field.name) for field in fields(Steps)}
    shapes = {name: array.shape for name, array in arrays.items()}
    if len(set(shapes.values())) != 1 or steps.epoch.ndim != 1:
        return f"arrays of unequal length: {shapes}"
    if any(array.dtype.kind not in ("f" if name in ("loss", "accuracy") else "iu") for name, array in arrays.items()):
        return f"arrays of other types: {', '.join(f'{name} {array.dtype}' for name, array in arrays.items())}"
    if steps.epoch.size != expected:
        return f"{steps.epoch.size} steps, expected {expected}"
    if not np.array_equal(steps.epoch, np.repeat(np.arange(1, case.protocol.epochs + 1), expected // case.protocol.epochs)):
        return "its epochs are not in order, or not of equal length"
    if not ((steps.sequences >= 1) & (steps.sequences <= case.protocol.batch_size)).all():
        return f"a batch has less than 1 or more than {case.protocol.batch_size} sequences"
    return None


def _first(error: ValidationError) -> str:
    """The first of a validation's errors as `key: found: allowed`."""
    first = error.errors()[0]
    return one_line(ValueError(f"{'.'.join(map(str, first['loc'])) or 'content'}: {first['msg']}"))


def read_parity(folder: Path, case: str) -> Parity | None:
    """The parity of a case; None where it was not measured. Raises BrokenRecord where its file is not whole or another's."""
    records, file = Records(folder), f"parity/{case}.json"
    if not records.there(file):
        return None
    with _reading(file):
        parity = PARITY.validate_python(parsed(records.read(file)))
        if parity.case != case:
            raise BrokenRecord(f"{file}: is of {parity.case}; expected {case}")
        return parity
