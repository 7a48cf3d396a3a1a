"""A training that is done stands, whatever an extra after it comes to."""

import json
from pathlib import Path

import numpy as np
import pytest
from made_study import make_study

from levelfield.measure.pauses import Pauses
from levelfield.records import Epoch, read_epochs
from levelfield.study.protocol import Protocol
from levelfield.tell.outcomes import RUN
from levelfield.training.train import Training, add_extras


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
