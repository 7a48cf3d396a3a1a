"""A case that can never run: the study stays unfinished until the failure is accepted by name, and then is told as done without it."""

import json
import shutil

import pandas as pd
import pytest
from checkout import ROOT, Checkout
from outside import made_known

from levelfield.errors import UserError
from levelfield.study.config import read_study

WHY = "its kernels know no processor of this kind"


def with_a_backend_that_fails(checkout: Checkout) -> None:
    project = ROOT / "tests/failing_backend"
    made_known(project, checkout.folder / "workflow")
    shutil.copy(project / "failing.py", checkout.folder / "workflow")


@pytest.mark.long
def test_a_study_is_done_once_its_failure_is_accepted_by_name(copy):
    with_a_backend_that_fails(copy)
    results = copy.folder / "results/small"
    before = (results / "runs/torch/seed-0/run.json").stat().st_mtime_ns
    copy.study(cases=["jax", "torch", "never"])
    done = copy.snakemake("--keep-going")
    assert done.returncode != 0 and "no kernel of this framework runs" in done.stdout
    assert "1 failed" in (results / "tables/leaderboard.md").read_text()

    copy.study(cases=["jax", "torch", "never"], accepted={"never": WHY})
    done = copy.snakemake("--keep-going")
    assert done.returncode == 0, done.stdout[-3000:]
    assert copy.planned() == {}, "and it stays done"
    assert (results / "runs/torch/seed-0/run.json").stat().st_mtime_ns == before
    assert f"accepted ({WHY}): 1 failed: its parity was not measured: " in (results / "tables/leaderboard.md").read_text()
    for file in ("README.md", "report.html"):
        assert f"never was accepted as failing ({WHY}): none of its 1 runs finished." in (results / file).read_text()
    runs = pd.read_parquet(results / "runs.parquet").set_index("case")
    assert runs.loc["never", "accepted"] == WHY and pd.isna(runs.loc["torch", "accepted"])
    assert pd.read_csv(results / "tables/unfinished.csv")["case"].tolist() == ["never"]


@pytest.mark.long
def test_an_accepted_case_that_finished_is_told(copy):
    copy.study(accepted={"torch": WHY})
    done = copy.snakemake()
    assert done.returncode == 0, done.stdout[-3000:]
    results = copy.folder / "results/small"
    assert f"accepted as failing, yet it finished ({WHY})" in (results / "tables/leaderboard.md").read_text()
    assert f"torch was accepted as failing ({WHY}): yet 1 of its 1 runs finished." in (results / "report.html").read_text()
    assert json.loads((results / "study.json").read_text())["accepted"] == {"torch": WHY}


@pytest.mark.parametrize(
    ("accepted", "told"),
    [
        ({"touch": WHY}, "accepted: no case is named touch; there are jax, torch"),
        ({"torch": ""}, "accepted.torch"),
        (["torch"], "accepted: found"),
    ],
)
def test_a_failure_is_accepted_of_a_case_that_is_there_and_with_a_reason(accepted, told):
    config = {"study": "s", "cases": ["jax", "torch"], "accepted": accepted}
    with pytest.raises(UserError, match=told):
        read_study(config, "s.yaml")
