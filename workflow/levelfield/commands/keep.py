"""Keeps a study's records beside the code: all but weights, starts and sequences, and tells it anew from them."""

import json
import shutil
from pathlib import Path

from levelfield.commands import tell
from levelfield.errors import UserError
from levelfield.measure.gpu import PRETENDED

RECORDS = (
    "study.json",
    "answer.md",
    "data/data.json",
    "cases/*.json",
    "parity/*.json",
    "exchange/*.json",
    "exchange.*",
    "runs/*/*/run.json",
    "runs/*/*/epochs.csv",
    "runs/*/*/steps.npz",
    "runs/*/*/failure.json",
)


def arguments(parser):
    parser.add_argument("source", type=Path, metavar="results/<study>")
    parser.add_argument("folder", type=Path, metavar="results/reference/<machine>/<study>")


def _driver(run: Path) -> str:
    """The GPU driver that a record names; empty where it names none or cannot be read, which `collect` tells."""
    try:
        return json.loads(run.read_text(encoding="utf-8"))["machine"]["driver"] or ""
    except (ValueError, KeyError, TypeError):
        return ""


def run(args):
    if args.folder.exists():
        raise UserError(f"{args.folder} is there already: delete it first if it is to be replaced")
    found = [file for pattern in RECORDS for file in sorted(args.source.glob(pattern))]
    if not found:
        raise UserError(f"{args.source} holds no records of a study: name a folder results/<study>")
    for file in found:
        if file.name == "run.json" and (driver := _driver(file)).startswith(PRETENDED):
            raise UserError(f"{file}: driver {driver!r}: a pretended GPU measured nothing, and its records are not kept")
    try:
        for file in found:
            kept = args.folder / file.relative_to(args.source)
            kept.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, kept)
        tell.run(args)
    except BaseException:  # as on a full disk: half of a study is none, and would stand in the way of the next try
        shutil.rmtree(args.folder, ignore_errors=True)
        raise
