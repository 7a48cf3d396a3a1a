"""Tells what a study has so far: collects its records and makes tables, figures and page, failed and missing runs as such."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from levelfield.commands.rules import collect, figures, report, tables


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="results/<study>")


def run(args: Namespace) -> None:
    for step in (collect, tables, figures, report):
        step.run(args)
