"""Tables of learning: training and validation by epoch beside what was published, and a published comparison repeated bug for bug."""

from typing import Any

import pandas as pd

from levelfield.data.origin import is_imdb
from levelfield.study import published
from levelfield.study.published import Publication
from levelfield.tell.results import Results
from levelfield.tell.tables.groups import by_seeds
from levelfield.tell.tables.table import Table, number, spread


def training(results: Results) -> Table:
    """Loss, accuracy and seconds of training by epoch, each batch measured before its update."""
    note = "Training figures are means over the epoch's sequences, each batch measured before its own update. Seconds: of all runs, clean or not."
    return _by_epoch(results, "train", "Training", note)


def validation(results: Results) -> Table:
    """Loss and accuracy of validation after each epoch."""
    return _by_epoch(results, "validation", "Validation", "Measured after each epoch, on all validation sequences.")


def comparable(results: Results, publication: Publication) -> bool:
    """Whether this study trained and validated on the publication's sequences, so that its figures may stand beside these."""
    fewest = min(results.data["train_sequences"], results.data["validation_sequences"])
    return is_imdb(results.data) and bool(fewest >= publication.sequences)


def _by_epoch(results: Results, part: str, word: str, note: str) -> Table:
    """A row each case and epoch: mean and spread over the seeds, and what was published and what that corrects to."""
    figures = [f"{part}_loss", f"{part}_accuracy"]
    timed = ["train_seconds"] if part == "train" else []
    data = by_seeds(results.epochs, ["case", "epoch"], figures + timed)
    publication = published.of(results.study.expanded)
    sides = _sides(results, publication)
    for figure in figures:
        printed = [_printed(publication, sides.get(row.case), figure, row.epoch) for row in data.itertuples()]
        data[f"published_{figure}"] = pd.Series([one for one, _ in printed], dtype=float)
        data[f"published_corrected_{figure}"] = pd.Series([other for _, other in printed], dtype=float)
    shown = {"case": data["case"], "epoch": data["epoch"]}
    for figure in ("loss", "accuracy"):
        name = f"{part}_{figure}"
        shown[figure] = [spread(mean, sd, 4) for mean, sd in zip(data[name], data[f"{name}_sd"], strict=True)]
        if data[f"published_{name}"].notna().any():
            shown[f"published {figure}"] = [number(value, 4) for value in data[f"published_{name}"]]
        if not data[f"published_{name}"].equals(data[f"published_corrected_{name}"]):
            shown[f"corrected {figure}"] = [number(value, 4) for value in data[f"published_corrected_{name}"]]
    for name in timed:
        shown["seconds"] = [spread(mean, sd, 3) for mean, sd in zip(data[name], data[f"{name}_sd"], strict=True)]
    shown["seeds"] = data["seeds"]
    notes = [note]
    if publication and any(set(figures) & set(printed) for printed in publication.reported.values()):
        notes += published_notes(results, publication, part == "train")
    name = "training" if part == "train" else part
    return Table(name, f"{word} by epoch: {results.context}", data, pd.DataFrame(shown), notes)


def _sides(results: Results, publication: Publication | None) -> dict[str, str]:
    """The side of the publication that each case stands beside, where the corpus is its own."""
    if publication is None or not comparable(results, publication):
        return {}
    sides = {case.name: publication.side_of(case) for case in results.study.expanded}
    return {case: side for case, side in sides.items() if side}


def _printed(publication: Publication | None, side: str | None, figure: str, epoch: int) -> tuple[float | None, float | None]:
    """What was published of a side's figure after an epoch, and what that corrects to."""
    if publication is None or side is None:
        return None, None
    return publication.reported[side].get(figure, {}).get(epoch), publication.corrected(side, figure).get(epoch)


def published_notes(results: Results, publication: Publication, training: bool = True) -> list[str]:
    """What stands in the way of reading published figures beside this study's. training: whether the table has such figures."""
    if not comparable(results, publication):
        return [
            f"The published figures are of {publication.sequences:,} training and as many validation sequences of IMDB and are left out: "
            f"this study had {results.data['train_sequences']:,} and {results.data['validation_sequences']:,} of {results.data['corpus']}."
        ]
    said = [f"Published: {publication.reference}. {publication.notes}"]
    if training and publication.means_so_far:
        sides = " and ".join(publication.means_so_far)
        said.append(f"Corrected: later epochs' training figures for {sides} are means over all epochs so far, undone here.")
    return [" ".join(said)]


def repeated(results: Results) -> Table | None:
    """A publication's figures, as its programs reproduce them, corrected, and matched; None where no case repeats one."""
    publication = published.of(results.study.expanded)
    if publication is None or not any(publication.repeats(case) for case in results.study.expanded):
        return None
    data = pd.DataFrame(_repeated_rows(results, publication))
    undone = bool(publication.means_so_far)
    shown = pd.DataFrame(
        {
            "published side": data["side"],
            "figure": data["figure"].str.replace("_", " "),
            "epoch": data["epoch"],
            "published": [number(value, 4) for value in data["published"]],
            "reproduced": [spread(r.reproduced, r.reproduced_sd, 4) for r in data.itertuples()],
            "corrected": [number(value, 4) for value in data["published_corrected"]],
            "reproduced, corrected": [spread(r.reproduced_corrected, r.reproduced_corrected_sd, 4) for r in data.itertuples()],
            "matched": [spread(r.matched, r.matched_sd, 4) for r in data.itertuples()],
        }
    )
    cases = " and ".join(case for _, case in publication.sides.values())
    told = f"Reproduced: the cases {cases}, which make every departure of the published programs and have their settings"
    if undone:
        told += ", told as those tell it. Reproduced, corrected: the same runs with each epoch's own figures"
    else:
        shown = shown.drop(columns=["corrected", "reproduced, corrected"])
    notes = [
        f"{told}. Matched: the same frameworks running the same program, without any departure.",
        *published_notes(results, publication),
    ]
    title = f"Published{', reproduced and corrected' if undone else ' and reproduced'}: {results.context}"
    if not comparable(results, publication):
        shown = shown.drop(columns=["published", "corrected"], errors="ignore").rename(
            columns=lambda name: name.replace("reproduced", "its program")
        )
        title = f"The published programs, and the same without departures: {results.context}"
    return Table("published", title, data, shown, notes)


def _repeated_rows(results: Results, publication: Publication) -> list[dict[str, Any]]:
    """A row each side, figure and epoch: those epochs that were published, and each case's last."""
    figures = list(dict.fromkeys(figure for printed in publication.reported.values() for figure in printed))
    epochs = results.epochs.copy()
    for figure in ("train_loss", "train_accuracy"):
        epochs[f"told_{figure}"] = epochs[f"reported_{figure}"].fillna(epochs[figure])
    told = {figure: f"told_{figure}" if figure.startswith("train") else figure for figure in figures}
    means = by_seeds(epochs, ["case", "epoch"], list(dict.fromkeys([*figures, *told.values()]))).set_index(["case", "epoch"])
    cases, rows = {case.name: case for case in results.study.expanded}, []
    beside = comparable(results, publication)
    for side, (backend, repeats) in publication.sides.items():
        its = {name: case for name, case in cases.items() if publication.side_of(case) == side}
        last = [case.protocol.epochs for case in its.values()]
        for figure in figures:
            printed, corrected = publication.reported[side].get(figure, {}), publication.corrected(side, figure)
            for epoch in sorted({*last, *(epoch for epoch in printed if epoch <= max(last, default=epoch))}):
                row = {"side": side, "figure": figure, "epoch": epoch}
                row["published"] = printed.get(epoch) if beside else None
                row["published_corrected"] = corrected.get(epoch) if beside else None
                for column, case, name in (
                    ("reproduced", repeats, told[figure]), ("reproduced_corrected", repeats, figure), ("matched", backend, figure),
                ):  # fmt: skip
                    known = case in its and (case, epoch) in means.index
                    row[column] = means.loc[(case, epoch), name] if known else None
                    row[f"{column}_sd"] = means.loc[(case, epoch), f"{name}_sd"] if known else None
                rows.append(row)
    return rows
