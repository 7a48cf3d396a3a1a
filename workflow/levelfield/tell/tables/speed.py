"""The performance table: everything that was timed or counted."""

import json

import numpy as np
import pandas as pd

from levelfield.models.base import model_of
from levelfield.tell.estimates import drift
from levelfield.tell.results import Results
from levelfield.tell.tables.groups import MEMORY, by_seeds, finished, measurements
from levelfield.tell.tables.table import Table, number, second_digits, spread

TIMES = ["import_seconds", "build_seconds", "warm_up_seconds", "process_seconds"]
LATENCY = ["latency_p50_seconds", "latency_p90_seconds", "latency_p99_seconds"]
EPOCH = ["epoch_seconds", "validation_seconds", "sequences_per_second", "tokens_per_second", "energy_joules_per_epoch"]


GPU_PEAKS = (
    "GPU allocated: of PyTorch and TensorFlow since the warm-up; JAX (jax, flax, Keras on JAX) cannot begin its count anew, and its peak "
    "may be that of compiling and of trying kernels."
)


def performance(results: Results) -> Table:
    """Everything that was timed or counted, a row each case and machine; empty where it was not measured."""
    figures = [*EPOCH, *TIMES, *LATENCY, *MEMORY]
    runs = finished(results)
    data = by_seeds(runs, ["case", "machine"], [*figures, *measurements(results)])
    kernels = runs.groupby(["case", "machine"], sort=False)["kernel"].first() if "kernel" in runs else None
    data["kernel"] = None if kernels is None else kernels.to_numpy()
    data["image"] = runs.groupby(["case", "machine"], sort=False)["image"].first().to_numpy()
    columns = {
        "train, s an epoch": ("epoch_seconds", second_digits(data["epoch_seconds"]), 1),
        "validation, s": ("validation_seconds", second_digits(data["validation_seconds"]), 1),
        "sequences/s": ("sequences_per_second", 1, 1),
        "warm-up, s": ("warm_up_seconds", 1, 1),
        "import and build, s": (None, 1, 1),
        "step p50, ms": ("latency_p50_seconds", second_digits(1e3 * data["latency_p50_seconds"]), 1e3),
        "step p99, ms": ("latency_p99_seconds", second_digits(1e3 * data["latency_p50_seconds"]), 1e3),
        "host peak, GB": ("host_peak_bytes", 2, 1e-9),
        "before training": ("host_before_bytes", 2, 1e-9),
        "GPU allocated, GB": ("allocated_peak_bytes", 2, 1e-9),
        "GPU by NVML, GB": ("nvml_peak_bytes", 2, 1e-9),
        "energy, J an epoch": ("energy_joules_per_epoch", 0, 1),
        "share of the machine's limit": ("share_of_limit", 2, 1),
        "whole process, s": ("process_seconds", 1, 1),
    }
    shown = {"case": data["case"]}
    if len(results.machines) > 1:
        shown["machine"] = data["machine"]
    for heading, (name, digits, scale) in columns.items():
        if name is not None and name not in data:
            continue
        if name is None:
            shown[heading] = [number(total, digits, scale) for total in data["import_seconds"] + data["build_seconds"]]
        else:
            cells = zip(data[name], data[f"{name}_sd"], strict=True)
            shown[heading] = [spread(mean, deviation, digits, scale) for mean, deviation in cells]
    if data["kernel"].notna().any():
        shown[kernel_heading(results)] = data["kernel"].fillna("")
    if data["image"].notna().any():
        shown["image"] = data["image"].fillna("").str.removeprefix("sha256:").str[:12]
    shown["seeds"] = data["seeds"]
    notes = [
        "Mean ± standard deviation over the seeds that finished; empty: not measured. Train and validation: mean of the epochs, "
        "warm-up (compilation) apart; throughput: of a run's epochs together. GB: 1e9 bytes.",
        *([GPU_PEAKS] if data["allocated_peak_bytes"].notna().any() else []),
        *_known_faults(runs),
        *_drifts(runs),
    ]
    return Table("performance", f"Performance: {results.context}", data, pd.DataFrame(shown), notes)


def _known_faults(runs: pd.DataFrame) -> list[str]:
    """What slows a case's version down by a fault that its backend knows of, a sentence each, with the cases."""
    found: dict[str, list[str]] = {}
    for case, flags in runs[["case", "flags"]].dropna().drop_duplicates().itertuples(index=False):
        if fault := json.loads(flags).get("known_fault"):
            found.setdefault(fault, []).append(case)
    return [f"Known fault of {', '.join(dict.fromkeys(cases))}: {fault}." for fault, cases in found.items()]


def kernel_heading(results: Results) -> str:
    """`LSTM kernel` in a study of that model alone, `kernel` in one of several."""
    what = {model_of(case.protocol).kernels.what for case in results.study.expanded}
    return f"{what.pop()} kernel" if len(what) == 1 else "kernel"


def _drifts(runs: pd.DataFrame) -> list[str]:
    """For each machine, how much slower or faster its runs became from the first to the last."""
    found = []
    for machine, mine in runs.groupby("machine", sort=False):
        started = pd.to_datetime(mine["started"], format="ISO8601", utc=True)
        hours = (started - started.min()).dt.total_seconds() / 3600
        change = drift(hours, mine["epoch_seconds"], mine["case"])
        if change is not None:
            found.append(
                f"Drift on {machine}: over {np.ptp(hours):.1f} hours its epochs became {abs(change):.1%} {'longer' if change > 0 else 'shorter'}."
            )
    return found
