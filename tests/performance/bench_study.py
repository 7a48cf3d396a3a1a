"""The article's study through Snakemake: what it takes beside its epochs, from a small one of the same cases."""

import json
import tempfile
import time
from pathlib import Path

from checkout import Checkout

TRAIN, VALIDATION, ARTICLE = 1600, 800, 25_000
SEEDS = 3


def measure() -> dict:
    """`makespan_ratio`: the article's makespan over the sum of its epochs, training and validation, its own overhead being
    that of the small study: once what the study takes beside its runs, six times what a run takes beside its epochs.
    `start_up_seconds`: the slower of the two backends' time from process start to first step, less import and compilation.
    """
    with tempfile.TemporaryDirectory() as folder:
        checkout = Checkout.made(Path(folder))
        checkout.study(
            data={"synthetic": True, "train": TRAIN, "validation": VALIDATION}, protocol={}, cases=["keras-tensorflow", "torch"]
        )
        began = time.monotonic()
        done = checkout.snakemake()
        makespan = time.monotonic() - began
        if done.returncode:
            raise RuntimeError(done.stdout[-3000:])
        runs = [json.loads(file.read_text()) for file in Path(folder).glob("results/small/runs/*/*/run.json")]
    beside = makespan - sum(run["times"]["process_seconds"] for run in runs)
    overhead = epochs = 0.0
    for run in runs:
        times = run["times"]
        overhead += SEEDS * (times["process_seconds"] - times["train_seconds"] - times["validation_seconds"])
        scaled = times["train_seconds"] / TRAIN + times["validation_seconds"] / VALIDATION
        epochs += SEEDS * scaled * ARTICLE
    return {
        "makespan_ratio": (beside + overhead + epochs) / epochs,
        "start_up_seconds": max(run["measurements"]["start_up_seconds"] for run in runs),
        "small_makespan_seconds": makespan,
        "beside_runs_seconds": beside,
        "article_epochs_seconds": epochs,
        "article_run_overhead_seconds": overhead,
    }
