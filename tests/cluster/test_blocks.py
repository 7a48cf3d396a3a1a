"""Blocks as one Slurm job each: one card for all its runs, their order, a run that dies in the middle, a block that is cancelled."""

import json
import os
import signal
import subprocess
from pathlib import Path

import pandas as pd
import pytest
import yaml
from submitted import Submitted, made

from levelfield.study.config import read_study

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]
CASES = ["jax", "torch", {"backend": "torch", "name": "torch-again"}]
CONFIG = ["steps=here", "runs=blocks"]


@pytest.fixture(scope="module")
def in_blocks(running_slurm, tmp_path_factory) -> Submitted:
    checkout = made(tmp_path_factory.mktemp("blocks") / "checkout", running_slurm, cases=CASES, seeds=[0, 1])
    checkout.site(config=CONFIG)
    done = checkout.submit()
    assert done.returncode == 0, done.stdout[-6000:]
    return checkout


def records(checkout: Submitted) -> list[dict]:
    files = checkout.results.glob("runs/*/*/run.json")
    return sorted((json.loads(file.read_text()) for file in files), key=lambda run: run["started"])


def blocks(checkout: Submitted, *states: str) -> list[dict[str, str]]:
    return [job for job in checkout.slurm.queue(*states) if job["comment"].startswith("block:")]


def test_a_block_is_one_job_on_one_card_in_its_own_order(in_blocks):
    jobs = blocks(in_blocks, "COMPLETED")
    assert sorted(job["comment"] for job in jobs) == ["block:block=seed-0", "block:block=seed-1"] and not in_blocks.trainings(
        "COMPLETED"
    )
    study = read_study(json.loads((in_blocks.results / "study.json").read_text()), "small")
    for block in study.blocks:
        mine = [run for run in records(in_blocks) if run["seed"] == block.seed]
        assert [run["case"] for run in mine] == list(block.cases)
        where = {tuple(sorted(run["machine"]["scheduler"].items())) for run in mine}
        assert len(where) == 1, f"one job, one node, one partition: {where}"
    shown = in_blocks.slurm.call("scontrol", "show", "job").split("\n\n")
    asked = [job for job in shown if "Comment=block:" in job]
    assert len(asked) == 2 and all("TresPerJob=gres:gpu:1" in job for job in asked), asked[0]


def test_blocks_run_beside_each_other_each_on_its_own_card(in_blocks):
    """Two nodes with two cards each: Slurm gave each block's job another card, and they ran at the same time. The study computes on the CPU."""
    spans, given = {}, {}
    for run in records(in_blocks):
        told = run["machine"]["scheduler"]
        spans.setdefault(told["SLURM_JOB_ID"], []).append((run["started"], run["ended"]))
        given[told["SLURM_JOB_ID"]] = (told["SLURMD_NODENAME"], told["SLURM_STEP_GPUS"])
    assert len(given) == len(set(given.values())) == 2 and all(card for _, card in given.values()), given
    first, second = ((min(start for start, _ in spans[job]), max(end for _, end in spans[job])) for job in sorted(spans))
    assert max(first[0], second[0]) < min(first[1], second[1]), "at the same time"
    runs = pd.read_parquet(in_blocks.results / "runs.parquet")
    assert set(runs["status"]) == {"finished"} and len(runs) == 6


def test_a_run_that_dies_in_the_middle_fails_alone_and_a_cancelled_block_goes_on(submitted, slurm):
    """Its take is killed; then, while it is made anew, the block's job is cancelled, and submitted once more by the retries."""
    submitted.study(device="cpu", parity=False, cases=CASES)
    middle = read_study(yaml.safe_load((submitted.folder / "config/small.yaml").read_text()), "small").blocks[0].cases[1]
    submitted.site(config=CONFIG, retries=0)
    running = submitted.begin()
    _kill_take(submitted, slurm, middle)
    assert running.wait(1200) != 0, submitted.said()[-5000:]
    runs = pd.read_parquet(submitted.results / "runs.parquet")
    assert dict(zip(runs["case"], runs["status"], strict=True)) == {
        case if isinstance(case, str) else case["name"]: "finished" for case in CASES
    } | {middle: "failed"}
    assert "SIGKILL" in runs.loc[runs["case"] == middle, "error"].iloc[0]
    kept = {file: file.stat().st_mtime_ns for file in submitted.results.glob("runs/*/*/run.json")}

    submitted.site(config=CONFIG, retries=2)
    running = submitted.begin()
    slurm.wait_until(lambda: submitted.processes(middle) and blocks(submitted, "RUNNING"), "it is made anew", 600)
    slurm.call("scancel", blocks(submitted, "RUNNING")[0]["number"])
    assert running.wait(1200) == 0, submitted.said()[-5000:]
    assert "CANCELLED" in submitted.said()
    assert set(pd.read_parquet(submitted.results / "runs.parquet")["status"]) == {"finished"}
    assert all(file.stat().st_mtime_ns == time for file, time in kept.items()), "nothing finished is redone"


def _kill_take(checkout: Submitted, slurm, case: str) -> None:
    """Ends the process that trains the case, as the kernel does where memory is short."""

    def takes() -> list[int]:
        found = subprocess.run(["pgrep", "-f", f"levelfield take .*cases/{case}.json"], capture_output=True, text=True)
        mine = [int(pid) for pid in found.stdout.split()]
        return [pid for pid in mine if Path(f"/proc/{pid}/cwd").resolve() == checkout.folder.resolve()]

    for process in slurm.wait_until(takes, f"{case} trains", 600):
        os.kill(process, signal.SIGKILL)
