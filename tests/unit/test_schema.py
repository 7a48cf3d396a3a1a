"""The schema and the page of keys say what the models say, and the shipped studies are valid."""

from pathlib import Path

import pytest
import yaml

from levelfield.study.config import read_study
from levelfield.study.schema import CONFIG_README, SCHEMA, config_readme, schema_text

ROOT = Path(__file__).resolve().parents[2]
STUDIES = [file for file in sorted((ROOT / "config").glob("*.yaml")) if file.name != "config.yaml"]


@pytest.mark.parametrize(("file", "text"), [(SCHEMA, schema_text()), (CONFIG_README, config_readme())])
def test_what_is_made_from_the_models_has_not_drifted(file, text):
    assert (ROOT / file).read_text() == text, "type `levelfield schema`"


@pytest.mark.parametrize("file", STUDIES, ids=lambda file: file.stem)
def test_each_shipped_study_is_valid_and_named_as_its_file(file):
    assert read_study(yaml.safe_load(file.read_text()), str(file)).study == file.stem


def test_runs_alternate_between_the_cases_within_each_seed():
    study = read_study({"study": "s", "cases": ["torch", "jax"], "seeds": [3, 5]}, "s.yaml")
    assert study.runs == [("torch", 3), ("jax", 3), ("torch", 5), ("jax", 5)]


def test_a_varied_setting_makes_a_case_for_each_value_with_the_rest_as_in_the_protocol():
    study = read_study({"study": "s", "cases": ["torch"], "vary": {"batch_size": [8, 16], "length": [50]}}, "s.yaml")
    found = {case.name: (case.protocol.batch_size, case.protocol.length) for case in study.expanded}
    assert found == {"torch+batch_size=8": (8, 200), "torch+batch_size=16": (16, 200), "torch+length=50": (32, 50)}
    assert study.length == 200
