"""Collect a study's records into runs.parquet, epochs.parquet and steps.parquet."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

import pyarrow.parquet as pq

from levelfield.tell.collect import collect
from levelfield.tell.outcomes import DAMAGED

MOST_TOLD = 20


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="results/<study>")


def run(args: Namespace) -> None:
    counts = collect(args.folder)
    print(f"{args.folder}: " + ", ".join(f"{count} runs {status}" for status, count in counts.items() if count))
    runs = pq.read_table(args.folder / "runs.parquet", columns=["case", "seed", "status", "error", "accepted"]).to_pylist()
    damaged = [run["error"] for run in runs if (run["error"] or "").startswith(DAMAGED)]
    for error in damaged[:MOST_TOLD]:
        print(error)
    if len(damaged) > MOST_TOLD:
        print(f"and {len(damaged) - MOST_TOLD} more: `levelfield runs {args.folder} --status failed` lists them")
    hopeless = {run["case"] for run in runs if not run["accepted"]} - {
        run["case"] for run in runs if run["status"] == "finished"
    }
    hopeless &= {run["case"] for run in runs if run["status"].startswith("failed")}
    if hopeless:
        case = sorted(hopeless)[0]
        print(
            f"No run of {case} has finished. If it never can: `accepted: {{{case}: why}}` in the config lets the study be done without it."
        )
