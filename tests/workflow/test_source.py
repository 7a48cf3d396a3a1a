"""A study stays with the source that it was made from: another one is refused while planning, before anything is deleted."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from checkout import Checkout


def archive(path: Path, seed: int = 0) -> Path:
    """A tiny `imdb.npz`, its rows drawn."""
    rng, arrays = np.random.default_rng(seed), {}
    for part, count in (("train", 40), ("test", 24)):
        rows = np.empty(count, object)
        rows[:] = [rng.integers(1, 40, rng.integers(2, 20)).tolist() for _ in range(count)]
        arrays |= {f"x_{part}": rows, f"y_{part}": np.arange(count) % 2}
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **arrays)
    return path


def new(folder: Path) -> Checkout:
    folder.mkdir()
    return Checkout.made(folder)


CONFIG = {"data": {}, "cases": ["torch"], "parity": False}


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Checkout:
    """A checkout whose study was run to the end with LEVELFIELD_IMDB set."""
    checkout = new(tmp_path_factory.mktemp("source") / "checkout")
    checkout.study(**CONFIG)
    own = archive(checkout.folder.parent / "elsewhere/imdb.npz")
    done = checkout.snakemake(LEVELFIELD_IMDB=str(own))
    assert done.returncode == 0, done.stdout[-5000:]
    return checkout


@pytest.fixture
def made(original, tmp_path) -> Checkout:
    shutil.copytree(original.folder, tmp_path / "checkout")
    archive(tmp_path / "elsewhere/imdb.npz")
    return Checkout(tmp_path / "checkout")


def state(checkout: Checkout) -> dict[str, tuple[int, bytes]]:
    """Each file of the study, its time and content."""
    files = (file for file in (checkout.folder / "results/small").rglob("*") if file.is_file())
    return {str(file.relative_to(checkout.folder)): (file.stat().st_mtime_ns, file.read_bytes()) for file in files}


def refused(checkout: Checkout, **environment) -> str:
    """Runs the study; asserts that it was refused in one line and that no file of it changed. Returns the line."""
    before = state(checkout)
    done = checkout.snakemake(**environment)
    assert done.returncode != 0 and state(checkout) == before, done.stdout[-3000:]
    (line,) = [line for line in done.stdout.splitlines() if "Nothing was replaced" in line]
    assert "Traceback" not in done.stdout
    return line


def test_the_variable_forgotten(made):
    line = refused(made)
    assert "set LEVELFIELD_IMDB to that file again" in line and "--config replace=data" in line and "another name" in line
    assert made.planned(LEVELFIELD_IMDB=str(made.folder.parent / "elsewhere/imdb.npz")) == {}


def test_another_file_by_the_same_variable(made):
    archive(made.folder.parent / "elsewhere/imdb.npz", seed=1)
    assert "sha256" in refused(made, LEVELFIELD_IMDB=str(made.folder.parent / "elsewhere/imdb.npz"))


def test_another_kind_of_source(made):
    made.study(**CONFIG | {"data": {"synthetic": True, "train": 40, "validation": 24}})
    assert "now it would be synthetic" in refused(made)


def test_the_same_content_elsewhere_is_the_same_source(made):
    moved = archive(made.folder / "data of my own/reviews.npz")
    assert made.planned(LEVELFIELD_IMDB=str(moved)) == {}
    made.study(**CONFIG | {"data": {"file": "data of my own/reviews.npz", "title": "Reviews of my own"}})
    assert {"data", "start", "train"}.isdisjoint(made.planned())


@pytest.mark.long
def test_replacing_is_asked_for_by_name(made):
    other = archive(made.folder.parent / "elsewhere/other.npz", seed=1)
    planned = made.planned("--config", "replace=data", LEVELFIELD_IMDB=str(other))
    assert planned["data"] == 1 and planned["train"] == 1 and planned["start"] == 1
    done = made.snakemake("--config", "replace=data", LEVELFIELD_IMDB=str(other))
    assert done.returncode == 0, done.stdout[-3000:]
    source = json.loads((made.folder / "results/small/data/data.json").read_text())["source"]
    assert source["name"] == "other.npz" and source["named_by"] == "LEVELFIELD_IMDB"
    assert made.planned(LEVELFIELD_IMDB=str(other)) == {}
    done = made.snakemake("--config", "replace=all")
    assert done.returncode != 0 and "replace: found 'all'" in done.stdout


def test_a_file_that_is_not_there_is_said_in_one_line(made):
    done = made.snakemake(LEVELFIELD_IMDB="/nowhere/imdb.npz")
    assert done.returncode != 0 and "/nowhere/imdb.npz: no such file; LEVELFIELD_IMDB names it" in done.stdout
    assert "MissingInputException" not in done.stdout


def test_the_home_folder_is_understood(tmp_path):
    checkout = new(tmp_path / "checkout")
    archive(tmp_path / "home/reviews/imdb.npz")
    checkout.study(**CONFIG | {"data": {"file": "~/reviews/imdb.npz"}})
    assert checkout.planned(HOME=str(tmp_path / "home"))["train"] == 1
    done = checkout.snakemake("-n", HOME=str(tmp_path))
    assert done.returncode != 0 and "reviews/imdb.npz: no such file; data.file names it" in done.stdout


def test_what_stood_in_for_imdb_stays(tmp_path):
    """The study was made from the snippets; that IMDB could be had now is no reason to replace it."""
    checkout = Checkout.made(tmp_path)
    checkout.study(**CONFIG)
    data = tmp_path / "results/small/data"
    data.mkdir(parents=True)
    source = {"kind": "snippets", "sha256": "0" * 64, "name": None, "named_by": None, "settings": {}}
    (data / "data.json").write_text(json.dumps({"source": source}))
    assert checkout.planned()["train"] == 1
    own = archive(tmp_path / "imdb.npz")
    assert "unset LEVELFIELD_IMDB" in refused(checkout, LEVELFIELD_IMDB=str(own))


def test_a_config_without_a_name_is_refused_before_anything_is_written(tmp_path):
    checkout = Checkout.made(tmp_path)
    config = {key: value for key, value in checkout.study().items() if key != "study"}
    (tmp_path / "config/mine.yaml").write_text(json.dumps(config))
    done = checkout.snakemake("-n", config="config/mine.yaml")
    assert done.returncode != 0 and "config/mine.yaml: study: missing" in done.stdout, done.stdout[-3000:]
    assert "Traceback" not in done.stdout and not (tmp_path / "results").exists()
    assert checkout.planned("--config", "study=mine", config="config/mine.yaml")["train"] == 2
