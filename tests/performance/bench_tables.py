"""Collecting and tabulating a study of 10,000 runs, of which 1 % left damaged records."""

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
from made_study import make_study

SEEDS = 5000
DAMAGED = 100
"""One of so many runs."""


def measure() -> dict:
    """`seconds` of `levelfield collect` and `levelfield tables` together, and the larger one's `peak_bytes`; the `damaged` runs that
    they list: every one and no other."""
    with tempfile.TemporaryDirectory() as folder:
        study = make_study(Path(folder) / "large", seeds=range(SEEDS), hashed=True)
        runs = sorted(study.glob("runs/*/*"))
        for number, run in enumerate(runs[::DAMAGED]):
            damage(run, number)
        began = time.monotonic()
        for verb in ("collect", "tables"):
            subprocess.run([sys.executable, "-m", "levelfield", verb, str(study)], check=True, stdout=subprocess.DEVNULL)
        seconds = time.monotonic() - began
        listed = pd.read_csv(study / "tables/unfinished.csv")
        places = set("runs/" + listed["case"] + "/seed-" + listed["seed"].astype(str))
        if places != {run.relative_to(study).as_posix() for run in runs[::DAMAGED]} or not all(
            listed["error"].str.startswith("damaged: ")
        ):
            raise RuntimeError(f"{len(runs[::DAMAGED])} runs were damaged, and these are listed: {listed}")
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    return {"seconds": seconds, "peak_bytes": peak, "runs": len(runs), "damaged": len(listed)}


def damage(run: Path, number: int) -> None:
    """In turn: half a JSON, an edited number, missing steps."""
    if number % 3 == 0:
        record = run / "run.json"
        record.write_bytes(record.read_bytes()[:1000])
    elif number % 3 == 1:
        epochs = run / "epochs.csv"
        epochs.write_text(epochs.read_text().replace("1,", "1,9", 1))
    else:
        (run / "steps.npz").unlink()
