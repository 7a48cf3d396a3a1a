"""The leaderboard: each case's time against the fastest's, its rank, what it learnt, and what speaks against its figures."""

from math import isfinite
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import gmean

from levelfield.measure.spoilt import TIMING
from levelfield.tell.coherence import mixtures, one_order, unhashed
from levelfield.tell.estimates import NOTHING, Estimate, ratio
from levelfield.tell.kept import BrokenRecord
from levelfield.tell.outcomes import STATUS, read_parity
from levelfield.tell.proven import otherwise
from levelfield.tell.results import Results
from levelfield.tell.tables.families import PairOfCases, floors, pairs_of_cases, unclaimed
from levelfield.tell.tables.groups import by_seeds, finished, missed_checks, of_these_sessions, pairs
from levelfield.tell.tables.table import Row, Table, number, second_digits, spread

RATES = ["epoch_seconds", "sequences_per_second"]
LEADER = ["validation_accuracy", "host_peak_bytes", "nvml_peak_bytes"]
ROW = ["case", "machine"]


def leaderboard(results: Results) -> Table:
    """A row each case and machine: the fastest first, then cases with departures, then those without a finished run.

    Rows of one machine and of one protocol stand together, since no others may be compared; those without a clean run stand below
    those that have one, and are never the fastest beside them.
    """
    runs, protocols = finished(results), {case.name: case.protocol for case in results.study.expanded}
    order = list(dict.fromkeys(protocols.values()))
    board = _means(runs).merge(_outcomes(results), on="case", how="outer")
    board.insert(1, "model", board["case"].map(results.models))
    board["protocol"] = board["case"].map(lambda case: order.index(protocols[case]))
    board["matched"] = board["departures"] == ""
    board["unfinished"] = board["epoch_seconds"].isna()
    board["twin"] = board["case"].isin(results.twins)
    board = board.sort_values(
        ["unfinished", "matched", "machine", "protocol", "twin", "standing", "typical"],
        ascending=[True, False, True, True, True, True, True],
        ignore_index=True,
    )
    equals = board.groupby(["protocol", "machine"])["case"].transform("size") > 1
    may_win = board["matched"] & equals & ~board["twin"] & (board["standing"] < 2)
    fastest = board[may_win].groupby(["protocol", "machine"])["case"].first()
    ratios = _Ratios(results, runs, board)
    found = [ratios.against(row, fastest.get((row.protocol, row.machine))) for row in board.itertuples()]
    board[list(Against._fields)] = pd.DataFrame(found, columns=Against._fields, index=board.index)
    board["rank"] = _ranks(results, board)
    twins = board["twin"]
    board = board.drop(columns=["protocol", "matched", "unfinished", "typical", "standing", "twin"])
    digits = second_digits(board["epoch_seconds"])
    shown = pd.DataFrame(
        {
            "case": board["case"],
            "rank": board["rank"],
            "seconds an epoch": [_seconds(r, digits) for r in board.itertuples()],
            "time, fastest = 1": [_times(r) for r in board.itertuples()],
            "sequences/s": [number(value, 0) for value in board["sequences_per_second"]],
            "validation accuracy": [spread(r.validation_accuracy, r.validation_accuracy_sd, 4) for r in board.itertuples()],
            "peak memory, GB": [_memory(r) for r in board.itertuples()],
            "parity": board["parity"],
            "seeds": [f"{r.finished} of {r.planned}" for r in board.itertuples()],
            "clean": [f"{r.clean_runs:.0f} of {r.seeds:.0f}" if r.finished else "" for r in board.itertuples()],
            "remarks": [_remarks(r, results.twins, results.study.accepted) for r in board.itertuples()],
        }
    )
    if (board["rank"] == "").all():
        shown = shown.drop(columns="rank")
    if len(results.machines) > 1:
        shown.insert(1, "machine", board["machine"].fillna(""))
    if results.several_models:
        shown.insert(1, "model", board["model"])
    return Table("leaderboard", f"Leaderboard: {results.context}", board, shown, _notes(results, runs, board, twins.any()))


def _means(runs: pd.DataFrame) -> pd.DataFrame:
    """A row each case and machine: times over its clean runs, over all where none is clean; the rest over all.

    `standing`: 0 with a clean run, 1 without, 2 where every run diverged or the case is barred; `typical`: as ratios by seed average.
    """
    board = by_seeds(runs, ROW, LEADER)
    some = runs.groupby(ROW)["clean"].transform("any")
    bearing = runs[runs["clean"] | ~some.astype(bool)]
    times = by_seeds(bearing, ROW, RATES).drop(columns="seeds")
    groups = runs.groupby(ROW, sort=False)
    board = board.merge(times, on=ROW, how="left")
    of_all = groups["epoch_seconds"].agg(["mean", "std"]).reset_index(drop=True)
    board["epoch_seconds_of_all"], board["epoch_seconds_of_all_sd"] = of_all["mean"], of_all["std"]
    board["clean_runs"] = groups["clean"].sum().to_numpy().astype(int)
    board["diverged"] = groups["diverged"].sum().to_numpy().astype(int)
    board["barred"] = groups["barred"].first().to_numpy()
    lost = (board["diverged"] == board["seeds"]) | board["barred"].notna()
    board["standing"] = np.where(lost, 2, np.where(board["clean_runs"] > 0, 0, 1))
    typical = bearing.groupby(ROW)["epoch_seconds"].apply(gmean).rename("typical").reset_index() if len(bearing) else None
    return board.assign(typical=np.nan) if typical is None else board.merge(typical, on=ROW, how="left")


class Against(NamedTuple):
    """A row's time against the fastest's, as columns of the table."""

    fastest: str | None = None
    """The case that it is compared with, if it is."""
    times_fastest: float | None = None
    times_fastest_low: float | None = None
    times_fastest_high: float | None = None
    clean_pairs: int | None = None
    unclaimed: str | None = None
    """Why nothing is claimed, if so."""
    shown_slower: bool | None = None
    """Of a matched case whether that is shown: the interval leaves out 1, and the ratio is no noise, where a twin tells what is."""


class _Ratios:
    """Each row's time over that of the fastest matched case: of matched cases as the family's comparisons have it."""

    def __init__(self, results: Results, runs: pd.DataFrame, board: pd.DataFrame):
        self.runs = runs
        self.family = {(frozenset({one.case, one.against}), one.machine): one for one in pairs_of_cases(results) if one.matched}
        apart = (~board["matched"] | board["twin"]) & ~board["unfinished"]
        group = ["protocol", "machine"]
        self.others = board[apart].groupby(group).size()
        self.ranked = board[board["matched"] & ~board["twin"] & ~board["unfinished"]].groupby(group).size()

    def against(self, row: Row, fastest: str | None) -> Against:
        """What the row's time is against that of `fastest`."""
        if fastest is None or pd.isna(row.machine):
            return Against()
        if row.case == fastest:
            return Against(fastest, 1.0, 1.0, 1.0, shown_slower=False)
        one = self.family.get((frozenset({row.case, fastest}), row.machine))
        if one is None:
            found, clean, why = self._apart(row, fastest)
            return Against(fastest, found.value, found.low, found.high, clean, why)
        found = one.speed if one.case == fastest else one.speed.inverse
        why = None if found.enough else unclaimed(one)
        return Against(fastest, found.value, found.low, found.high, one.clean, why, one.faster and one.case == fastest)

    def _apart(self, row: Row, fastest: str) -> tuple[Estimate, int, str | None]:
        """Of a case with departures, or of a twin: they are a family of their own, each against each matched case, since these runs
        chose which of those is the fastest."""
        found = pairs(self.runs[self.runs["machine"] == row.machine], row.case, fastest)
        clean = found.clean
        group = (row.protocol, row.machine)
        size = int(self.others.get(group, 1) * self.ranked.get(group, 1))
        first, second = found.first["epoch_seconds"], found.second["epoch_seconds"]
        if found.first.empty:
            return NOTHING, 0, found.warning
        one = ratio(first[clean], second[clean], size)
        one = ratio(first, second, size).unclaimed if one.value is None else one
        pair = PairOfCases(row.case, fastest, False, row.machine, "", found, one, one, int(clean.sum()), one)
        return one, pair.clean, None if one.enough or one.value is None else unclaimed(pair)


def _ranks(results: Results, board: pd.DataFrame) -> list[str]:
    """The rank of each matched case among those of its protocol and machine: `1`, or `1–2` where the order is not shown. A case
    that diverged in every run, or is barred, has none."""
    faster = [one for one in pairs_of_cases(results) if one.matched and one.faster]
    ranked = board["matched"] & ~board["unfinished"] & ~board["twin"] & (board["standing"] < 2)
    sizes = board[ranked].groupby(["protocol", "machine"])["case"].transform("size").reindex(board.index)
    found = []
    for row, known, size in zip(board.itertuples(), ranked, sizes, strict=True):
        if not known or size < 2:
            found.append("")
            continue
        best = 1 + sum(one.against == row.case and one.machine == row.machine for one in faster)
        worst = int(size) - sum(one.case == row.case and one.machine == row.machine for one in faster)
        found.append(str(best) if best == worst else f"{best}–{worst}")
    return found


def _notes(results: Results, runs: pd.DataFrame, board: pd.DataFrame, twin: bool) -> list[str]:
    notes = [
        "Mean ± standard deviation over the seeds; times over clean runs, which neither the machine nor their own checks spoilt, over all where "
        "none is clean. Time against the fastest matched case with the same protocol on the same machine: geometric mean of the ratios by "
        "seed over clean pairs, in brackets intervals that hold together, for all matched cases of a protocol and machine, in 95 of 100 "
        f"studies{of_these_sessions(results)}. Rank 1–2: which of them is faster is not shown."
    ]
    if len(results.machines) > 1:
        notes.append(f"Several machines: {'; '.join(results.machines)}. Compare rows of one machine alone.")
    if (board["departures"] != "").any():
        notes.append("Cases with departures run another program than the protocol asks for; they stand below the matched ones.")
    if (board["clean_runs"] < board["seeds"]).any():
        notes.append(
            "Unclean: so restless was the machine beside a run, or so odd its times, that these are not to be trusted to 5 %."
        )
    untold = runs["noise_untold"].dropna() if "noise_untold" in runs else runs["case"].iloc[:0]
    if len(untold):
        notes.append(
            f"Of {len(untold)} of {len(runs)} runs the machine does not tell what other work took ({untold.iloc[0]}): clean says less of them."
        )
    if (board["diverged"] > 0).any():
        notes.append("Diverged: a loss was not finite; such a run is in no claim about speed.")
    if twin:
        found = set(floors(results).values())
        known = " or ".join(f"{floor:.2f}" for floor in sorted(found) if isfinite(floor))
        smaller = f"; a ratio of no more than {known} is no claim" if known else ""
        smaller += "; where too few of its pairs are clean no ratio is one" if not all(map(isfinite, found)) else ""
        notes.append(f"A twin is the same program once more, and has no rank: what it differs by is noise{smaller}.")
    if runs["session"].nunique() > 1:
        notes.append(
            f"Runs of {runs['session'].nunique()} sessions (a host, a boot, no break of an hour); intervals are over all of them."
        )
    return [*notes, *mixtures(runs), *filter(None, [one_order(runs), unhashed(runs)])]


def _outcomes(results: Results) -> pd.DataFrame:
    """A row each planned case: departures, parity, how many runs came to what, and the first error."""
    rows = []
    for case, runs in results.runs.groupby("case", sort=False):
        counts = {status.replace("-", "_"): int((runs["status"] == status).sum()) for status in STATUS}
        errors, unclean = runs["error"].dropna(), runs["unclean"].dropna()
        row = {
            "case": case,
            "departures": runs["departures"].iloc[0],
            "parity": _parity(results, case, runs),
            "planned": len(runs),
        }
        row |= counts | {"error": errors.iloc[0] if len(errors) else None, "missed_checks": _missed_checks(runs)}
        row |= {"retaken": int((runs["take"] > 1).sum())}
        rows.append(row | {"unclean": f"{len(unclean)} unclean: {unclean.iloc[0]}" if len(unclean) else ""})
    return pd.DataFrame(rows)


def _missed_checks(runs: pd.DataFrame) -> str:
    """The checks that some run of a case did not pass, those apart that spoil its times."""
    missed = [name for name in missed_checks(runs) if name not in TIMING]
    return ", ".join(f"{name} ({missed.count(name)})" for name in dict.fromkeys(missed))


def _parity(results: Results, case: str, runs: pd.DataFrame) -> str:
    """What was proven of a case; nothing of a timed one with other versions, or on another device, than the proven one's."""
    try:
        parity = read_parity(results.folder, case)
    except BrokenRecord:
        return "unreadable"
    if parity is None:
        return "not measured"
    if not parity.matched:
        return "departs"
    others = otherwise(parity, runs[runs["status"] == "finished"]) if parity.passed else []
    if others:
        return f"unproven: {'; '.join(others)}"
    return {True: "passed", False: "missed", None: "unproven"}[parity.passed]


def _seconds(row: Row, digits: int) -> str:
    told = spread(row.epoch_seconds, row.epoch_seconds_sd, digits)
    if pd.isna(row.epoch_seconds) or row.clean_runs in (0, row.seeds):
        return told
    return f"{told} (all: {number(row.epoch_seconds_of_all, digits)})"


def _times(row: Row) -> str:
    if pd.isna(row.times_fastest):
        return row.unclaimed or ""
    if row.case == row.fastest:
        return "1"
    if pd.isna(row.times_fastest_low):
        return f"{row.times_fastest:.2f}, no claim: {row.unclaimed}"
    return f"{row.times_fastest:.2f} [{row.times_fastest_low:.2f}, {row.times_fastest_high:.2f}]"


def _memory(row: Row) -> str:
    host = number(row.host_peak_bytes, 2, 1e-9)
    return host if pd.isna(row.nvml_peak_bytes) else f"{host} + {number(row.nvml_peak_bytes, 2, 1e-9)} GPU"


def _remarks(row: Row, twins: dict[str, str], accepted: dict[str, str]) -> str:
    """What did not finish, and what speaks against the figures of what did."""
    words = {"failed": row.failed, "missing": row.missing, "failed parity": row.failed_parity}
    found = ", ".join(f"{count} {word}" for word, count in words.items() if count)
    found = f"{found}: {_short(row.error)}" if isinstance(row.error, str) else found
    if row.case in accepted:
        yet = "accepted as failing, yet it finished" if row.finished else "accepted"
        found = f"{yet} ({_short(accepted[row.case])})" + (f": {found}" if found else "")
    twin = f"twin of {twins[row.case]}" if row.case in twins else ""
    diverged = f"{row.diverged:.0f} diverged" if row.diverged > 0 else ""
    barred = f"barred from claims, {row.barred}" if isinstance(row.barred, str) else ""
    missed = f"checks missed: {row.missed_checks}" if row.missed_checks else ""
    retaken = f"{row.retaken} taken again" if row.retaken else ""
    return "; ".join(part for part in (found, twin, diverged, barred, missed, retaken, row.unclean) if part)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 90 else line[:89] + "…"
