"""The collected studies of a folder, what each one says, and tables over all of them: records, machines, versions."""

import json
import os
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from levelfield.commit import shortened
from levelfield.study.asked import answer_in
from levelfield.tell.report.verdict import measured_on, verdict
from levelfield.tell.results import Results, kind_of_machine
from levelfield.tell.tables import make_tables
from levelfield.tell.tables.families import smallest_shown
from levelfield.tell.tables.groups import finished
from levelfield.tell.tables.table import Table


@dataclass(frozen=True)
class Told:
    """A study as the page over all of them tells it."""

    results: Results
    runs: pd.DataFrame
    """Its finished runs, as `tables.groups.finished` has them."""
    board: pd.DataFrame
    """The rows of its leaderboard."""
    smallest: list[float | None]
    """The smallest ratio of times that each family could show."""
    place: str
    """Its folder as a link from the page."""
    verdict: list[str]
    measured_on: str
    answer: str | None
    label: str
    """Its name; where another study is called so, too, its folder."""


def collected(folder: Path) -> Iterator[Path]:
    """The folders of collected studies in `folder`, in order; it goes into no study, whose runs may be thousands of files."""
    for place, folders, files in os.walk(folder):
        if "runs.parquet" in files:
            folders.clear()
            yield Path(place)
        folders[:] = sorted(name for name in folders if not name.startswith("."))


def told(folder: Path, page: Path) -> Told:
    """What the study in `folder` says; raises UserError where it cannot be read. page: the folder of the page that links to it."""
    results = Results.read(folder)
    tables = make_tables(results)
    return Told(
        results,
        finished(results),
        tables["leaderboard"].data,
        smallest_shown(results),
        Path(os.path.relpath(folder, page)).as_posix(),
        verdict(results, tables),
        measured_on(results),
        answer_in(folder),
        results.study.study,
    )


def apart(studies: list[Told]) -> list[Told]:
    """The same, each with a label of its own."""
    names = Counter(one.label for one in studies)
    return [replace(one, label=one.place) if names[one.label] > 1 else one for one in studies]


def records(studies: list[Told]) -> Table:
    """A row a study: what was trained on what, how many of its runs bear claims, and the smallest ratio that they could show."""
    rows = []
    for one in studies:
        results, runs = one.results, one.runs
        rows.append(
            {
                "study": one.label, "models": ", ".join(results.by_model), "texts": results.data["title"],
                "sequences": results.data["train_sequences"], "machine": " and ".join(results.machines),
                "cases": len(results.cases), "runs": len(runs), "planned": len(results.runs), "clean": int(runs["clean"].sum()),
                "taken_again": int((runs["take"] > 1).sum()), "blocks": runs.groupby(["block", "session"]).ngroups,
                "sessions": runs["session"].nunique(), "hosts": _counted(runs["host_id"]),
                "smallest_ratio": _ratios(one.smallest),
                "commit": ", ".join(sorted(set(map(shortened, runs["commit"].dropna())))) or "not recorded",
            }
        )  # fmt: skip
    data = pd.DataFrame(rows)
    shown = data.drop(columns=["runs", "planned"])
    shown["sequences"] = data["sequences"].map("{:,}".format)
    shown.insert(6, "runs", [f"{row.runs} of {row.planned}" for row in data.itertuples()])
    shown = shown.rename(columns={"taken_again": "taken again", "smallest_ratio": "smallest ratio it could show"})
    notes = [
        "Clean: runs that noise, pauses and the study's own checks leave standing; claims of speed rest on them alone. Taken again: runs "
        "whose first take was spoilt, by criteria blind to what it learnt.",
        "Smallest ratio: of times, that the study would show in 4 of 5 such studies at the median spread of its pairs, from family to family; "
        "empty where it has too few clean pairs to claim anything.",
    ]
    return Table("records", "The records", data, shown, notes)


def _ratios(found: list[float | None]) -> str:
    """`1.05`, or over several families `1.05 to 1.31`."""
    known = [ratio for ratio in found if ratio is not None]
    return " to ".join(dict.fromkeys([f"{min(known):.2f}", f"{max(known):.2f}"])) if known else ""


def machines(studies: list[Told]) -> Table:
    """A row a kind of machine: how many hosts of it there were, how often one was started, and what ran on it."""
    parts = [one.runs.assign(study=one.label, machine=kind_of_machine(one.runs)) for one in studies]
    runs = pd.concat(parts, ignore_index=True)
    rows = [
        {
            "machine": machine, "hosts": _counted(mine["host_id"]), "boots": _counted(mine["boot"]), "runs": len(mine),
            "studies": ", ".join(dict.fromkeys(mine["study"])), "system": "; ".join(sorted(mine["system"].unique())),
        }
        for machine, mine in runs.groupby("machine")
    ]  # fmt: skip
    data = pd.DataFrame(rows)
    return Table("machines", "Machines", data, data)


def _counted(column: pd.Series) -> str:
    """How many different ones there are; earlier records had none."""
    if column.isna().all():
        return "not recorded"
    return f"{column.nunique()}{', and some not recorded' if column.isna().any() else ''}"


def versions(studies: list[Told]) -> Table:
    """A row each version of a package that runs found: in which studies, and how many runs."""
    found: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for one in studies:
        for row in one.runs[["python", "versions"]].itertuples():
            found["Python", row.python].append(one.label)
            for package, version in json.loads(row.versions).items():
                found[package, version].append(one.label)
    rows = [
        {"package": package, "version": version, "runs": len(names), "studies": ", ".join(sorted(set(names)))}
        for (package, version), names in sorted(found.items(), key=lambda item: (item[0][0].lower(), item[0][1]))
    ]
    data = pd.DataFrame(rows, columns=["package", "version", "runs", "studies"])
    return Table("versions", "Versions", data, data)
