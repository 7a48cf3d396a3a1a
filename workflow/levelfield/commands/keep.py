"""Keeps a study's records beside the code, in few files: all but weights, starts and sequences; and tells it anew from them."""

import json
import shutil
from argparse import ArgumentParser, Namespace
from pathlib import Path

from levelfield.commands import tell
from levelfield.errors import UserError
from levelfield.measure.gpu import pretends
from levelfield.tell.kept import LINES, BrokenRecord, Records, keep

PLAIN = ("study.json", "answer.md", "data/data.json", "exchange.json", "exchange.csv")
"""What a person opens, kept as it is."""
AGAIN = ("steps.parquet", "figures/*.png", "tables/*.tex", "tables/*.parquet")
"""What `levelfield tell` makes from the rest within seconds, and what would be most of the bytes."""


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("source", type=Path, metavar="results/<study>")
    parser.add_argument("folder", type=Path, metavar="results/reference/<machine>/<study>")


def refuse_pretended(folder: Path) -> None:
    """Raises UserError where a run of the study in `folder` was made on a pretended GPU: it measured nothing."""
    records = Records(folder)
    for name in records.names("runs/*/*/run.json"):
        if what := _pretended(records, name):
            raise UserError(f"{folder / name}: {what}: a pretended GPU measured nothing, and its records stay where they are")


def _pretended(records: Records, name: str) -> str | None:
    """What of a record was pretended; None where nothing was, and where it cannot be read, which `collect` tells."""
    try:
        return pretends(json.loads(records.read(name))["machine"])
    except (BrokenRecord, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def run(args: Namespace) -> None:
    if args.folder.exists():
        raise UserError(f"{args.folder} is there already: delete it first if it is to be replaced")
    records = Records(args.source)
    runs = records.names("runs/*/*/run.json")
    if not runs and not (args.source / "study.json").is_file():
        raise UserError(f"{args.source} holds no records of a study: name a folder results/<study>")
    try:
        refuse_pretended(args.source)
        keep(args.source, args.folder)
        for name in PLAIN:
            if (args.source / name).is_file():
                (args.folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(args.source / name, args.folder / name)
        tell.run(args)
    except BrokenRecord as error:
        shutil.rmtree(args.folder, ignore_errors=True)
        raise UserError(f"{args.source}/{error}: it cannot be kept: delete it, or run `snakemake` again") from None
    except BaseException:  # as on a full disk: half of a study is none, and would stand in the way of the next try
        shutil.rmtree(args.folder, ignore_errors=True)
        raise
    for pattern in AGAIN:
        for file in args.folder.glob(pattern):
            file.unlink()
    files = [file for file in args.folder.rglob("*") if file.is_file()]
    size = sum(file.stat().st_size for file in files)
    print(f"{args.folder}: {len(files)} files, {size / 2**20:.1f} MiB; the records are in {LINES} and records.parquet")
