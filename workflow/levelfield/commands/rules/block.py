"""Runs a block in a row: all cases of one seed and size on one device, each as the workflow's rule `train` runs it.

The runs belong to a Snakemake inside this job, so that each has its own image and process, one that fails leaves the others alone,
and what has finished is not redone when the block is continued.
"""

import json
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

from levelfield.measure.device import CPU, hold_device
from levelfield.measure.locks import HELD
from levelfield.study.config import read_study


def arguments(parser):
    parser.add_argument(
        "runs", nargs="+", metavar="RUN", help="what the runs make: runs/<case>/seed-<n>/run.json, in any order"
    )
    parser.add_argument("--study", type=Path, required=True, metavar="JSON", help="study.json of the study")
    parser.add_argument("--threads", type=int, required=True, help="threads that each run may use")
    parser.add_argument("--snakemake", type=shlex.split, default=[], metavar="ARGUMENTS", help="as the outer one has them")


def run(args):
    study = read_study(json.loads(args.study.read_text(encoding="utf-8")), str(args.study))
    command = [sys.executable, "-m", "snakemake", *args.runs, "--configfile", str(args.study), "--cores", str(args.threads)]
    # the runs alone; their priorities are the block's order, and the greedy scheduler keeps to them without a solver
    command += ["--allowed-rules", "train", "--scheduler", "greedy", "--nolock"]
    command += ["--rerun-incomplete", "--profile", "none", "--workflow-profile", "none", *args.snakemake]
    with hold_device(study.device) as gpu:
        process = subprocess.Popen(command, env=os.environ | {HELD: gpu.uuid if gpu else CPU})
        for sign in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(sign, lambda number, _: process.send_signal(number))
        signal.signal(signal.SIGINT, lambda *_: None)  # Ctrl-C reaches the inner one, too, which ends its runs
        return process.wait()
