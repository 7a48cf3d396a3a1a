"""The schema and the page of keys say what the models say, and the shipped studies are valid."""

from pathlib import Path

import pytest
import yaml

from levelfield.errors import UserError
from levelfield.study.config import read_study
from levelfield.study.protocol import reference_of
from levelfield.study.schema import CONFIG_README, SCHEMA, config_readme, schema_text

ROOT = Path(__file__).resolve().parents[2]
STUDIES = [file for file in sorted((ROOT / "config").glob("*.yaml")) if file.name != "config.yaml"]


@pytest.mark.parametrize(("file", "text"), [(SCHEMA, schema_text()), (CONFIG_README, config_readme())])
def test_what_is_made_from_the_models_has_not_drifted(file, text):
    assert (ROOT / file).read_text() == text, "type `levelfield schema`"


@pytest.mark.parametrize("file", STUDIES, ids=lambda file: file.stem)
def test_each_shipped_study_is_valid_and_named_as_its_file(file):
    assert read_study(yaml.safe_load(file.read_text()), str(file)).study == file.stem


def blocks(**changes):
    return read_study(
        {"study": "s", "cases": ["torch", "jax", "keras-tensorflow"], "seeds": list(range(60))} | changes, "s.yaml"
    )


def test_a_block_holds_every_case_once_in_an_order_drawn_from_its_seed():
    study = blocks()
    assert [block.seed for block in study.blocks] == study.seeds
    assert all(sorted(block.cases) == ["jax", "keras-tensorflow", "torch"] for block in study.blocks)
    for case in ("torch", "jax", "keras-tensorflow"):
        places = [block.cases.index(case) for block in study.blocks]
        assert all(places.count(place) >= 10 for place in range(3)), f"{case} stands at {places}"
    for even, odd in zip(study.blocks[::2], study.blocks[1::2], strict=True):
        assert odd.cases == even.cases[::-1], "each case runs before any other as often as after it"
    assert blocks(study="another").runs == study.runs, "the order is the seed's, not the study's"
    assert study.runs == [(case, block.seed) for block in study.blocks for case in block.cases]


def test_the_order_of_a_block_is_the_same_on_every_machine_and_python():
    assert blocks().blocks[0].cases == ("jax", "torch", "keras-tensorflow")


def test_sizes_stand_outermost():
    study = blocks(seeds=[0, 1], vary={"batch_size": [8, 16]})
    assert [block.name for block in study.blocks] == [
        "batch_size=8, seed 0", "batch_size=8, seed 1", "batch_size=16, seed 0", "batch_size=16, seed 1",
    ]  # fmt: skip
    assert sorted(study.blocks[2].cases) == ["jax+batch_size=16", "keras-tensorflow+batch_size=16", "torch+batch_size=16"]
    assert sorted(study.runs) == sorted((case.name, seed) for case in study.expanded for seed in study.seeds)


@pytest.mark.parametrize(
    ("changes", "twins"),
    [
        ({}, ["torch-twin"]),
        ({"cases": [{"backend": "torch", "settings": {"batch_size": 64}}]}, ["torch+batch_size=64-twin"]),
        ({"vary": {"batch_size": [8, 16]}}, ["torch-twin+batch_size=8", "torch-twin+batch_size=16"]),
    ],
)
def test_a_twin_is_the_first_case_under_another_name(changes, twins):
    study = blocks(twin=True, **changes)
    cases = {case.name: case for case in study.expanded}
    for twin in twins:
        one, other = cases[twin], cases[twin.replace("-twin", "")]
        assert (one.backend, one.protocol, one.departures) == (other.backend, other.protocol, other.departures)
    assert len(cases) == len(blocks(**changes).expanded) + len(twins)


def test_a_varied_setting_makes_a_case_for_each_value_with_the_rest_as_in_the_protocol():
    study = read_study({"study": "s", "cases": ["torch"], "vary": {"batch_size": [8, 16], "length": [50]}}, "s.yaml")
    found = {case.name: (case.protocol.batch_size, case.protocol.length) for case in study.expanded}
    assert found == {"torch+batch_size=8": (8, 200), "torch+batch_size=16": (16, 200), "torch+length=50": (32, 50)}
    assert study.length == 200


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"protocol": {"data_on": "device"}, "cases": ["keras-jax"]}, "keras-jax cannot have an epoch's data on the device"),
        ({"cases": ["jax-scan"]}, "jax-scan cannot have an epoch's data on the host: set `data_on: device`"),
    ],
)
def test_where_the_data_cannot_lie_is_said_before_anything_runs(changes, told):
    with pytest.raises(UserError, match=told):
        blocks(**changes)


def test_a_case_may_have_its_data_elsewhere_and_is_then_named_so():
    study = blocks(cases=["jax", {"backend": "jax-scan", "settings": {"data_on": "device"}}])
    assert {case.name: case.protocol.data_on for case in study.expanded} == {"jax": "host", "jax-scan+data_on=device": "device"}
    assert len({reference_of(case.protocol) for case in study.expanded}) == 1, "one reference for both"
