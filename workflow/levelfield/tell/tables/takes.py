"""Runs that were taken again: every take with its time and the reason why it does not stand."""

import json
from typing import Any

import pandas as pd

from levelfield.tell.results import Results
from levelfield.tell.tables.table import Table


def takes(results: Results) -> Table | None:
    """A row each take of the runs that were taken more than once, in the order in which they were made; None where none was."""
    again = results.finished.dropna(subset="earlier_takes")
    if again.empty:
        return None
    rows: list[dict[str, Any]] = []
    for run in again.itertuples():
        last = {"take": run.take, "train_seconds": run.train_seconds, "unclean": run.unclean}
        mine = [*({name: take[name] for name in last} for take in json.loads(run.earlier_takes)), last]
        rows += [{"case": run.case, "seed": run.seed, **one, "stands": one is mine[-1]} for one in mine]
    data = pd.DataFrame(rows)
    shown = pd.DataFrame(
        {
            "case": data["case"],
            "seed": data["seed"].astype(str),
            "take": data["take"].astype(int).astype(str),
            "training, s": [f"{seconds:.2f}" if pd.notna(seconds) else "" for seconds in data["train_seconds"]],
            "spoilt by": data["unclean"].fillna(""),
            "stands": ["yes" if stands else "" for stands in data["stands"]],
        }
    )
    notes = [
        "A run that the machine's noise or its own checks spoilt is taken again, whatever it learnt and however fast it was beside others; "
        "the last take stands, be it spoilt or not. What the first takes would have shown stands beside each comparison, over all pairs."
    ]
    return Table("takes", f"Runs that were taken again: {len(again):,} of {len(results.finished):,}", data, shown, notes)


def first_take_seconds(runs: pd.DataFrame) -> pd.Series:
    """Seconds of training of each run's first take; of a run that was taken once, and of one whose first take is not known, of the one
    that stands. runs: finished rows of `runs.parquet`."""
    found = runs["train_seconds"].copy()
    for index, told in runs["earlier_takes"].dropna().items():
        first = json.loads(told)[0]["train_seconds"]
        found[index] = found[index] if first is None else first
    return found
