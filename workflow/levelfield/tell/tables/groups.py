"""Finished runs with the figures that tables compare, their means over seeds, and pairs of them by seed."""

import json
from dataclasses import dataclass

import numpy as np
import pandas as pd

from levelfield.tell.collect import run_columns
from levelfield.tell.proven import unproven
from levelfield.tell.results import Results, machine_of
from levelfield.tell.tables.takes import first_take_seconds

MEMORY = ["host_peak_bytes", "host_before_bytes", "allocated_peak_bytes", "reserved_peak_bytes", "nvml_peak_bytes"]
LAST = ["train_loss", "train_accuracy", "validation_loss", "validation_accuracy"]


def finished(results: Results) -> pd.DataFrame:
    """A row each finished run: its record, `machine`, figures an epoch, and those of its last epoch (`LAST`).

    `first_epoch_seconds`: an epoch's time in the run's first take, as it would stand had nothing been taken again.
    `barred`: what is wrong with its case's first losses in some run, so that nothing is claimed of the case. `diverged`: a loss was
    not finite. `unproven`: in what it is not what parity was measured of. `clean`: its time may bear a claim. `unlearnt`: its loss was
    not seen to fall, so that its accuracy bears none.
    """
    runs = results.finished.drop(columns="validation_seconds").copy()
    runs["machine"] = machine_of(runs)
    by_run = results.epochs.sort_values("epoch").groupby(["case", "seed"])
    means = by_run[["train_seconds", "validation_seconds", "energy_joules"]].mean()
    means = means.rename(columns={"train_seconds": "epoch_seconds", "energy_joules": "energy_joules_per_epoch"})
    runs = runs.join(means, on=["case", "seed"]).join(by_run[LAST].last(), on=["case", "seed"])
    runs["first_epoch_seconds"] = runs["epoch_seconds"] * first_take_seconds(runs) / runs["train_seconds"]
    runs["barred"] = runs["case"].map(runs.dropna(subset="incoherent").groupby("case")["incoherent"].first())
    runs["diverged"] = [json.loads(checks).get("losses_finite") is False for checks in runs["checks"]]
    runs["unlearnt"] = [json.loads(checks).get("losses_fell") is not True for checks in runs["checks"]]
    runs["unproven"] = unproven(results, runs)
    runs = _placed(results, runs)
    runs["clean"] = runs["unclean"].isna() & runs["unproven"].isna() & runs["barred"].isna() & ~runs["diverged"].astype(bool)
    return runs.merge(results.throughput, on=["case", "seed"], how="left")


def _placed(results: Results, runs: pd.DataFrame) -> pd.DataFrame:
    """Adds what tells whether two runs were near each other: `card` (the GPU; empty on a CPU), `place` by time among all runs of a
    session on a card, `place_in_block` among those of its block there, `block_cases`, how many a block has, and `rested`, the seconds
    up to its start in which no run of the study was on the card (0 where a run of the study failed: then no rest is known)."""
    blocks = {(case, block.seed): block for block in results.study.blocks for case in block.cases}
    mine = [blocks.get(run) for run in zip(runs["case"], runs["seed"], strict=True)]
    runs = runs.assign(
        card=runs["gpu_uuid"].fillna("").where(runs["device"] == "cuda", ""),
        block_name=[block.name if block else "" for block in mine],
        block_cases=[len(block.cases) if block else 1 for block in mine],
    )
    by_time = runs.assign(began=_moments(runs["started"])).sort_values("began")
    runs["place"] = by_time.groupby(["session", "card"], dropna=False).cumcount()
    runs["place_in_block"] = by_time.groupby(["session", "card", "block_name"], dropna=False).cumcount()
    # a run that failed, or hung, was on the card, too, for a time that no row tells
    runs["rested"] = 0.0 if (results.runs["status"] == "failed").any() else _rested(by_time)
    return runs


def _rested(by_time: pd.DataFrame) -> pd.Series:
    """Seconds of a session up to each run's first take in which no run was on its card. by_time: in the order in which they `began`."""
    seconds = by_time["began"].astype("int64") / 1e6
    lasted = (_moments(by_time["ended"]) - by_time["began"]).dt.total_seconds().fillna(by_time["train_seconds"])
    earlier = [json.loads(told)[0]["started"] if isinstance(told, str) else None for told in by_time["earlier_takes"]]
    before = (by_time["began"] - _moments(pd.Series(earlier, by_time.index, dtype=object))).dt.total_seconds()
    before = before.fillna((by_time["take"].fillna(1) - 1) * lasted)  # of a first take that is not known, about
    where = [by_time["session"], by_time["card"]]
    free = (seconds - before - (seconds + lasted).groupby(where, dropna=False).shift()).fillna(0.0).clip(lower=0.0)
    rested: pd.Series = free.groupby(where, dropna=False).cumsum()
    return rested


def _moments(told: pd.Series) -> pd.Series:
    """Times in ISO 8601 as moments of one zone."""
    return pd.to_datetime(told, format="ISO8601", utc=True).astype("datetime64[us, UTC]")


NEAR = ["session", "card", "place", "place_in_block", "block_cases", "rested"]
"""Columns by which a pair's two runs are known to have been near each other."""
REST = 900.0
"""Seconds for which nothing of the study ran on the card between two runs that are near each other, at most: a proof of parity fits in."""


def of_these_sessions(results: Results) -> str:
    """What an interval over several sessions is of: these, since no session is drawn anew in it; nothing where there is one."""
    number = results.finished["session"].nunique()
    return f" of these {number} sessions (of a further one they tell nothing)" if number > 1 else ""


def by_seeds(rows: pd.DataFrame, keys: list[str], figures: list[str]) -> pd.DataFrame:
    """Mean and standard deviation (`…_sd`) of each figure over the seeds, and their number, in the order of appearance."""
    groups = rows.groupby(keys, sort=False)
    deviations = groups[figures].std().add_suffix("_sd")
    found = groups[figures].mean().join(deviations)
    found = found[[name for figure in figures for name in (figure, f"{figure}_sd")]]
    found.insert(0, "seeds", groups["seed"].nunique())
    return found.reset_index()


def measurements(results: Results) -> list[str]:
    """The further figures that the runs of this study took: numbers that are no field of a record."""
    own = results.runs.drop(columns=[name for name in run_columns() if name in results.runs])
    return list(own.select_dtypes("number").dropna(axis=1, how="all").columns)


def missed_checks(runs: pd.DataFrame) -> list[str]:
    """The checks that the runs did not pass, each once a run. Of synthetic sequences, which teach nothing, no fall of the loss is asked."""
    told = runs.dropna(subset="checks")
    return [
        name
        for checks, corpus in zip(told["checks"], told["corpus"], strict=True)
        for name, held in json.loads(checks).items()
        if not held and not (name == "losses_fell" and corpus.startswith("synthetic"))
    ]


@dataclass(frozen=True)
class Pairs:
    """Two cases' finished runs with the same seed, in the same order, and what to know before they are compared."""

    first: pd.DataFrame
    second: pd.DataFrame
    warning: str

    @property
    def clean(self) -> np.ndarray:
        """Which pairs may bear a claim of speed, bool (pairs,): both runs clean, and near each other."""
        clean: np.ndarray = self.clean_in_session & self.near
        return clean

    @property
    def clean_in_session(self) -> np.ndarray:
        """Which pairs are of two clean runs in one session, however far apart in it, bool (pairs,): those of two blocks are."""
        one, other = self.first, self.second
        clean: np.ndarray = (one["clean"] & other["clean"] & (one["session"] == other["session"])).to_numpy(bool)
        return clean

    @property
    def near(self) -> np.ndarray:
        """Which pairs are of one block as it ran, bool (pairs,): in one session, on one card, with fewer runs of other blocks between
        the two than a block has cases, and without a long rest. A case that ran apart, be it that it failed at first, was added later, or
        that the study was broken off, met another machine."""
        one, other = self.first, self.second
        apart = (one["place"] - other["place"]).abs() - (one["place_in_block"] - other["place_in_block"]).abs()
        near: np.ndarray = (
            (one["session"] == other["session"])
            & (one["card"] == other["card"])
            & (apart < one["block_cases"])
            & ((one["rested"] - other["rested"]).abs() <= REST)
        ).to_numpy(bool)
        return near


def pairs(runs: pd.DataFrame, first: str, second: str) -> Pairs:
    """Runs of two cases by seed: those of one machine where there are such, else all, with a warning."""
    one, other = (runs[runs["case"] == case].set_index("seed") for case in (first, second))
    common = one.index.intersection(other.index)
    one, other = one.loc[common], other.loc[common]
    same = one["machine"] == other["machine"]
    if same.any():
        one, other = one[same], other[same]
        machines = sorted(set(one["machine"]))
        return Pairs(one, other, f"over {len(machines)} machines: {', '.join(machines)}" if len(machines) > 1 else "")
    machines = [", ".join(sorted(set(side["machine"]))) for side in (one, other)]
    return Pairs(one, other, f"different machines: {' against '.join(machines)}" if len(common) else "no seed in common")
