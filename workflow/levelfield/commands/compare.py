"""Compare two studies, before and after. Exit code 0: no case is slower; 1: one is, or no longer finishes; 3: too few runs to tell."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from levelfield.commands.keep import refuse_pretended
from levelfield.errors import UserError
from levelfield.tell.changes import SESSION_SPREAD, Change, compare
from levelfield.tell.estimates import Estimate

FINE, SLOWER, CANNOT_TELL = 0, 1, 3
"""Exit codes; 2 is an error's."""


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("before", type=Path, metavar="results/<before>")
    parser.add_argument("after", type=Path, metavar="results/<after>")
    parser.add_argument(
        "--threshold", type=float, default=0.05, help="smallest growth of a time that counts (0.05: 5 %%, the default)"
    )
    parser.add_argument(
        "--session-spread",
        type=float,
        default=SESSION_SPREAD,
        metavar="SHARE",
        help=f"how far a time is another in another session of this machine (standard deviation; {SESSION_SPREAD:g}, the default, is "
        "what two sessions of one host had); where both studies have several sessions, these tell it",
    )
    parser.add_argument("--anyway", action="store_true", help="compare also what differs in protocol, data or machine")


def run(args: Namespace) -> int:
    if args.threshold < 0:
        raise UserError(f"--threshold {args.threshold}: give a share of 0 or more, such as 0.05 for 5 %")
    if not 0 <= args.session_spread < 1:
        raise UserError(f"--session-spread {args.session_spread}: give a share from 0 to 1, such as 0.05 for 5 %")
    for folder in (args.before, args.after):
        refuse_pretended(folder)
    found, console = compare(args.before, args.after, args.anyway, args.session_spread), Console(highlight=False)
    grid = Grid(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("case", "time, before = 1", "accuracy, points", "clean runs", "verdict"):
        grid.add_column(heading)
    slower = [change.case for change in found.changes if change.slower(args.threshold)]
    for change in found.changes:
        time, accuracy = _interval(change.time, ".2f"), _interval(change.accuracy, "+.2f", 100)
        runs = " and ".join(f"{clean} of {number}" for clean, number in zip(change.clean, change.runs, strict=True))
        cells = [change.case, time, accuracy, runs, _verdict(change, args.threshold)]
        grid.add_row(*map(Text, cells), style="red" if change.case in slower else None)
    console.print(Text(f"{args.after} against {args.before}"))
    for case, what in found.lost.items():
        console.print(Text(f"{case} no longer finishes: {what}", style="red"))
    if found.changes:
        console.print(grid)
        console.print(
            Text(
                "Times: clean runs of each study, unpaired; each end of an interval holds, for all cases together, in 95 of 100 "
                f"comparisons{_of_sessions(found.changes)}. Accuracies: paired by seed, 95 % intervals."
            )
        )
    for change in found.changes:
        if change.versions:
            console.print(Text(f"{change.case}: {change.versions}"))
        if change.host:
            several = " and ".join(dict.fromkeys(change.machines))
            console.print(Text(f"{change.case}: ran on {several}: the time is of host {change.host} alone"))
        elif change.machines[0] != change.machines[1]:
            console.print(
                Text(f"{change.case}: {change.machines[0]} → {change.machines[1]}: another machine, not the program alone")
            )
    for case, folder in found.alone.items():
        console.print(Text(f"{case}: finished runs in {folder} alone, not compared"))
    if found.lost or slower:
        return SLOWER
    unknown = [change for change in found.changes if not change.fine(args.threshold)]
    if unknown:
        asked = [change.needed(args.threshold) for change in unknown]
        needed = [count for count in asked if count is not None]
        sessions = any(change.by_sessions or change.session_spread for change in unknown)
        what = "sessions (`sessions:` in the config asks for them)" if sessions else "clean runs"
        number = (
            f"at this spread {max(needed):,} {what} in each study would show a time that stays the same"
            if len(needed) == len(asked)
            else f"more {'sessions' if sessions else 'runs'} would tell"
        )
        names = ", ".join(change.case for change in unknown)
        console.print(Text(f"Not enough to say of {names}: {number}, or a larger --threshold"))
        return CANNOT_TELL
    return FINE


def _of_sessions(changes: list[Change]) -> str:
    """What the intervals take for the spread from session to session."""
    spread = max(change.session_spread for change in changes)
    if spread:
        return (
            f", if times vary by {100 * spread:g} % (standard deviation) from one session of the machine to another: --session-spread; "
            "two sessions or more in each study would tell it themselves"
        )
    return ", over the sessions of each" if any(change.by_sessions for change in changes) else ", if sessions do not differ"


def _interval(found: Estimate, form: str, scale: float = 1) -> str:
    if found.value is None:
        return ""
    value = f"{found.value * scale:{form}}"
    if found.low is None or found.high is None:
        return value
    return f"{value} [{found.low * scale:{form}}, {found.high * scale:{form}}]"


def _verdict(change: Change, threshold: float) -> str:
    if change.time.high is None:
        return "cannot tell: too few clean runs"
    if change.slower(threshold):
        return f"slower by more than {100 * threshold:g} %"
    if not change.fine(threshold):
        return "cannot tell"
    return "faster" if change.time.high < 1 else f"not slower by {100 * threshold:g} %"
