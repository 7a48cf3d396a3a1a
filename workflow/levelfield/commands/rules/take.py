"""One take of a run, on a device that `levelfield train` holds: trains, measures, records."""

import contextlib
import json
import traceback
from argparse import ArgumentParser, Namespace
from pathlib import Path

from levelfield.backends import confine
from levelfield.commands.rules import train as job
from levelfield.errors import UserError
from levelfield.host import end_with_the_job
from levelfield.images.images import digest_in_use
from levelfield.records import write_json
from levelfield.study.protocol import Case


def arguments(parser: ArgumentParser) -> None:
    job.run_arguments(parser)
    parser.add_argument("--take", type=int, default=1, help="the how manyeth, from 1")
    parser.add_argument("--job-pid", type=int, metavar="PID", help="of the `levelfield train` that it ends with")


def run(args: Namespace) -> None:
    """What goes wrong is added to the run's `failure.json`, which `levelfield train` wrote."""
    failure = args.out / "failure.json"
    end_with_the_job(args.job_pid)
    try:
        take(args)
    except BaseException as error:
        told = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        with contextlib.suppress(OSError, ValueError):  # as on a full disk: the first cause is the one to be told
            before = json.loads(failure.read_text(encoding="utf-8"))
            tail = traceback.format_exc()[-2000:]
            write_json(failure, before | {"error": told, "log_tail": tail, "for_good": job.for_good(error)})
        raise


def take(args: Namespace) -> None:
    """Everything that must be said before the framework is imported, then the training."""
    case = Case.read(args.case)
    image = digest_in_use(args.image)
    threads = confine(case.device, args.threads)
    from levelfield.measure.device import usable
    from levelfield.training.train import train

    gpus = usable(case.device)[: case.protocol.devices]
    folder: Path = args.out
    train(args.study, case, args.seed, args.data, args.start, threads, folder, image, gpus, args.calibration, args.take)
