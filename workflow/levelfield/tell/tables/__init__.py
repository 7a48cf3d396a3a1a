"""The tables of a study: which there are, and writing them as CSV, Markdown, LaTeX and Parquet."""

from collections.abc import Callable
from pathlib import Path

from levelfield.tell.results import Results
from levelfield.tell.tables import comparisons, devices, leaderboard, learning, parting, proof, speed, takes, unfinished
from levelfield.tell.tables.table import Table

TABLES: dict[str, Callable[[Results], Table | None]] = {
    "leaderboard": leaderboard.leaderboard,
    "unfinished": unfinished.unfinished,
    "takes": takes.takes,
    "comparisons": comparisons.comparisons,
    "training": learning.training,
    "validation": learning.validation,
    "published": learning.repeated,
    "parting": parting.parting,
    "performance": speed.performance,
    "devices": devices.several_devices,
    "departures": comparisons.departures,
    "parameters": proof.parameters,
    "parity": proof.parity,
    "gradients": proof.gradients,
}
"""In the reader's order; those that a study has no figures for are None."""
FORMER = ("article",)
"""Names that tables had in earlier versions: their files go."""


def make_tables(results: Results) -> dict[str, Table]:
    """The tables that the study has figures for, by name."""
    found = {name: make(results) for name, make in TABLES.items()}
    return {name: table for name, table in found.items() if table is not None}


def write_tables(tables: dict[str, Table], folder: Path) -> None:
    """Writes `<folder>/tables/` and removes files there of tables that the study no longer has."""
    out = Path(folder) / "tables"
    for name in (*TABLES, *FORMER):
        if name in tables:
            tables[name].write(out)
            continue
        for old in out.glob(f"{name}.*"):
            old.unlink()
