"""Whether the records of a study belong together: one data, one start a seed, the same first losses; which runs disturbed each other.

What a run was trained on decides whether it counts at all. That the timed runs computed the same is proven in them once more: from
the same start, the losses of the first steps of all matched cases agree.
"""

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import datetime, timedelta
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from levelfield.commit import shortened
from levelfield.level.parity import Parity
from levelfield.models.base import weights_of
from levelfield.plan.sessions import BREAK
from levelfield.records import Run
from levelfield.study.config import Study
from levelfield.study.protocol import Case, Protocol
from levelfield.tell.kept import BrokenRecord, Records, edited, parsed

if TYPE_CHECKING:  # who collects needs no pandas
    import pandas as pd

FIRST_STEPS = 10
"""Of which losses are compared: parity has a bound on the loss of step 10, and rounding grows from step to step."""
ALLOWANCE = 10
"""Times what parity's bounds explain, since those are of one seed's batches."""
OVERLAP = timedelta(seconds=1)
"""Time that two runs share before they are said to overlap: earlier records have their start to the second."""


class Expected:
    """The checksums of data and starts that a study's runs must have: the files' where they are there, else most runs'."""

    def __init__(self, records: Records, study: Study):
        kinds = {case.name: (case.protocol.model.name, tuple(weights_of(case.protocol).items())) for case in study.expanded}
        different = list(dict.fromkeys(kinds.values()))
        self.kinds = {name: different.index(kind) for name, kind in kinds.items()}
        data: Counter[str | None] = Counter()
        starts: defaultdict[tuple[int, int], Counter[str | None]] = defaultdict(Counter)
        made: list[tuple[str, tuple[str, int], str | None, str | None]] = []
        same: defaultdict[str, list[tuple[str, int]]] = defaultdict(list)
        for case in study.expanded:
            for seed in study.seeds:
                told = _told(records, f"runs/{case.name}/seed-{seed}/run.json")
                if (told.get("case"), told.get("seed")) != (case.name, seed) or edited(told):
                    continue
                data_sha256, start_sha256 = _text(told, "data_sha256"), _text(told, "start_sha256")
                data[data_sha256] += 1
                starts[seed, self.kinds[case.name]][start_sha256] += 1
                made.append((_making(told), (case.name, seed), data_sha256, start_sha256))
        described = _told(records, "data/data.json")
        self.sequences = described.get("train_sequences") if isinstance(described.get("train_sequences"), int) else None
        data_sha256 = _text(described, "sha256")
        self.data = _commonest(data) if data_sha256 is None else {data_sha256}
        self.starts = {key: _commonest(found) for key, found in starts.items()}
        for seed, files in _starts(records).items():
            for kind in range(len(different)):
                self.starts[seed, kind] = files
        for making, (name, seed), data_sha256, start_sha256 in made:
            if data_sha256 in self.data and start_sha256 in self.starts[seed, self.kinds[name]]:
                same[making].append((name, seed))
        self.twice = {run: next(one for one in runs if one != run) for runs in same.values() if len(runs) > 1 for run in runs}

    def refuses(self, run: Run, case: Case) -> str | None:
        """Why a finished run is none of this study's, if so."""
        wanted = {
            "data": (run.data_sha256, self.data),
            "start": (run.start_sha256, self.starts.get((run.seed, self.kinds[case.name]), set())),
        }
        for what, (found, allowed) in wanted.items():
            if found not in allowed:
                others = (
                    f"expected {' or '.join(sorted(one[:12] for one in allowed))}"
                    if allowed
                    else "others of its seed have another"
                )
                return f"trained on another {what}: sha256 {found[:12]}, {others}; delete the run's folder and run `snakemake`"
        if self.sequences not in (None, run.train_sequences):
            return f"trained on {run.train_sequences:,} sequences, the study's data has {self.sequences:,}"
        if other := self.twice.get((run.case, run.seed)):
            return f"the same run stands as {other[0]}, seed {other[1]}, too: they began and took the same to the last digit"
        return None


def _told(records: Records, name: str) -> dict[str, Any]:
    """A file that is not there or not whole tells nothing here; who reads the records says so."""
    try:
        return parsed(records.read(name))
    except (BrokenRecord, ValueError, RecursionError):
        return {}


def _text(told: dict[str, Any], name: str) -> str | None:
    return told[name] if isinstance(told.get(name), str) else None


def _starts(records: Records) -> dict[int, set[str]]:
    """Seed to the checksums that its starts' files tell."""
    found = defaultdict(set)
    for name in records.names("start/**/seed-*.npz.sha256"):
        seed = re.fullmatch(r".*/seed-(\d{1,10})\.npz\.sha256", name)
        try:
            told = records.read(name).decode().split(maxsplit=1)
        except (BrokenRecord, ValueError):
            continue
        if seed and told and re.fullmatch("[0-9a-f]{64}", told[0]):
            found[int(seed[1])].add(told[0])
    return found


def _making(told: dict[str, Any]) -> str:
    """What no two runs have in common: where and when one began, and how long each part of it took."""
    machine = told.get("machine")
    return repr((told.get("started"), machine.get("host") if isinstance(machine, dict) else None, told.get("times")))


def _commonest(found: Counter[str | None]) -> set[str]:
    """What most runs have; nothing where two are equally common, so that neither can be the right one."""
    known = {value: count for value, count in found.items() if value is not None}
    most = max(known.values(), default=0)
    first = {value for value, count in known.items() if count == most}
    return first if len(first) == 1 else set()


def allowed_apart(parity: Parity | None) -> float | None:
    """How far a matched case's first losses may lie from what they should be; None where its parity has no bound for them.

    Parity's bound on the loss of step 10 (of step 1 where it had no ten steps) is what rounding explains in its own batches, those
    of one seed. The timed runs have others, and so ten times that is allowed: a program that is another one is off by far more.
    """
    bounds = parity.bounds if parity else {}
    found = next((bounds[name] for name in ("loss_step_10", "loss_step_1") if name in bounds), None)
    return None if found is None else ALLOWANCE * found


def first_losses(
    study: Study, losses: dict[tuple[str, int], np.ndarray], allowances: dict[str, float | None]
) -> dict[tuple[str, int], tuple[float, str | None]]:
    """Of each matched run that has another to be held against: largest distance of its first losses, and what is wrong, if so.

    losses: (case, seed) to the losses of the first steps; allowances: by case, as `allowed_apart` gives them. A case that disagrees with
    more than half of the others of its protocol and seed that it can be held against (both have an allowance) is wrong; of two that
    disagree, nobody knows which, and both are.
    """
    protocols: dict[Protocol, list[Case]] = {}
    for case in study.expanded:
        if case.matched:
            protocols.setdefault(case.protocol, []).append(case)
    found = {}
    for cases in protocols.values():
        for seed in study.seeds:
            mine = [case for case in cases if (case.name, seed) in losses]
            apart: defaultdict[str, dict[str, float]] = defaultdict(dict)
            wrong: defaultdict[str, list[str]] = defaultdict(list)
            judged: Counter[str] = Counter()
            for one, other in combinations(mine, 2):
                first, second = losses[one.name, seed], losses[other.name, seed]
                steps = min(len(first), len(second))
                distance = np.abs(first[:steps].astype(float) - second[:steps])
                known = [bound for case in (one, other) if (bound := allowances.get(case.name)) is not None]
                allowed = sum(known) if len(known) == 2 else None
                apart[one.name][other.name] = apart[other.name][one.name] = float(distance.max())
                judged.update([one.name, other.name] if allowed is not None else [])
                if allowed is not None and not distance.max() <= allowed:
                    step = int(np.argmax(~(distance <= allowed))) + 1
                    for here, there in ((one, other), (other, one)):
                        wrong[here.name].append(
                            f"{there.name} by {distance[step - 1]:.1e} in step {step}, allowed {allowed:.0e}"
                        )
            for name, others in apart.items():
                told = f"loss differs from {wrong[name][0]}" if 2 * len(wrong[name]) > judged[name] else None
                found[name, seed] = (max(others.values()), told)
    return found


def host_of(row: dict[str, Any]) -> str:
    """Which host a run was on, whatever else is called the same: by its own number where it was recorded."""
    return row.get("host_id") or f"{row['host']}, {row['cpu']}"


def span(row: dict[str, Any]) -> tuple[datetime, datetime]:
    """When a run began its work and when its last epoch was over; of earlier records the end is a sum of their times."""
    start = datetime.fromisoformat(row["started"])
    if row.get("ended"):
        return start, datetime.fromisoformat(row["ended"])
    parts = ("import_seconds", "build_seconds", "warm_up_seconds", "train_seconds", "validation_seconds")
    return start, start + timedelta(seconds=sum(row[part] for part in parts))


def _on_other_cards(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two runs had no GPU in common; of a card that was not told nobody knows."""
    uuids = [row["gpu_uuid"] for row in (one, other)]
    return all(uuids) and set(uuids[0].split(", ")).isdisjoint(uuids[1].split(", "))


def overlaps(rows: Iterable[dict[str, Any]]) -> dict[tuple[str, int], str]:
    """(case, seed) of each run beside which another ran on the same host to the sentence that names it.

    Two runs on GPUs of their own leave each other alone.
    """
    hosts, found = defaultdict(list), defaultdict(list)
    for row in rows:
        hosts[host_of(row)].append((*span(row), row))
    for mine in hosts.values():
        running: list[tuple[datetime, datetime, dict[str, Any]]] = []
        for start, end, row in sorted(mine, key=lambda one: one[:2]):
            running = [other for other in running if other[1] - start > OVERLAP]
            for _, _, other in running:
                apart = row["device"] == other["device"] == "cuda" and _on_other_cards(row, other)
                if not apart:
                    found[row["case"], row["seed"]].append(f"{other['case']}, seed {other['seed']}")
                    found[other["case"], other["seed"]].append(f"{row['case']}, seed {row['seed']}")
            running.append((start, end, row))
    return {
        key: f"ran beside {others[0]}" + (f" and {len(others) - 1} more" if len(others) > 1 else "")
        for key, others in found.items()
    }


def sessions(rows: Iterable[dict[str, Any]]) -> dict[tuple[str, int], int]:
    """(case, seed) of each run to its session, from 1: a stretch of runs on one host and boot without a break of an hour."""
    hosts = defaultdict(list)
    for row in rows:
        hosts[host_of(row), row.get("boot")].append((*span(row), (row["case"], row["seed"]), row.get("take") or 1))
    stretches: list[tuple[datetime, list[tuple[str, int]]]] = []
    for mine in hosts.values():
        last = None
        for start, end, key, takes in sorted(mine):
            earlier = (takes - 1) * (end - start)  # that spoilt takes before it took, about
            if last is None or start - earlier - last > BREAK:
                stretches.append((start, []))
            stretches[-1][1].append(key)
            last = end if last is None else max(last, end)
    return {key: number for number, (_, keys) in enumerate(sorted(stretches, key=lambda one: one[0]), 1) for key in keys}


def positions(study: Study, rows: list[dict[str, Any]]) -> dict[tuple[str, int], tuple[str | None, int]]:
    """(case, seed) of each run to its block and the place that it really had in it by time, from 1 in each session."""
    blocks = {(case, block.seed): block.name for block in study.blocks for case in block.cases}
    places: Counter[tuple[str | None, int]] = Counter()
    found = {}
    for row in sorted(rows, key=lambda row: span(row)[0]):
        key = row["case"], row["seed"]
        block = blocks.get(key)
        places[block, row["session"]] += 1
        found[key] = block, places[block, row["session"]]
    return found


def annotate(
    study: Study, rows: list[dict[str, Any]], losses: dict[tuple[str, int], np.ndarray], allowances: dict[str, float | None]
) -> None:
    """Writes into the rows of finished runs what only all of them together tell: `unclean`, `incoherent`, `session`, `block`, `position`.

    rows: of `runs.parquet`; `unclean` holds what the run's own checks say. losses, allowances: as `first_losses` takes them.
    """
    finished = [row for row in rows if row["status"] == "finished"]
    beside, session, agreed = overlaps(finished), sessions(finished), first_losses(study, losses, allowances)
    for row in finished:
        key = row["case"], row["seed"]
        row["unclean"] = "; ".join(filter(None, [row["unclean"], beside.get(key)])) or None
        row["session"] = session[key]
        row["first_losses_apart"], row["incoherent"] = agreed.get(key, (None, None))
    places = positions(study, finished)
    for row in finished:
        row["block"], row["position"] = places[row["case"], row["seed"]]


def mixtures(runs: "pd.DataFrame") -> list[str]:
    """A sentence each of what is not one in a study's finished runs: commits, versions of a package, Python, images, hosts.

    runs: rows of `runs.parquet` with `machine`. Versions are compared package by package, for backends have packages of their own.
    """
    said = []
    hosts = Counter(host_of(row) for row in runs[["host", "host_id", "cpu"]].to_dict("records"))
    commits = Counter(map(shortened, runs["commit"].dropna()))
    named = {"commit": commits, "Python": Counter(runs["python"])}
    versions: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for text in runs["versions"].dropna():
        for package, version in json.loads(text).items():
            versions[package][version] += 1
    for what, found in (named | dict(sorted(versions.items())) | {"host": hosts}).items():
        if len(found) > 1:
            told = ", ".join(f"{value} ({count})" for value, count in sorted(found.items()))
            said.append(
                f"Runs of several {what}s: {told}."
                if what in ("commit", "host")
                else f"Runs of several versions of {what}: {told}."
            )
    return said


LEAST_BLOCKS = 3
"""Fewest blocks of the same cases whose one order is told."""


def one_order(runs: "pd.DataFrame") -> str:
    """That the same cases ran in the same order in every block, where they did: earlier versions had no other; nothing where they did not.

    runs: of `runs.parquet`, finished.
    """
    orders: defaultdict[frozenset[str], list[tuple[str, ...]]] = defaultdict(list)
    for _, block in runs.sort_values("position").groupby(["block", "session"]):
        orders[frozenset(block["case"])].append(tuple(block["case"]))
    fixed = [found for found in orders.values() if len(found) >= LEAST_BLOCKS and len(found[0]) > 1 and len(set(found)) == 1]
    if not fixed:
        return ""
    told = "; ".join(f"in all {len(found)} blocks {', then '.join(found[0])}" for found in fixed)
    return (
        f"In one order {told}: what changes from run to run, such as other work or a processor that warms up, is in what they differ by, "
        "and no interval covers it."
    )


def unhashed(runs: "pd.DataFrame") -> str:
    """How many of a study's finished runs have records of earlier versions, in which an edit is not noticed; nothing where none has."""
    earlier = int(runs["sha256"].isna().sum())
    told = f"{earlier} of {len(runs)} records are of a version that wrote no checksums: a number edited in them is not noticed."
    return told if earlier else ""
