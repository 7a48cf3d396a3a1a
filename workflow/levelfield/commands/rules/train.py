"""Trains one case with one seed and records it: what one job of the workflow does. A spoilt run is taken again.

Each take is a process of its own (`levelfield take`), so that this one can tell how it ended, were it by a signal.
"""

import argparse
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from datetime import UTC, datetime
from hashlib import sha256
from io import BufferedReader
from pathlib import Path
from typing import Any, NoReturn

from levelfield import registry
from levelfield.backends import confine
from levelfield.data.arrays import load_description
from levelfield.errors import ELSEWHERE, NodeError, UserError
from levelfield.images.images import digest_in_use
from levelfield.measure import calibrate
from levelfield.measure.device import hold_devices
from levelfield.measure.gpu import Gpu, visible
from levelfield.measure.hang import HANG, killed
from levelfield.measure.spoilt import spoilt
from levelfield.measure.steering import refuse_contradictions
from levelfield.plan.finished import WHOLE, whole
from levelfield.plan.future import pulled_back
from levelfield.records import HASHED, add_measurements, write_json
from levelfield.study.protocol import Case, digest
from levelfield.training.said import Said

LINE = "levelfield take: "
"""How the one line begins that a take says of an error."""
SHARE = 0.9
"""Of the granted minutes that all takes together may need: a scheduler ends a run that needs more, finished takes and all."""


class EndedFromOutside(UserError):
    """The job was told to end: no take stands for it."""


class TakeError(UserError):
    """A take ended without its record; `log_tail`: what it said last."""

    def __init__(self, told: str, log_tail: str):
        super().__init__(told)
        self.log_tail = log_tail


def arguments(parser: argparse.ArgumentParser) -> None:
    run_arguments(parser)
    parser.add_argument(
        "--parity", type=Path, nargs="?", metavar="JSON", help="parity/<case>.json: a case that failed it is not timed"
    )
    parser.add_argument("--retakes", type=int, default=0, help="how often a spoilt run is taken again, at most")
    parser.add_argument("--minutes", type=int, help=f"what a run is granted; after {HANG} times as long it is ended as hung")


def run_arguments(parser: argparse.ArgumentParser) -> None:
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


def run(args: argparse.Namespace) -> None:
    case = Case.read(args.case)
    failure = args.out / "failure.json"
    began, interrupted = time.monotonic(), failure.exists()
    record = {
        "study": args.study,
        "case": case.name,
        "backend": case.backend,
        "departures": list(case.departures),
        "seed": args.seed,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    where, before = f"process {os.getpid()} on {socket.gethostname()}", _version(args.out / "run.json")
    print(f"{case.name}, seed {args.seed}: {where}", flush=True)
    # until it ends, a run counts as failed: one that is killed can say nothing any more
    write_json(failure, record | {"error": f"{where} did not end: killed (time, memory, cancelled), or still running"})
    try:
        if args.parity:
            refuse_unproven(json.loads(args.parity.read_text(encoding="utf-8")))
        refuse_contradictions(os.environ, case)
        digest_in_use(args.image)
        threads = args.threads = confine(case.device, args.threads)
        with hold_devices(case.device, case.protocol.devices) as gpus:
            if _version(args.out / "run.json") != before and whole(args.out) and _asked_for(args.out, args, case):
                # one that a killed Snakemake had left behind held the device until now, and has ended well
                print(f"{case.name}, seed {args.seed}: finished meanwhile by a job of an earlier start: it stands", flush=True)
            else:
                if args.calibration and len(gpus) == 1:
                    calibrate_first(args.calibration, case, threads, gpus[0])
                takes(args, case, failure, interrupted)
        made_from = {
            args.data,
            args.start.parent,
            args.case.parent,
            *(file.parent for file in (args.parity, args.image) if file),
        }
        for folder in made_from:
            pulled_back(folder)  # the clock may have been set back while it trained
    except BaseException as error:
        told = _told_in(failure)
        if not told.get("log_tail"):  # else the take itself said what went wrong
            said = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
            told = record | {"error": said, "log_tail": getattr(error, "log_tail", None), "for_good": for_good(error)}
        try:
            write_json(failure, told | {"seconds": time.monotonic() - began})
        except OSError as full:  # as on a full disk: the first cause is the one to be told
            print(f"{failure}: cannot be written: {full.strerror}", file=sys.stderr, flush=True)
        raise
    failure.unlink(missing_ok=True)  # a job that outlived its Snakemake may have ended it already
    drop_aside(args.out)


def drop_aside(folder: Path) -> None:
    """Deletes the copy of the take that stands: while the job could be ended, it would have been all that was left of the training."""
    shutil.rmtree(folder / "takes" / str(_told_in(folder / "run.json").get("take")), ignore_errors=True)
    with contextlib.suppress(OSError):
        (folder / "takes").rmdir()


def for_good(error: BaseException) -> bool:
    """Whether another attempt would end the same: the program says what is wrong, nothing ended it, and no machine is at fault, of which
    a cluster has others. `retries` go by it."""
    return isinstance(error, UserError) and not isinstance(error, TakeError | EndedFromOutside | NodeError)


def _told_in(file: Path) -> dict[str, Any]:
    """What a `failure.json` or `run.json` says; nothing where another job of this run has taken it away, or it is damaged."""
    try:
        told = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return told if isinstance(told, dict) else {}


def calibrate_first(folder: Path, case: Case, threads: int, gpu: Gpu) -> None:
    """Makes the GPU's calibration where there is none yet, before a framework takes most of its memory, as some do by default.

    What fails here is tried again by the take, which records why. Raises NodeError where the measurement hangs and cannot be
    killed: nothing can be timed beside it.
    """
    try:
        calibrate.of_this_machine(folder, case.protocol, threads, gpu)
    except NodeError:
        raise
    except Exception as error:  # the run does not hang on it
        print(f"{case.name}: the calibration failed: {type(error).__name__}: {error}", flush=True)


def takes(args: argparse.Namespace, case: Case, failure: Path, interrupted: bool = False) -> None:
    """Takes of the run until one is not spoilt or none is left; the last one stays, the others go to `takes/`.

    None is begun that the granted minutes may not bear, and one that fails costs itself alone: the take before it stands.
    interrupted: an earlier job of this run did not end by itself: its spoilt takes count.
    """
    most, began, earlier = 1 + args.retakes, time.monotonic(), _earlier_takes(args, case) if interrupted else []
    if not earlier:
        shutil.rmtree(args.out / "takes", ignore_errors=True)  # of an earlier making of this run
    kept = earlier[-1] if earlier else None
    if kept and (len(earlier) >= most or not _reasons(kept)):
        _move(kept, args.out)
        record = json.loads((args.out / "run.json").read_text(encoding="utf-8"))
        if "kernel" not in record["measurements"]:
            add_measurements(args.out / "run.json", extras_failed="its job was ended after the training")
        print(
            f"{case.name}, seed {args.seed}: take {len(earlier)} had finished before its job was ended: it stands", flush=True
        )
        return
    for number in range(len(earlier) + 1, most + 1):
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
        reasons = _reasons(args.out)
        if not reasons:
            return
        spent, made = time.monotonic() - began, number - len(earlier)
        borne = not args.minutes or spent * (made + 1) / made < SHARE * args.minutes * 60
        again = number < most and borne
        then = f"taken again ({number + 1} of at most {most})" if again else "kept as it is, no claim rests on it"
        print(f"{case.name}, seed {args.seed}, take {number} is spoilt: {'; '.join(reasons)}: {then}", flush=True)
        if not again:
            return
        kept = args.out / "takes" / str(number)
        kept.mkdir(parents=True, exist_ok=True)
        _move(args.out, kept)


def _reasons(folder: Path) -> list[str]:
    """What spoilt the take in a folder, if anything did."""
    record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    return spoilt(record["checks"], record["measurements"])


def _earlier_takes(args: argparse.Namespace, case: Case) -> list[Path]:
    """The whole takes that an interrupted job of this run left, in order; none where one is not of this run as it is asked for,
    which is said."""
    folders = [args.out / "takes" / str(number) for number in range(1, 2 + args.retakes)]
    found = [folder for folder in folders if whole(folder)]
    if found == folders[: len(found)] and all(_asked_for(folder, args, case) for folder in found):
        return found
    numbers = ", ".join(folder.name for folder in found)
    print(
        f"{case.name}, seed {args.seed}: what an earlier job left of take {numbers} does not count: one before it is not whole, "
        "or one is of another program, protocol, data, start, image, device or number of threads",
        flush=True,
    )
    return []


def _asked_for(folder: Path, args: argparse.Namespace, case: Case) -> bool:
    """Whether the record in `folder` is of this run as it is asked for now: program, protocol, data, start and image. Of which
    commit it is, it says itself: a run that has finished stands, too, whatever is committed after it."""
    start = Path(f"{args.start}.sha256")
    wanted = {
        "backend": case.backend,
        "departures": list(case.departures),
        "protocol_sha256": digest(case.protocol),
        "data_sha256": load_description(args.data)["sha256"],
        "image": digest_in_use(args.image),
    }
    device = case.device if case.device != "auto" else "cuda" if visible() else "cpu"
    on = {"threads": args.threads, "device": device}
    wanted |= {"start_sha256": start.read_text(encoding="ascii").split()[0]} if start.is_file() else {}
    try:
        record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        sums = {name: sha256((folder / file).read_bytes()).hexdigest() for name, file in HASHED.items() if record.get(name)}
    except (OSError, ValueError, AttributeError, RecursionError):  # cut off, as by a machine that died, or no record at all
        return False
    machine = record.get("machine") or {}
    return all(record.get(name) == value for name, value in (wanted | sums).items()) and all(
        machine.get(name) == value for name, value in on.items() if name in machine
    )


def _move(source: Path, target: Path) -> None:
    for name in WHOLE:
        (source / name).replace(target / name)


def take(args: argparse.Namespace, number: int, failure: Path) -> None:
    """One take in a process of its own; raises TakeError naming how it ended, where it did not end well.

    One that ends badly after its record was written stands: what came after the training costs itself alone.
    """
    given = {"study": args.study, "case": args.case, "seed": args.seed, "data": args.data, "start": args.start}
    given |= {"threads": args.threads, "calibration": args.calibration, "image": args.image, "out": args.out, "take": number}
    given |= {"job-pid": os.getpid()}
    options = [text for name, value in given.items() if value is not None for text in (f"--{name}", str(value))]
    command, file = [sys.executable, "-X", "faulthandler", "-m", "levelfield", "take", *options], args.out / "run.json"
    before = _version(file)
    # from its start, since the C library reads some of it then
    environment = os.environ | registry.backend(Case.read(args.case).backend).environment
    process: subprocess.Popen[bytes] | None = None
    # before it is started: a job that is told to end meanwhile would leave it behind
    for sign in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(sign, lambda sign, _: _ended_from_outside(process, sign))
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment)
    assert isinstance(process.stdout, BufferedReader)
    said = Said(process.stdout)
    limit, code = HANG * args.minutes * 60 if args.minutes else None, None
    try:
        code = process.wait(limit)
    except subprocess.TimeoutExpired:
        pass
    finally:
        if process.poll() is None:
            killed(process)
        last = said.tail()
    written = _version(file) != before
    ended = None if code == 0 and written else _ended(number, code, args.minutes, failure, last)
    if process.poll() is None:
        ended = f"{ended}, and it cannot be killed: a call into the driver hangs: restart the machine{ELSEWHERE}"
    if ended and written:
        record = add_measurements(file, extras_failed=ended)
        print(f"{record['case']}, seed {args.seed}: after the training {ended}, and the run stands", flush=True)
    elif ended:
        raise TakeError(ended, last)


def _version(file: Path) -> tuple[int, int] | None:
    """Another one whenever the file was written whole; None where it is not there."""
    if not file.exists():
        return None
    found = file.stat()
    return found.st_ino, found.st_mtime_ns


def _ended(number: int, code: int | None, minutes: int | None, failure: Path, last: str) -> str:
    """How a take ended that did not end well. code: None where it hung; last: what it said last."""
    if code is None:
        assert minutes is not None
        return (
            f"take {number} did not end within {HANG * minutes} minutes, {HANG} times what a run is granted: it hangs, or "
            "the machine is far too slow: see the run's log"
        )
    if code < 0:
        return f"take {number} was ended by {_signal(-code)}: the last lines of the run's log say where"
    told = _told_in(failure)
    if told.get("log_tail"):
        return str(told["error"])
    lines = [line for line in last.splitlines() if line.startswith(LINE)]  # where it could not write any more
    return (
        lines[-1].removeprefix(LINE) if lines else f"take {number} ended with exit code {code} and no record: see the run's log"
    )


def _ended_from_outside(process: subprocess.Popen[bytes] | None, sign: int) -> NoReturn:
    """process: the take; None where it was still being started: it ends by itself, as its job does."""
    if process:
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


def refuse_unproven(parity: dict[str, Any]) -> None:
    """Raises UserError for a matched case that missed a bound of parity: what is not the same program is not timed."""
    if parity["matched"] and parity["passed"] is False:
        raise UserError(f"failed parity, not timed: {parity['case']} missed {'; '.join(parity['missed'])}")
