"""Tables of comparisons, paired by seed: case against case, and each departure against the matched case of its backend."""

from itertools import combinations

import pandas as pd

from levelfield.study.protocol import Case
from levelfield.tell.results import Results
from levelfield.tell.estimates import (
    NOT_ENOUGH,
    Estimate,
    accuracy_verdict,
    difference,
    equivalence,
    holm,
    ratio,
    speed_verdict,
)
from levelfield.tell.tables.groups import Pairs, finished, pairs
from levelfield.tell.tables.table import Table


def comparisons(results: Results) -> Table | None:
    """Every two cases that may be compared as equals, the faster one first; None where the study has no such two."""
    runs, rows = finished(results), []
    for first, second in combinations(results.study.expanded, 2):
        if not comparable(first, second):
            continue
        found = pairs(runs, first.name, second.name)
        times = ratio(found.first["epoch_seconds"], found.second["epoch_seconds"])
        if times.value is None:
            continue
        if times.value > 1:
            found = Pairs(found.second, found.first, found.warning)
        rows.append(_compared(found, first.matched, results.study.equivalence_margin))
    if not rows:
        return None
    data = pd.DataFrame(rows)
    data["speed_p_corrected"] = pd.Series(holm(_known(data["speed_p"])), dtype=float)
    data["accuracy_p_corrected"] = pd.Series(holm(_known(data["accuracy_p"])), dtype=float)
    margin = results.study.equivalence_margin
    data["speed_verdict"] = [_speed(row) for row in data.itertuples()]
    data["accuracy_verdict"] = [_accuracy(row, margin) for row in data.itertuples()]
    shown = pd.DataFrame(
        {
            "case": data["case"],
            "against": data["against"],
            "training speed": data["speed_verdict"],
            "validation accuracy": data["accuracy_verdict"],
            "pairs of seeds": data["pairs"],
        }
    )
    if (data["warning"] != "").any():
        shown["warning"] = data["warning"]
    notes = [
        f"Paired by seed; in brackets 95 % intervals (t, ratios on logarithms). Equivalent: two one-sided tests, margin "
        f"{100 * margin:g} points. Differences count at 5 % after Holm's correction for {len(data)} {'pair' if len(data) == 1 else 'pairs'}."
    ]
    return Table("comparisons", f"Comparisons: {results.context}", data, shown, notes)


def comparable(first: Case, second: Case) -> bool:
    """Matched cases of one protocol; of cases with departures, only those of different backends with the same protocol."""
    if first.protocol != second.protocol:
        return False
    return (first.matched and second.matched) or (not first.matched and not second.matched and first.backend != second.backend)


def _compared(found: Pairs, matched: bool, margin: float) -> dict:
    first, second = found.first, found.second
    speed = ratio(second["epoch_seconds"], first["epoch_seconds"])
    accuracy = difference(first["validation_accuracy"], second["validation_accuracy"])
    row = {
        "case": first["case"].iloc[0],
        "against": second["case"].iloc[0],
        "machine": ", ".join(sorted(set(first["machine"]))),
    }
    row |= {"matched": matched}
    row |= {"pairs": speed.pairs, "speed": speed.value, "speed_low": speed.low, "speed_high": speed.high, "speed_p": speed.p}
    row |= {"accuracy_difference": accuracy.value, "accuracy_low": accuracy.low, "accuracy_high": accuracy.high}
    row |= {"accuracy_p": accuracy.p}
    row["equivalence_p"] = equivalence(first["validation_accuracy"], second["validation_accuracy"], margin)
    row |= {"target_reached": int(first["seconds_to_target"].notna().sum())}
    row |= {"target_reached_against": int(second["seconds_to_target"].notna().sum())}
    return row | {"warning": found.warning}


def _known(values: pd.Series) -> list[float | None]:
    return [None if pd.isna(value) else value for value in values]


def _estimate(*values) -> Estimate:
    *figures, pairs = values
    return Estimate(*_known(figures), pairs)


def _speed(row) -> str:
    return speed_verdict(_estimate(row.speed, row.speed_low, row.speed_high, row.speed_p, row.pairs), row.speed_p_corrected)


def _accuracy(row, margin: float) -> str:
    found = _estimate(row.accuracy_difference, row.accuracy_low, row.accuracy_high, row.accuracy_p, row.pairs)
    return accuracy_verdict(found, row.accuracy_p_corrected, row.equivalence_p, margin)


def departures(results: Results) -> Table | None:
    """What each case with departures is worth against the matched case of its backend; None where there is no such pair."""
    runs, rows = finished(results), []
    for case in results.study.expanded:
        matched = next((other for other in results.study.expanded if _matches(other, case)), None)
        if case.matched or matched is None:
            continue
        found = pairs(runs, case.name, matched.name)
        if len(found.first):
            rows.append(_price(case, matched, found))
    if not rows:
        return None
    data = pd.DataFrame(rows)
    shown = pd.DataFrame(
        {
            "case": data["case"],
            "departures": data["departures"],
            "against": data["matched"],
            "validation loss": [_shown(row, "validation_loss", "+.4f") for row in rows],
            "validation accuracy, points": [_shown(row, "validation_accuracy", "+.2f", 100) for row in rows],
            "training loss": [_shown(row, "train_loss", "+.4f") for row in rows],
            "time": [_shown(row, "time", ".2f", suffix=" times") for row in rows],
            "pairs of seeds": data["pairs"],
        }
    )
    if (data["warning"] != "").any():
        shown["warning"] = data["warning"]
    notes = [
        "Differences after the last epoch, paired by seed, in brackets 95 % intervals; an interval that holds 0 (for the time: 1) "
        "shows no effect. Departures of kind reporting change no figure here: they change what is told of the same run."
    ]
    if (data["pairs"] < 3).any():
        notes.append(f"Without an interval: {NOT_ENOUGH}.")
    return Table("departures", f"What each departure is worth: {results.context}", data, shown, notes)


def _matches(other: Case, case: Case) -> bool:
    return other.matched and other.backend == case.backend and other.protocol == case.protocol


def _price(case: Case, matched: Case, found: Pairs) -> dict:
    row = {"case": case.name, "matched": matched.name, "departures": ", ".join(case.departures), "pairs": len(found.first)}
    estimates = {
        name: difference(found.first[name], found.second[name])
        for name in ("validation_loss", "validation_accuracy", "train_loss", "train_accuracy")
    }
    estimates["time"] = ratio(found.first["epoch_seconds"], found.second["epoch_seconds"])
    for name, estimate in estimates.items():
        row |= {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high, f"{name}_p": estimate.p}
    return row | {"warning": found.warning}


def _shown(row: dict, name: str, form: str, scale: float = 1, suffix: str = "") -> str:
    value = f"{row[name] * scale:{form}}{suffix}"
    if row[f"{name}_low"] is None:
        return value
    return f"{value} [{row[f'{name}_low'] * scale:{form}}, {row[f'{name}_high'] * scale:{form}}]"
