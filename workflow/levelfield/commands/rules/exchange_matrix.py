"""Puts the cases' evaluations of each other's weights into one matrix."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from levelfield.level.exchange import read, write_matrix


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("exchanged", type=Path, nargs="+", metavar="JSON", help="exchange/<case>.json, one a case")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where exchange.json and exchange.csv go")


def run(args: Namespace) -> None:
    found = write_matrix(args.out, [read(file) for file in args.exchanged])
    for name, row in found["accuracy"].items():
        cells = ", ".join(f"{case} {value:.4f}" for case, value in row.items())
        agrees = "agree" if found["agrees"][name] else f"differ by {found['accuracy_spread'][name]:.1e}"
        if None in found["loss"][name].values():
            agrees = "a loss is not finite"
        print(f"{name} trained: {cells}: {agrees}")
