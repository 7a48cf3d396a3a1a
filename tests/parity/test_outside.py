"""A model and a framework from outside: a package that says them by entry points, and nothing else in Levelfield changes."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest
from checkout import Checkout
from outside import installed

PACKAGE = Path(__file__).parent / "outside_package"
STUDY = {
    "study": "small",
    "data": {"synthetic": True, "train": 40, "validation": 24},
    "protocol": {"model": "bag-of-words", "vocabulary": 50, "length": 12, "batch_size": 16},
    "cases": ["torch", {"backend": "plain-numpy", "departures": ["sum-of-words"]}, "plain-numpy-float64"],
    "seeds": [0],
    "device": "cpu",
    "retakes": 0,
}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Where the package is installed, as a newcomer would install it; no network is needed."""
    folder = tmp_path_factory.mktemp("outside")
    return installed(shutil.copytree(PACKAGE, folder / "source"), folder / "site")


@pytest.fixture
def levelfield(site, tmp_path):
    """Runs a command in a process that finds the package; returns it when it ended."""
    variables = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])}

    def run(*arguments):
        command = [sys.executable, "-m", "levelfield", *map(str, arguments)]
        return subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, timeout=300)

    return run


def files(folder: str) -> list[str]:
    return sorted(file.name for file in (PACKAGE / folder).glob("*.py"))


def test_a_model_takes_four_files_and_one_for_each_framework():
    assert files("bag_of_words") == ["__init__.py", "jax.py", "mistakes.py", "onnx.py", "reference.py", "torch.py"]


def test_a_framework_takes_one_file_and_one_for_each_model():
    assert [name for name in files("plain_numpy") if name != "__init__.py"] == ["backend.py", "bag_of_words.py"]


@pytest.mark.parametrize(
    "backend", ["torch", "plain-numpy", "plain-numpy-float64", pytest.param("jax", marks=pytest.mark.long)]
)
def test_the_model_keeps_the_contract_in_each_framework(levelfield, backend):
    done = levelfield("check", backend, "--model", "bag-of-words")
    assert "17 of 17 checks passed, bag-of-words\n" in done.stdout, done.stdout + done.stderr
    assert "made: sum-of-words, clip-norm" in done.stdout


def test_the_framework_trains_what_it_has_a_builder_for_and_nothing_else(levelfield):
    done = levelfield("check", "plain-numpy", "--model", "bilstm")
    assert done.returncode == 2 and "plain-numpy does not train the model 'bilstm'; it trains bag-of-words" in done.stderr


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({}, None),
        ({"protocol": {"model": {"name": "bag-of-words", "embedding": 3}}}, None),
        (
            {"protocol": {"model": {"name": "bag-of-words", "units": 3}}},
            "units: unknown key; allowed: name, embedding, outputs",
        ),
        ({"cases": ["keras-jax"]}, "keras-jax does not train the model bag-of-words"),
        ({"protocol": {"model": "bilstm"}, "cases": ["plain-numpy"]}, "plain-numpy does not train the model bilstm"),
        ({"cases": [{"backend": "torch", "departures": ["extra-tanh"]}]}, "torch cannot make the departure 'extra-tanh'"),
    ],
    ids=["model", "sizes", "a size it has not", "a framework without a builder", "another model", "another model's departure"],
)
def test_a_config_names_the_model_and_the_framework(levelfield, tmp_path, change, told):
    """`told`: what is said of a config that is refused."""
    done = levelfield("study", "--json", json.dumps(STUDY | change), "--out", tmp_path / "study.json")
    if told:
        assert done.returncode == 2 and told in done.stderr
    else:
        written = json.loads((tmp_path / "study.json").read_text())["protocol"]["model"]
        assert written["name"] == "bag-of-words" and set(written) == {"name", "embedding", "outputs"}


@pytest.fixture(scope="module")
def python(site, tmp_path_factory) -> Path:
    """A Python that has the package installed beside all that this one has."""
    folder = tmp_path_factory.mktemp("python")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (found,) = folder.glob("lib/python*/site-packages")
    (found / "outside.pth").write_text(f"{site}\n{sysconfig.get_path('purelib')}\n")
    return folder / "bin/python"


@pytest.mark.long
def test_a_study_of_both_runs_to_the_end_and_tells_of_them(tmp_path, python):
    checkout = Checkout.made(tmp_path, python)
    checkout.study(**STUDY)
    done = checkout.snakemake()
    assert done.returncode == 0, done.stdout[-3000:]
    results = tmp_path / "results/small"
    runs = {file.parts[-3]: json.loads(file.read_text()) for file in results.glob("runs/*/*/run.json")}
    assert set(runs) == {"torch", "plain-numpy+sum-of-words", "plain-numpy-float64"}
    assert {run["parameters"] for run in runs.values()} == {50 * 64 + 64 + 1}
    for case in (
        "plain-numpy+sum-of-words",
        "plain-numpy-float64",
    ):  # what its row asks for, the second by the row that it is like
        told = runs[case]["machine"]["environment"]
        assert (told["OPENBLAS_NUM_THREADS"], told["PLAIN_NUMPY_IS_PLAIN"]) == ("1", "yes"), "whatever its name begins with"
    parity = json.loads((results / "parity/plain-numpy-float64.json").read_text())["measured"]
    assert parity["probabilities"] < 1e-7 and parity["weights_step_1"] < 1e-7
    page = (results / "report.html").read_text()
    assert "words as 64 numbers each, their mean, one dense layer" in page and "added up, not averaged" in page


def test_what_it_trained_can_be_exported(levelfield, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    run, rng = tmp_path / "runs/torch/seed-0", np.random.default_rng(0)
    run.mkdir(parents=True)
    protocol = {"model": {"name": "bag-of-words", "embedding": 6, "outputs": 1}, "vocabulary": 40, "length": 12}
    told = dict.fromkeys(("study", "case", "corpus", "data_sha256", "start_sha256"), "s") | {"seed": 0, "departures": []}
    (run / "run.json").write_text(json.dumps(told | {"protocol": protocol}))
    weights = {"embedding": rng.normal(size=(40, 6)), "dense/kernel": rng.normal(size=(6, 1)), "dense/bias": np.ones(1)}
    np.savez(run / "weights.npz", **{name: value.astype(np.float32) for name, value in weights.items()})
    done = levelfield("export", "--onnx", run)
    assert done.returncode == 0, done.stderr
    tokens = rng.integers(0, 40, (5, 12)).astype(np.int32)
    (found,) = onnxruntime.InferenceSession(run / "model.onnx").run(["probabilities"], {"tokens": tokens})
    logits = weights["embedding"][tokens].mean(axis=1) @ weights["dense/kernel"] + weights["dense/bias"]
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-logits[:, 0])), rtol=0, atol=1e-6)
