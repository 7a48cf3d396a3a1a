"""Tables of learning: training and validation by epoch beside the article's figures, and the article repeated bug for bug."""

import pandas as pd

from levelfield.study import published
from levelfield.tell.results import Results
from levelfield.tell.tables.groups import by_seeds
from levelfield.tell.tables.table import Table, number, spread


def training(results: Results) -> Table:
    """Loss and accuracy of training by epoch, each batch measured before its update."""
    note = "Training figures are means over the epoch's sequences, each batch measured before its own update."
    return _by_epoch(results, "train", "Training", note)


def validation(results: Results) -> Table:
    """Loss and accuracy of validation after each epoch."""
    return _by_epoch(results, "validation", "Validation", "Measured after each epoch, on all validation sequences.")


def is_imdb(results: Results) -> bool:
    """Whether the corpus is the article's, so that its figures may stand beside these."""
    return results.data["corpus"].startswith("IMDB")


def _by_epoch(results: Results, part: str, word: str, note: str) -> Table:
    """A row each case and epoch: mean and spread over the seeds, and what the article reported and what that corrects to."""
    figures = [f"{part}_loss", f"{part}_accuracy"]
    data = by_seeds(results.epochs, ["case", "epoch"], figures)
    for kind, values in (("article", article.REPORTED), ("article_corrected", article.CORRECTED)):
        for figure in figures:
            cells = [_article(results, values, row.case, row.epoch, figure) for row in data.itertuples()]
            data[f"{kind}_{figure}"] = pd.Series(cells, dtype=float)
    shown = {"case": data["case"], "epoch": data["epoch"]}
    for figure in ("loss", "accuracy"):
        name = f"{part}_{figure}"
        shown[figure] = [spread(mean, sd, 4) for mean, sd in zip(data[name], data[f"{name}_sd"], strict=True)]
        if data[f"article_{name}"].notna().any():
            shown[f"article's {figure}"] = [number(value, 4) for value in data[f"article_{name}"]]
        if part == "train" and data[f"article_{name}"].notna().any():
            shown[f"corrected {figure}"] = [number(value, 4) for value in data[f"article_corrected_{name}"]]
    shown["seeds"] = data["seeds"]
    title = f"{word} by epoch: {results.context}"
    return Table(
        "training" if part == "train" else part,
        title,
        data,
        pd.DataFrame(shown),
        [note, *article_notes(results, part == "train")],
    )


def _article(results: Results, values: dict, case: str, epoch: int, figure: str) -> float | None:
    side = article.side_of(case)
    return values[side][figure][epoch - 1] if side and is_imdb(results) and epoch <= 2 else None


def article_notes(results: Results, corrected: bool = True) -> list[str]:
    """What stands in the way of reading the article's figures beside this study's. corrected: whether the table corrects them."""
    if not is_imdb(results):
        return [f"The article's figures are of IMDB and are left out: this corpus is {results.data['corpus']}."]
    used = results.data["train_sequences"]
    fewer = f" It trained on {article.SEQUENCES:,} sequences, this study on {used:,}." if used < article.SEQUENCES else ""
    undone = " Corrected: its second epoch's training figures for PyTorch are means over both epochs, undone here."
    return [
        f"The article's figures ({article.REFERENCE}) are of one run each, without seed.{undone if corrected else ''}{fewer}"
    ]


def repeated(results: Results) -> Table | None:
    """The article's figures as reported, as its programs reproduce them, corrected, and matched; None without such cases."""
    cases = {case.name for case in results.study.expanded}
    if not cases & {repeats for _, repeats in article.SIDES.values()}:
        return None
    figures = list(article.REPORTED["Keras"])
    epochs = results.epochs.copy()
    for figure in ("train_loss", "train_accuracy"):
        epochs[f"as_reported_{figure}"] = epochs[f"reported_{figure}"].fillna(epochs[figure])
    means = by_seeds(epochs, ["case", "epoch"], [*figures, "as_reported_train_loss", "as_reported_train_accuracy"])
    means = means.set_index(["case", "epoch"])
    rows = []
    for side, (backend, repeats) in article.SIDES.items():
        matched = next((case.name for case in results.study.expanded if case.backend == backend and case.matched), None)
        for figure in figures:
            told = f"as_reported_{figure}" if figure.startswith("train") else figure
            for epoch in range(1, min(2, results.study.protocol.epochs) + 1):
                row = {"side": side, "figure": figure, "epoch": epoch}
                imdb = is_imdb(results)
                row["reported"] = article.REPORTED[side][figure][epoch - 1] if imdb else None
                row["corrected"] = article.CORRECTED[side][figure][epoch - 1] if imdb else None
                for column, case, name in (
                    ("reproduced", repeats, told), ("reproduced_corrected", repeats, figure), ("matched", matched, figure),
                ):  # fmt: skip
                    known = (case, epoch) in means.index
                    row[column] = means.loc[(case, epoch), name] if known else None
                    row[f"{column}_sd"] = means.loc[(case, epoch), f"{name}_sd"] if known else None
                rows.append(row)
    data = pd.DataFrame(rows)
    shown = pd.DataFrame(
        {
            "article's side": data["side"],
            "figure": data["figure"].str.replace("_", " "),
            "epoch": data["epoch"],
            "reported": [number(value, 4) for value in data["reported"]],
            "reproduced": [spread(r.reproduced, r.reproduced_sd, 4) for r in data.itertuples()],
            "corrected": [number(value, 4) for value in data["corrected"]],
            "reproduced, corrected": [spread(r.reproduced_corrected, r.reproduced_corrected_sd, 4) for r in data.itertuples()],
            "matched": [spread(r.matched, r.matched_sd, 4) for r in data.itertuples()],
        }
    )
    notes = [
        "Reproduced: the cases keras-article and torch-article, which make every departure of the article's programs, told as "
        "those tell it. Reproduced, corrected: the same runs with each epoch's own figures. Matched: without any departure.",
        *article_notes(results),
    ]
    return Table("article", f"The article, reported, reproduced and corrected: {results.context}", data, shown, notes)
