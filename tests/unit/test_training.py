"""What a training is told by, what it refuses; and one that is done stands, whatever an extra after it comes to."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_study import make_study

from levelfield.errors import UserError
from levelfield.level.start import make_start, save_start
from levelfield.measure.pauses import Pauses
from levelfield.models.bilstm import BiLstm
from levelfield.records import Epoch, Steps, read_epochs, write_json
from levelfield.study.protocol import Case, Protocol
from levelfield.tell.outcomes import RUN
from levelfield.training.train import Training, add_extras, check_device, checks, train


class Broken:
    """A backend whose instruments fail: the probe's epoch and the profile."""

    batch_size, steps_a_call = 4, 1

    def train_epoch(self, *_, **__):
        raise MemoryError("12 GB asked for")

    def kernels(self, x, y):
        raise RuntimeError("the profiler crashed at its end")


@pytest.fixture
def run(tmp_path):
    folder = make_study(tmp_path / "results/one", cases=["torch"], seeds=[0]) / "runs/torch/seed-0"
    return RUN.validate_json((Path(folder) / "run.json").read_bytes()), folder


@pytest.fixture
def training(run) -> Training:
    epochs: list[Epoch] = read_epochs(run[1] / "epochs.csv")
    done = Training(
        epochs=epochs, pauses=[Pauses(10, 1.0, 0.1, 0.1, 0.1, 0) for _ in epochs], waited_seconds=[0.0 for _ in epochs]
    )
    return done


class Elsewhere:
    def __init__(self, device, lies_on):
        self.device, self.lies_on = device, lies_on


def test_a_run_whose_weights_lie_elsewhere_than_it_says_is_refused():
    case = Case("torch", "torch", Protocol())
    check_device(Elsewhere("cpu", "cpu"), case)
    with pytest.raises(UserError, match="torch computes on cuda, says torch, and its weights lie on cpu"):
        check_device(Elsewhere("cuda", "cpu"), case)


def no_calibration():
    raise TypeError("unexpected keyword argument 'cudnn_step_seconds'")


def test_each_extra_that_fails_leaves_its_reason_and_the_run_stands(run, training, monkeypatch, capsys):
    monkeypatch.setattr(Training, "sequences_per_second", 320.0)
    record, _ = run
    before = json.dumps(vars(record.times))
    x, y = np.zeros((40, 3), np.int32), np.zeros(40, np.float32)
    add_extras(record, training, Broken(), Protocol(), (x, y), no_calibration)
    assert record.latency is None and record.kernels == [] and record.measurements["share_of_limit"] is None
    assert record.measurements["probe_failed"] == "MemoryError: 12 GB asked for"
    assert record.measurements["profile_failed"].endswith("crashed at its end")
    assert record.measurements["calibration_failed"].startswith("TypeError")
    assert json.loads(before)["train_seconds"] == record.times.train_seconds
    assert capsys.readouterr().out.count("and the run stands") == 3


EPOCH = Epoch(1, 10.0, 2.0, 0.5, 0.7, 0.5, 0.7, 100.0, 20_000.0, 200.0)


def steps(losses, size: int = 4) -> Steps:
    number = len(losses)
    return Steps(
        np.ones(number, np.int32), np.array(losses, np.float32), np.ones(number, np.float32), np.full(number, size, np.int32)
    )


FALLS = list(np.linspace(0.7, 0.3, 20))


@pytest.mark.parametrize(
    ("losses", "validation_loss", "told"),
    [
        (FALLS, 0.5, {"losses_finite": True, "losses_fell": True}),
        (FALLS[::-1], 0.5, {"losses_finite": True, "losses_fell": False}),
        (FALLS[:19], 0.5, {"losses_finite": True}),
        ([0.7], 0.5, {"losses_finite": True}),
        ([*FALLS[:-1], np.nan], 0.5, {"losses_finite": False, "losses_fell": False}),
        (FALLS, np.nan, {"losses_finite": False, "losses_fell": True}),
        (FALLS, np.inf, {"losses_finite": False, "losses_fell": True}),
    ],
    ids=[
        "falls",
        "rises",
        "too short to say",
        "one step",
        "no number",
        "born in the last update",
        "overflown in the last update",
    ],
)
def test_what_must_hold_of_a_training(losses, validation_loss, told):
    epochs = [EPOCH, replace(EPOCH, validation_loss=float(validation_loss))]
    assert checks([steps(losses[: len(losses) // 2]), steps(losses[len(losses) // 2 :])], epochs) == told


def test_sequences_trained_on_are_those_of_the_steps():
    """Ten sequences in batches of four, the last left out, are eight an epoch."""
    training = Training([EPOCH, EPOCH], [steps([0.7, 0.6]), steps([0.5, 0.4])], [], [])
    assert training.sequences == 16 and training.sequences_per_second == 16 / 20


@pytest.mark.parametrize(
    ("sequences", "departures", "told"),
    [
        ((7, 16), (), r"small: batch_size 8 is larger than the training data \(7 sequences\)"),
        ((16, 7), ("drop-last-batch",), r"small: batch_size 8 is larger than the validation data \(7 sequences\)"),
    ],
)
def test_too_few_sequences_are_refused_before_anything_is_made(tmp_path, sequences, departures, told):
    protocol = Protocol(vocabulary=10, length=3, batch_size=8, epochs=1)
    for split, number in zip(("train", "val"), sequences, strict=True):
        np.save(tmp_path / f"x_{split}.npy", np.ones((number, 3), np.int32))
        np.save(tmp_path / f"y_{split}.npy", np.zeros(number, np.float32))
    write_json(tmp_path / "data.json", {"title": "made up"})
    save_start(tmp_path / "seed-0.npz", make_start(protocol, 0, sequences[0]))
    with pytest.raises(UserError, match=told):
        train(
            "s", Case("small", "torch", departures, protocol, "cpu"), 0, tmp_path, tmp_path / "seed-0.npz", 1, tmp_path / "out"
        )
    assert not (tmp_path / "out").exists()


def test_what_a_framework_does_not_tell_after_the_last_epoch_loses_no_training(tmp_path, monkeypatch, capsys):
    """As an allocator without counts, a driver that was lost, a library that cannot be asked."""
    from levelfield.backends.torch import Torch

    def broken(self):
        raise RuntimeError("CUDA error: unspecified launch failure")

    for name in ("peak_memory", "versions", "flags"):
        monkeypatch.setattr(Torch, name, broken)
    protocol = Protocol(model=BiLstm(embedding=3, units=2), vocabulary=10, length=3, batch_size=8, epochs=1)
    for split in ("train", "val"):
        np.save(tmp_path / f"x_{split}.npy", np.ones((16, 3), np.int32))
        np.save(tmp_path / f"y_{split}.npy", np.arange(16, dtype=np.float32) % 2)
    write_json(tmp_path / "data.json", {"title": "made up", "corpus": "made up", "sha256": {}})
    save_start(tmp_path / "seed-0.npz", make_start(protocol, 0, 16))
    out = tmp_path / "out"
    out.mkdir()
    run = train("s", Case("small", "torch", (), protocol, "cpu"), 0, tmp_path, tmp_path / "seed-0.npz", 1, out)
    assert {"run.json", "epochs.csv", "steps.npz", "weights.npz"} <= {file.name for file in out.iterdir()}
    assert (run.machine.versions, run.machine.flags, run.memory.allocated_peak_bytes) == ({}, {}, None)
    assert run.memory.host_peak_bytes and run.checks["losses_finite"]
    assert capsys.readouterr().err.count("not told: RuntimeError: CUDA error") == 3


def test_outputs_that_do_not_fit_the_labels_are_refused_before_anything_is_made(tmp_path):
    """Three labels and one output: the labels would be taken for 0, 1 and 2 of a logistic function."""
    protocol = Protocol(vocabulary=10, length=3, batch_size=8, epochs=1)
    for split in ("train", "val"):
        np.save(tmp_path / f"x_{split}.npy", np.ones((16, 3), np.int32))
        np.save(tmp_path / f"y_{split}.npy", np.arange(16, dtype=np.float32) % 3)
    write_json(tmp_path / "data.json", {"title": "made up", "labels": ["a", "b", "c"]})
    save_start(tmp_path / "seed-0.npz", make_start(protocol, 0, 16))
    case = Case("small", "torch", (), protocol, "cpu")
    with pytest.raises(UserError, match=r"found 1 of bilstm, but made up has 3 labels"):
        train("s", case, 0, tmp_path, tmp_path / "seed-0.npz", 1, tmp_path / "out")
    assert not (tmp_path / "out").exists()
