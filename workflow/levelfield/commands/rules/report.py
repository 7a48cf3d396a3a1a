"""Make a study's page, one file that opens anywhere, and its README."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from levelfield.tell.report.render import write_report


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="results/<study>")


def run(args: Namespace) -> None:
    print(write_report(args.folder))
