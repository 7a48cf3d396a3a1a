"""Whether what was timed is what was proven: parity holds for its versions, image, device and kind of processor, and no others."""

import json

import pandas as pd

from levelfield.level.parity import Parity
from levelfield.study.protocol import Case
from levelfield.tell.kept import BrokenRecord
from levelfield.tell.outcomes import read_parity
from levelfield.tell.results import Results

TIMED = ["case", "device", "cpu", "gpu", "image", "versions"]


def otherwise(parity: Parity, runs: pd.DataFrame) -> list[str]:
    """In what the runs are not what parity was measured of, in words. runs: finished ones of its case; of records of earlier
    versions, whose parity does not tell processor and image, only the rest is compared."""
    kind = "gpu" if parity.device == "cuda" else "cpu"
    told = {"device": parity.device, kind: getattr(parity, kind), "image": parity.image}
    found = []
    for name, proven in told.items():
        others = sorted({str(value) for value in runs[name].dropna()} - {str(proven)}) if name in runs else []
        if proven is not None and others:
            found.append(f"on {_short(name, proven)}, timed on {' and '.join(_short(name, value) for value in others)}")
    timed: dict[str, set[str]] = {}
    for text in runs["versions"].dropna().unique():
        for package, version in json.loads(text).items():
            timed.setdefault(package, set()).add(version)
    for package in sorted(parity.versions.keys() & timed.keys()):
        others = sorted(timed[package] - {parity.versions[package]})
        found += [f"of {package} {parity.versions[package]}, timed {', '.join(others)}"] if others else []
    return found


def _short(name: str, value: str) -> str:
    return f"image {value.removeprefix('sha256:')[:12]}" if name == "image" else value


def _of_another(parity: Parity, case: Case, runs: pd.DataFrame) -> str | None:
    """Of what other program the parity under a case's name was measured, if so. runs: the case's finished ones."""
    if (parity.backend, set(parity.departures), parity.matched) != (case.backend, set(case.departures), case.matched):
        return f"its parity is of {'+'.join([parity.backend, *parity.departures])}"
    if not (runs["protocol_sha256"] == parity.protocol_sha256).all():
        return "its parity is of another protocol"
    if not (runs.loc[runs["seed"] == parity.seed, "start_sha256"] == parity.start_sha256).all():
        return f"its parity is of another start of seed {parity.seed}"
    return None


def unproven(results: Results, runs: pd.DataFrame) -> pd.Series:
    """For each of the runs why nothing is proven of what it timed; None where something is, and where nothing was asked."""
    reasons = pd.Series([None] * len(runs), index=runs.index, dtype=object)
    cases = {case.name: case for case in results.study.expanded}
    for case, mine in runs.groupby("case", sort=False):
        try:
            parity = read_parity(results.folder, case)
        except BrokenRecord:
            continue  # its runs are barred and say so
        if parity is None:
            if results.study.parity and not mine["departures"].any():
                reasons[mine.index] = "its parity was not measured"
            continue
        if (other := _of_another(parity, cases[case], mine)) and results.study.parity:
            reasons[mine.index] = other
            continue
        if not parity.matched or parity.passed is False:
            continue
        if parity.passed is None:
            reasons[mine.index] = "its parity had no bounds"
            continue
        for _, alike in mine.groupby([name for name in TIMED if name in mine], dropna=False, sort=False):
            reasons[alike.index] = "; ".join(otherwise(parity, alike.iloc[:1])) or None
    return reasons
