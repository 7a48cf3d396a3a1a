"""Tables of time: the leaderboard, and the performance table with everything that was measured."""

import numpy as np
import pandas as pd
from scipy.stats import gmean

from levelfield.models.base import model_of
from levelfield.tell.estimates import NOT_ENOUGH, drift, ratio, time_to_target
from levelfield.tell.outcomes import STATUS, BrokenRecord, read_parity
from levelfield.tell.results import Results
from levelfield.tell.tables.groups import MEMORY, by_seeds, finished, measurements, missed_checks, pairs
from levelfield.tell.tables.table import Table, number, second_digits, spread

LEADER = ["epoch_seconds", "sequences_per_second", "validation_accuracy", "host_peak_bytes", "nvml_peak_bytes"]
TIMES = ["import_seconds", "build_seconds", "warm_up_seconds", "process_seconds"]
LATENCY = ["latency_p50_seconds", "latency_p90_seconds", "latency_p99_seconds"]
EPOCH = ["epoch_seconds", "validation_seconds", "sequences_per_second", "tokens_per_second", "energy_joules_per_epoch"]


def leaderboard(results: Results) -> Table:
    """A row each case and machine: the fastest first, then cases with departures, then those without a finished run.

    Rows of one machine and of one protocol stand together, since no others may be compared.
    """
    runs = finished(results)
    board = by_seeds(runs, ["case", "machine"], LEADER)
    typical = runs.groupby(["case", "machine"], sort=False)["epoch_seconds"].apply(gmean)  # as ratios by seed average
    board["typical"] = typical.to_numpy()
    protocols = {case.name: case.protocol for case in results.study.expanded}
    board = board.merge(_outcomes(results), on="case", how="outer")
    board.insert(1, "model", board["case"].map(results.models))
    board["protocol"] = board["case"].map(lambda case: list(dict.fromkeys(protocols.values())).index(protocols[case]))
    board["matched"] = board["departures"] == ""
    board["unfinished"] = board["epoch_seconds"].isna()
    board = board.sort_values(
        ["unfinished", "matched", "machine", "protocol", "typical"],
        ascending=[True, False, True, True, True],
        ignore_index=True,
    )
    board[["target_reached", "seconds_to_target"]] = [_target(runs, row.case, row.machine) for row in board.itertuples()]
    board["target_reached"] = board["target_reached"].astype(int)
    equals = board.groupby(["protocol", "machine"])["case"].transform("size") > 1
    fastest = board[board["matched"] & equals].groupby(["protocol", "machine"])["case"].first()
    found = [_against(runs, row, fastest.get((row.protocol, row.machine))) for row in board.itertuples()]
    board[["fastest", "times_fastest", "times_fastest_low", "times_fastest_high"]] = found
    board = board.drop(columns=["protocol", "matched", "unfinished", "typical"])
    digits = second_digits(board["epoch_seconds"])
    shown = pd.DataFrame(
        {
            "case": board["case"],
            "seconds an epoch": [spread(r.epoch_seconds, r.epoch_seconds_sd, digits) for r in board.itertuples()],
            "time, fastest = 1": [_times(r) for r in board.itertuples()],
            "sequences/s": [number(value, 0) for value in board["sequences_per_second"]],
            "validation accuracy": [spread(r.validation_accuracy, r.validation_accuracy_sd, 4) for r in board.itertuples()],
            f"seconds to {results.study.target_accuracy:g}": [_reached(r, digits) for r in board.itertuples()],
            "peak memory, GB": [_memory(r) for r in board.itertuples()],
            "parity": board["parity"],
            "seeds": [f"{r.finished} of {r.planned}" for r in board.itertuples()],
            "remarks": [_remarks(r) for r in board.itertuples()],
        }
    )
    if len(results.machines) > 1:
        shown.insert(1, "machine", board["machine"].fillna(""))
    if results.several_models:
        shown.insert(1, "model", board["model"])
    notes = [
        "Mean ± standard deviation over the seeds. Time against the fastest matched case with the same protocol on the same "
        "machine: geometric mean of the ratios by seed [95 % interval]. Seconds to the target: median of training time alone."
    ]
    if len(results.machines) > 1:
        notes.append(f"Several machines: {'; '.join(results.machines)}. Compare rows of one machine alone.")
    if (board["departures"] != "").any():
        notes.append("Cases with departures run another program than the protocol asks for; they stand below the matched ones.")
    if (board["noise"] != "").any():
        notes.append("Noisy: so restless was the machine beside a run that its times are not to be trusted to 5 %.")
    if board["missed_checks"].str.contains("no_stall").any():
        notes.append("Missed no_stall: a run's time of training holds a pause that its steps do not account for.")
    return Table("leaderboard", f"Leaderboard: {results.context}", board, shown, notes)


def _outcomes(results: Results) -> pd.DataFrame:
    """A row each planned case: departures, parity, how many runs came to what, and the first error."""
    rows = []
    for case, runs in results.runs.groupby("case", sort=False):
        counts = {status.replace("-", "_"): int((runs["status"] == status).sum()) for status in STATUS}
        errors = runs["error"].dropna()
        row = {"case": case, "departures": runs["departures"].iloc[0], "parity": _parity(results, case), "planned": len(runs)}
        row |= counts | {"error": errors.iloc[0] if len(errors) else None}
        rows.append(row | {"missed_checks": _missed_checks(runs), "noise": _noise(runs)})
    return pd.DataFrame(rows)


def _missed_checks(runs: pd.DataFrame) -> str:
    """The checks that some run of a case did not pass: such a run is shown, and its figures are in doubt."""
    missed = missed_checks(runs)
    return ", ".join(f"{name} ({missed.count(name)})" for name in dict.fromkeys(missed))


def _noise(runs: pd.DataFrame) -> str:
    """In how many runs the machine was restless, and what the first of them says."""
    warnings = runs["noise_warning"].dropna() if "noise_warning" in runs else pd.Series(dtype=object)
    return f"{len(warnings)} noisy: {warnings.iloc[0]}" if len(warnings) else ""


def _parity(results: Results, case: str) -> str:
    try:
        parity = read_parity(results.folder, case)
    except BrokenRecord:
        return "unreadable"
    if parity is None:
        return "not measured"
    if not parity.matched:
        return "departs"
    return {True: "passed", False: "missed", None: "unproven"}[parity.passed]


def _target(runs: pd.DataFrame, case: str, machine: str) -> tuple[int, float | None]:
    mine = runs[(runs["case"] == case) & (runs["machine"] == machine)]
    found = time_to_target(mine["seconds_to_target"])
    return found.reached, found.median_seconds


def _against(runs: pd.DataFrame, row, fastest: str | None) -> tuple:
    """Case that the row is compared with, and the paired ratio of times with its interval."""
    if fastest is None or pd.isna(row.machine):
        return None, None, None, None
    found = pairs(runs[runs["machine"] == row.machine], row.case, fastest)
    estimate = ratio(found.first["epoch_seconds"], found.second["epoch_seconds"])
    return fastest, estimate.value, estimate.low, estimate.high


def _times(row) -> str:
    if pd.isna(row.times_fastest):
        return ""
    if row.case == row.fastest:
        return "1"
    if pd.isna(row.times_fastest_low):
        return f"{row.times_fastest:.2f}, {NOT_ENOUGH}"
    return f"{row.times_fastest:.2f} [{row.times_fastest_low:.2f}, {row.times_fastest_high:.2f}]"


def _reached(row, digits: int) -> str:
    if not row.finished:
        return ""
    share = "" if row.target_reached == row.finished else f"{row.target_reached} of {row.finished} got there"
    return ", ".join(part for part in (number(row.seconds_to_target, digits), share) if part)


def _memory(row) -> str:
    host = number(row.host_peak_bytes, 2, 1e-9)
    return host if pd.isna(row.nvml_peak_bytes) else f"{host} + {number(row.nvml_peak_bytes, 2, 1e-9)} GPU"


def _remarks(row) -> str:
    """What did not finish, and what speaks against the figures of what did."""
    words = {"failed": row.failed, "missing": row.missing, "failed parity": row.failed_parity}
    found = ", ".join(f"{count} {word}" for word, count in words.items() if count)
    found = f"{found}: {_short(row.error)}" if isinstance(row.error, str) else found
    missed = f"checks missed: {row.missed_checks}" if row.missed_checks else ""
    return "; ".join(part for part in (found, missed, row.noise) if part)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 90 else line[:89] + "…"


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
        *_drifts(runs),
    ]
    return Table("performance", f"Performance: {results.context}", data, pd.DataFrame(shown), notes)


def kernel_heading(results: Results) -> str:
    """`LSTM kernel` in a study of that model alone, `kernel` in one of several."""
    what = {model_of(case.protocol).kernels.what for case in results.study.expanded}
    return f"{what.pop()} kernel" if len(what) == 1 else "kernel"


def _drifts(runs: pd.DataFrame) -> list[str]:
    """For each machine, how much slower or faster its runs became from the first to the last."""
    found = []
    for machine, mine in runs.groupby("machine", sort=False):
        started = pd.to_datetime(mine["started"])
        hours = (started - started.min()).dt.total_seconds() / 3600
        change = drift(hours, mine["epoch_seconds"], mine["case"])
        if change is not None:
            found.append(
                f"Drift on {machine}: over {np.ptp(hours):.1f} hours its epochs became {abs(change):.1%} {'longer' if change > 0 else 'shorter'}."
            )
    return found
