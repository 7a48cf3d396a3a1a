"""A study that runs whole on a pretended GPU: NVML and the device are pretended, the frameworks compute on the CPU."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from checkout import ROOT, Checkout
from outside import made_known
from pretended_gpus import DRIVER, a_gpu

from levelfield.records import read_epochs

CASES = ["pretended-jax", "pretended-flax"]
STUDY = {
    "cases": CASES,
    "device": "cuda",
    "protocol": {
        "model": {"name": "bilstm", "embedding": 4, "units": 3},
        "vocabulary": 50,
        "length": 12,
        "batch_size": 16,
        "epochs": 1,
    },
}

pytestmark = pytest.mark.long


def ran(folder: Path, sequences: int, *arguments: str, changes: dict | None = None, **environment: str) -> Checkout:
    """The study in a checkout whose path holds the pretended NVML and the pretended backends."""
    checkout = Checkout.made(folder)
    made_known(ROOT / "tests/pretended_backend", folder / "workflow")
    shutil.copy(ROOT / "tests/pretended_backend/pretended_gpu.py", folder / "workflow")
    shutil.copy(ROOT / "tests/fake_nvml/pynvml.py", folder / "workflow")
    checkout.study(**STUDY | {"data": {"synthetic": True, "train": sequences, "validation": 24}} | (changes or {}))
    done = checkout.snakemake(*arguments, **{"CUDA_VISIBLE_DEVICES": "0"} | environment)
    assert done.returncode == 0, done.stdout[-5000:]
    return checkout


@pytest.fixture(scope="module")
def on_a_gpu(tmp_path_factory) -> Checkout:
    folder = tmp_path_factory.mktemp("gpu")
    trace = {
        "energy": {"from": 0, "per_second": 250_000},
        "used": {"from": 0, "per_second": 1 << 20},
        "total": 1 << 50,
        "reasons": 0,
    }
    (folder / "nvml.json").write_text(json.dumps({"driver": DRIVER, "gpus": [a_gpu(1, **trace)]}))
    return ran(folder, 20_000, FAKE_NVML=str(folder / "nvml.json"))


def record(checkout: Checkout, case: str) -> dict:
    return json.loads((checkout.folder / f"results/small/runs/{case}/seed-0/run.json").read_text())


@pytest.mark.parametrize("case", CASES)
def test_a_run_records_what_its_gpu_told(on_a_gpu, case):
    run = record(on_a_gpu, case)
    machine, found = run["machine"], run["measurements"]
    assert (machine["device"], machine["gpu"], machine["gpu_uuid"]) == ("cuda", "Pretended GPU", "GPU-111")
    assert machine["driver"] == DRIVER and machine["scheduler"]["CUDA_VISIBLE_DEVICES"] == "0"
    assert run["memory"]["nvml_peak_bytes"] > 0 and run["memory"]["allocated_peak_bytes"] == 300 << 20
    assert found["gpu_power_watts"] == pytest.approx(250, rel=0.1)
    assert (found["gpu_utilisation_percent"], found["gpu_clock_mhz"], found["gpu_throttle_reasons"]) == (90, 1410, "none")
    assert machine["flags"]["pretended"] and "jax#38806" in machine["flags"]["known_fault"]
    assert found["gpu_foreign_processes"] is None, "the pretended list leaves the run out, as a container's does"
    assert found["energy_source"] == "nvml"
    epochs = read_epochs(on_a_gpu.folder / f"results/small/runs/{case}/seed-0/epochs.csv")
    assert epochs[0].energy_joules == pytest.approx(250 * epochs[0].train_seconds, rel=0.1)


def test_a_profile_without_a_kernel_of_the_gpu_is_not_told(on_a_gpu):
    assert [record(on_a_gpu, case)["measurements"]["kernel"] for case in CASES] == ["cuDNN", None]


def test_tables_and_page_name_the_gpu(on_a_gpu):
    results = on_a_gpu.folder / "results/small"
    runs = pd.read_parquet(results / "runs.parquet")
    assert list(runs["status"]) == ["finished"] * 2 and set(runs["gpu"]) == {"Pretended GPU"}
    for file in ("README.md", "report.html"):
        assert "Pretended GPU" in (results / file).read_text(encoding="utf-8"), file
    assert "Known fault of pretended-jax, pretended-flax: jax#38806" in (results / "report.html").read_text(encoding="utf-8")
    assert DRIVER in (results / "report.html").read_text(encoding="utf-8")


def levelfield(checkout: Checkout, *words: str, **environment: str):
    command = [sys.executable, "-m", "levelfield", *words]
    environment = checkout.environment() | {"PYTHONPATH": "workflow"} | environment
    return subprocess.run(command, cwd=checkout.folder, env=environment, capture_output=True, text=True)


def test_doctor_tells_of_the_card(on_a_gpu):
    done = levelfield(on_a_gpu, "doctor", CUDA_VISIBLE_DEVICES="0", FAKE_NVML=str(on_a_gpu.folder / "nvml.json"))
    assert done.returncode == 0, done.stderr
    lines = dict(re.split(r"  +", line, maxsplit=1) for line in done.stdout.splitlines() if "  " in line)
    assert lines["GPU"] == f"Pretended GPU, {1 << 20} GiB, driver {DRIVER}" and lines["GPUs to be used"] == "0"
    assert lines["energy"] == "the GPU's counter" and lines.keys() >= {"torch", "keras-tensorflow", "jax", "flax"}


def cannot_be_kept(checkout: Checkout) -> None:
    done = levelfield(checkout, "keep", "results/small", "kept")
    assert done.returncode == 2 and "pretended" in done.stderr and not (checkout.folder / "kept").exists()


def test_what_was_pretended_cannot_be_kept(on_a_gpu):
    cannot_be_kept(on_a_gpu)


@pytest.mark.parametrize("case", CASES)
def test_the_card_is_calibrated_before_a_framework_is_there(on_a_gpu, case):
    """What PyTorch says of the pretended card is that there is none: the training's own log says so before its first take begins."""
    log = next(on_a_gpu.folder.glob(f"results/small/logs/**/{case}/**/*0*.log")).read_text(encoding="utf-8")
    assert 0 < log.index(f"{case}: the calibration failed") < log.index("warm-up took")


def test_a_gpu_that_nvml_does_not_know_is_told_as_not_told(tmp_path):
    """A Jetson, a slice under an old driver: CUDA is there, and NVML's device is not."""
    checkout = ran(tmp_path, 80)
    for case in CASES:
        run = record(checkout, case)
        assert (run["machine"]["device"], run["machine"]["gpu"], run["machine"]["driver"]) == ("cuda", None, None)
        assert run["measurements"]["energy_source"] is None and run["measurements"]["gpu_power_watts"] is None
        assert run["memory"]["nvml_peak_bytes"] is None
    cannot_be_kept(checkout)
    for file in ("README.md", "report.html"):
        assert "GPU not told" in (checkout.folder / "results/small" / file).read_text(encoding="utf-8"), file


def test_with_two_cards_a_block_runs_on_each_at_the_same_time_and_the_hot_one_bears_no_claim(tmp_path):
    """As `workflow/profiles/gpu` has it: one run at a time on a card, all cases of a seed on the same one, named by none of them.

    The second card is held down half of the time by its temperature."""
    hot = {"reasons": {"cycle": [0, 0x40], "seconds": 0.02}, "clock": {"cycle": [1410, 900], "seconds": 0.02}}
    (tmp_path / "nvml.json").write_text(json.dumps({"driver": DRIVER, "gpus": [a_gpu(1, reasons=0), a_gpu(2, **hot)]}))
    more = {"parity": False, "seeds": [0, 1]}
    nvml = {"FAKE_NVML": str(tmp_path / "nvml.json"), "CUDA_VISIBLE_DEVICES": "0,1", "LEVELFIELD_LOCKS": str(tmp_path)}
    checkout = ran(tmp_path, 2_000, "--config", "runs=blocks", changes=more, **nvml)
    spans, cards = {}, {}
    for seed in (0, 1):
        runs = [json.loads(file.read_text()) for file in checkout.folder.glob(f"results/small/runs/*/seed-{seed}/run.json")]
        assert len(runs) == 2
        cards[seed] = {run["machine"]["gpu_uuid"] for run in runs}
        (first, second) = sorted((run["started"], run["ended"]) for run in runs)
        assert first[1] <= second[0], "one run at a time on a card"
        spans[seed] = first[0], second[1]
        assert {run["machine"]["threads"] for run in runs} == {1}, "each has its share of the cores"
    assert cards[0] != cards[1] and cards[0] | cards[1] == {"GPU-111", "GPU-222"}, cards
    assert max(spans[0][0], spans[1][0]) < min(spans[0][1], spans[1][1]), "at the same time"
    told = pd.read_parquet(checkout.folder / "results/small/runs.parquet").set_index("gpu_uuid")
    assert not told.loc["GPU-111", "unclean"].fillna("").str.contains("held down").any()
    assert told.loc["GPU-222", "unclean"].str.contains("held down for .*hardware thermal slowdown").all()
    assert told.loc["GPU-222", "gpu_throttled_share"].between(0.2, 0.8).all()
    assert "held down" in (checkout.folder / "results/small/report.html").read_text(encoding="utf-8")
