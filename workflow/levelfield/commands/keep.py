"""Keeps a study's records beside the code: all but weights, starts and sequences, and tells it anew from them."""

import shutil
from pathlib import Path

from levelfield.commands import tell
from levelfield.errors import UserError

RECORDS = (
    "study.json",
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


def run(args):
    if args.folder.exists():
        raise UserError(f"{args.folder} is there already: delete it first if it is to be replaced")
    found = [file for pattern in RECORDS for file in sorted(args.source.glob(pattern))]
    if not found:
        raise UserError(f"{args.source} holds no records of a study: name a folder results/<study>")
    for file in found:
        kept = args.folder / file.relative_to(args.source)
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, kept)
    tell.run(args)
