"""Collect a study's records into runs.parquet, epochs.parquet and steps.parquet."""

from pathlib import Path

from levelfield.collect import collect


def arguments(parser):
    parser.add_argument("study", type=Path, help="folder of the study, such as results/article")


def run(args):
    counts = collect(args.study)
    print(f"{args.study}: " + ", ".join(f"{count} runs {status}" for status, count in counts.items() if count))
