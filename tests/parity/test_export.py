"""An exported run is valid ONNX, and onnxruntime gives the probabilities of the reference."""

import json

import numpy as np
import pytest

from levelfield.commands.cli import main
from levelfield.level import mistakes
from levelfield.level.trial import PROTOCOL, Trial
from levelfield.records import save_arrays

onnxruntime = pytest.importorskip("onnxruntime")


@pytest.fixture
def trial():
    return Trial("none", None)


def finished_run(folder, trial, departures):
    """What `levelfield export` reads of a run."""
    folder.mkdir(parents=True)
    run = {"study": "s", "case": "torch", "seed": 0, "corpus": "c", "data_sha256": "d", "start_sha256": "s"}
    (folder / "run.json").write_text(json.dumps({**run, "departures": departures, "protocol": vars(PROTOCOL)}))
    save_arrays(folder / "weights.npz", trial.weights)
    return folder


@pytest.mark.parametrize("departure", [None, "last-step-output", "extra-tanh", "clip-norm"])
def test_onnxruntime_gives_the_same_probabilities(tmp_path, trial, departure):
    run = finished_run(tmp_path / "runs/torch/seed-0", trial, [departure] if departure else [])
    assert main(["export", "--onnx", str(run)]) == 0
    session = onnxruntime.InferenceSession(run / "model.onnx", providers=["CPUExecutionProvider"])
    (found,) = session.run(["probabilities"], {"tokens": trial.x})
    model = departure in ("last-step-output", "extra-tanh")
    expected = mistakes.departed_outputs(trial.exact, trial.x, departure) if model else mistakes.outputs(trial.exact, trial.x)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)
    assert session.get_modelmeta().custom_metadata_map["padding"] == "pre"


def test_a_folder_without_a_run_is_said_in_one_line(tmp_path, capsys):
    assert main(["export", "--onnx", str(tmp_path)]) == 2
    assert "give the folder of a finished run" in capsys.readouterr().err


def test_a_run_without_weights_is_said_in_one_line(tmp_path, trial, capsys):
    run = finished_run(tmp_path / "runs/torch/seed-0", trial, [])
    (run / "weights.npz").unlink()
    assert main(["export", "--onnx", str(run)]) == 2
    assert "weights.npz is not there" in capsys.readouterr().err
