"""Collecting and tabulating a study of 10,000 finished runs."""

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from made_study import make_study

SEEDS = 5000


def measure() -> dict:
    """`seconds` of `levelfield collect` and `levelfield tables` together, and the larger one's `peak_bytes`."""
    with tempfile.TemporaryDirectory() as folder:
        study = make_study(Path(folder) / "large", seeds=range(SEEDS))
        began = time.monotonic()
        for verb in ("collect", "tables"):
            subprocess.run([sys.executable, "-m", "levelfield", verb, str(study)], check=True, stdout=subprocess.DEVNULL)
        seconds = time.monotonic() - began
    return {"seconds": seconds, "peak_bytes": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024, "runs": 2 * SEEDS}
