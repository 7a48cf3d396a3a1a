"""Make a collected study's tables and its README."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from levelfield.tell.readme import write_readme


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="results/<study>")


def run(args: Namespace) -> None:
    write_readme(args.folder)
    print(f"{args.folder / 'README.md'} and {args.folder / 'tables'}: written")
