"""A clock that is set back: nothing that was finished is made again or lost, and what is new is made."""

import os
import time
from pathlib import Path

import pytest
from checkout import Checkout

HOURS = 2 * 3600
pytestmark = pytest.mark.long
SET_BACK = f"""
import os, sys, time
if "take" in sys.orig_argv:
    for folder in ("data", "start", "parity", "cases"):
        for place, _, names in os.walk("results/small/" + folder):
            for name in names:
                os.utime(os.path.join(place, name), (time.time() + {HOURS},) * 2)
"""
"""Run at the beginning of each take: from there on what the training was made from is of the future."""


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file): file.read_bytes() for file in folder.glob("results/small/runs/*/seed-0/*") if file.is_file()}


def test_the_clock_is_set_back_after_a_study(copy: Checkout):
    before = contents(copy.folder)
    for file in (copy.folder / "results").rglob("*"):
        os.utime(file, (time.time() + HOURS,) * 2)
    assert copy.planned() == {}
    copy.study(seeds=[0, 1])
    done = copy.snakemake()
    assert done.returncode == 0, done.stdout[-3000:]
    assert contents(copy.folder) == before and copy.planned() == {}


def test_the_clock_is_set_back_while_runs_are_trained(copy: Checkout):
    before = contents(copy.folder)
    copy.study(seeds=[0, 1])
    (copy.folder / "workflow/sitecustomize.py").write_text(SET_BACK)
    done = copy.snakemake()
    assert done.returncode == 0, done.stdout[-3000:]
    assert contents(copy.folder) == before and len(list(copy.folder.glob("results/small/runs/*/seed-1/run.json"))) == 2
