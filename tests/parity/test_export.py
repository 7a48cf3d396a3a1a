"""An exported run is valid ONNX, and onnxruntime gives the probabilities of the reference."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest

from levelfield import registry
from levelfield.commands.cli import main
from levelfield.level import mistakes
from levelfield.level.trial import Trial, weights_without_zeros
from levelfield.records import save_arrays

onnxruntime = pytest.importorskip("onnxruntime")
DEPARTURES = {
    "bilstm": [None, "last-step-output", "extra-tanh", "clip-norm"],
    "transformer": [None, "double-softmax", "heads-share-width", "own-dropout"],
    "cnn": [None, "own-dropout"],
}
EXPORTED = [(model, departure) for model, departures in DEPARTURES.items() for departure in departures]


def finished_run(folder, protocol, weights, departure=None):
    """What `levelfield export` reads of a run."""
    folder.mkdir(parents=True)
    run = {"study": "s", "case": "torch", "seed": 0, "corpus": "c", "data_sha256": "d", "start_sha256": "s"}
    told = {"departures": [departure] if departure else [], "protocol": asdict(protocol)}
    (folder / "run.json").write_text(json.dumps(run | told))
    save_arrays(folder / "weights.npz", weights)
    return folder


def probabilities(run, x):
    session = onnxruntime.InferenceSession(run / "model.onnx", providers=["CPUExecutionProvider"])
    (found,) = session.run(["probabilities"], {"tokens": x})
    return found, session.get_modelmeta().custom_metadata_map


@pytest.mark.parametrize(("model", "departure"), EXPORTED)
@pytest.mark.parametrize("outputs", [1, 3])
def test_onnxruntime_gives_the_same_probabilities(tmp_path, model, departure, outputs):
    if departure == "double-softmax" and outputs == 1:
        pytest.skip("refused: it would be the constant 1")
    trial = Trial("none", model, None)
    protocol = replace(trial.protocol, model=replace(trial.protocol.model, outputs=outputs))
    departures = frozenset({departure} if departure else ())
    weights = weights_without_zeros(protocol, departures)
    run = finished_run(tmp_path / "runs/torch/seed-0", protocol, weights, departure)
    assert main(["export", "--onnx", str(run)]) == 0
    found, told = probabilities(run, trial.x)
    expected = mistakes.outputs(
        protocol, weights, trial.x, departures & {*mistakes.reproducible(protocol), "heads-share-width"}
    )
    assert found.shape == ((len(trial.x),) if outputs == 1 else (len(trial.x), 3))
    np.testing.assert_allclose(found.reshape(expected.shape), expected, rtol=0, atol=1e-6)
    assert told["padding"] == "pre" and json.loads(told["model"])["name"] == model


def test_every_model_of_the_house_can_be_exported():
    assert set(DEPARTURES) == set(registry.models())


def test_a_folder_without_a_run_is_said_in_one_line(tmp_path, capsys):
    assert main(["export", "--onnx", str(tmp_path)]) == 2
    assert "give the folder of a finished run" in capsys.readouterr().err


def test_a_run_without_weights_is_said_in_one_line(tmp_path, capsys):
    trial = Trial("none", "bilstm", None)
    run = finished_run(tmp_path / "runs/torch/seed-0", trial.protocol, trial.weights)
    (run / "weights.npz").unlink()
    assert main(["export", "--onnx", str(run)]) == 2
    assert "weights.npz is not there" in capsys.readouterr().err
