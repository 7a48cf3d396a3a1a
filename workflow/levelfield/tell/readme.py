"""The README of a study: what was compared on what, the leaderboard, two figures, and where the rest lies."""

from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from levelfield.data.origin import is_imdb, kind_of
from levelfield.records import write_whole
from levelfield.study.asked import answer_in, linked
from levelfield.tell.kept import LINES
from levelfield.tell.report.verdict import measured_on, verdict
from levelfield.tell.results import Results
from levelfield.tell.tables import make_tables, write_tables
from levelfield.tell.tables.table import Table, markdown_text


def write_readme(folder: Path) -> None:
    """Writes `tables/` and `README.md` of the collected study in `folder`."""
    results = Results.read(folder)
    tables = make_tables(results)
    write_tables(tables, results.folder)
    write_whole(results.folder / "README.md", readme(results, tables).encode())


def readme(results: Results, tables: dict[str, Table]) -> str:
    """The README's Markdown; all text of configs and logs in it is escaped."""
    environment = Environment(
        loader=PackageLoader("levelfield", "tell"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["text"] = markdown_text
    environment.filters["linked"] = linked
    return environment.get_template("readme.md.j2").render(
        results=results,
        study=results.study,
        answer=answer_in(results.folder),
        data=results.data,
        synthetic=kind_of(results.data) == "synthetic",
        imdb=is_imdb(results.data),
        verdict=verdict(results, tables),
        measured_on=measured_on(results),
        tables=tables,
        manual=manual(results.folder),
        kept=(results.folder / LINES).is_file(),
    )


def manual(folder: Path) -> str | None:
    """`results/README.md` as seen from the study's folder; None where the study stands somewhere else."""
    up = [parent.name for parent in folder.resolve().parents]
    return "../" * (up.index("results") + 1) + "README.md" if "results" in up else None
