"""Draw a study's figures as SVG and PNG."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from levelfield.tell.figures import write_figures


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="the study's folder, such as results/article")


def run(args: Namespace) -> None:
    for path in write_figures(args.folder):
        print(path)
