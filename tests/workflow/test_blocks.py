"""Blocks as one job, on this machine: the block's order, what one failure costs, what is not redone; and studies in several sessions."""

import json
import shutil

import pandas as pd
import pytest
from checkout import Checkout

from levelfield.records import sha256_of_run
from levelfield.study.config import read_study

BLOCKS = ("--config", "runs=blocks")
pytestmark = pytest.mark.long


def records(checkout: Checkout) -> list[dict]:
    """What has finished, in the order in which it ran."""
    files = (checkout.folder / "results/small/runs").glob("*/*/run.json")
    return sorted((json.loads(file.read_text()) for file in files), key=lambda run: run["started"])


def when(checkout: Checkout) -> dict[str, int]:
    """When each finished run was written."""
    runs = checkout.folder / "results/small/runs"
    return {str(file.relative_to(runs).parent): file.stat().st_mtime_ns for file in runs.glob("*/*/run.json")}


@pytest.fixture(scope="module")
def in_blocks(tmp_path_factory) -> Checkout:
    checkout = Checkout.made(tmp_path_factory.mktemp("blocks"))
    checkout.study(seeds=[0, 1])
    done = checkout.snakemake(*BLOCKS)
    assert done.returncode == 0, done.stdout[-5000:]
    return checkout


@pytest.fixture
def blocks(in_blocks, tmp_path) -> Checkout:
    """A copy to be changed."""
    shutil.copytree(in_blocks.folder, tmp_path / "copy")
    return Checkout(tmp_path / "copy")


def test_the_cases_of_a_block_run_in_its_order_and_are_told(in_blocks):
    study = read_study(json.loads((in_blocks.folder / "results/small/study.json").read_text()), "small")
    assert [(run["case"], run["seed"]) for run in records(in_blocks)] == study.runs
    runs = pd.read_parquet(in_blocks.folder / "results/small/runs.parquet")
    assert list(runs["status"]) == ["finished"] * 4 and set(runs["session"]) == {1}
    assert dict(zip(zip(runs["case"], runs["seed"], strict=True), runs["position"], strict=True)) == {
        (case, block.seed): place for block in study.blocks for place, case in enumerate(block.cases, 1)
    }


def test_what_was_run_in_blocks_is_not_run_again_whichever_way(in_blocks):
    assert in_blocks.planned(*BLOCKS) == {}
    assert "train" not in in_blocks.planned()


def test_a_case_that_fails_leaves_the_others_of_its_block_alone_and_nothing_finished_is_redone(blocks):
    """Its parity is changed to one that failed; afterwards the right one is put back."""
    before = when(blocks)
    study = read_study(json.loads((blocks.folder / "results/small/study.json").read_text()), "small")
    first, last = study.blocks[0].cases
    parity = blocks.folder / f"results/small/parity/{first}.json"
    right = parity.read_text()
    blocks.study(seeds=[0, 1, 2])
    parity.write_text(json.dumps(json.loads(right) | {"passed": False, "missed": ["a bound of this test"]}))
    done = blocks.snakemake(*BLOCKS)
    assert done.returncode != 0, done.stdout[-3000:]
    kept = when(blocks)
    assert {run for run in kept if run.startswith(f"{last}/")} == {f"{last}/seed-{seed}" for seed in range(3)}
    assert f"{first}/seed-2" not in kept
    assert all(kept[run] == time for run, time in before.items() if run in kept), "nothing finished is redone"
    failure = json.loads((blocks.folder / f"results/small/runs/{first}/seed-2/failure.json").read_text())
    assert "failed parity" in failure["error"]
    parity.write_text(right)
    done = blocks.snakemake(*BLOCKS)
    assert done.returncode == 0, done.stdout[-5000:]
    after = when(blocks)
    assert len(after) == 6 and all(after[run] == time for run, time in kept.items())


def test_a_run_that_was_deleted_is_made_anew_alone(blocks):
    before = when(blocks)
    shutil.rmtree(blocks.folder / "results/small/runs/torch/seed-1")
    assert blocks.planned(*BLOCKS)["block"] == 1
    assert blocks.snakemake(*BLOCKS).returncode == 0
    after = when(blocks)
    assert {run for run in after if after[run] != before[run]} == {"torch/seed-1"}


def test_an_unknown_way_to_run_is_refused(copy):
    done = copy.snakemake("-n", "--config", "runs=rows")
    assert done.returncode and "runs: found 'rows'" in done.stdout, done.stdout[-2000:]


def test_a_study_of_two_sessions_waits_for_the_second_and_is_told_as_two(copy):
    """A pretended restart: the finished runs are given another boot."""
    copy.study(seeds=[0, 1], sessions=2)
    done = copy.snakemake()
    assert done.returncode == 0, done.stdout[-3000:]
    assert "session 2 of 2 (seed 1) waits for another session: type the same command after" in done.stdout
    assert {run["seed"] for run in records(copy)} == {0}
    assert copy.planned() == {}, "the same session"
    for file in (copy.folder / "results/small/runs").glob("*/*/run.json"):
        run = json.loads(file.read_text())
        run["machine"]["boot"] = "another"
        file.write_text(json.dumps(run | {"sha256": sha256_of_run(run)}))
    done = copy.snakemake()
    assert done.returncode == 0 and "waits" not in done.stdout, done.stdout[-3000:]
    runs = pd.read_parquet(copy.folder / "results/small/runs.parquet")
    assert runs.groupby("session")["seed"].unique().map(list).to_dict() == {1: [0], 2: [1]}
    assert "Runs of 2 sessions" in (copy.folder / "results/small/tables/leaderboard.md").read_text()
