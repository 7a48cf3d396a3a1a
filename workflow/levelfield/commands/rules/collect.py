"""Collect a study's records into runs.parquet, epochs.parquet and steps.parquet."""

from pathlib import Path

from levelfield.tell.collect import collect


def arguments(parser):
    parser.add_argument("folder", type=Path, metavar="results/<study>")


def run(args):
    counts = collect(args.folder)
    print(f"{args.folder}: " + ", ".join(f"{count} runs {status}" for status, count in counts.items() if count))
