"""Nothing finished is replaced unasked, and one Snakemake at a time works on a study."""

import fcntl
import os
import socket
from base64 import urlsafe_b64encode
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from levelfield.errors import UserError

if TYPE_CHECKING:
    from snakemake.jobs import Job, Reason

TOLD = 3
"""Of what would be made anew so much is named; of more the number is told."""
LOCK = ".running"
WHOLE = ("run.json", "epochs.csv", "steps.npz", "weights.npz")
"""What a run leaves that has finished, its `failure.json` gone."""
INCOMPLETE = Path(".snakemake/incomplete")
"""Where Snakemake marks what a job has begun to write: a file each, named by its path in base64 (persistence/file.py, 9.27)."""
LONGEST_NAME = 255
"""Of a file, where the file system does not tell."""


def whole(folder: Path) -> bool:
    """Whether all files of a finished run, or of a take of it, lie in a folder."""
    return all((folder / name).is_file() for name in WHOLE)


def keep_whole(records: Iterable[Path]) -> None:
    """Takes Snakemake's mark of an incomplete file from runs that are whole: their job ended well after its Snakemake was killed, and
    would be made anew with `--rerun-incomplete`. records: each run's `run.json`, as a rule names it."""
    for record in records:
        if whole(record.parent) and not record.with_name("failure.json").exists():
            for name in WHOLE:
                _mark(str(record.with_name(name))).unlink(missing_ok=True)


def _mark(file: str) -> Path:
    """Where Snakemake marks a file as incomplete; a name longer than the file system takes is cut into folders."""
    name = urlsafe_b64encode(file.encode()).decode()
    size = (os.pathconf(INCOMPLETE, "PC_NAME_MAX") if INCOMPLETE.is_dir() else 0) or LONGEST_NAME
    parts = [name[first : first + size - 1] for first in range(0, len(name), size - 1)]
    return INCOMPLETE.joinpath(*(f"@{part}" for part in parts[:-1]), parts[-1])


def refuse_to_replace(folder: str, jobs: "Iterable[tuple[Job, Reason]]") -> None:
    """Raises UserError where runs that have finished would be made anew though nobody asked for that by name.

    folder: of the study. jobs: all that Snakemake is about to run, each with its reason. What was forced on the command line was asked
    for, and what is made from it; what was cut off in the middle (`--rerun-incomplete`) had not finished.
    """
    jobs = list(jobs)
    forced = {str(file) for job, reason in jobs if reason.forced for file in job.output}
    anew = {
        str(job.output[0]): reason
        for job, reason in jobs
        if _finished(job)
        and not (reason.forced or reason.incomplete_output or forced & set(map(str, reason.updated_input_run)))
    }
    if not anew:
        return
    names = [file.removeprefix(f"{folder}/").removesuffix("/run.json").removesuffix(".done") for file in anew]
    told = ", ".join(names[:TOLD]) + (f" and {len(names) - TOLD} more" if len(names) > TOLD else "")
    raise UserError(
        f"{folder}: what has finished would be made anew ({told}), since "
        f"{_why(next(iter(anew.values())))}. Nothing was replaced. Four ways out: put back what changed; give the study another name; make "
        "them anew with `--config replace=runs`; or, where only a rule or a setting of it changed, keep them with `--rerun-triggers mtime`"
    )


def _finished(job: "Job") -> bool:
    """Whether a job is a run that is there, or a block all of whose runs are: of one that lacks some the Snakemake inside it judges."""
    if job.rule.name == "block":
        return all(Path(str(run)).exists() for run in job.params.runs)
    return bool(job.rule.name == "train" and Path(str(job.output[0])).exists())


def _why(reason: "Reason") -> str:
    """The first of Snakemake's reasons in words."""
    if reason.updated_input or reason.updated_input_run:
        files = sorted(map(str, {*reason.updated_input, *reason.updated_input_run}))
        return f"what they are made from is or will be another ({files[0]}: an edited config, or other images)"
    if reason.input_changed:
        return "they would be made from other files (containers, seeds or sizes of the config)"
    if reason.software_stack_changed:
        return "they would run in another container, or in none"
    if reason.params_changed:
        return "their settings changed"
    return "the rule that makes them changed" if reason.code_changed else f"Snakemake says: {reason}"


def take(folder: str) -> int:
    """Takes the study for this process, until it ends; raises UserError where another Snakemake works on it, and where no file
    can be had there to take it by.

    Two of them, were it from two checkouts that share `results`, would each make the other's runs anew.
    """
    place = Path(folder) / LOCK
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        lock = _opened(place)
    except OSError as error:
        raise UserError(_closed(place, error)) from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        who = os.read(lock, 200).decode(errors="replace").strip() or "another process"
        os.close(lock)
        raise UserError(f"{folder}: {who} works on this study: wait until it has ended, or end it") from None
    except OSError:  # a file system without locks
        return lock
    with suppress(OSError):  # a colleague's file, or a full disk: it is taken all the same
        os.ftruncate(lock, 0)
        os.write(lock, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
    return lock


def _opened(place: Path) -> int:
    """Opens the file by which a study is taken; a colleague's, who alone may write it, can be read, and a lock needs no more."""
    try:
        return os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except PermissionError as error:
        try:
            return os.open(place, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:  # it is not there, and may not be made: that is what is wrong
            raise error from None


def _closed(place: Path, error: OSError) -> str:
    """What is wrong with the place of a study's results, and the way out."""
    for part in (place, *place.parents):
        if os.path.islink(part) and not os.path.exists(part):
            there = f"is a link to {os.readlink(part)}, which cannot be found"
            return f"{part}: {there}: make it, have its disk mounted, or remove the link; then run the same again"
    return (
        f"{error.filename or place}: {error.strerror}: `results` must be a folder, or a link to one, in which you may write: "
        "ask its owner, make room, or work in a copy of your own; then run the same again"
    )
