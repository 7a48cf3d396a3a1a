"""Draw a study's figures as SVG and PNG."""

from pathlib import Path

from levelfield.tell.figures import write_figures


def arguments(parser) -> None:
    parser.add_argument("folder", type=Path, help="the study's folder, such as results/article")


def run(args) -> None:
    for path in write_figures(args.folder):
        print(path)
