"""A run's curves come back from TensorBoard's own reader as they stand in the records, with their times of day."""

import subprocess
import sys
from datetime import datetime
from types import ModuleType

import pytest
from made_study import make_study

from levelfield.commands.cli import main
from levelfield.tell.kept import Records
from levelfield.tell.outcomes import load_study, read_record

STUDY = {"cases": ["torch", "keras-tensorflow"], "seeds": [0, 1], "steps": 20}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = make_study(tmp_path_factory.mktemp("curves") / "s", failures={("torch", 1): "failed"}, **STUDY)
    assert main(["export", "--tensorboard", str(folder)]) == 0
    return folder


@pytest.fixture
def scalars(study, monkeypatch):
    """Reads one tag of the run torch, seed 0; TensorBoard leaves TensorFlow alone where a module of this name is there."""
    monkeypatch.setitem(sys.modules, "tensorboard.compat.notf", ModuleType("notf"))
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    read = EventAccumulator(str(study / "runs/torch/seed-0"), size_guidance={"scalars": 0}).Reload()
    return read.Scalars


@pytest.fixture
def record(study):
    case = next(case for case in load_study(study).expanded if case.name == "torch")
    return read_record(Records(study), load_study(study), case, 0)


@pytest.mark.parametrize("name", ["loss", "accuracy"])
def test_every_step_is_there(scalars, record, name):
    found = scalars(f"step/{name}")
    assert [event.step for event in found] == list(range(1, 41))
    assert [event.value for event in found] == getattr(record.steps, name).tolist()


@pytest.mark.parametrize("name", ["train_loss", "validation_accuracy", "train_seconds", "sequences_per_second"])
def test_every_epoch_is_there(scalars, record, name):
    found = scalars(f"epoch/{name}")
    assert [event.step for event in found] == [1, 2]
    assert [event.value for event in found] == pytest.approx([getattr(epoch, name) for epoch in record.epochs])


def test_times_are_those_of_the_record(scalars, record):
    steps, epochs, run = scalars("step/loss"), scalars("epoch/train_loss"), record.run
    started = datetime.fromisoformat(run.started).timestamp()
    begun = started + run.times.import_seconds + run.times.build_seconds + run.times.warm_up_seconds
    assert steps[19].wall_time == pytest.approx(begun + record.epochs[0].train_seconds, abs=1e-3)
    assert steps[9].wall_time == pytest.approx(begun + record.epochs[0].train_seconds / 2, abs=1e-3)
    assert epochs[1].wall_time == pytest.approx(begun + run.times.train_seconds + run.times.validation_seconds, abs=1e-3)


def test_a_study_has_a_file_for_each_finished_run_and_again_the_same(study):
    files = {file: file.read_bytes() for file in study.rglob("*tfevents*")}
    assert sorted("/".join(file.parts[-3:-1]) for file in files) == [
        "keras-tensorflow/seed-0", "keras-tensorflow/seed-1", "torch/seed-0",
    ]  # fmt: skip
    assert main(["export", "--tensorboard", str(study)]) == 0
    assert {file: file.read_bytes() for file in study.rglob("*tfevents*")} == files


def test_tensorflow_is_not_loaded(study, tmp_path):
    call = ["export", "--tensorboard", str(study), "--out", str(tmp_path)]
    code = f"import sys; from levelfield.commands.cli import main; main({call}); print('tensorflow' in sys.modules)"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told.splitlines()[-1] == "False"
    assert len(list(tmp_path.glob("torch/seed-0/*tfevents*"))) == 1


def test_a_broken_record_is_named(study, tmp_path, capsys):
    folder = make_study(tmp_path / "s", cases=["torch"], seeds=[0], steps=20)
    (folder / "runs/torch/seed-0/steps.npz").write_bytes(b"PK")
    assert main(["export", "--tensorboard", str(folder / "runs/torch/seed-0")]) == 2
    assert "steps.npz" in capsys.readouterr().err


def test_nothing_chosen_is_said_in_one_line(study, capsys):
    assert main(["export", str(study)]) == 2
    assert "--onnx, --tensorboard, --mllog" in capsys.readouterr().err
