"""Compare two studies, before and after: exit code 1 if a case no longer finishes or became slower."""

from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from levelfield.errors import UserError
from levelfield.tell.changes import Change, compare
from levelfield.tell.estimates import NOT_ENOUGH, Estimate


def arguments(parser):
    parser.add_argument("before", type=Path, metavar="results/<before>")
    parser.add_argument("after", type=Path, metavar="results/<after>")
    parser.add_argument(
        "--threshold", type=float, default=0.05, help="slower by more than this share counts, if its interval does (0.05: 5 %%)"
    )
    parser.add_argument("--anyway", action="store_true", help="compare also what differs in protocol or data")


def run(args):
    if args.threshold < 0:
        raise UserError(f"--threshold {args.threshold}: give a share of 0 or more, such as 0.05 for 5 %")
    found, console = compare(args.before, args.after, args.anyway), Console(highlight=False)
    grid = Grid(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("case", "time, before = 1", "accuracy, points", "seeds", "verdict"):
        grid.add_column(heading)
    slower = [change.case for change in found.changes if change.slower(args.threshold)]
    for change in found.changes:
        time, accuracy = _interval(change.time, ".2f"), _interval(change.accuracy, "+.2f", 100)
        cells = [change.case, time, accuracy, str(change.time.pairs), _verdict(change, args.threshold)]
        grid.add_row(*map(Text, cells), style="red" if change.case in slower else None)
    console.print(Text(f"{args.after} against {args.before}, paired by seed, with 95 % intervals"))
    for case, what in found.lost.items():
        console.print(Text(f"{case} no longer finishes: {what}", style="red"))
    if found.changes:
        console.print(grid)
    for change in found.changes:
        if change.versions:
            console.print(Text(f"{change.case}: {change.versions}"))
        if change.machines[0] != change.machines[1]:
            console.print(
                Text(f"{change.case}: {change.machines[0]} → {change.machines[1]}: another machine, not the program alone")
            )
    for case, folder in found.alone.items():
        console.print(Text(f"{case}: finished runs in {folder} alone, not compared"))
    return 1 if found.lost or slower else 0


def _interval(found: Estimate, form: str, scale: float = 1) -> str:
    if found.value is None:
        return ""
    value = f"{found.value * scale:{form}}"
    return f"{value} [{found.low * scale:{form}}, {found.high * scale:{form}}]" if found.enough else value


def _verdict(change: Change, threshold: float) -> str:
    if not change.time.enough:
        return NOT_ENOUGH
    if change.slower(threshold):
        return "slower"
    if change.time.low > 1:
        return f"slower, within {100 * threshold:g} %"
    return "faster" if change.time.high < 1 else "no difference shown"
