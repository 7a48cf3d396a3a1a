"""What a run leaves behind: `run.json`, `epochs.csv`, `steps.npz`, `weights.npz`; read and written whole.

Plain dataclasses, since they are written inside the containers; `collect.py` validates them with pydantic when it
reads them. Units stand in the names. A figure that was not measured is None (empty in CSV), never 0.
"""

import csv
import io
import json
import os
import zipfile
from dataclasses import asdict, dataclass, field, fields
from hashlib import sha256
from math import isfinite
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from levelfield.errors import UserError


@dataclass
class Machine:
    """What ran: host, processor, accelerator and software, as found by the run itself."""

    host: str
    cpu: str
    cpus: int
    threads: int
    memory_bytes: int
    system: str
    python: str
    device: str
    """`cpu` or `cuda`: what the run used, not what was asked for."""
    gpu: str | None = None
    gpu_uuid: str | None = None
    driver: str | None = None
    cuda: str | None = None
    cudnn: str | None = None
    versions: dict[str, str] = field(default_factory=dict)
    """Package versions found in the process."""
    flags: dict[str, str] = field(default_factory=dict)
    """Precision and allocator settings in force."""
    scheduler: dict[str, str] = field(default_factory=dict)
    """Job id, node and the devices that a scheduler gave, if one did."""
    host_id: str | None = None
    """Which machine it is, beyond its name and model: a hash, the same as long as it is not installed anew."""
    boot: str | None = None
    """The kernel's number of this boot."""
    environment: dict[str, str] = field(default_factory=dict)
    """The variables that steer frameworks, as they were set in the process."""


@dataclass
class Times:
    """Seconds of wall time on a monotonic clock, the device synchronised at both ends of each part."""

    import_seconds: float
    """Importing the framework."""
    build_seconds: float
    """Making model and optimiser and loading the start."""
    warm_up_seconds: float
    """The first steps, with all compilation; the state is restored afterwards."""
    train_seconds: float
    """Training, all epochs, validation apart."""
    validation_seconds: float
    process_seconds: float | None
    """From the start of the process to the writing of this record; None without a Linux `/proc`."""


@dataclass
class Latency:
    """Wall time of single steps, each synchronised, from a probe after training."""

    p50_seconds: float
    p90_seconds: float
    p99_seconds: float
    steps: int


@dataclass
class Memory:
    """Peaks over the training of the run."""

    host_peak_bytes: int | None
    """Largest resident set of the process while it trained, what was there before included; where the kernel cannot start a peak
    anew, and in records of earlier versions (`host_before_bytes` is then empty), since the process began. Of a run of several
    processes their sum, pages that they share counted for each; None where another process's is not told."""
    allocated_peak_bytes: int | None = None
    """Largest sum of live tensors in the framework's allocator on the GPU."""
    reserved_peak_bytes: int | None = None
    """Most that the allocator held."""
    nvml_peak_bytes: int | None = None
    """Most that NVML saw of this process on the GPU, CUDA context included."""
    host_before_bytes: int | None = None
    """Resident set when training began: framework, data and the warmed-up model."""


@dataclass
class Run:
    """One case with one seed: the content of `run.json`."""

    study: str
    case: str
    backend: str
    departures: list[str]
    seed: int
    started: str
    """ISO 8601, UTC, to a tenth of a second: when the process began its work."""
    corpus: str
    train_sequences: int
    validation_sequences: int
    protocol: dict[str, Any]
    protocol_sha256: str
    data_sha256: str
    start_sha256: str
    commit: str | None
    image: str | None
    """Digest of the container image, None outside one."""
    parameters: int
    """Trainable parameters."""
    machine: Machine
    times: Times
    memory: Memory
    latency: Latency | None = None
    kernels: list[str] = field(default_factory=list)
    """What a profile of one step named of the kernels that matter most to the model."""
    checks: dict[str, bool] = field(default_factory=dict)
    measurements: dict[str, float | str | None] = field(default_factory=dict)
    """Further figures of `measure/`, units in the names: energy, clocks, limits, noise."""
    ended: str | None = None
    """As `started`: when the last epoch was over. Runs of one host that overlap in time disturbed each other."""
    take: int = 1
    """How often this run was made: spoilt ones are taken again, at most twice."""
    epochs_sha256: str | None = None
    """Checksum of `epochs.csv` as it was written; None in records of earlier versions, as the two below."""
    steps_sha256: str | None = None
    """Of `steps.npz`."""
    sha256: str | None = None
    """Of all else that stands here: see `sha256_of_run`."""


@dataclass
class Epoch:
    """A row of `epochs.csv`."""

    epoch: int
    """From 1."""
    train_seconds: float
    validation_seconds: float
    train_loss: float
    """Mean over the epoch's sequences, each batch measured before its own update."""
    train_accuracy: float
    validation_loss: float
    validation_accuracy: float
    sequences_per_second: float
    """Training throughput."""
    tokens_per_second: float
    """The same in tokens, padding included."""
    energy_joules: float | None = None
    """The GPU's energy counter over the training part of the epoch."""


@dataclass
class Steps:
    """`steps.npz`: one value a training step, in order; arrays of shape (epochs · steps an epoch,)."""

    epoch: np.ndarray
    """int32, from 1."""
    loss: np.ndarray
    """float32: mean loss of that batch, before its update."""
    accuracy: np.ndarray
    """float32: share of that batch classified rightly, before its update."""
    sequences: np.ndarray
    """int32: size of the batch."""


def write_whole(path: Path, content: bytes) -> None:
    """Writes under another name, then moves into place: a reader sees the whole file or none.

    An OSError (a full disk, a folder that can only be read) names `path`; what stood there before stays.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        error.filename = str(path)
        raise
    finally:
        part.unlink(missing_ok=True)


def packed(arrays: dict[str, np.ndarray]) -> bytes:
    """An uncompressed `.npz`; its bytes depend on the arrays alone.

    `np.savez` leaves the zip's headers to Python, whose releases write them differently (3.11.2 and 3.11.7 do): hashes of
    the same start would differ between a container and its host.
    """
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, array in arrays.items():
            entry, value = zipfile.ZipInfo(f"{name}.npy"), io.BytesIO()
            entry.create_system = 3
            np.lib.format.write_array(value, np.asanyarray(array), allow_pickle=False)
            archive.writestr(entry, value.getvalue())
    return content.getvalue()


def save_arrays(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Writes an `.npz` whole."""
    write_whole(path, packed(arrays))


def load_arrays(path: Path | BinaryIO) -> dict[str, np.ndarray]:
    """Reads an `.npz` of plain arrays; never unpickles. Raises UserError naming the file where it is none; of a stream numpy's own errors."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except OSError:
        raise
    except Exception as error:  # a zip, an array and a pickle each have errors of their own
        if not isinstance(path, (str, os.PathLike)):
            raise
        told = " ".join(str(error).split())
        raise UserError(f"{path}: no archive of plain arrays ({told}): delete it and run `snakemake` again") from None


def write_json(path: Path, value: Any) -> None:
    """Writes a dataclass or plain data as JSON, whole; NaN is refused. Text that is no Unicode, as the system's may be, becomes so."""
    plain = _unicode(value if isinstance(value, (dict, list)) else asdict(value))
    write_whole(path, (json.dumps(plain, indent=2, allow_nan=False, ensure_ascii=False) + "\n").encode())


def _unicode(value: Any) -> Any:
    """The same with `\\udce9` written out in its texts, where Python kept a byte of a variable or path that is no UTF-8."""
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    if isinstance(value, dict):
        return {_unicode(name): _unicode(one) for name, one in value.items()}
    return [_unicode(one) for one in value] if isinstance(value, (list, tuple)) else value


HASHED = {"epochs_sha256": "epochs.csv", "steps_sha256": "steps.npz"}
"""Which file each of a run's checksums is of."""


def sha256_of_run(values: dict[str, Any]) -> str:
    """Checksum of the content of a `run.json`, its own `sha256` apart, however it is laid out: of JSON with sorted keys, no spaces."""
    content = {name: value for name, value in values.items() if name != "sha256"}
    return sha256(json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()).hexdigest()


def write_run(folder: Path, run: Run) -> None:
    """Writes `run.json` into `folder`, where the run's other files are, with checksums: a number edited later is noticed."""
    values = asdict(run) | {name: sha256((folder / file).read_bytes()).hexdigest() for name, file in HASHED.items()}
    values = _unicode(_told(values))
    write_json(folder / "run.json", values | {"sha256": sha256_of_run(values)})


def _told(value: Any) -> Any:
    """The same with numpy's numbers as Python's, and None for those that are not finite: a framework that tells such loses no training."""
    if isinstance(value, dict):
        return {name: _told(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_told(one) for one in value]
    plain = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(plain, float) and not isfinite(plain) else plain


def set_aside(folder: Path, place: Path) -> None:
    """Copies a whole run to `place`: a workflow deletes what a job leaves that was ended before its end."""
    place.mkdir(parents=True, exist_ok=True)
    for name in ("weights.npz", *HASHED.values(), "run.json"):
        write_whole(place / name, (folder / name).read_bytes())


def add_measurements(file: Path, **measurements: str) -> dict[str, Any]:
    """Adds to the measurements of a `run.json` what only its job knows; returns its content."""
    values: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    values["measurements"] |= measurements
    values["sha256"] = sha256_of_run(values)
    write_json(file, values)
    return values


def write_epochs(path: Path, epochs: list[Epoch]) -> None:
    """Writes `epochs.csv`, a row an epoch, empty where nothing was measured."""
    lines = [",".join(f.name for f in fields(Epoch))]
    for epoch in epochs:
        lines.append(",".join("" if value is None else repr(value) for value in asdict(epoch).values()))
    write_whole(path, ("\n".join(lines) + "\n").encode())


def read_epochs(path: Path) -> list[Epoch]:
    return epochs_of(Path(path).read_bytes())


def epochs_of(content: bytes) -> list[Epoch]:
    """The rows that `write_epochs` wrote."""
    return [_epoch(row) for row in csv.DictReader(io.StringIO(content.decode(), newline=""))]


def _epoch(row: dict[str, str]) -> Epoch:
    values: dict[str, Any] = {
        name: None if value == "" else int(value) if name == "epoch" else float(value) for name, value in row.items()
    }
    return Epoch(**values)
