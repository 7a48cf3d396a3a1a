"""What a run leaves behind is written whole, by its content alone, and is read as it was written."""

import hashlib
import io
import json
import os
import stat
import struct
import zipfile
from dataclasses import asdict, replace

import numpy as np
import pytest
from made_study import make_study

from levelfield import records
from levelfield.errors import UserError
from levelfield.records import (
    Epoch,
    add_measurements,
    epochs_of,
    load_arrays,
    packed,
    read_epochs,
    save_arrays,
    set_aside,
    sha256_of_run,
    write_epochs,
    write_json,
    write_run,
    write_whole,
)
from levelfield.tell.outcomes import RUN

EPOCHS = [
    Epoch(1, 1.25, 0.5, 0.1, 0.2, 1e-300, 1.0, 1000.0, 2e5, None),
    Epoch(2, 1 / 3, 0.5, float("nan"), 0.2, float("inf"), 1.0, 1000.0, 2e5, 12.5),
]


@pytest.fixture
def run(tmp_path):
    folder = make_study(tmp_path / "one", cases=["torch"], seeds=[0], steps=5) / "runs/torch/seed-0"
    return RUN.validate_json((folder / "run.json").read_bytes()), folder


def test_a_file_is_there_whole_or_not_at_all(tmp_path, monkeypatch):
    file = tmp_path / "new/folder/file"
    write_whole(file, b"first")
    assert file.read_bytes() == b"first" and [one.name for one in file.parent.iterdir()] == ["file"]

    def full(descriptor):
        parts = [one.name for one in file.parent.iterdir() if one.name != "file"]
        assert parts == [f".file.{os.getpid()}.part"] and file.read_bytes() == b"first", "under another name until it is whole"
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(records.os, "fsync", full)
    with pytest.raises(OSError, match="No space left") as caught:
        write_whole(file, b"second")
    assert caught.value.filename == str(file) and caught.value.errno == 28
    assert file.read_bytes() == b"first" and [one.name for one in file.parent.iterdir()] == ["file"]


def test_what_is_written_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(records.os, "fsync", lambda descriptor: synced.append(os.fstat(descriptor)))
    write_whole(str(tmp_path / "file"), b"12345")
    (one,) = synced
    assert one.st_size == 5 and stat.S_ISREG(one.st_mode) and one.st_ino == (tmp_path / "file").stat().st_ino


def test_an_archive_depends_on_its_arrays_alone(monkeypatch):
    arrays = {"a/b": np.arange(6, dtype=np.int32).reshape(2, 3), "one": np.array(7), "none": np.zeros((0, 2), np.float32)}
    content = packed(arrays)
    assert packed(dict(arrays)) == content
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.namelist() == ["a/b.npy", "one.npy", "none.npy"]
        for entry in archive.infolist():
            assert entry.create_system == 3 and entry.compress_type == zipfile.ZIP_STORED
            assert entry.date_time == (1980, 1, 1, 0, 0, 0)
    found = load_arrays(io.BytesIO(content))
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype and found[name].shape == array.shape and (found[name] == array).all()
    with pytest.raises(ValueError, match="allow_pickle"):
        packed({"objects": np.array([{}], object)})


def test_arrays_are_saved_and_loaded_by_path(tmp_path):
    save_arrays(tmp_path / "a.npz", {"x": np.float32([1.5])})
    for path in (tmp_path / "a.npz", str(tmp_path / "a.npz")):
        assert load_arrays(path)["x"].tolist() == [1.5]


@pytest.mark.parametrize("content", [b"", b"no zip", b"PK\x03\x04" + b"\0" * 40, struct.pack("<4sH", b"\x93NUM", 1)])
def test_what_is_no_archive_is_refused_by_name_or_as_a_stream_by_its_own_error(tmp_path, content):
    (tmp_path / "a.npz").write_bytes(content)
    for path in (tmp_path / "a.npz", str(tmp_path / "a.npz")):
        with pytest.raises(UserError, match=r"a\.npz: no archive of plain arrays \(.+\): delete it and run `snakemake` again$"):
            load_arrays(path)
    with pytest.raises(Exception, match=r"\w") as caught:
        load_arrays(io.BytesIO(content))
    assert not isinstance(caught.value, UserError)
    with pytest.raises(FileNotFoundError):
        load_arrays(tmp_path / "nowhere.npz")


def test_an_array_of_its_own_is_no_archive(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros(3))
    with pytest.raises(UserError, match="no archive of plain arrays"):
        load_arrays(tmp_path / "a.npy")


def test_json_is_written_as_people_read_it_and_never_with_nan(tmp_path):
    file = tmp_path / "a.json"
    write_json(file, {"name": "Größe", "list": [1, None, True], "inner": {"x": 1.5}})
    assert file.read_bytes().decode() == (
        '{\n  "name": "Größe",\n  "list": [\n    1,\n    null,\n    true\n  ],\n  "inner": {\n    "x": 1.5\n  }\n}\n'
    )
    write_json(file, [1])
    assert file.read_text() == "[\n  1\n]\n"
    write_json(file, EPOCHS[0])
    assert json.loads(file.read_text()) == asdict(EPOCHS[0])
    for bad in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="not JSON compliant"):
            write_json(file, {"value": bad})
    assert json.loads(file.read_text()) == asdict(EPOCHS[0]), "what stood there stays"
    write_json(file, {"caf\udce9": ["caf\udce9", {"a": ("caf\udce9", 1)}]})
    assert json.loads(file.read_text()) == {"caf\\udce9": ["caf\\udce9", {"a": ["caf\\udce9", 1]}]}


def test_a_runs_checksum_is_of_its_content_however_it_is_laid_out():
    values = {"b": 1, "a": {"z": [1.0, None], "y": "ä"}}
    expected = hashlib.sha256('{"a":{"y":"ä","z":[1.0,null]},"b":1}'.encode()).hexdigest()
    assert sha256_of_run(values) == sha256_of_run(dict(reversed(values.items()))) == expected
    assert sha256_of_run(values | {"sha256": "x"}) == expected and "sha256" not in values
    assert sha256_of_run(values | {"b": 2}) != expected


def test_a_run_is_written_with_the_checksums_of_its_files(run):
    record, folder = run
    write_run(folder, record)
    values = json.loads((folder / "run.json").read_text())
    for name, file in (("epochs_sha256", "epochs.csv"), ("steps_sha256", "steps.npz")):
        assert values[name] == hashlib.sha256((folder / file).read_bytes()).hexdigest()
    assert values["sha256"] == sha256_of_run(values)
    assert RUN.validate_python(values) == replace(
        record, **{name: values[name] for name in ("epochs_sha256", "steps_sha256", "sha256")}
    )


def test_what_no_json_can_hold_loses_no_record(run):
    """A byte of a variable that is no UTF-8, as Python keeps it, and what a framework from outside may tell of its memory."""
    record, folder = run
    odd = replace(
        record,
        machine=replace(record.machine, environment={"TORCH_HOME": "/data/caf\udce9"}, host="caf\udce9"),
        memory=replace(record.memory, allocated_peak_bytes=np.int64(7), reserved_peak_bytes=float("nan")),
        measurements=record.measurements | {"operations_per_second": np.float32(1.5), "share_of_limit": float("-inf")},
        departures=("clip-norm", np.str_("extra-tanh")),
    )
    write_run(folder, odd)
    values = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    assert values["sha256"] == sha256_of_run(values) and values["machine"]["environment"] == {"TORCH_HOME": "/data/caf\\udce9"}
    found = RUN.validate_json((folder / "run.json").read_bytes(), strict=True)
    assert (found.memory.allocated_peak_bytes, found.memory.reserved_peak_bytes) == (7, None)
    assert (found.measurements["operations_per_second"], found.measurements["share_of_limit"]) == (1.5, None)
    assert found.departures == ["clip-norm", "extra-tanh"] and found.machine.host == "caf\\udce9"


def test_a_take_is_set_aside_whole_its_record_last(run, tmp_path, monkeypatch):
    record, folder = run
    (folder / "weights.npz").write_bytes(b"weights")
    write_run(folder, record)
    written, place = [], tmp_path / "takes/1"
    plainly = records.write_whole
    monkeypatch.setattr(records, "write_whole", lambda path, content: (written.append(path.name), plainly(path, content)))
    set_aside(folder, place)
    set_aside(folder, place)
    assert written == ["weights.npz", "epochs.csv", "steps.npz", "run.json"] * 2
    assert all((place / name).read_bytes() == (folder / name).read_bytes() for name in written)


def test_what_only_the_job_knows_is_added_and_the_checksum_holds(run):
    record, folder = run
    write_run(folder, replace(record, measurements={"kernel": "old", "kept": 1.5}))
    values = add_measurements(folder / "run.json", kernel="new", extras_failed="ended")
    assert values == json.loads((folder / "run.json").read_text()) and values["sha256"] == sha256_of_run(values)
    assert values["measurements"] == {"kernel": "new", "kept": 1.5, "extras_failed": "ended"}


def test_epochs_are_read_as_they_were_written_and_nothing_measured_is_empty(tmp_path):
    file = tmp_path / "epochs.csv"
    write_epochs(file, EPOCHS)
    lines = file.read_text().split("\n")
    assert lines[0] == ",".join(asdict(EPOCHS[0])) and lines[1].startswith("1,1.25,0.5,") and lines[1].endswith(",")
    assert lines[-1] == "" and len(lines) == 4
    found = read_epochs(str(file))
    assert found[0] == EPOCHS[0] and repr(found[1]) == repr(EPOCHS[1]) and isinstance(found[0].epoch, int)
    assert epochs_of(file.read_bytes().replace(b"\n", b"\r\n"))[0] == EPOCHS[0]
