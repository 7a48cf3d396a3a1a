"""Studies through a real Slurm: nodes that die, jobs that are cancelled or need more, a Snakemake that is killed, two people."""

import json
import os
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from checkout import Checkout
from submitted import STUDY, made

from levelfield.records import load_arrays

pytestmark = [pytest.mark.long, pytest.mark.timeout(1800)]


def weights_of(folder, case, seed):
    return load_arrays(folder / f"results/small/runs/{case}/seed-{seed}/weights.npz")


def statuses(checkout) -> dict[tuple[str, int], str]:
    runs = pd.read_parquet(checkout.results / "runs.parquet")
    return dict(zip(zip(runs["case"], runs["seed"], strict=True), runs["status"], strict=True))


def test_a_study_runs_as_slurm_jobs_each_with_its_gpu(finished):
    jobs = finished.trainings("COMPLETED")
    assert {job["comment"] for job in jobs} == {
        f"train:case={case},seed={seed}" for case in ("jax", "torch") for seed in range(3)
    }
    shown = finished.slurm.call("scontrol", "show", "job").split("\n\n")
    trained = [job for job in shown if "Comment=train:" in job]
    assert len(trained) == 6 and all("TresPerJob=gres:gpu:1" in job for job in trained), trained[0]
    assert set(statuses(finished).values()) == {"finished"}
    assert (finished.results / "report.html").exists()


def test_its_results_equal_the_local_ones(finished, tmp_path):
    local = Checkout.made(tmp_path)
    local.study(**STUDY)
    done = local.snakemake("--set-threads", "train=1")
    assert done.returncode == 0, done.stdout[-3000:]
    for case in ("jax", "torch"):
        here, there = weights_of(tmp_path, case, 0), weights_of(finished.folder, case, 0)
        for name, values in here.items():
            np.testing.assert_array_equal(values, there[name], err_msg=f"{case} {name}")


def test_several_nodes_write_into_one_folder_and_nothing_is_lost_or_mixed(finished):
    trained = [job for job in finished.slurm.ended() if job["JobId"] in _numbers(finished)]
    assert {job["NodeList"] for job in trained} == {"n1", "n2"}
    times = sorted((job["StartTime"], job["EndTime"]) for job in trained)
    assert any(later[0] < earlier[1] for earlier, later in pairwise(times)), f"none at the same time: {times}"
    for (case, seed), status in statuses(finished).items():
        folder = finished.results / f"runs/{case}/seed-{seed}"
        run = json.loads((folder / "run.json").read_text())
        start = (finished.results / f"start/bilstm/seed-{seed}.npz.sha256").read_text().split()[0]
        assert (status, run["case"], run["seed"], run["start_sha256"]) == ("finished", case, seed, start)
        assert not list(folder.glob("failure.json")) and len(list(folder.iterdir())) == 4, list(folder.iterdir())


def _numbers(checkout) -> set[str]:
    shown = checkout.slurm.call("squeue", "-hr", "--states=COMPLETED", "-o", "%A|%k").splitlines()
    return {line.split("|")[0] for line in shown if line.split("|")[1].startswith("train:")}


def test_array_jobs_are_refused_before_anything_is_submitted(submitted, slurm):
    """With the plugin's version 2.8.0 a run that ends before its array's first one fails, and is done again."""
    before = len(slurm.queue("all"))
    submitted.site(**{"slurm-array-jobs": "train", "keep-incomplete": True})
    refused = submitted.submit()
    assert refused.returncode != 0 and "slurm-array-jobs: train" in refused.stdout and "runs=blocks" in refused.stdout
    assert len(slurm.queue("all")) == before and not (submitted.results / "runs").exists()


def test_a_run_on_a_node_that_goes_down_is_submitted_again(submitted, slurm):
    running = submitted.begin()
    job = slurm.wait_until(lambda: submitted.trainings("RUNNING"), "a run trains", 600)[0]
    slurm.call("scontrol", "update", f"nodename={job['node']}", "state=down", "reason=test")
    assert running.wait(1200) == 0, submitted.said()[-5000:]
    assert "NODE_FAIL" in submitted.said()
    assert set(statuses(submitted).values()) == {"finished"}
    again = [other for other in submitted.trainings("COMPLETED") if other["comment"] == job["comment"]]
    assert again[-1]["node"] != job["node"]


def test_a_cancelled_run_and_one_over_its_time_are_told_and_tried_again(submitted, slurm):
    """The run over its time is one that was stopped: it would never end. Its second try is left alone."""
    submitted.site({"runtime": "2 * attempt"})
    running = submitted.begin()
    jobs = slurm.wait_until(lambda: _both(submitted), "both runs train", 600)
    for process in submitted.processes("torch"):
        os.kill(process, signal.SIGSTOP)
    slurm.call("scancel", next(job["number"] for job in jobs if "jax" in job["comment"]))
    assert running.wait(1200) == 0, submitted.said()[-5000:]
    said = submitted.said()
    for case, told in (("jax", "CANCELLED"), ("torch", "TIMEOUT")):
        assert told in said and f"results/small/runs/{case}/seed-0/run.json" in said, said[-5000:]
    assert "DUE TO TIME LIMIT" in said, "the log's last lines"
    assert set(statuses(submitted).values()) == {"finished"}


def _both(submitted):
    """The jobs of both cases, once both train and have said so."""
    jobs, logs = submitted.trainings("RUNNING"), list((submitted.results / "logs/train").glob("*/*.log"))
    begun = len(logs) == 2 and all(log.stat().st_size for log in logs)
    return jobs if begun and len(jobs) == 2 and all(submitted.processes(case) for case in ("jax", "torch")) else None


def test_a_run_over_its_memory_gets_more_and_if_it_still_fails_the_others_go_on(submitted):
    """The first try has too little for both, the second enough for one."""
    submitted.study(**STUDY, cases=["jax", "keras-tensorflow"])
    submitted.site({"mem_mb": "415 * attempt"}, retries=1)
    done = submitted.submit()
    assert done.returncode != 0
    assert "memory" in done.stdout.lower() and "runs/keras-tensorflow/seed-0/run.json" in done.stdout, done.stdout[-6000:]
    assert "mem_mb=830" in done.stdout
    assert statuses(submitted) == {("jax", 0): "finished", ("keras-tensorflow", 0): "failed"}
    assert "did not end: killed" in (submitted.results / "tables/leaderboard.csv").read_text()


def test_a_killed_snakemake_goes_on_and_nothing_runs_twice(submitted, slurm):
    submitted.study(**STUDY, seeds=[0, 1, 2])
    before = len(slurm.ended())
    running = submitted.begin("--jobs", "3")
    slurm.wait_until(lambda: submitted.trainings("RUNNING"), "a run trains", 600)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()

    assert submitted.submit("--unlock").returncode == 0
    before_it = {job["number"] for job in slurm.queue()}
    refused = submitted.submit()
    left = [job for job in slurm.queue() if job["number"] in before_it]  # what has ended meanwhile may be named or not
    assert before_it and refused.returncode != 0
    assert "Nothing was submitted" in refused.stdout and all(job["number"] in refused.stdout for job in left), refused.stdout[
        -3000:
    ]

    slurm.wait_until(lambda: not slurm.queue(), "the killed Snakemake's jobs have ended", 600)
    kept = {file: file.stat().st_mtime_ns for file in submitted.results.glob("runs/*/*/run.json")}
    assert kept, "what its jobs finished is there"
    done = submitted.submit()
    assert done.returncode == 0, done.stdout[-5000:]
    assert all(file.stat().st_mtime_ns == time for file, time in kept.items()), "nothing finished is redone"
    assert set(statuses(submitted).values()) == {"finished"}
    ended = slurm.ended()[before:]
    assert [job["JobState"] for job in ended] == ["COMPLETED"] * 6, "each run ran once"


def test_the_second_of_two_people_is_told(submitted, slurm, tmp_path):
    """In the same checkout, and from another one whose results lie on the same disk."""
    running = submitted.begin()
    slurm.wait_until(lambda: slurm.queue(), "the first one's jobs are in the queue", 600)
    other = made(tmp_path / "other", slurm)
    (other.folder / "results").symlink_to(submitted.folder / "results")
    told = other.submit()
    assert told.returncode != 0 and "Nothing was submitted" in told.stdout and "of root" in told.stdout, told.stdout[-3000:]
    same = subprocess.run(
        submitted.command, cwd=submitted.folder, env=submitted.environment(), capture_output=True, text=True, timeout=600
    )
    assert same.returncode != 0 and "cannot be locked" in same.stderr, same.stderr[-3000:]
    assert running.wait(1200) == 0, submitted.said()[-5000:]
    assert set(statuses(submitted).values()) == {"finished"}


def test_plan_tells_jobs_hours_and_queue(finished, tmp_path):
    levelfield = [Path(sys.executable).with_name("levelfield"), "plan", "config/small.yaml"]
    done = subprocess.run(levelfield, cwd=finished.folder, env=finished.environment(), capture_output=True, text=True)
    assert "0 jobs" in done.stdout and "partition gpu" in done.stdout and "gpu:a100:2" in done.stdout, done.stdout + done.stderr


def test_a_command_line_that_takes_the_gpu_away_submits_nothing(submitted, slurm):
    """`--set-resources` replaces all that the profile sets for a rule."""
    submitted.study(**STUDY | {"device": "auto"})
    before = len(slurm.ended())
    done = submitted.submit("--set-resources", "train:mem_mb=1400")
    assert done.returncode and "without a GPU, and nothing was submitted" in done.stdout, done.stdout[-3000:]
    assert len(slurm.ended()) == before and not slurm.queue()
    done = submitted.submit("-n", "--set-resources", "train:mem_mb=1400", "train:gres=gpu:1")
    assert done.returncode == 0, done.stdout[-3000:]


def test_a_run_that_would_fail_again_is_submitted_once(submitted, slurm, monkeypatch):
    """Its environment contradicts the study, which no other attempt mends; the profile asks for two more."""
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "1")
    before = len(slurm.ended())
    done = submitted.submit()
    assert done.returncode and "would fail again, and is not tried again: NVIDIA_TF32_OVERRIDE=1" in done.stdout, done.stdout[
        -3000:
    ]
    assert len(slurm.ended()) - before == 2, "each of the two runs once"
    assert set(statuses(submitted).values()) == {"failed"}
