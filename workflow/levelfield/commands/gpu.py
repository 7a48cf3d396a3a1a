"""Run what a GPU is for, in nine minutes: the GPU tests, then the studies frameworks and scaling, results in one folder."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from argparse import ArgumentParser, Namespace
from pathlib import Path

import yaml

from levelfield import registry
from levelfield.errors import UserError
from levelfield.host import cpus_available
from levelfield.measure import gpu
from levelfield.measure.inventory import available_backends

ROOT = Path(__file__).resolve().parents[3]
TESTS_UNTIL, FRAMEWORKS_UNTIL, SCALING_UNTIL = 120, 330, 480
"""Seconds since the start; what is left of nine minutes is for tables and pages, which tell what was not reached as missing."""
GRACE_SECONDS = 20
TIME_IS_UP = 124
"""What `within` returns of a command that it interrupted, as `timeout` does."""
STUDIES = {"frameworks": FRAMEWORKS_UNTIL, "scaling": SCALING_UNTIL}


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--out", type=Path, default=Path("results/reference"), metavar="DIR", help="gets a folder for the GPU")


def run(args: Namespace) -> int:
    cards = gpu.visible()
    if not cards:
        raise UserError(
            gpu.silence() or "NVML tells of no GPU that CUDA_VISIBLE_DEVICES leaves: `levelfield doctor` tells what there is"
        )
    out = args.out / re.sub("[^a-z0-9]+", "-", (cards[0].name or cards[0].uuid).lower()).strip("-")
    if there := [str(out / study) for study in STUDIES if (out / study).exists()]:
        raise UserError(
            f"{' and '.join(there)}: there already; delete what is to be replaced, or name another folder with --out"
        )
    began = time.monotonic()
    tests = within(TESTS_UNTIL, began, [sys.executable, "-m", "pytest", "-q", "-m", "not long", str(ROOT / "tests/gpu")])
    found_here, asked = available_backends(), _asked()
    names = [
        name
        for name, found in found_here.items()
        if found.device == "cuda" and (name in asked or not registry.backend(name).like)
    ]
    for name, found in found_here.items():
        print(f"{name}: {found.device or found.missing}", flush=True)
    if not names:
        raise UserError("no backend finds the GPU: `levelfield doctor` tells what each one says")
    kept = []
    for study, until in STUDIES.items():
        override = Path(f"results/{study}.gpu.json")
        override.parent.mkdir(exist_ok=True)
        override.write_text(json.dumps({"cases": names, "device": "cuda"}), encoding="utf-8")
        command = [sys.executable, "-m", "snakemake", "--cores", str(cpus_available()), "--resources", "gpu=1"]
        blocks = ["--config", "runs=blocks"] if len(cards) > 1 else []  # a block on each card
        within(until, began, [*command, *blocks, "--configfile", f"config/{study}.yaml", str(override)])
        keep = [sys.executable, "-m", "levelfield", "keep", f"results/{study}", str(out / study)]
        kept.append(subprocess.run(keep, check=False).returncode)
    verdict = {0: "passed", TIME_IS_UP: "were NOT FINISHED in time"}.get(tests, "FAILED")
    print(f"{out}: results of {', '.join(names)}; {time.monotonic() - began:.0f} s; GPU tests {verdict}")
    return tests or max(kept)


def _asked() -> set[str]:
    """The backends that the studies name: of the options of a framework, nine minutes bear no others."""
    configs = [yaml.safe_load((ROOT / f"config/{study}.yaml").read_text(encoding="utf-8")) for study in STUDIES]
    return {case for config in configs for case in config["cases"] if isinstance(case, str)}


def within(until: float, began: float, command: list[str]) -> int:
    """Runs the command until so many seconds after `began`, then interrupts it and its jobs as Ctrl-C does; its exit code, TIME_IS_UP
    where it was interrupted."""
    process = subprocess.Popen(command, start_new_session=True)
    try:
        return process.wait(max(1.0, began + until - time.monotonic()))
    except subprocess.TimeoutExpired:
        print(f"time is up after {until} s: {' '.join(command[1:])} is interrupted", flush=True)
    os.killpg(process.pid, signal.SIGINT)
    try:
        process.wait(GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return TIME_IS_UP
