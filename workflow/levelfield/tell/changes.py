"""Compares two studies, before and after, case by case: what a new version or another machine changed.

Nothing pairs the times of two studies: they ran at different hours, so that a seed is no block of theirs. Their clean runs are two
samples (Welch's interval on the logarithms), and all runs of a session share what its hour made of the machine. Where both studies have
several sessions, the sessions are the samples; else their spread has to be known, and is in the interval. What was learnt is paired by
seed, which fixes weights and batches.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from levelfield.errors import UserError
from levelfield.tell.estimates import Estimate, difference, unpaired_ratio
from levelfield.tell.power import runs_to_tell
from levelfield.tell.results import Results, hosts_of, kind_of_machine
from levelfield.tell.tables.groups import finished

SESSION_SPREAD = 0.1
"""Standard deviation of the logarithm of a case's time from one session to another, where nothing better is known: two sessions of
`results/reference/cpu/quick`, one host and boot, 90 minutes apart, have clean times whose logarithms differ by 0.15 and 0.11 (√2 of it)."""
NOT_FINISHED = {"failed": "failed", "missing": "missing", "failed-parity": "barred by parity"}
"""What became of a run that did not finish, in words."""


@dataclass(frozen=True)
class Change:
    """A case in both studies: time after over time before, accuracy after minus before, and what else is not the same."""

    case: str
    time: Estimate
    """Of clean runs. Each end of its interval holds, for all cases together, in 95 of 100 comparisons."""
    accuracy: Estimate
    clean: tuple[int, int]
    """Clean runs before and after that the time is of."""
    runs: tuple[int, int]
    machines: tuple[str, str]
    versions: str
    """Packages whose version changed, `torch 2.12.0 → 2.13.0`."""
    host: str | None = None
    """The one whose runs alone the time is of, where a side has several."""
    sessions: tuple[int, int] = (1, 1)
    """Before and after, of the runs that the time is of."""
    session_spread: float = 0.0
    """What was taken for the spread from session to session; nothing where both sides have several, which tell it."""

    @property
    def by_sessions(self) -> bool:
        """Whether sessions are the samples, not runs."""
        return min(self.sessions) > 1

    def slower(self, threshold: float) -> bool:
        """Whether the time is shown to have grown by more than `threshold` (0.05: 5 %): its whole interval lies above that."""
        return self.time.low is not None and self.time.low > 1 + threshold

    def fine(self, threshold: float) -> bool:
        """Whether it is shown not to have: the whole interval lies below. What is neither cannot be told from these runs."""
        return self.time.high is not None and self.time.high < 1 + threshold

    def needed(self, threshold: float) -> int | None:
        """How many sessions of as many runs (without a spread between sessions how many runs) in each study would tell whether it did, at the
        spread seen; None where that is not known."""
        if self.time.deviation is None:
            return None
        runs = min(self.clean) if self.session_spread else 1
        spread = float(np.hypot(self.session_spread, self.time.deviation / np.sqrt(runs)))
        return runs_to_tell(spread, threshold, self.time.family)


@dataclass(frozen=True)
class Comparison:
    """The cases of both studies, the slowest change first, and those that cannot be compared."""

    lost: dict[str, str]
    """Case that no longer finishes with every seed that it finished with before, to what became of it."""
    changes: list[Change]
    alone: dict[str, str]
    """Case that only one study plans, or only the second finished, to the folder that has it."""


def compare(before: Path, after: Path, anyway: bool = False, session_spread: float = SESSION_SPREAD) -> Comparison:
    """Compares two collected studies; raises UserError naming what differs in protocol, data or kind of machine, unless `anyway`.

    session_spread: from one session to another, as `SESSION_SPREAD`, of studies that do not tell it.
    """
    first, second = Results.read(before), Results.read(after)
    found = [
        *_data_differences(first, second), *_protocol_differences(first, second), *_machine_differences(first, second),
    ]  # fmt: skip
    if found and not anyway:
        raise UserError(
            f"{before} and {after} measured different things: {'; '.join(found)}. Give --anyway to compare them nonetheless"
        )
    runs = [finished(first), finished(second)]
    cases = [list(dict.fromkeys(part["case"])) for part in runs]
    common = [case for case in cases[0] if case in cases[1]]
    lost = _lost(first, second)
    if not common and not lost:
        raise UserError(
            f"{before} and {after} have no finished case in common: {', '.join(cases[0])} and {', '.join(cases[1])}"
        )
    parts = [[part[part["case"] == case].set_index("seed") for part in runs] for case in common]
    changes = [
        _change(case, before, after, len(common), session_spread) for case, (before, after) in zip(common, parts, strict=True)
    ]
    told = {*common, *lost}
    alone = {case: str(folder) for folder, mine in ((before, cases[0]), (after, cases[1])) for case in mine if case not in told}
    return Comparison(lost, sorted(changes, key=lambda change: -(change.time.value or 0)), alone)


def _lost(first: Results, second: Results) -> dict[str, str]:
    """Cases with runs that finished in the first study and, though the second plans them too, not there; with the first error."""
    found = {}
    both = first.finished[["case", "seed"]].merge(second.runs[["case", "seed", "status", "error"]])
    for case, runs in both.groupby("case", sort=False):
        gone = runs[runs["status"] != "finished"]
        if len(gone):
            became = ", ".join(f"{count} {NOT_FINISHED[status]}" for status, count in gone["status"].value_counts().items())
            why = "".join(f" ({error})" for error in gone["error"].dropna().head(1))
            found[case] = f"of {len(runs)} runs that finished before, now {became}{why}"
    for case, runs in second.runs.groupby("case", sort=False):  # with other seeds, too
        before = first.finished[first.finished["case"] == case]
        if case not in found and len(before) and not (runs["status"] == "finished").any():
            became = ", ".join(f"{count} {NOT_FINISHED[status]}" for status, count in runs["status"].value_counts().items())
            why = "".join(f" ({error})" for error in runs["error"].dropna().head(1))
            found[case] = f"{len(before)} runs finished before, now {became}{why}"
    return found


def _data_differences(first: Results, second: Results) -> list[str]:
    """Where a corpus came from may differ; what counts is that the arrays are the same."""
    if all(first.data[key] == second.data[key] for key in ("sha256", "train_sequences", "validation_sequences")):
        return []
    return [f"data: {_described(first.data)} and {_described(second.data)}"]


def _protocol_differences(first: Results, second: Results) -> list[str]:
    """Settings of the protocol, backends and departures in which cases of one name differ, each told once."""
    others = {case.name: case for case in second.study.expanded}
    found: dict[str, list[str]] = {}
    for case in first.study.expanded:
        if case.name not in others:
            continue
        mine, theirs = (
            {f"protocol.{key}": value for key, value in vars(one.protocol).items()}
            | {"backend": one.backend, "departures": ", ".join(one.departures) or "none"}
            for one in (case, others[case.name])
        )
        for key, value in mine.items():
            if value != theirs[key]:
                found.setdefault(f"{key}: {value} and {theirs[key]}", []).append(case.name)
    return [f"{difference} ({', '.join(cases)})" for difference, cases in found.items()]


def _machine_differences(first: Results, second: Results) -> list[str]:
    """Kinds of machine that cases of one name finished on, where the two studies have none in common, each two told once."""
    found: dict[str, list[str]] = {}
    kinds = [{case: _kinds(runs) for case, runs in one.finished.groupby("case", sort=False)} for one in (first, second)]
    for case, mine in kinds[0].items():
        if case in kinds[1] and mine.isdisjoint(theirs := kinds[1][case]):
            told = f"machine: {' and '.join(sorted(mine))}, and {' and '.join(sorted(theirs))}"
            found.setdefault(told, []).append(str(case))
    return [f"{difference} ({', '.join(cases)})" for difference, cases in found.items()]


def _kinds(runs: pd.DataFrame) -> set[str]:
    return set(kind_of_machine(runs))


def _described(data: dict[str, Any]) -> str:
    sequences = f"{data['train_sequences']:,} + {data['validation_sequences']:,} sequences"
    return f"{data['title']}, {sequences} (sha256 {data['sha256'][:12]})"


def _change(case: str, before: pd.DataFrame, after: pd.DataFrame, family: int, session_spread: float) -> Change:
    seeds = before.index.intersection(after.index)
    clean = [part[part["clean"]] for part in (before, after)]
    common = _kinds(clean[0]) & _kinds(clean[1])
    clean = [part[kind_of_machine(part).isin(common)] for part in clean] if common else clean
    host = _common_host(*clean)
    timed = [part if host is None else part[hosts_of(part) == host] for part in clean]
    sessions = [part["session"].nunique() for part in timed]
    spread = 0.0 if min(sessions) > 1 else session_spread
    samples = [_by_session(part) if min(sessions) > 1 else part["epoch_seconds"] for part in timed]
    shared = [spread / np.sqrt(max(count, 1)) for count in sessions]
    return Change(
        case,
        unpaired_ratio(samples[1], samples[0], family, shared=(shared[1], shared[0])),
        difference(after.loc[seeds, "validation_accuracy"], before.loc[seeds, "validation_accuracy"], family),
        (len(timed[0]), len(timed[1])),
        (len(before), len(after)),
        _machines(before, after),
        _versions(before, after),
        host,
        (sessions[0], sessions[1]),
        spread,
    )


def _by_session(runs: pd.DataFrame) -> pd.Series:
    """The geometric mean of the times of each session."""
    means: pd.Series = np.exp(np.log(runs["epoch_seconds"]).groupby(runs["session"]).mean())
    return means


def _common_host(before: pd.DataFrame, after: pd.DataFrame) -> str | None:
    """The host whose runs alone are compared, where a side has several: of those that both have, the one with the most runs. None where
    each side has one, and where they have none in common: what then is compared is named."""
    counts = [hosts_of(part).value_counts() for part in (before, after)]
    if max(map(len, counts)) < 2:
        return None
    common = sorted(counts[0].index.intersection(counts[1].index))
    return max(common, key=lambda host: min(count[host] for count in counts)) if common else None


def _machines(before: pd.DataFrame, after: pd.DataFrame) -> tuple[str, str]:
    """What each side ran on; with their hosts, where there are several: one model is not one machine."""
    machines = [", ".join(sorted(set(part["machine"]))) for part in (before, after)]
    hosts = [sorted(set(hosts_of(part))) for part in (before, after)]
    if hosts[0] != hosts[1] or len(hosts[0]) > 1:
        machines = [f"{machine} (host {', '.join(mine)})" for machine, mine in zip(machines, hosts, strict=True)]
    return machines[0], machines[1]


def _versions(before: pd.DataFrame, after: pd.DataFrame) -> str:
    if before.empty:
        return ""
    old, new = (json.loads(part["versions"].iloc[0]) for part in (before, after))
    names = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
    return ", ".join(f"{name} {old.get(name, 'absent')} → {new.get(name, 'absent')}" for name in names)
