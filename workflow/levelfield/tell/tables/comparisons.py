"""Tables of comparisons, paired by seed: case against case, and each departure or setting against its backend's matched case."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from levelfield import registry
from levelfield.data.origin import kind_of
from levelfield.study.config import Study
from levelfield.study.protocol import Case
from levelfield.tell.coherence import mixtures, one_order
from levelfield.tell.estimates import ENOUGH, NOT_ENOUGH, NOTHING, Estimate, accuracy_verdict, difference, ratio
from levelfield.tell.results import Results
from levelfield.tell.tables.families import (
    PairOfCases,
    enough,
    floor_in_words,
    floors,
    pairs_of_cases,
    program,
    resolution,
    twins,
)
from levelfield.tell.tables.groups import Pairs, finished, of_these_sessions, pairs
from levelfield.tell.tables.table import Table, number

SETTINGS = ("learning_rate", "batch_size", "epochs", "data_on")
"""Settings of a case's own that are priced as a departure is."""


SPREAD = "± by pair, points"


def comparisons(results: Results) -> Table | None:
    """Every two cases that may be compared as equals, the faster one first; None where the study has no such two."""
    found, margin = pairs_of_cases(results), results.study.equivalence_margin
    if not found:
        return None
    data = pd.DataFrame([_row(one, margin) for one in found])
    shown = pd.DataFrame(
        {
            "case": data["case"],
            "against": data["against"],
            "training speed": data["speed_verdict"],
            "by session": [", ".join(f"{value:.2f}" for value in one.by_session) for one in found],
            "over all pairs": [_of_all(one) for one in found],
            "validation accuracy": data["accuracy_verdict"],
            SPREAD: [number(value, 2, 100) for value in data["accuracy_difference_sd"]],
            "pairs of seeds": data["pairs"],
            "clean": data["clean_pairs"],
        }
    )
    shown = shown.drop(columns=[name for name in ("by session", "over all pairs", SPREAD) if (shown[name] == "").all()])
    if len(results.machines) > 1:
        shown.insert(2, "machine", data["machine"])
    if (data["warning"] != "").any():
        shown["warning"] = data["warning"]
    sizes = " or ".join(str(size) for size in sorted(set(data["family"])))
    notes = [
        "Paired by seed. Speed: clean pairs alone, in which neither run was spoilt by the machine or by what its own checks found; "
        "over all pairs: by each run's first take, clean or not; accuracy: all pairs, since a busy machine changes no figure of learning. "
        "In brackets intervals (t, ratios on logarithms) that "
        f"hold together in 95 of 100 studies{of_these_sessions(results)}, those of speed and those of accuracy each, for all comparisons of a family ({sizes}): of cases "
        "of one protocol on one kind of machine, matched or with departures. Shown is what an interval leaves out; equivalent within "
        f"{100 * margin:g} points, what lies in there whole. ± by pair: standard deviation of the difference of accuracies over the pairs.",
        *enough(results),
        *noise_floor(results),
        *mixtures(finished(results)),
        *filter(None, [one_order(finished(results))]),
    ]
    return Table("comparisons", f"Comparisons: {results.context}", data, shown, notes)


def noise_floor(results: Results) -> list[str]:
    """What running one case twice showed, a sentence each."""
    said = []
    for one in twins(results):
        same = f"Noise floor: {one.case} and {one.against}, the same program"
        if one.speed.enough:
            said.append(
                f"{same}, differ by {one.speed.value:.3f} times [{one.speed.low:.3f}, {one.speed.high:.3f}] from "
                f"{one.clean} of {one.pairs} clean pairs; a smaller ratio is no claim."
            )
        else:
            said.append(
                f"{same}, have {one.clean} clean pairs of {one.pairs}, too few: it is not known, and nothing is claimed of speed."
            )
    return said


def _row(one: PairOfCases, margin: float) -> dict[str, Any]:
    speed, accuracy, everything = one.speed, one.accuracy, one.speed_of_all
    return {
        "case": one.case, "against": one.against, "machine": one.machine, "setting": one.setting, "matched": one.matched,
        "pairs": one.pairs, "clean_pairs": one.clean, "family": accuracy.family,
        "speed_by_session": " ".join(f"{value:.3f}" for value in one.by_session),
        "speed": speed.value, "speed_low": speed.low, "speed_high": speed.high, "speed_p": speed.p, "speed_p_corrected": speed.p_corrected,
        "speed_sd": speed.deviation, "faster": one.faster,
        "speed_of_all": everything.value, "speed_of_all_low": everything.low, "speed_of_all_high": everything.high,
        "accuracy_difference": accuracy.value, "accuracy_low": accuracy.low, "accuracy_high": accuracy.high, "accuracy_p": accuracy.p,
        "accuracy_p_corrected": accuracy.p_corrected, "accuracy_difference_sd": accuracy.deviation, "equivalent": one.equivalent(margin),
        "speed_verdict": one.verdict, "accuracy_verdict": accuracy_verdict(accuracy, margin, one.unlearnt or NOT_ENOUGH),
        "warning": one.found.warning,
    }  # fmt: skip


def _of_all(one: PairOfCases) -> str:
    """The figures of all pairs, where some are not clean at their first take."""
    found = one.speed_of_all
    if found.value is None or one.all_clean:
        return ""
    return f"{found.value:.2f}" + (f" [{found.low:.2f}, {found.high:.2f}]" if found.enough else "")


def departures(results: Results) -> Table | None:
    """What each case with departures or settings of its own is worth against its backend's matched case; None without such a pair."""
    runs, priced = finished(results), []
    for case in results.study.expanded:
        matched = counterpart(case, results.study)
        if matched is not None:
            found = pairs(runs, case.name, matched.name)
            priced += [(case, matched, found)] if len(found.first) else []
    if not priced:
        return None
    family = len({program(case) for case, _, _ in priced})
    rows = [_price(results, case, matched, found, family) for case, matched, found in priced]
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
            "time": [_shown(row, "time", ".2f", suffix=" times") + _noise(row) for row in rows],
            "pairs of seeds": data["pairs"],
            "clean": data["clean_pairs"],
        }
    )
    if not settings:
        shown = shown.drop(columns="settings")
    if (data["warning"] != "").any():
        shown["warning"] = data["warning"]
    notes = [
        f"Differences after the last epoch, paired by seed; in brackets intervals: those of a column hold together, for the {family} "
        f"{'program' if family == 1 else 'programs'} of this table, in 95 of 100 studies{of_these_sessions(results)}; one that holds 0 (for the time: 1) shows no effect. "
        "The time is of clean pairs alone; where there are fewer than 3 it has no interval and claims nothing. Departures of kind reporting change no figure here: they change what is told of the same run."
    ]
    if settings:
        notes.append("With other epochs each case is told after its own last one; the time is an epoch's.")
    if others := [case.name for case, _, _ in priced if _other_loss(case)]:
        notes.append(f"The loss of {', '.join(others)} is another function, and is compared with none.")
    if (data["pairs"] < ENOUGH).any():
        notes.append(f"Without an interval: {NOT_ENOUGH}.")
    if data["unlearnt"].any():
        notes.append(
            "Nothing is claimed of learning against a matched case whose loss was not seen to fall in some run, nor of made sequences."
        )
    return Table("departures", f"{departures_title(data)}: {results.context}", data, shown, notes)


def departures_title(data: pd.DataFrame) -> str:
    """What the departures' table and its figure are called: some studies change settings, too."""
    settings = (data["settings"] != "").any()
    return f"What each departure{' or setting' if settings else ''} is worth"


def own_settings(case: Case, study: Study) -> dict[str, float | str]:
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


def _price(results: Results, case: Case, matched: Case, found: Pairs, family: int) -> dict[str, Any]:
    own = {name: getattr(case.protocol, name) for name in SETTINGS if _differs(case, matched, name)}
    settings = [f"{name} {value}" if isinstance(value, str) else f"{name} {value:g}" for name, value in own.items()]
    row: dict[str, Any] = {
        "case": case.name,
        "matched": matched.name,
        "departures": ", ".join(case.departures),
        "settings": ", ".join(settings),
        "epochs": case.protocol.epochs,
        "matched_epochs": matched.protocol.epochs,
    }
    first, second = found.first, found.second
    clean = found.clean
    row |= {"pairs": len(first), "clean_pairs": int(clean.sum())}
    figures = {
        "validation_loss": 0.0, "validation_accuracy": resolution(results),
        "train_loss": 0.0, "train_accuracy": 1 / results.data["train_sequences"],
    }  # fmt: skip
    estimates = {name: difference(first[name], second[name], family, step) for name, step in figures.items()}
    # a figure that is not finite in some run is none over the others
    estimates = {name: one if one.pairs == len(first) else one.unclaimed for name, one in estimates.items()}
    elsewhere = (first["machine"] != second["machine"]).any()
    estimates["time"] = NOTHING if elsewhere else _time(first["epoch_seconds"], second["epoch_seconds"], clean, family)
    if _other_loss(case):
        estimates |= {"validation_loss": NOTHING, "train_loss": NOTHING}
    taught = not second["unlearnt"].any() and kind_of(results.data) != "synthetic"
    if not taught:  # a departure may well be that nothing is learnt; what it is measured against has to
        estimates = {name: one if name == "time" else one.unclaimed for name, one in estimates.items()}
    if any(side[why].notna().any() for side in (first, second) for why in ("barred", "unproven")):
        estimates = {name: estimate.unclaimed for name, estimate in estimates.items()}
    for name, estimate in estimates.items():
        row |= {name: estimate.value, f"{name}_low": estimate.low, f"{name}_high": estimate.high, f"{name}_p": estimate.p}
    machines = first["machine"][clean].unique()
    floor = max((floors(results).get((matched.protocol, machine), 1.0) for machine in machines), default=1.0)
    return row | {"time_floor": floor, "unlearnt": not taught, "warning": found.warning}


def _other_loss(case: Case) -> bool:
    """Whether a case's loss is another function than the matched one's."""
    return any(registry.departure(case.protocol.model.name, name).other_loss for name in case.departures)


def _noise(row: dict[str, Any]) -> str:
    """Of a time that a twin's noise could have made: that it is no claim."""
    shown = row["time_low"] is not None and (row["time_low"] > 1 or row["time_high"] < 1)
    return f", within {floor_in_words(row['time_floor'])}" if shown and within(row["time"], row["time_floor"]) else ""


def within(ratio: float, floor: float) -> bool:
    """Whether a ratio of times is no further from 1 than a case's to itself."""
    return max(ratio, 1 / ratio) <= floor


def _time(first: pd.Series, second: pd.Series, clean: np.ndarray, family: int) -> Estimate:
    """The ratio over clean pairs; without an interval that over all, where none is clean."""
    found = ratio(first[clean], second[clean], family)
    return ratio(first, second, family).unclaimed if found.value is None else found


def _differs(case: Case, other: Case, setting: str) -> bool:
    return bool(getattr(case.protocol, setting) != getattr(other.protocol, setting))


def _shown(row: dict[str, Any], name: str, form: str, scale: float = 1, suffix: str = "") -> str:
    if row[name] is None:
        return ""
    value = f"{row[name] * scale:{form}}{suffix}"
    if row[f"{name}_low"] is None:
        return value
    return f"{value} [{row[f'{name}_low'] * scale:{form}}, {row[f'{name}_high'] * scale:{form}}]"
