"""Trains one case with one seed and records it: what one job of the workflow does."""

import json
import os
import socket
import time
import traceback
from datetime import UTC, datetime
from pathlib import Path

from levelfield.backends import confine
from levelfield.errors import UserError
from levelfield.images.images import digest_in_use
from levelfield.measure.device import hold_device
from levelfield.records import write_json
from levelfield.study.protocol import Case


def arguments(parser):
    parser.add_argument("--study", required=True, metavar="NAME")
    parser.add_argument("--case", type=Path, required=True, metavar="JSON", help="cases/<case>.json of the study")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help="data/ of the study")
    parser.add_argument("--start", type=Path, required=True, metavar="NPZ", help="start/seed-<n>.npz of the study")
    parser.add_argument(
        "--parity", type=Path, nargs="?", metavar="JSON", help="parity/<case>.json: a case that failed it is not timed"
    )
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
        train_case(args, case)
    except BaseException as error:
        told = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        ended = {"error": told, "log_tail": traceback.format_exc()[-2000:], "seconds": time.monotonic() - began}
        write_json(failure, record | ended)
        raise
    failure.unlink()


def train_case(args, case: Case) -> None:
    """Everything that must be said before the framework is imported, then the training."""
    if args.parity:
        refuse_unproven(json.loads(args.parity.read_text()))
    image = digest_in_use(args.image)
    threads = confine(case.device, args.threads)
    from levelfield.training.train import train

    with hold_device(case.device) as gpu:
        train(args.study, case, args.seed, args.data, args.start, threads, args.out, image, gpu, args.calibration)


def refuse_unproven(parity: dict) -> None:
    """Raises UserError for a matched case that missed a bound of parity: what is not the same program is not timed."""
    if parity["matched"] and parity["passed"] is False:
        raise UserError(f"failed parity, not timed: {parity['case']} missed {'; '.join(parity['missed'])}")
