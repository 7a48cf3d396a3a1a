"""Show a study's leaderboard in the terminal, and where the rest lies."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from levelfield.tell.report.verdict import measured_on, verdict
from levelfield.tell.results import Results
from levelfield.tell.tables import make_tables

COLUMNS = ("case", "rank", "machine", "seconds an epoch", "time, fastest = 1", "validation accuracy", "clean", "remarks")
"""Of the leaderboard, those that fit in 80 columns; the last one stands below, line by line."""


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="results/<study>")


def run(args: Namespace) -> None:
    results = Results.read(args.folder)
    tables, console = make_tables(results), Console(highlight=False)
    board = tables["leaderboard"]
    shown = board.shown[[name for name in COLUMNS if name in board.shown]]
    grid = Grid(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in shown.columns[:-1]:
        grid.add_column(Text(heading), no_wrap=heading in ("case", "seconds an epoch"))
    for row in shown.itertuples(index=False):
        grid.add_row(*[Text(str(cell)) for cell in row[:-1]])
    console.print(Text(board.title, style="bold"), grid)
    for row in shown.itertuples(index=False):
        if row[-1]:
            console.print(Text(f"{row[0]}: {row[-1]}", style="red"))
    console.print(Text(" ".join(verdict(results, tables))), Text(measured_on(results)), sep="\n")
    lies = {"report.html": "the whole page", "README.md": "the same for a code host", "tables": "and figures/: for papers"}
    console.print(*[Text(f"{results.folder / name}: {what}") for name, what in lies.items()], sep="\n")
