"""Make a collected study's tables and its README."""

from pathlib import Path

from levelfield.tell.readme import write_readme


def arguments(parser):
    parser.add_argument("folder", type=Path, metavar="results/<study>")


def run(args):
    write_readme(args.folder)
    print(f"{args.folder / 'README.md'} and {args.folder / 'tables'}: written")
