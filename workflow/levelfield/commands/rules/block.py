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
from argparse import ArgumentParser, Namespace
from contextlib import suppress
from pathlib import Path

from levelfield.measure.device import hold_devices, lock_of
from levelfield.measure.locks import HELD
from levelfield.study.config import read_study


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "runs", nargs="+", type=Path, metavar="RUN", help="what the runs make: runs/<case>/seed-<n>/run.json, in any order"
    )
    parser.add_argument("--study", type=Path, required=True, metavar="JSON", help="study.json of the study")
    parser.add_argument("--threads", type=int, required=True, help="threads that each run may use")
    parser.add_argument("--snakemake", type=shlex.split, default=[], metavar="ARGUMENTS", help="as the outer one has them")


def run(args: Namespace) -> int:
    study = read_study(json.loads(args.study.read_text(encoding="utf-8")), str(args.study))
    # the block was not made to wait for a proof that had failed before: one that is still not there costs its own case alone
    cases, proofs = {run: run.parent.parent.name for run in args.runs}, args.study.parent / "parity"
    unproven = [run for run in args.runs if study.parity and not (proofs / f"{cases[run]}.json").exists()]
    if unproven:
        print(f"not run, parity was not measured, see logs/parity: {', '.join(cases[run] for run in unproven)}", flush=True)
    runs = [str(run) for run in args.runs if run not in unproven]
    if not runs:
        return 1
    command = [sys.executable, "-m", "snakemake", *runs, "--configfile", str(args.study), "--cores", str(args.threads)]
    # the runs alone; their priorities are the block's order, and the greedy scheduler keeps to them without a solver
    command += ["--allowed-rules", "train", "--scheduler", "greedy", "--nolock"]
    command += ["--rerun-incomplete", "--profile", "none", "--workflow-profile", "none", *args.snakemake]
    mine = {cases[run] for run in args.runs}
    devices = max(case.protocol.devices for case in study.expanded if case.name in mine)
    with hold_devices(study.device, devices, handed_on=True) as gpus:
        # by both names that a card's lock may have: a run in a clean environment does not know the scheduler's job
        names = [name for gpu in gpus for name in (lock_of(gpu), gpu.uuid)] or [lock_of(None)]
        held = seen_inside({HELD: ",".join(names)})
        # it holds the lock, too: were this process killed, nobody else would take the device before the runs have ended
        process = subprocess.Popen(command, env=os.environ | held, close_fds=False, start_new_session=True)
        for sign in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(sign, lambda number, _: process.send_signal(number))
        signal.signal(signal.SIGINT, lambda number, _: os.killpg(process.pid, number))  # as a terminal does with Ctrl-C
        code = process.wait()
        with suppress(ProcessLookupError):  # were it killed, its runs would train on, on a device that is free again
            os.killpg(process.pid, signal.SIGKILL)
        return code or bool(unproven)


def seen_inside(variables: dict[str, str]) -> dict[str, str]:
    """The variables, the locks' folder and the cards in sight, for containers as well that are started with a clean environment.

    Apptainer's user guide, "Environment and Metadata": what begins with APPTAINERENV_ is set inside whatever else is taken away.
    """
    kept = {name: os.environ[name] for name in ("LEVELFIELD_LOCKS", "CUDA_VISIBLE_DEVICES") if name in os.environ}
    told = kept | variables
    return told | {f"{runtime}ENV_{name}": value for name, value in told.items() for runtime in ("APPTAINER", "SINGULARITY")}
