"""Kills at random moments: a plain rerun, with what its error says to type, ends as an unbroken study; nothing finished is redone.

`LEVELFIELD_KILLS=50 pytest tests/faults/test_kills.py` takes as many moments as one likes; everyday's long run takes a few.
"""

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from checkout import Checkout

from levelfield.records import load_arrays

pytestmark = pytest.mark.long
KILLS = int(os.environ.get("LEVELFIELD_KILLS", "2"))
VICTIMS = {"snakemake": None, "any": None, "levelfield train": 8.0, "levelfield take": 6.0, "levelfield collect": 1.5}
"""Who is killed: somebody at a moment of the whole study, or a process of that name so many seconds after it began, at most."""
SNAKEMAKE = [sys.executable, "-m", "snakemake", "--cores", "2", "--configfile", "config/small.yaml"]


def study(checkout: Checkout) -> None:
    checkout.study(seeds=[0, 1], cases=["torch"])


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory) -> tuple[Checkout, float]:
    """The study, never disturbed, and the seconds that it took."""
    checkout = Checkout.made(tmp_path_factory.mktemp("unbroken"))
    study(checkout)
    began = time.monotonic()
    done = checkout.snakemake()
    assert done.returncode == 0, done.stdout[-3000:]
    return checkout, time.monotonic() - began


def members(group: int) -> dict[int, str]:
    """The processes of a process group with their command lines."""
    listed = subprocess.run(["ps", "-eo", "pid,pgid,args"], capture_output=True, text=True, check=True).stdout.splitlines()[1:]
    rows = (line.split(None, 2) for line in listed)
    return {int(pid): args for pid, pgid, args in rows if int(pgid) == group}


def named(wanted: str, found: dict[int, str]) -> list[int]:
    return [pid for pid, args in found.items() if wanted == "any" or wanted in args.replace("-m ", "").replace("python3 ", "")]


def kill_at_random(checkout: Checkout, chance: random.Random, seconds: float) -> str:
    """Starts the study, which takes `seconds`, and kills one of its processes; returns what was killed, once all have ended."""
    running = subprocess.Popen(
        SNAKEMAKE, cwd=checkout.folder, env=checkout.environment(), start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    wanted = chance.choice(list(VICTIMS))
    if within := VICTIMS[wanted]:
        deadline = time.monotonic() + 3 * seconds
        while not named(wanted, members(running.pid)) and running.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        time.sleep(chance.uniform(0, within))
    else:
        time.sleep(chance.uniform(0.5, seconds))
    found = members(running.pid)
    victim = chance.choice(sorted(named(wanted, found) or found)) if found else None
    killed = f"{wanted}: {found.get(victim, 'nothing: it was over')[:80]}"
    if victim:
        try:
            os.kill(victim, signal.SIGKILL)
        except ProcessLookupError:
            killed += " (it ended first)"
    running.wait(300)
    deadline = time.monotonic() + 120
    while (left := members(running.pid)) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not left, f"{killed}: still there after two minutes: {left}"
    return killed


def finished(checkout: Checkout) -> dict[Path, int]:
    """Each run that is whole, and when its record was written."""
    runs = sorted((checkout.folder / "results/small").glob("runs/*/*/run.json"))
    return {run: run.stat().st_mtime_ns for run in runs if not (run.parent / "failure.json").exists()}


def go_on(checkout: Checkout) -> list[str]:
    """Runs the study to its end as its messages say; returns the options that they asked for."""
    options = []
    for _ in range(3):
        done = checkout.snakemake(*(option for option in options if option != "--unlock"))
        if done.returncode == 0:
            return options
        asked = set(re.findall(r"--(?:unlock|rerun-incomplete)", done.stdout)) - set(options)
        assert asked, done.stdout[-3000:]
        options += sorted(asked)
        if "--unlock" in asked:
            assert checkout.snakemake("--unlock").returncode == 0
    raise AssertionError(done.stdout[-3000:])


@pytest.mark.parametrize("number", range(KILLS))
def test_a_kill_at_any_moment_costs_nothing_that_was_finished(unbroken, tmp_path, number):
    original, seconds = unbroken
    (tmp_path / "study").mkdir()
    checkout = Checkout.made(tmp_path / "study")
    study(checkout)
    killed = kill_at_random(checkout, random.Random(number), seconds)
    before = finished(checkout)
    go_on(checkout)
    for run, written in before.items():
        assert run.stat().st_mtime_ns == written, f"{killed}: {run} was redone"
    for run in original.folder.glob("results/small/runs/*/*/steps.npz"):
        again = checkout.folder / run.relative_to(original.folder)
        expected, found = load_arrays(run), load_arrays(again)
        for name, values in expected.items():
            assert np.array_equal(values, found[name]), f"{killed}: {again} has another {name}"
    assert (checkout.folder / "results/small/report.html").stat().st_size > 10_000
    shutil.rmtree(checkout.folder)
