"""Planning a study of 10,000 runs, `snakemake -n`, and one of 1,000."""

import tempfile
import time
from pathlib import Path

from checkout import Checkout


def measure() -> dict:
    """`seconds` for 10,000 runs, and `factor`: those over the seconds for 1,000."""
    with tempfile.TemporaryDirectory() as folder:
        checkout = Checkout.made(Path(folder))
        small, large = plan(checkout, 500), plan(checkout, 5000)
    return {"seconds": large, "factor": large / small, "seconds_of_1000": small}


def plan(checkout: Checkout, seeds: int) -> float:
    checkout.study(cases=["keras-tensorflow", "torch"], seeds=list(range(seeds)))
    began = time.monotonic()
    done = checkout.snakemake("-n", "--quiet", "all")
    seconds = time.monotonic() - began
    if done.returncode:
        raise RuntimeError(done.stdout[-3000:])
    return seconds
