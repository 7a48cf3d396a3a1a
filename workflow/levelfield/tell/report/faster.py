"""Who was faster, in words, family by family, and of a study that varies a size at each of them: only what an interval shows."""

from dataclasses import replace
from math import isfinite

import numpy as np

from levelfield.study.protocol import Protocol
from levelfield.tell.estimates import Estimate
from levelfield.tell.figures.scaling import SIZES
from levelfield.tell.results import Results
from levelfield.tell.tables.families import PairOfCases, matched_families, unclaimed
from levelfield.tell.tables.leaderboard import leaderboard

MOST = 6
"""Cases, or families, named in one sentence; for more it refers to the table."""


def speed(results: Results, sized: bool = True) -> list[str]:
    """The fastest matched case of each protocol and machine against each other one, the closest first; not of those that are the study's
    own but for one of several models, which `fastest_by_model` tells. sized: also of the protocols that differ from the study's in a
    size that it varies, which `sizes` tells."""
    said = []
    families = {
        key: mine
        for key, mine in matched_families(results).items()
        if not (results.several_models and _own_but_for_the_model(results, mine[0].case))
        and (sized or not _of_a_size(results, mine[0].case))
    }
    for (setting, machine), mine in list(families.items())[:MOST]:
        where = [f"with {setting}"] * bool(setting) + [f"on {machine}"] * (len(results.machines) > 1)
        told = _family(mine)
        if where:
            first = ", ".join(where)
            told[0] = f"{first[0].upper()}{first[1:]}: {told[0]}"
        said += told
    if len(families) > MOST:
        said.append(f"{len(families) - MOST} more protocols or machines have their rows in the comparisons' table.")
    return said


def _of_a_size(results: Results, name: str) -> bool:
    """Whether a case has the study's protocol but for a size that the study varies."""
    protocol = next(case.protocol for case in results.study.expanded if case.name == name)
    varied = [setting for setting in SIZES if setting in results.study.vary]
    return any(_like(results, protocol, setting, getattr(protocol, setting)) for setting in varied)


def _own_but_for_the_model(results: Results, name: str) -> bool:
    protocol = next(case.protocol for case in results.study.expanded if case.name == name)
    return protocol == replace(results.study.protocol, model=protocol.model)


def _like(results: Results, protocol: Protocol, setting: str, size: object) -> bool:
    """Whether a protocol is the study's own but for one setting, which has the value `size`."""
    usual = vars(results.study.protocol) | {setting: size}
    return vars(protocol) == usual


def different_machines(results: Results, pairs: tuple[PairOfCases, ...]) -> list[str]:
    """Matched cases that never ran on one machine."""
    apart = [one for one in pairs if one.matched and one.found.warning.startswith("different machines")]
    return [f"{one.case} and {one.against} are not compared in speed here: {one.found.warning}." for one in apart[:MOST]]


def _family(mine: list[PairOfCases]) -> list[str]:
    names = [one.case for one in mine]
    wins = [one.case for one in mine if one.faster]
    fastest = max(dict.fromkeys(names), key=lambda name: (wins.count(name), names.count(name)))
    rows = [(one, *_seen_from(one, fastest)) for one in mine if fastest in (one.case, one.against)]
    rows.sort(key=lambda row: row[2].value or 0)
    clear = [row for row in rows if row[0].faster and row[0].case == fastest]
    lost = [row for row in rows if row[0].faster and row[0].case != fastest]
    close = [row for row in rows if row[0].speed.enough and row not in clear and row not in lost]
    unsure = [row for row in rows if not row[0].speed.enough]
    said = []
    if clear:
        figures = [
            f"{one.value:.2f} times as fast as {other} {_interval(one)}{of_sessions(pair, fastest)}{_of_all(pair, fastest)}"
            for pair, other, one in clear[:MOST]
        ]
        said.append(f"{fastest} trained {listed(figures, len(clear))}; in brackets {_brackets(clear)}.")
    if close:
        figures = [
            f"{other}, {one.value:.2f} times {_interval(one)}{of_sessions(pair, fastest)}{_of_all(pair, fastest)}"
            for pair, other, one in close[:MOST]
        ]
        floor = close[0][0].floor
        noise = f"; the noise floor is {f'{floor:.2f}' if isfinite(floor) else 'not known'}" if floor > 1 else ""
        said.append(
            f"No difference in speed was shown between {fastest} and {listed(figures, len(close))}; in brackets {_brackets(close)}{noise}."
        )
    for pair, other, one in lost[:MOST]:
        back = one.inverse
        said.append(f"{other} trained {back.value:.2f} times as fast as {fastest} {_interval(back)}{_of_all(pair, other)}.")
    if unsure:
        figures = [f"{other}, {one.value:.2f} times ({unclaimed(pair)})" for pair, other, one in unsure[:MOST]]
        said.append(f"Nothing is claimed of the speed of {fastest} against {listed(figures, len(unsure))}.")
    return said


def _seen_from(one: PairOfCases, fastest: str) -> tuple[str, Estimate]:
    """The other case, and the ratio of its time to the fastest's."""
    return (one.against, one.speed) if one.case == fastest else (one.case, one.speed.inverse)


def _interval(found: Estimate) -> str:
    return f"[{found.low:.2f}, {found.high:.2f}]"


def of_sessions(one: PairOfCases, fastest: str) -> str:
    """The ratio in each session, where there are several: the interval is over them all, and tells nothing of a further one."""
    values = [value if one.case == fastest else 1 / value for value in one.by_session]
    return f" (by session {listed([f'{value:.2f}' for value in values], len(values))})" if values else ""


def _of_all(one: PairOfCases, fastest: str) -> str:
    """The ratio over all runs, seen from `fastest`, where some are not clean at their first take and it differs."""
    of_all, of_clean = (_seen_from(replace(one, speed=found), fastest)[1] for found in (one.speed_of_all, one.speed))
    found = f"{of_all.value:.2f}"
    return "" if one.all_clean or found == f"{of_clean.value:.2f}" else f" (over all runs {found})"


def _brackets(rows: list[tuple[PairOfCases, str, Estimate]]) -> str:
    """`95 % intervals, simultaneous for 3 comparisons, from 4 clean pairs of seeds`."""
    numbers, family = sorted({one.clean for one, _, _ in rows}), rows[0][0].speed.family
    pairs = f"{numbers[0]}" if len(numbers) == 1 else f"{numbers[0]} to {numbers[-1]}"
    together = f", simultaneous for {family} comparisons," if family > 1 else ""
    sessions = max(len(one.by_session) for one, _, _ in rows) or 1
    return f"95 % intervals{together} from {pairs} clean pairs of seeds{f' of {sessions} sessions' if sessions > 1 else ''}"


def listed(parts: list[str], number: int) -> str:
    """`a, b and c`, or `a, b and 7 more` where `number` says that there are more."""
    if number > len(parts):
        return f"{', '.join(parts)} and {number - len(parts)} more, which the comparisons' table has"
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def sizes(results: Results) -> list[str]:
    """Of a study that varies a size: who was fastest at each, where an interval shows it; nothing of another study."""
    board, families, said = leaderboard(results).data, matched_families(results), []
    protocols = {case.name: case.protocol for case in results.study.expanded}
    for setting in (name for name in SIZES if name in results.study.vary):
        for machine in results.machines:
            winners: dict[str, list[str]] = {}
            for size in results.study.vary[setting]:
                ends = f"+{setting}={size}"
                usual = [_like(results, protocols[case], setting, size) for case in board["case"]]
                mine = board[
                    np.array(usual) & board["case"].str.endswith(ends) & (board["machine"] == machine) & (board["rank"] != "")
                ]
                if mine.empty:
                    continue
                first = [row.case.removesuffix(ends) for row in mine.itertuples() if row.rank.split("–")[0] == "1"]
                family = [
                    one
                    for found in families.values()
                    for one in found
                    if one.case in set(mine["case"]) and one.machine == machine
                ]
                told = first[0] if len(first) == 1 else f"{' or '.join(first)} (no difference shown)"
                winners.setdefault(told if any(one.speed.enough for one in family) else "", []).append(f"{size:,}")
            shown = [f"{who} at {listed(at, len(at))}" for who, at in winners.items() if who]
            if winners.get(""):
                shown.append(f"nothing is claimed at {listed(winners[''], len(winners['']))}, from too few clean pairs")
            where = f" on {machine}" if len(results.machines) > 1 else ""
            said += [f"Fastest{where} by {SIZES[setting]}: {'; '.join(shown)}."] if shown else []
    return said
