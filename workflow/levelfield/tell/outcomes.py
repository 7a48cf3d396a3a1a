"""What became of each planned run: finished, failed, missing or barred by parity; the records of finished ones, validated.

A file that is cut off, foreign or of another protocol makes its run a failed one, with one line that names the file: it
never stops the rest of the study.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from zipfile import BadZipFile

from pydantic import TypeAdapter, ValidationError

from levelfield.errors import UserError
from levelfield.level.parity import Parity
from levelfield.records import Epoch, Run, Steps, load_arrays, read_epochs
from levelfield.study.config import Study
from levelfield.study.departures import drops_last_batch
from levelfield.study.protocol import Case, digest
from levelfield.tell import older
from levelfield.tell.coherence import Expected

RUN, EPOCHS, PARITY = TypeAdapter(Run), TypeAdapter(list[Epoch]), TypeAdapter(Parity)
STATUS = ("finished", "failed", "missing", "failed-parity")


class BrokenRecord(Exception):
    """A record that is not whole, or not what its place says it is; the message names the file."""


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
    except (ValueError, TypeError) as error:
        told = _first(error) if isinstance(error, ValidationError) else f"is no JSON object: {error}"
        raise UserError(f"{file}: {told}; it is written by `snakemake`: delete it and run that again") from None


def outcomes(folder: Path, study: Study) -> Iterator[tuple[Case, int, str, str | None, Record | None]]:
    """(case, seed, status, error, record) of each planned run, the cases in the study's order; a record where finished.

    A run of other data or another start than the study's others is a failed one.
    """
    expected = Expected(folder, study)
    for case in study.expanded:
        barred = _barred(folder, case) if study.parity else None
        for seed in study.seeds:
            run = folder / "runs" / case.name / f"seed-{seed}"
            if barred:
                yield case, seed, "failed-parity", barred, None
                continue
            try:
                if (run / "run.json").exists():
                    record = read_record(run, case, seed)
                    if reason := expected.refuses(record.run, case):
                        raise BrokenRecord(f"{run}/{reason}")
                    yield case, seed, "finished", None, record
                elif (run / "failure.json").exists():
                    yield case, seed, "failed", _json(run / "failure.json")["error"], None
                else:
                    unproven = _unproven(folder, case) if study.parity else None
                    yield case, seed, "failed" if unproven else "missing", unproven, None
            except BrokenRecord as error:
                yield case, seed, "failed", str(error), None


def _barred(folder: Path, case: Case) -> str | None:
    """Why the case must not be timed, if so; a parity file that cannot be read proves nothing and bars it, too."""
    try:
        parity = read_parity(folder, case.name)
    except BrokenRecord as error:
        return str(error)
    return f"parity missed: {'; '.join(parity.missed)}" if parity and parity.barred else None


def _unproven(folder: Path, case: Case) -> str | None:
    """How the job ended that should have proven the case, by its log, where it left no parity; None where it has not begun."""
    log = folder / "logs" / "parity" / f"{case.name}.log"
    if (folder / "parity" / f"{case.name}.json").exists() or not log.exists():
        return None
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    told = [line for line in lines if "Error" in line or "error" in line or line.startswith("levelfield ")] or lines
    return f"its parity was not measured: {told[-1] if told else 'its job was killed, or is still running'}"


def read_record(folder: Path, case: Case, seed: int) -> Record:
    """Reads and validates what the run in `folder` left; raises BrokenRecord naming the first file that is not whole."""
    run = _read(folder / "run.json", lambda file: RUN.validate_python(older.run(json.loads(file.read_bytes()))))
    if (run.case, run.seed) != (case.name, seed):
        raise BrokenRecord(f"{folder / 'run.json'}: is of {run.case}, seed {run.seed}; expected {case.name}, seed {seed}")
    planned = asdict(case.protocol)
    for key, value in run.protocol.items():
        if key in planned and planned[key] != value:
            raise BrokenRecord(f"{folder / 'run.json'}: ran with {key} {value}, the study says {planned[key]}: run `snakemake`")
    if digest(_json(folder / "run.json")["protocol"]) != run.protocol_sha256:
        raise BrokenRecord(f"{folder / 'run.json'}: its protocol is not the one that protocol_sha256 is of: run `snakemake`")
    epochs = _read(folder / "epochs.csv", lambda file: EPOCHS.validate_python(read_epochs(file)))
    if [epoch.epoch for epoch in epochs] != list(range(1, case.protocol.epochs + 1)):
        raise BrokenRecord(f"{folder / 'epochs.csv'}: {len(epochs)} epochs, expected {case.protocol.epochs}")
    if not all(0 < epoch.train_seconds < float("inf") for epoch in epochs):
        raise BrokenRecord(f"{folder / 'epochs.csv'}: train_seconds of an epoch is no time: expected a number above 0")
    steps = _read(folder / "steps.npz", lambda file: Steps(**load_arrays(file)))
    shapes = {field.name: getattr(steps, field.name).shape for field in fields(Steps)}
    if len(set(shapes.values())) != 1 or steps.epoch.ndim != 1:
        raise BrokenRecord(f"{folder / 'steps.npz'}: arrays of unequal length: {shapes}")
    whole = run.train_sequences // case.protocol.batch_size
    dropped = drops_last_batch(case.departures) or run.train_sequences % case.protocol.batch_size == 0
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


def read_parity(folder: Path, case: str) -> Parity | None:
    """The parity of a case; None where it was not measured. Raises BrokenRecord where its file is not whole."""
    file = Path(folder) / "parity" / f"{case}.json"
    return _read(file, lambda file: PARITY.validate_json(file.read_bytes())) if file.exists() else None
