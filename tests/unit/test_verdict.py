"""The verdict in words speaks of matched cases alone; what departures do is told apart."""

import re

from made_study import EVERY_KIND, make_study

from levelfield.tell.collect import collect
from levelfield.tell.report.verdict import verdict
from levelfield.tell.results import Results
from levelfield.tell.tables import make_tables

ARTICLE = [
    {"backend": "torch", "name": "torch-article", "departures": ["clip-norm"]},
    {"backend": "keras-tensorflow", "name": "keras-article", "departures": ["last-step-output"]},
]
"""Two cases with departures, of different backends: they stand in the table of comparisons, too."""


def said(folder, **options) -> list[str]:
    collect(make_study(folder, **{"seeds": range(4), "steps": 5} | options))
    results = Results.read(folder)
    tables = make_tables(results)
    assert not tables["comparisons"].data["matched"].all()
    return verdict(results, tables)


def test_cases_with_departures_are_in_no_comparison(tmp_path):
    speed, accuracy, *_ = said(tmp_path / "s", cases=EVERY_KIND)
    assert re.match(
        r"torch trained 1\.\d\d times as fast as keras-tensorflow \[.*\] and 1\.\d\d times as fast as jax \[", speed
    )
    assert "article" not in speed + accuracy and "torch+" not in speed + accuracy
    assert accuracy.startswith("All learn equally well")  # where the six pairs of the table do not


def test_without_two_matched_cases_nobody_is_called_faster(tmp_path):
    told = " ".join(said(tmp_path / "s", cases=ARTICLE))
    assert "No two cases here may be compared as equals" in told and "times as fast" not in told


def test_one_matched_case_beside_two_with_departures_is_not_compared(tmp_path):
    told = " ".join(said(tmp_path / "s", cases=["torch", *ARTICLE]))
    assert "times as fast" not in told and "equally well" not in told


def test_of_a_study_that_varies_a_size_the_fastest_at_each_is_named(tmp_path):
    collect(make_study(tmp_path / "s", cases=["jax", "torch"], vary={"length": [100, 200]}, seeds=[0, 1], steps=5))
    results = Results.read(tmp_path / "s")
    sizes, seeds, *_ = verdict(results, make_tables(results))
    assert sizes == "Fastest by tokens a sequence: torch at 100 and 200."
    assert seeds.startswith("Means over 2 seeds;")
