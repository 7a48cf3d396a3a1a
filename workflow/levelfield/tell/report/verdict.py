"""The verdict in words: who was faster, by how much, how sure that is, and on what it was measured."""

import pandas as pd

from levelfield.study import published
from levelfield.tell.figures.scaling import SIZES, growth
from levelfield.tell.report.fastest import fastest_by_model
from levelfield.tell.results import Results
from levelfield.tell.tables.groups import missed_checks
from levelfield.tell.tables.table import Table

MOST = 6
"""Cases named in one sentence; for more it refers to the table."""


def verdict(results: Results, tables: dict[str, Table]) -> list[str]:
    """Sentences in the reader's order; the first says the most."""
    if results.finished.empty:
        counts = results.runs["status"].value_counts()
        found = ", ".join(f"{count} {status.replace('-', ' ')}" for status, count in counts.items())
        return [f"No run of this study has finished: {found}. There is nothing to compare."]
    matched = _matched(tables)
    said = fastest_by_model(results, tables) + _sizes(results)
    if not said and len(matched) and not results.several_models:
        said = _speed(matched)
    if results.study.data.synthetic:
        said.append("The sequences were made from a seed: the times hold, the accuracies mean nothing.")
    elif len(matched):
        said += _learnt_nothing(results) or _accuracy(
            matched, "With each model all learn" if results.several_models else "All learn"
        )
    if "departures" in tables and not results.study.data.synthetic:
        said += _departures(tables["departures"].data)
    if "published" in tables:
        said += _published(results, tables["published"].data)
    if not said:
        said = [f"{_single(results)} No two cases here may be compared as equals: nothing is claimed about who is faster."]
    return said + _missing(results)


def measured_on(results: Results) -> str:
    """One sentence: which data, which machine, how many seeds, what was equal."""
    cases, seeds = results.study.expanded, results.finished["seed"].nunique()
    machines = " and ".join(results.machines) or "no machine yet"
    epochs = sorted({case.protocol.epochs for case in cases})
    equal = all(case.matched and case.protocol == cases[0].protocol for case in cases)
    who = "all cases" if equal else "matched cases of one protocol"
    return (
        f"Measured on {machines}, with {results.data['train_sequences']:,} training and {results.data['validation_sequences']:,} "
        f"validation sequences of {results.data['corpus']}, {' or '.join(map(str, epochs))} "
        f"{'epoch' if epochs == [1] else 'epochs'}, {seeds} {'seed' if seeds == 1 else 'seeds'}. "
        f"For each seed {who} start from the same initial weights and see the same batches in the same order."
    )


def _single(results: Results) -> str:
    best = results.epochs.groupby("case")["validation_accuracy"].max()
    return f"{results.finished['case'].nunique()} cases have finished; validation accuracy reached {best.max():.4f}."


def _matched(tables: dict[str, Table]) -> pd.DataFrame:
    """The comparisons of matched cases: of two with departures, who is faster may be the departures' doing."""
    data = tables["comparisons"].data if "comparisons" in tables else pd.DataFrame({"matched": []}, dtype=bool)
    return data[data["matched"]]


def _speed(data: pd.DataFrame) -> list[str]:
    """The fastest case against each other one, the closest first."""
    fastest = data["case"].value_counts().index[0]
    rows = data[data["case"] == fastest].sort_values("speed")
    told = rows[rows["warning"] == ""]
    clear = told[told["speed_p_corrected"] < 0.05]
    likely = told[(told["speed_p_corrected"] >= 0.05) & (told["speed_p"] < 0.05)]
    close = told[told["speed_p"] >= 0.05]
    unsure = told[told["speed_low"].isna()]
    said = []
    if len(clear):
        figures = [
            f"{row.speed:.2f} times as fast as {row.against} [{row.speed_low:.2f}, {row.speed_high:.2f}]"
            for row in _rows(clear)
        ]
        said.append(f"{fastest} trained {_and(figures, len(clear))}; in brackets 95 % intervals from {_pairs(clear)}.")
    if len(likely):
        figures = [
            f"{row.speed:.2f} times as fast as {row.against} [{row.speed_low:.2f}, {row.speed_high:.2f}]"
            for row in _rows(likely)
        ]
        subject = "It also" if len(clear) else fastest
        said.append(f"{subject} trained {_and(figures, len(likely))}, which is not sure among {len(data)} comparisons.")
    if len(close):
        figures = [f"{row.against}, {row.speed:.2f} times [{row.speed_low:.2f}, {row.speed_high:.2f}]" for row in _rows(close)]
        said.append(
            f"No difference in speed was shown between {fastest} and {_and(figures, len(close))}, from {_pairs(close)}."
        )
    if len(unsure):
        figures = [f"{row.speed:.2f} times as fast as {row.against}" for row in _rows(unsure)]
        said.append(
            f"{fastest} trained {_and(figures, len(unsure))}, but {_pairs(unsure)} are too few to say how sure that is."
        )
    for row in rows[rows["warning"] != ""].head(MOST).itertuples():
        said.append(f"{row.case} and {row.against} are not compared in speed here: {row.warning}.")
    return said


def _sizes(results: Results) -> list[str]:
    """Of a study that varies a size: who had the highest throughput at each; nothing of another study."""
    found = growth(results)
    if found.empty:
        return []
    found = found[found["measure"] == "throughput"]
    means = found.groupby(["setting", "size", "line"], sort=False, as_index=False)["value"].mean()
    said = []
    for setting, mine in means.groupby("setting", sort=False):
        best = mine.loc[mine.groupby("size")["value"].idxmax()]
        sizes = best.groupby("line", sort=False)["size"].agg(lambda sizes: [f"{size:,}" for size in sizes])
        winners = [f"{line} at {_and(at, len(at))}" for line, at in sizes.items()]
        said.append(f"Fastest by {SIZES[setting]}: {'; '.join(winners)}.")
    seeds = results.finished["seed"].nunique()
    means_of = f"Means over {seeds} seeds" if seeds > 1 else "One seed"
    return [*said, f"{means_of}; by how much, and how sure that is, the leaderboard says."]


def _rows(rows: pd.DataFrame):
    return rows.head(MOST).itertuples()


def _and(parts: list[str], number: int) -> str:
    """`a, b and c`, or `a, b and 7 more` where `number` says that there are more."""
    if number > len(parts):
        return f"{', '.join(parts)} and {number - len(parts)} more, which the comparisons' table has"
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _pairs(rows: pd.DataFrame) -> str:
    numbers = sorted(set(rows["pairs"]))
    if numbers == [1]:
        return "single pairs of seeds"
    return f"{numbers[0]} pairs of seeds" if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]} pairs of seeds"


def _learnt_nothing(results: Results) -> list[str]:
    """Of a training so short that the loss did not fall in some run, nothing is claimed about learning."""
    names = [case.name for case in results.study.expanded if case.matched]
    runs = results.finished[results.finished["case"].isin(names)]
    flat = missed_checks(runs).count("losses_fell")
    if not flat:
        return []
    return [
        f"Nothing is claimed about what they learn: the training was so short that in {flat} of {len(runs)} runs the loss did not fall."
    ]


def _accuracy(data: pd.DataFrame, all_learn: str) -> list[str]:
    known = data[data["accuracy_low"].notna()]
    if known.empty:
        return ["Whether they learn equally well cannot be said from so few seeds."]
    same, other = known[known["equivalence_p"] < 0.05], known[known["equivalence_p"] >= 0.05]
    differ = other[other["accuracy_p_corrected"] < 0.05]
    said = []
    if len(same) == len(known):
        largest = 100 * known["accuracy_difference"].abs().max()
        subject = "Both learn" if len(known) == 1 else all_learn
        said.append(
            f"{subject} equally well: validation accuracies are equivalent (largest mean difference {largest:.2f} points)."
        )
    elif len(same):
        said.append(
            f"Of {len(known)} pairs, {len(same)} {'is' if len(same) == 1 else 'are'} equivalent in validation accuracy."
        )
    for row in differ.head(3).itertuples():
        said.append(
            f"{row.case} and {row.against} differ in validation accuracy by {100 * row.accuracy_difference:+.2f} points "
            f"[{100 * row.accuracy_low:+.2f}, {100 * row.accuracy_high:+.2f}]."
        )
    if not len(same) and not len(differ):
        said.append("In validation accuracy neither a difference nor equivalence was shown: more seeds would tell.")
    return said


def _departures(data: pd.DataFrame) -> list[str]:
    known = data[data["validation_accuracy_low"].notna()]
    if known.empty:
        return ["What the departures are worth cannot be said from so few seeds."]
    clear = known[(known["validation_accuracy_low"] > 0) | (known["validation_accuracy_high"] < 0)]
    cases = "cases with departures" + (" or settings of their own" if (known["settings"] != "").any() else "")
    if clear.empty:
        return [f"None of the {len(known)} {cases} was shown to change the validation accuracy."]
    worst = clear.loc[clear["validation_accuracy"].abs().idxmax()]
    return [
        f"{worst['case']} changes the validation accuracy by {100 * worst['validation_accuracy']:+.2f} points "
        f"[{100 * worst['validation_accuracy_low']:+.2f}, {100 * worst['validation_accuracy_high']:+.2f}], the most of the "
        f"{len(clear)} of {len(known)} {cases} that were shown to change it."
    ]


def _published(results: Results, data: pd.DataFrame) -> list[str]:
    """What was published of each side in the end, what repeating it gave, and what one program gives in both frameworks.

    Nothing where this study trained on fewer sequences.
    """
    if results.data["train_sequences"] < published.of(results.study.expanded).sequences:
        return []
    rows, told = data[data["figure"] == "validation_accuracy"], []
    for name in ("published", "reproduced", "matched"):
        ends = rows.dropna(subset=name).groupby("side", sort=False).last()
        if len(ends) < 2:
            return []
        when = [f" after epoch {epoch}" for epoch in ends["epoch"]]
        if len(set(when)) == 1:
            when[:-1] = [""] * (len(when) - 1)
        told.append(
            _and([f"{side} {row[name]:.4f}{after}" for (side, row), after in zip(ends.iterrows(), when, strict=True)], 2)
        )
    reported, reproduced, matched = told
    return [
        f"Published validation accuracies: {reported}; the same programs here: {reproduced}; one program in both frameworks: {matched}."
    ]


def _missing(results: Results) -> list[str]:
    counts = results.runs["status"].value_counts().drop("finished", errors="ignore")
    if counts.empty:
        return []
    words = {"failed": "failed", "missing": "are missing", "failed-parity": "were not timed, since their case failed parity"}
    return [f"Of {len(results.runs)} runs, " + ", ".join(f"{count} {words[kind]}" for kind, count in counts.items()) + "."]
