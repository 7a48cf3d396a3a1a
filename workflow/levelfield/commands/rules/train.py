"""Trains one case with one seed and records it: what one job of the workflow does. A spoilt run is taken again.

Each take is a process of its own (`levelfield take`), so that this one can tell how it ended, were it by a signal.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from levelfield import registry
from levelfield.backends import confine
from levelfield.errors import UserError
from levelfield.images.images import digest_in_use
from levelfield.measure.device import hold_device
from levelfield.measure.spoilt import spoilt
from levelfield.measure.steering import contradictions
from levelfield.records import write_json
from levelfield.study.protocol import Case

HANG = 4
"""A take is ended after so many times the minutes that a run is granted: no machine is that slow."""
KEPT = ("run.json", "epochs.csv", "steps.npz", "weights.npz")
"""Files of a take that stay where it was spoilt, in `takes/<number>/`."""
SHARE = 0.9
"""Of the granted minutes that all takes together may need: a scheduler ends a run that needs more, finished takes and all."""


class EndedFromOutside(UserError):
    """The job was told to end: no take stands for it."""


def arguments(parser):
    run_arguments(parser)
    parser.add_argument(
        "--parity", type=Path, nargs="?", metavar="JSON", help="parity/<case>.json: a case that failed it is not timed"
    )
    parser.add_argument("--retakes", type=int, default=0, help="how often a spoilt run is taken again, at most")
    parser.add_argument("--minutes", type=int, help=f"what a run is granted; after {HANG} times as long it is ended as hung")


def run_arguments(parser):
    """What a job and each of its takes are told."""
    parser.add_argument("--study", required=True, metavar="NAME")
    parser.add_argument("--case", type=Path, required=True, metavar="JSON", help="cases/<case>.json of the study")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="data/ of the study")
    parser.add_argument("--start", type=Path, required=True, metavar="NPZ", help="start/<model>/seed-<n>.npz of the study")
    parser.add_argument("--threads", type=int, required=True, help="threads the run may use, at most as many as there are CPUs")
    parser.add_argument("--calibration", type=Path, metavar="DIR", help="where the calibrations of machines are kept")
    parser.add_argument("--image", type=Path, nargs="?", metavar="SIF", help="the image that this must run in")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")


def run(args):
    case = Case.read(args.case)
    failure = args.out / "failure.json"
    began = time.monotonic()
    record = {
        "study": args.study,
        "case": case.name,
        "backend": case.backend,
        "departures": list(case.departures),
        "seed": args.seed,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    where = f"process {os.getpid()} on {socket.gethostname()}"
    print(f"{case.name}, seed {args.seed}: {where}", flush=True)
    # until it ends, a run counts as failed: one that is killed can say nothing any more
    write_json(failure, record | {"error": f"{where} did not end: killed (time, memory, cancelled), or still running"})
    try:
        if args.parity:
            refuse_unproven(json.loads(args.parity.read_text(encoding="utf-8")))
        if found := contradictions(os.environ, case.protocol):
            raise UserError("; ".join(found))
        digest_in_use(args.image)
        confine(case.device, args.threads)
        with hold_device(case.device):
            takes(args, case, failure)
    except BaseException as error:
        told = json.loads(failure.read_text(encoding="utf-8"))
        if not told.get("log_tail"):  # else the take itself said what went wrong
            said = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
            told = record | {"error": said, "log_tail": None}
        write_json(failure, told | {"seconds": time.monotonic() - began})
        raise
    failure.unlink(missing_ok=True)  # a job that outlived its Snakemake may have ended it already


def takes(args, case: Case, failure: Path) -> None:
    """Takes of the run until one is not spoilt or none is left; the last one stays, the others go to `takes/`.

    None is begun that the granted minutes may not bear, and one that fails costs itself alone: the take before it stands.
    """
    most, began, kept = 1 + args.retakes, time.monotonic(), None
    shutil.rmtree(args.out / "takes", ignore_errors=True)  # of an earlier making of this run
    for number in range(1, most + 1):
        try:
            take(args, number, failure)
        except EndedFromOutside:
            raise
        except UserError as error:
            if kept is None:
                raise
            _move(kept, args.out)
            print(f"{case.name}, seed {args.seed}: {error}: take {number - 1} stands, no claim rests on it", flush=True)
            return
        record = json.loads((args.out / "run.json").read_text(encoding="utf-8"))
        reasons = spoilt(record["checks"], record["measurements"])
        if not reasons:
            return
        spent = time.monotonic() - began
        borne = not args.minutes or spent * (number + 1) / number < SHARE * args.minutes * 60
        again = number < most and borne
        then = f"taken again ({number + 1} of at most {most})" if again else "kept as it is, no claim rests on it"
        print(f"{case.name}, seed {args.seed}, take {number} is spoilt: {'; '.join(reasons)}: {then}", flush=True)
        if not again:
            return
        kept = args.out / "takes" / str(number)
        kept.mkdir(parents=True)
        _move(args.out, kept)


def _move(source: Path, target: Path) -> None:
    for name in KEPT:
        (source / name).replace(target / name)


def take(args, number: int, failure: Path) -> None:
    """One take in a process of its own; raises UserError naming how it ended, where it did not end well."""
    given = {"study": args.study, "case": args.case, "seed": args.seed, "data": args.data, "start": args.start}
    given |= {"threads": args.threads, "calibration": args.calibration, "image": args.image, "out": args.out, "take": number}
    options = [text for name, value in given.items() if value is not None for text in (f"--{name}", str(value))]
    # from its start, since the C library reads some of it then
    environment = os.environ | registry.backend(Case.read(args.case).backend).environment
    process = subprocess.Popen([sys.executable, "-X", "faulthandler", "-m", "levelfield", "take", *options], env=environment)
    for sign in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(sign, lambda sign, _: _ended_from_outside(process, sign))
    limit = HANG * args.minutes * 60 if args.minutes else None
    try:
        code = process.wait(limit)
    except subprocess.TimeoutExpired:
        raise UserError(
            f"take {number} did not end within {HANG * args.minutes} minutes, {HANG} times what a run is granted: it hangs, or "
            "the machine is far too slow: see the run's log"
        ) from None
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    if code < 0:
        raise UserError(f"take {number} was ended by {_signal(-code)}: the last lines of the run's log say where")
    if code:
        told = json.loads(failure.read_text(encoding="utf-8"))
        raise UserError(
            told["error"] if told.get("log_tail") else f"take {number} ended with exit code {code}: see the run's log"
        )


def _ended_from_outside(process: subprocess.Popen, sign: int):
    process.kill()
    where = f"process {os.getpid()} on {socket.gethostname()}"
    raise EndedFromOutside(f"{where} did not end: killed by {signal.Signals(sign).name} from outside (time, memory, cancelled)")


def _signal(number: int) -> str:
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    hints = {"SIGKILL": " (out of memory?)", "SIGSEGV": " (a crash in compiled code)", "SIGABRT": " (a crash in compiled code)"}
    return name + hints.get(name, "")


def refuse_unproven(parity: dict) -> None:
    """Raises UserError for a matched case that missed a bound of parity: what is not the same program is not timed."""
    if parity["matched"] and parity["passed"] is False:
        raise UserError(f"failed parity, not timed: {parity['case']} missed {'; '.join(parity['missed'])}")
