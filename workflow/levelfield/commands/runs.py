"""List a study's runs, finished or not, and filter them."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from levelfield.errors import UserError
from levelfield.tell.kept import LINES
from levelfield.tell.outcomes import STATUS, load_study, outcomes


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="results/<study>")
    parser.add_argument("--case", help="only the runs of this case")
    parser.add_argument("--seed", type=int, help="only the runs with this seed")
    parser.add_argument("--status", choices=STATUS, help="only the runs that came to this")


def run(args: Namespace) -> None:
    study = load_study(args.folder)
    cases = [case.name for case in study.expanded]
    if args.case is not None and args.case not in cases:
        raise UserError(f"no case {args.case!r} in {args.folder}; there are {', '.join(cases)}")
    if args.seed is not None and args.seed not in study.seeds:
        raise UserError(f"no seed {args.seed} in {args.folder}; there are {', '.join(map(str, study.seeds))}")
    grid = Grid(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("case", "seed", "status", "train seconds", "validation accuracy", "error"):
        grid.add_column(heading, no_wrap=heading in ("case", "status"))
    for case, seed, status, error, record in outcomes(args.folder, study):
        asked = ((args.case, case.name), (args.seed, seed), (args.status, status))
        if any(wanted not in (None, found) for wanted, found in asked):
            continue
        figures = ["", ""]
        if record:
            accuracy = record.epochs[-1].validation_accuracy
            figures = [f"{record.run.times.train_seconds:.1f}", f"{accuracy:.4f}"]
        grid.add_row(*map(Text, [case.name, str(seed), status, *figures, error or ""]))
    Console(highlight=False).print(grid)
    where = LINES if (args.folder / LINES).is_file() else "runs/<case>/seed-<seed>/"
    print(f"{grid.row_count} of {len(study.runs)} runs; their records are in {args.folder}/{where}")
