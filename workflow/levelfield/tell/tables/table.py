"""A table: figures for programs, text for people, and the four files that it is written to."""

import html
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from tabulate import tabulate

from levelfield.records import write_whole

SUFFIXES = ("csv", "md", "parquet", "tex")
Row = Any
"""A row as pandas' `itertuples` gives it: an attribute each column."""


@dataclass
class Table:
    """`data` has one figure a cell, units in the names of its columns; `shown` has the same as text under headings."""

    name: str
    title: str
    data: pd.DataFrame
    shown: pd.DataFrame
    notes: list[str] = field(default_factory=list)

    def write(self, folder: Path) -> None:
        """Writes `<name>.csv`, `.parquet` (figures), `.md` and `.tex` (text) into `folder`."""
        write_whole(folder / f"{self.name}.csv", self.data.to_csv(index=False).encode())
        write_whole(folder / f"{self.name}.parquet", self.data.to_parquet(index=False))
        write_whole(folder / f"{self.name}.md", self.markdown.encode())
        write_whole(folder / f"{self.name}.tex", self.latex.encode())

    @property
    def markdown(self) -> str:
        """Title, table and notes; text from configs and logs cannot become markup."""
        return "\n\n".join([f"### {markdown_text(self.title)}", self.body, *map(markdown_text, self.notes)]) + "\n"

    @property
    def body(self) -> str:
        """The Markdown table alone."""
        return _grid(self.shown, "pipe", markdown_text)

    @property
    def latex(self) -> str:
        """A `table` to `\\input`: plain LaTeX, no package needed beyond the inputenc of an old kernel."""
        # tabulate escapes LaTeX's own characters in the cells, but not in what stands around them
        tabular = _grid(self.shown, "latex", latin)
        notes = "".join(f"\n\n{latex_text(note)}" for note in self.notes)
        return (
            f"\\begin{{table}}\n\\caption{{{latex_text(self.title)}}}\n\\centering\\small\n{tabular}{notes}\n\\end{{table}}\n"
        )


def _grid(shown: pd.DataFrame, form: str, escape: Callable[[str], str]) -> str:
    rows = [[escape(str(cell)) for cell in row] for row in shown.itertuples(index=False)]
    align = ["left", *["right"] * (len(shown.columns) - 1)]
    for index, name in enumerate(shown.columns):
        if any(re.search(r"[A-Za-z]{3}", str(cell)) for cell in shown[name]):
            align[index] = "left"
    headings = [escape(name) for name in shown.columns]
    grid: str = tabulate(rows, headings, tablefmt=form, disable_numparse=True, colalign=align if rows else None)
    return grid


def markdown_text(text: str) -> str:
    """One line in which nothing is markup: no tag, link, emphasis or cell border out of configs and logs."""
    return re.sub(r"([\\`*|]|\](?=[(\[]))", r"\\\1", html.escape(" ".join(text.split()), quote=False))


def latin(text: str) -> str:
    """One line of the characters that every LaTeX sets, others as `?`."""
    return " ".join(text.split()).replace("–", "-").replace("−", "-").encode("latin-1", "replace").decode("latin-1")


def latex_text(text: str) -> str:
    """The same with LaTeX's own characters escaped."""
    marks = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": "$<$", ">": "$>$"}
    return re.sub(r"[\\~^<>&%$#_{}]", lambda found: marks.get(found[0], "\\" + found[0]), latin(text))


def spread(mean: float, deviation: float, digits: int, scale: float = 1.0) -> str:
    """`94.6 ± 0.5`; no spread where there is one seed, nothing where nothing was measured."""
    if pd.isna(mean):
        return ""
    text = f"{mean * scale:,.{digits}f}"
    return text if pd.isna(deviation) else f"{text} ± {deviation * scale:,.{digits}f}"


def second_digits(values: pd.Series) -> int:
    """Decimals that leave three digits of the shortest time: 94.6, 3.21, 0.512 seconds."""
    shortest = values.min()
    return 1 if not shortest < 10 else 2 if shortest >= 1 else 3


def number(value: float, digits: int, scale: float = 1.0) -> str:
    """A figure, or nothing where nothing was measured."""
    return "" if pd.isna(value) else f"{value * scale:,.{digits}f}"
