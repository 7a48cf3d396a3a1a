"""Tables of comparisons, paired by seed: case against case, and each departure or setting against its backend's matched case."""

from dataclasses import replace
from itertools import combinations

import pandas as pd

from levelfield.study.config import Study
from levelfield.study.protocol import Case
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
from levelfield.tell.results import Results
from levelfield.tell.tables.groups import Pairs, finished, pairs
from levelfield.tell.tables.table import Table

SETTINGS = ("learning_rate", "batch_size", "epochs")
"""Settings of a case's own that are priced as a departure is."""


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
    """What each case with departures or settings of its own is worth against its backend's matched case; None without such a pair."""
    runs, rows = finished(results), []
    for case in results.study.expanded:
        matched = counterpart(case, results.study)
        if matched is None:
            continue
        found = pairs(runs, case.name, matched.name)
        if len(found.first):
            rows.append(_price(case, matched, found))
    if not rows:
        return None
    data = pd.DataFrame(rows)
    settings = (data["settings"] != "").any()
    shown = pd.DataFrame(
        {
            "case": data["case"],
            "departures": data["departures"],
            "settings": data["settings"],
            "against": data["matched"],
            "validation loss": [_shown(row, "validation_loss", "+.4f") for row in rows],
            "validation accuracy, points": [_shown(row, "validation_accuracy", "+.2f", 100) for row in rows],
            "training loss": [_shown(row, "train_loss", "+.4f") for row in rows],
            "time": [_shown(row, "time", ".2f", suffix=" times") for row in rows],
            "pairs of seeds": data["pairs"],
        }
    )
    if not settings:
        shown = shown.drop(columns="settings")
    if (data["warning"] != "").any():
        shown["warning"] = data["warning"]
    notes = [
        "Differences after the last epoch, paired by seed, in brackets 95 % intervals; an interval that holds 0 (for the time: 1) "
        "shows no effect. Departures of kind reporting change no figure here: they change what is told of the same run."
    ]
    if settings:
        notes.append("With other epochs each case is told after its own last one; the time is an epoch's.")
    if (data["pairs"] < 3).any():
        notes.append(f"Without an interval: {NOT_ENOUGH}.")
    return Table("departures", f"{departures_title(data)}: {results.context}", data, shown, notes)


def departures_title(data: pd.DataFrame) -> str:
    """What the departures' table and its figure are called: some studies change settings, too."""
    settings = (data["settings"] != "").any()
    return f"What each departure{' or setting' if settings else ''} is worth"


def own_settings(case: Case, study: Study) -> dict[str, float | int]:
    """Those of `SETTINGS` that a case has of its own, beside the study's protocol; a size that the study varies is none."""
    mine = {name: getattr(case.protocol, name) for name in SETTINGS if name not in study.vary}
    return {name: value for name, value in mine.items() if value != getattr(study.protocol, name)}


def counterpart(case: Case, study: Study) -> Case | None:
    """The matched case of its backend that a case is priced against; None for one that is matched and has no settings of its own.

    It has the same settings where there is such a case, so that the departures alone differ; else the study's own.
    """
    own = own_settings(case, study)
    usual = replace(case.protocol, **{name: getattr(study.protocol, name) for name in own})
    protocols = [*([] if case.matched else [case.protocol]), *([usual] if own else [])]
    others = [other for other in study.expanded if other.matched and other.backend == case.backend]
    return next((other for protocol in protocols for other in others if other.protocol == protocol), None)


def _price(case: Case, matched: Case, found: Pairs) -> dict:
    settings = [f"{name} {getattr(case.protocol, name):g}" for name in SETTINGS if _differs(case, matched, name)]
    row = {
        "case": case.name,
        "matched": matched.name,
        "departures": ", ".join(case.departures),
        "settings": ", ".join(settings),
    }
    row |= {"pairs": len(found.first)}
    estimates = {
        name: difference(found.first[name], found.second[name])
        for name in ("validation_loss", "validation_accuracy", "train_loss", "train_accuracy")
    }
    estimates["time"] = ratio(found.first["epoch_seconds"], found.second["epoch_seconds"])
    for name, estimate in estimates.items():
        row |= {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high, f"{name}_p": estimate.p}
    return row | {"warning": found.warning}


def _differs(case: Case, other: Case, setting: str) -> bool:
    return getattr(case.protocol, setting) != getattr(other.protocol, setting)


def _shown(row: dict, name: str, form: str, scale: float = 1, suffix: str = "") -> str:
    value = f"{row[name] * scale:{form}}{suffix}"
    if row[f"{name}_low"] is None:
        return value
    return f"{value} [{row[f'{name}_low'] * scale:{form}}, {row[f'{name}_high'] * scale:{form}}]"
