"""The verdict in words: who was faster, by how much, how sure that is, and on what it was measured."""

import json

import pandas as pd

from levelfield.tell.report.faster import MOST, different_machines, listed, sizes, speed
from levelfield.tell.report.fastest import fastest_by_model
from levelfield.tell.results import Results
from levelfield.tell.tables.comparisons import noise_floor
from levelfield.tell.tables.families import enough, pairs_of_cases
from levelfield.tell.tables.groups import finished, missed_checks
from levelfield.tell.tables.table import Table

NAMED = 3
"""Pairs or cases of one kind that are told by name."""


def verdict(results: Results, tables: dict[str, Table]) -> list[str]:
    """Sentences in the reader's order; the first says the most. What is claimed of speed rests on clean runs alone."""
    if results.finished.empty:
        counts = results.runs["status"].value_counts()
        found = ", ".join(f"{count} {status.replace('-', ' ')}" for status, count in counts.items())
        nothing = f"No run of this study has finished: {found}. There is nothing to compare."
        return [nothing, *(_accepted(results, case, why) for case, why in results.study.accepted.items())]
    matched = _matched(tables)
    by_size = sizes(results)
    said = fastest_by_model(results) + by_size
    said += speed(results, sized=not by_size)
    said += different_machines(results, pairs_of_cases(results)) + noise_floor(results)
    if results.study.data.synthetic:
        said.append("The sequences were made from a seed: the times hold, the accuracies mean nothing.")
    elif len(matched):
        said += _learning(results, matched)
    if "departures" in tables and not results.study.data.synthetic:
        said += _departures(tables["departures"].data)
    if "published" in tables:
        said += _published(results, tables["published"].data)
    if not said:
        said = [f"{_single(results)} No two cases here may be compared as equals: nothing is claimed about who is faster."]
    if not results.study.parity:
        said.append("Parity was not asked for: that the cases compute the same is not proven in this study.")
    return said + _enough(results) + _unclean(results) + _missing(results)


def _enough(results: Results) -> list[str]:
    """What the study could have shown, where some pair showed no difference in speed, or neither difference nor equivalence in accuracy."""
    return enough(results, unshown=True)[:MOST]


def measured_on(results: Results) -> str:
    """One sentence: which data, which machine, how many seeds, what was equal."""
    seeds = results.finished["seed"].nunique()
    machines = " and ".join(results.machines) or "no machine yet"
    epochs = sorted({case.protocol.epochs for case in results.study.expanded})
    return (
        f"Measured on {machines}, with {results.data['train_sequences']:,} training and {results.data['validation_sequences']:,} "
        f"validation sequences of {results.data['corpus']}, {' or '.join(map(str, epochs))} "
        f"{'epoch' if epochs == [1] else 'epochs'}, {seeds} {'seed' if seeds == 1 else 'seeds'}{_sessions(results)}.{_equal(results)}"
    )


def _sessions(results: Results) -> str:
    """In how many stretches, and on how many hosts: what the intervals cover."""
    runs = results.finished
    counts = {"session": runs["session"].nunique(), "host": runs["host_id"].fillna(runs["host"]).nunique()}
    told = [f"{count or 'no'} {what}{'' if count == 1 else 's'}" for what, count in counts.items()]
    return f", {' on '.join(told)}"


def _equal(results: Results) -> str:
    """What was equal, of the cases of which it is true: matched ones of one protocol, with another to stand beside."""
    cases = [case for case in results.study.expanded if case.name in set(results.finished["case"])]
    protocols = [case.protocol for case in cases if case.matched]
    if len(protocols) == len(set(protocols)):
        return ""
    equal = len(set(protocols)) == 1 and len(protocols) == len(cases)
    who = "all cases" if equal else "matched cases of one protocol"
    return f" For each seed {who} start from the same initial weights and see the same batches in the same order."


def _single(results: Results) -> str:
    best = results.epochs.groupby("case")["validation_accuracy"].max()
    return f"{results.finished['case'].nunique()} cases have finished; validation accuracy reached {best.max():.4f}."


def _matched(tables: dict[str, Table]) -> pd.DataFrame:
    """The comparisons of matched cases: of two with departures, who is faster may be the departures' doing."""
    data = tables["comparisons"].data if "comparisons" in tables else pd.DataFrame({"matched": []}, dtype=bool)
    return data[data["matched"]]


def _learning(results: Results, matched: pd.DataFrame) -> list[str]:
    """What is claimed of accuracy, of those models whose every run was seen to learn; of the others that nothing is.

    matched: the comparisons of matched cases."""
    models = list(dict.fromkeys(results.models.values()))
    nothing = {model: said for model in models if (said := _learnt_nothing(results, [model]))}
    if not nothing:
        return _accuracy(results, matched)
    if len(nothing) == len(models):
        return [f"Nothing is claimed about what they learn: {_learnt_nothing(results, models)}."]
    told = [f"Nothing is claimed about what they learn with model {model}: {said}." for model, said in nothing.items()]
    of = matched["case"].map(results.models)
    learnt = [model for model in models if model not in nothing and (of == model).any()]
    if not learnt:
        return told
    first, *more = _accuracy(results, matched[of.isin(learnt)])
    return [*told, f"With model {listed(learnt, len(learnt))}: {first}", *more]


def _learnt_nothing(results: Results, models: list[str]) -> str | None:
    """Why nothing is claimed about learning of a training so short that the loss did not fall in some run, or too short to say whether it
    did."""
    names = [case.name for case in results.study.expanded if case.matched and results.models[case.name] in models]
    runs = results.finished[results.finished["case"].isin(names)]
    if untold := sum("losses_fell" not in json.loads(told) for told in runs["checks"]):
        return f"in {untold} of {len(runs)} runs too few steps were trained to say whether the loss fell"
    if flat := missed_checks(runs).count("losses_fell"):
        return f"the training was so short that in {flat} of {len(runs)} runs the loss did not fall"
    return None


def _accuracy(results: Results, data: pd.DataFrame) -> list[str]:
    known = data[data["accuracy_low"].notna()]
    if known.empty:
        return ["Whether their validation accuracies differ cannot be said from so few seeds."]
    same, differ = (
        known[known["equivalent"]],
        known[((known["accuracy_low"] > 0) | (known["accuracy_high"] < 0)) & ~known["equivalent"]],
    )
    said = []
    if len(same) == len(known) == len(data):
        largest = 100 * data["accuracy_difference"].abs().max()
        pairs = "The two validation accuracies are" if len(data) == 1 else f"In all {len(data)} pairs validation accuracies are"
        margin = 100 * results.study.equivalence_margin
        said.append(f"{pairs} equivalent within {margin:g} points (largest mean difference {largest:.2f}).")
    elif len(same):
        said.append(f"Of {len(data)} pairs, {len(same)} {'is' if len(same) == 1 else 'are'} equivalent in validation accuracy.")
    for row in differ.head(NAMED).itertuples():
        said.append(
            f"{row.case} and {row.against} differ in validation accuracy by {100 * row.accuracy_difference:+.2f} points "
            f"[{100 * row.accuracy_low:+.2f}, {100 * row.accuracy_high:+.2f}]."
        )
    if len(differ) > NAMED:
        said.append(f"So do {len(differ) - NAMED} more pairs, which the comparisons' table has.")
    if not len(same) and not len(differ):
        said.append("In validation accuracy neither a difference nor equivalence was shown.")
    return said


def _departures(data: pd.DataFrame) -> list[str]:
    known = data[data["validation_accuracy_low"].notna()]
    if known.empty:
        flat = data["unlearnt"].any()
        why = "where the matched case's loss was not seen to fall" if flat else "from so few seeds"
        return [f"What the departures are worth cannot be said {why}."]
    other = known[known["epochs"] != known["matched_epochs"]]
    apart = [
        f"{row.case} is told after {row.epochs} epochs, {row.matched} after {row.matched_epochs}: their validation accuracies are "
        f"{100 * row.validation_accuracy:+.2f} points apart [{100 * row.validation_accuracy_low:+.2f}, {100 * row.validation_accuracy_high:+.2f}]."
        for row in other.itertuples()
    ]
    known = known.drop(other.index)
    if known.empty:
        return apart
    clear = known[(known["validation_accuracy_low"] > 0) | (known["validation_accuracy_high"] < 0)]
    cases = "cases with departures" + (" or settings of their own" if (known["settings"] != "").any() else "")
    cases += ", trained for as many epochs," if apart else ""
    if len(known) == 1 and clear.empty:
        return [f"{known['case'].iloc[0]} was not shown to change the validation accuracy.", *apart]
    if clear.empty:
        return [f"None of the {len(known)} {cases} was shown to change the validation accuracy.", *apart]
    most = f", the most of the {len(clear)} of {len(known)} {cases} that were shown to change it"
    only = f", the one of {len(known)} {cases} that was shown to change it"
    worst = clear.loc[clear["validation_accuracy"].abs().idxmax()]
    return [
        f"{worst['case']} changes the validation accuracy by {100 * worst['validation_accuracy']:+.2f} points "
        f"[{100 * worst['validation_accuracy_low']:+.2f}, {100 * worst['validation_accuracy_high']:+.2f}]"
        f"{most if len(clear) > 1 else only if len(known) > 1 else ''}.",
        *apart,
    ]


def _published(results: Results, data: pd.DataFrame) -> list[str]:
    """What was published of each side in the end, what repeating it gave, and what one program gives in both frameworks: nothing
    where this study trained on other sequences, since the published figures are then left out."""
    rows, told = data[data["figure"] == "validation_accuracy"], []
    for name in ("published", "reproduced", "matched"):
        ends = rows.dropna(subset=name).groupby("side", sort=False).last()
        if len(ends) < 2:
            return []
        when = [f" after epoch {epoch}" for epoch in ends["epoch"]]
        if len(set(when)) == 1:
            when[:-1] = [""] * (len(when) - 1)
        told.append(
            listed([f"{side} {row[name]:.4f}{after}" for (side, row), after in zip(ends.iterrows(), when, strict=True)], 2)
        )
    reported, reproduced, matched = told
    return [
        f"Published validation accuracies: {reported}; the same programs here: {reproduced}; one program in both frameworks: {matched}."
    ]


def _unclean(results: Results) -> list[str]:
    """How many runs bear claims, and what became of the others."""
    runs = finished(results)
    unclean, diverged = int(runs["unclean"].notna().sum()), int(runs["diverged"].sum())
    said = []
    if unclean:
        why = "the machine or their own checks say that their times are not to be trusted"
        said.append(
            f"Claims about speed rest on clean runs, {int(runs['clean'].sum())} of {len(runs)}: of {unclean} {'other' if unclean == 1 else 'others'} {why}."
        )
    if unproven := int(runs["unproven"].notna().sum()):
        why = runs["unproven"].dropna().iloc[0]
        said.append(
            f"In {unproven} of {len(runs)} runs what was timed is not proven ({why}): no claim about speed rests on them."
        )
    if diverged:
        said.append(f"In {diverged} of {len(runs)} runs a loss was not finite: they are in no claim about speed.")
    barred = runs.dropna(subset="barred").groupby("case", sort=False)["barred"].first()
    for case, why in barred.head(NAMED).items():
        said.append(f"Nothing is claimed of {case}: from the same start its {why}.")
    if len(barred) > NAMED:
        said.append(f"Nor is anything of {len(barred) - NAMED} more cases, which the leaderboard names.")
    return said


def _missing(results: Results) -> list[str]:
    accepted = results.study.accepted
    asked = results.runs[~results.runs["case"].isin(accepted)]
    counts = asked["status"].value_counts().drop("finished", errors="ignore")
    said = [_accepted(results, case, why) for case, why in accepted.items()]
    if counts.empty:
        return said
    words = {"failed": "failed", "missing": "are missing", "failed-parity": "were not timed, since their case failed parity"}
    return [f"Of {len(asked)} runs, " + ", ".join(f"{count} {words[kind]}" for kind, count in counts.items()) + ".", *said]


def _accepted(results: Results, case: str, why: str) -> str:
    """What became of a case that need not finish."""
    runs = results.runs[results.runs["case"] == case]
    finished = int((runs["status"] == "finished").sum())
    came_to = f"yet {finished} of its {len(runs)} runs finished" if finished else f"none of its {len(runs)} runs finished"
    return f"{case} was accepted as failing ({why}): {came_to}."
