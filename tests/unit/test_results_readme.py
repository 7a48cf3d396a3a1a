"""Every column and field of every file of a study is explained in results/README.md, and nothing that is not there."""

import json
import re
from dataclasses import fields
from pathlib import Path

import pandas as pd
import pytest
from made_study import EVERY_KIND, make_study

from levelfield.measure import limit, summary
from levelfield.measure.noise import Restlessness
from levelfield.records import Epoch, Latency, Run, Steps
from levelfield.study.protocol import Protocol
from levelfield.tell.collect import collect
from levelfield.tell.readme import write_readme

MANUAL = (Path(__file__).parents[2] / "results" / "README.md").read_text()
README = (Path(__file__).parents[2] / "README.md").read_text()
GENERIC = r"_(sd|low|high|p|p_corrected)$"


def section(heading: str) -> set[str]:
    """All names in backquotes in the section whose heading begins so."""
    found = re.search(rf"^## [^\n]*{re.escape(heading)}(?![\w-])[^\n]*\n(.*?)(?=^## |\Z)", MANUAL, re.M | re.S)
    assert found, f"results/README.md has no section for {heading}"
    return set(re.findall(r"`([^`]+)`", found[1]))


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = make_study(tmp_path_factory.mktemp("manual") / "s", EVERY_KIND, steps=5, failures={("torch", 1): "failed"})
    collect(folder)
    write_readme(folder)
    return folder


@pytest.mark.parametrize("name", ["epochs", "steps"])
def test_columns_of_the_collected_tables(study, name):
    assert set(pd.read_parquet(study / f"{name}.parquet").columns) == section(f"{name}.parquet") - {
        "history-not-cleared",
        "running-mean-curve",
    }


def test_columns_of_runs_and_all_measurements(study):
    told = section("runs.parquet")
    assert set(pd.read_parquet(study / "runs.parquet").columns) <= told
    measurements = [*summary.gpu_measurements(None), *limit.measurements(Protocol(), 1.0, None)]
    with Restlessness() as rest:
        pass
    assert {*measurements, *rest.measurements()} <= told


def test_columns_of_every_table(study):
    runs = section("runs.parquet")
    files = sorted((study / "tables").glob("*.parquet"))
    assert len(files) == 12
    for file in files:
        told = section(f"tables/{file.stem}") | (runs if file.stem == "performance" else set())
        for column in pd.read_parquet(file).columns:
            assert column in told or re.sub(GENERIC, "", column) in told, f"{column} of {file.name} is not explained"


def test_fields_of_the_records(study):
    told = section("run.json") | section("runs.parquet") | section("epochs.parquet") | section("steps.parquet")
    for model in (Run, Epoch, Steps, Latency):
        assert {field.name for field in fields(model)} <= told


@pytest.mark.parametrize(
    ("file", "heading"), [("data/data.json", "data.json"), ("runs/torch/seed-1/failure.json", "failure.json")]
)
def test_fields_of_the_other_files(study, file, heading):
    assert set(json.loads((study / file).read_text())) <= section(heading)


def test_distances_of_parity(study):
    parity = json.loads((study / "parity/torch.json").read_text())
    assert {re.sub(r"_step_\d+", "_step_<n>", name) for name in parity["measured"]} <= section("tables/parity")


def test_the_readme_is_short():
    """150 lines, and no paragraph or item of a list of more than four."""
    assert len(README.splitlines()) <= 150
    prose = re.sub(r"^```.*?^```", "", README, flags=re.MULTILINE | re.DOTALL)
    for paragraph in re.split(r"\n\n|\n(?=- |\d\. )", prose):
        lines = [line for line in paragraph.splitlines() if not line.startswith(("|", "#", "!["))]
        assert len(lines) <= 4, paragraph
