"""The workflow on a small study: what it leaves, what it does again, what it says to bad input."""

import json
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from checkout import ROOT, Checkout

from levelfield.records import load_arrays, read_epochs


def test_a_study_leaves_every_file_that_a_person_opens(finished):
    results = finished.folder / "results/small"
    for case in ("jax", "torch"):
        run = json.loads((results / f"runs/{case}/seed-0/run.json").read_text())
        epochs = read_epochs(results / f"runs/{case}/seed-0/epochs.csv")
        steps = load_arrays(results / f"runs/{case}/seed-0/steps.npz")
        assert run["train_sequences"] == 40 and run["corpus"] == "synthetic sequences"
        assert run["memory"]["host_peak_bytes"] > 2**20 and run["memory"]["nvml_peak_bytes"] is None
        assert run["times"]["process_seconds"] > run["times"]["train_seconds"] > 0
        assert [epoch.epoch for epoch in epochs] == [1, 2]
        assert list(steps["sequences"]) == [16, 16, 8] * 2, "nothing is dropped"
        assert epochs[0].train_loss == pytest.approx(np.average(steps["loss"][:3], weights=[16, 16, 8]), rel=1e-6)
    for name in ("runs.parquet", "epochs.parquet", "steps.parquet", "README.md", "tables/leaderboard.csv", "figures/loss.svg"):
        assert (results / name).exists(), name
    assert "synthetic" in (results / "README.md").read_text().splitlines()[0].lower()


def test_both_backends_loaded_the_same_start_and_learned_the_same(finished):
    runs = [finished.folder / f"results/small/runs/{case}/seed-0" for case in ("jax", "torch")]
    first, second = (json.loads((run / "run.json").read_text()) for run in runs)
    assert first["start_sha256"] == second["start_sha256"] and first["data_sha256"] == second["data_sha256"]
    losses = [load_arrays(run / "steps.npz")["loss"] for run in runs]
    np.testing.assert_allclose(*losses, atol=1e-6)


@pytest.mark.long
def test_runs_made_in_another_order_are_the_same_to_the_bit(copy):
    runs = [copy.folder / f"results/small/runs/{case}/seed-0" for case in ("jax", "torch")]
    before = {run: load_arrays(run / "steps.npz") | load_arrays(run / "weights.npz") for run in runs}
    ended = {run: (run / "run.json").stat().st_mtime_ns for run in runs}
    shutil.rmtree(copy.folder / "results/small/runs")
    for run in sorted(runs, key=ended.__getitem__, reverse=True):
        done = copy.snakemake(str((run / "run.json").relative_to(copy.folder)))
        assert done.returncode == 0, done.stdout[-3000:]
    for run in runs:
        again = load_arrays(run / "steps.npz") | load_arrays(run / "weights.npz")
        assert before[run].keys() == again.keys()
        assert all(np.array_equal(values, again[name]) for name, values in before[run].items()), run


def test_a_second_call_does_nothing(finished):
    assert finished.planned() == {}


def test_another_seed_adds_its_runs_alone(copy):
    copy.study(seeds=[0, 1])
    planned = copy.planned()
    assert planned["train"] == 2 and planned["start"] == 1
    assert "parity" not in planned and "data" not in planned


def test_a_seed_before_the_first_adds_its_runs_alone(copy):
    copy.study(seeds=[3, 0])
    planned = copy.planned()
    assert planned["train"] == 2 and planned["start"] == 1 and "parity" not in planned and "reference" not in planned


@pytest.mark.long
def test_what_would_make_finished_runs_anew_is_refused_unless_asked_for_by_name(copy):
    file = copy.folder / "results/small/runs/torch/seed-0/run.json"
    before = file.stat().st_mtime_ns
    copy.study(cases=["jax", {"backend": "torch", "name": "torch", "settings": {"batch_size": 8}}])
    done = copy.snakemake()
    assert done.returncode != 0 and "Traceback" not in done.stdout
    (line,) = [line for line in done.stdout.splitlines() if "Nothing was replaced" in line]
    assert "runs/torch/seed-0" in line and "replace=runs" in line and file.stat().st_mtime_ns == before
    done = copy.snakemake("--config", "replace=runs")
    assert done.returncode == 0, done.stdout[-3000:]
    assert file.stat().st_mtime_ns != before


@pytest.mark.long
def test_a_log_that_cannot_be_written_costs_no_run(copy):
    """As on a full disk: /dev/full takes nothing."""
    copy.study(seeds=[0, 1])
    log = copy.folder / "results/small/logs/train/torch/seed-1.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    (copy.folder / "workflow/rules/train.smk").write_text(
        (copy.folder / "workflow/rules/train.smk").read_text().replace("told {log:q}", "told /dev/full")
    )
    done = copy.snakemake("--config", "replace=runs")
    assert done.returncode == 0, done.stdout[-3000:]
    assert (copy.folder / "results/small/runs/torch/seed-1/run.json").exists()


def test_another_case_adds_its_runs_alone(copy):
    copy.study(cases=["jax", "torch", {"backend": "torch", "departures": ["extra-tanh"]}])
    planned = copy.planned()
    assert planned["train"] == 1 and planned["parity"] == 1 and planned["case"] == 1
    assert "start" not in planned and "data" not in planned


def test_a_setting_of_one_case_runs_that_case_again(copy):
    copy.study(cases=["jax", {"backend": "torch", "name": "torch", "settings": {"batch_size": 8}}])
    assert copy.planned()["train"] == 1


@pytest.mark.long
def test_snakemake_looks_for_jobs_when_one_has_ended_and_sleeps_while_a_run_is_timed(copy):
    copy.study(seeds=[0, 1])
    done = copy.snakemake("--verbose")
    assert done.returncode == 0, done.stdout[-3000:]
    looked, ended = done.stdout.count("Ready jobs: "), done.stdout.count("Finished jobid: ")
    assert 0 < looked <= ended + 1


def test_a_target_for_the_tables_trains_nothing(copy):
    copy.study(target_accuracy=0.6)
    planned = copy.planned()
    assert planned["collect"] == 1 and "train" not in planned and "data" not in planned


def test_other_data_makes_everything_anew(copy):
    copy.study(data={"synthetic": True, "train": 44, "validation": 24})
    planned = copy.planned()
    assert planned["data"] == 1 and planned["start"] == 1 and planned["train"] == 2


@pytest.mark.long
def test_a_killed_study_goes_on(copy):
    """Kills Snakemake and its running job in the middle of two more runs: what had finished stays as it was."""
    copy.study(seeds=[0, 1])
    finished_run = copy.folder / "results/small/runs/jax/seed-0/run.json"
    before = finished_run.stat().st_mtime_ns
    command = [sys.executable, "-m", "snakemake", "--cores", "2", "--configfile", "config/small.yaml"]
    running = subprocess.Popen(command, cwd=copy.folder, env=copy.environment(), start_new_session=True)
    deadline = time.monotonic() + 120
    while not (copy.folder / "results/small/start/bilstm/seed-1.npz.sha256").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(2)
    running.send_signal(signal.SIGTERM)
    running.wait(120)
    done = copy.snakemake()
    assert done.returncode == 0, done.stdout[-3000:]
    assert (copy.folder / "results/small/runs/torch/seed-1/run.json").exists()
    assert finished_run.stat().st_mtime_ns == before


@pytest.mark.long
def test_a_failed_run_stands_in_the_tables_and_the_others_go_on(copy):
    """A start that was altered is refused: its runs fail, are told as failed, and run again once it is mended."""
    copy.study(seeds=[0, 1])
    assert copy.snakemake("results/small/start/bilstm/seed-1.npz").returncode == 0
    checksum = copy.folder / "results/small/start/bilstm/seed-1.npz.sha256"
    right = checksum.read_text()
    checksum.write_text("0" * 64 + "  seed-1.npz\n")
    done = copy.snakemake()
    assert done.returncode != 0 and "is altered" in done.stdout
    board = (copy.folder / "results/small/tables/leaderboard.md").read_text()
    assert "fail" in board.lower(), board
    assert json.loads((copy.folder / "results/small/runs/torch/seed-1/failure.json").read_text())["error"]
    checksum.write_text(right)
    assert copy.snakemake().returncode == 0
    assert not (copy.folder / "results/small/runs/torch/seed-1/failure.json").exists()


def test_a_run_that_is_not_there_is_made_though_the_tables_are_newer(copy):
    """As after a first call in which it failed: what then told the others left nothing older than its inputs."""
    shutil.rmtree(copy.folder / "results/small/runs/torch/seed-0")
    assert copy.planned()["train"] == 1


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"protocol": {"batch_sise": 8}}, ["config/small.yaml", "protocol.batch_sise", "unknown key", "batch_size"]),
        ({"protocol": {"length": "long"}}, ["config/small.yaml", "protocol.length", "'long'", "integer"]),
        ({"cases": ["pytorch"]}, ["config/small.yaml", "cases.0.backend", "'pytorch'", "keras-tensorflow"]),
        ({"seeds": []}, ["config/small.yaml", "seeds", "[]", "at least 1"]),
        ({"protocol": {"batch_size": 64}}, ["config/small.yaml", "batch_size 64", "40 sequences"]),
    ],
)
def test_bad_input_gets_one_line_before_anything_runs(tmp_path, changes, told):
    checkout = Checkout.made(tmp_path)
    checkout.study(**changes)
    done = checkout.snakemake()
    assert done.returncode != 0
    lines = [line for line in done.stdout.splitlines() if "config/small.yaml" in line and "Config file" not in line]
    assert len(lines) == 1 and all(word in lines[0] for word in told), done.stdout
    assert not (tmp_path / "results").exists()


def test_cuda_without_a_gpu_is_an_error(copy):
    copy.study(device="cuda", cases=["torch"], study="cuda")
    done = copy.snakemake()
    if shutil.which("nvidia-smi"):
        pytest.skip("this machine has a GPU")
    assert done.returncode != 0 and "finds no GPU" in done.stdout


def test_the_default_study_is_the_article(tmp_path):
    planned = Checkout.made(tmp_path).planned(config=None)
    assert planned["train"] == 12 and planned["start"] == 6 and planned["parity"] == 2


def test_the_workflow_is_clean_by_snakemakes_own_lint():
    done = subprocess.run([sys.executable, "-m", "snakemake", "--lint"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    formatted = subprocess.run(
        [sys.executable, "-m", "snakefmt", "--check", "Snakefile", "workflow"], cwd=ROOT, capture_output=True, text=True
    )
    assert formatted.returncode == 0, formatted.stderr
