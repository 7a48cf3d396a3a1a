"""The runs that did not finish, each with its reason, and the cases that were accepted as failing."""

from levelfield.tell.results import Results
from levelfield.tell.tables.table import Table

MOST_SHOWN = 200
"""Rows to read; the CSV has all of them."""


def unfinished(results: Results) -> Table | None:
    """A row each run that is planned and has not finished; None where all have, and none was accepted as failing."""
    data = results.runs.loc[results.runs["status"] != "finished", ["case", "seed", "status", "error", "accepted"]]
    accepted = results.study.accepted
    if data.empty and not accepted:
        return None
    shown = data.head(MOST_SHOWN).astype({"seed": str}).rename(columns={"accepted": "accepted as failing"})
    shown = shown.fillna("")
    if not accepted:
        shown = shown.drop(columns="accepted as failing")
    damaged = int(data["error"].str.startswith("damaged: ").fillna(False).sum())
    notes = [f"{damaged} damaged: they left records, and one of these is not what was written."] if damaged else []
    if len(data) > MOST_SHOWN:
        notes.append(f"The first {MOST_SHOWN} of {len(data):,}; the CSV has all.")
    finished = results.finished["case"].value_counts()
    for case, why in accepted.items():
        if count := int(finished.get(case, 0)):
            notes.append(
                f"{case} was accepted as failing ({why}), yet {count} of its runs finished: they count as any other's."
            )
    return Table("unfinished", f"Unfinished runs: {len(data):,} of {len(results.runs):,}", data, shown, notes)
