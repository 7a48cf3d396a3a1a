"""Families of comparisons: which cases may be compared as equals, and every two of them, with intervals that hold together.

One family: the matched cases of one protocol on one machine; those with departures are another. A time is compared over clean pairs
alone, in which neither run was spoilt. What is learnt no busy machine changes: accuracies are compared over all pairs.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import combinations
from math import comb, isfinite

import numpy as np
import pandas as pd

from levelfield import registry
from levelfield.data.origin import kind_of
from levelfield.study.config import TWIN, Study
from levelfield.study.protocol import Case, Protocol
from levelfield.tell.estimates import NOTHING, Estimate, difference, equivalent, ratio
from levelfield.tell.power import pairs_for_equivalence, pairs_for_ratio, smallest_difference, smallest_ratio
from levelfield.tell.results import Results
from levelfield.tell.tables.groups import NEAR, Pairs, finished, pairs

COLUMNS = [
    "case",
    "machine",
    "seed",
    "clean",
    "barred",
    "unproven",
    "diverged",
    "unlearnt",
    *NEAR,
    "epoch_seconds",
    "first_epoch_seconds",
    "take",
    "validation_accuracy",
]
SMALL = 1.05
"""A ratio that is worth knowing: how many pairs it would take is told where fewer were clean."""


@dataclass(frozen=True)
class PairOfCases:
    """Two cases on one machine, the faster first by what is known of them."""

    case: str
    against: str
    matched: bool
    machine: str
    setting: str
    """What their protocol has of its own beside the study's, in words; empty for the study's own."""
    found: Pairs
    speed: Estimate
    """Time of `against` over time of `case`, over clean pairs; where none is clean over all, and then without an interval."""
    speed_of_all: Estimate
    """The same over all pairs, clean or not, by each run's first take: as if nothing had been taken again."""
    clean: int
    accuracy: Estimate
    """Validation accuracy after the last epoch, `case` − `against`, over all pairs."""
    barred: str | None = None
    """Why nothing is claimed, if so."""
    unlearnt: str | None = None
    """Why nothing is claimed of what they learn, if so."""
    floor: float = 1.0
    """The ratio that one case run twice showed: a smaller one is no claim. Infinite where it was to be run twice, and too few pairs
    of these two are clean."""
    by_session: tuple[float, ...] = ()
    """The speed in each session, where clean pairs are of several: what a day or a boot makes of it, beyond the interval."""

    @property
    def pairs(self) -> int:
        return len(self.found.first)

    @property
    def all_clean(self) -> bool:
        """Whether every pair is clean, and at its first take."""
        again = any((side["take"].fillna(1) > 1).any() for side in (self.found.first, self.found.second))
        return self.clean == self.pairs and not again

    @property
    def faster(self) -> bool:
        """Whether `case` is shown to be the faster one."""
        return self.speed.value is not None and self.speed.leaves_out(1) and self.speed.value > self.floor

    def equivalent(self, margin: float) -> bool:
        return equivalent(self.accuracy, margin)

    @property
    def verdict(self) -> str:
        """Their speed in words: `1.18 times as fast [1.15, 1.21]`."""
        found = self.speed
        if found.value is None:
            return ""
        told = f"{found.value:.2f} times"
        if not found.enough:
            return f"{told}, no claim: {unclaimed(self)}"
        told = f"{told}{' as fast' if self.faster else ''} [{found.low:.2f}, {found.high:.2f}]"
        if self.faster:
            return told
        if found.leaves_out(1):
            return f"within {floor_in_words(self.floor)}: {told}"
        return f"no difference shown: {told}"


def unclaimed(one: PairOfCases) -> str:
    """Why no interval is given of two cases' speed: `1 of 3 pairs is clean`."""
    if one.barred:
        return one.barred
    if one.clean == one.pairs:
        return "not enough seeds to say"
    told = f"{one.clean or 'none'} of {one.pairs} pairs {'are' if one.clean > 1 else 'is'} clean"
    apart = int((~one.found.near).sum())
    return (
        f"{told}, {apart} ran apart (another session, host or card, other blocks or a long rest between the two)"
        if apart
        else told
    )


def comparable(first: Case, second: Case) -> bool:
    """Matched cases of one protocol; of cases with departures, only those of different backends with the same protocol."""
    if first.protocol != second.protocol:
        return False
    return (first.matched and second.matched) or (not first.matched and not second.matched and first.backend != second.backend)


def program(case: Case) -> tuple[str, tuple[str, ...], Protocol]:
    """What a case computes, whatever it is called and tells: two that are the same program count once in a family."""
    kinds = {name: found[0].kind for name, found in registry.departures().items()}
    return case.backend, tuple(name for name in case.departures if kinds[name] != "reporting"), case.protocol


@lru_cache(maxsize=4)
def pairs_of_cases(results: Results) -> tuple[PairOfCases, ...]:
    """Every two cases that may be compared as equals, family by family; twins apart, which `floors` has."""
    runs = _by_case(results)
    families: dict[tuple[Protocol, bool, str], list[tuple[Case, Case, Pairs]]] = {}
    cases = [case for case in results.study.expanded if case.name not in results.twins]
    programs = {case.name: program(case) for case in cases}
    for first, second in combinations(cases, 2):
        if comparable(first, second):
            for machine, found in _pairs(runs, first.name, second.name):
                families.setdefault((first.protocol, first.matched, machine), []).append((first, second, found))
    floor, made = floors(results), []
    for (protocol, _, machine), mine in families.items():
        size = len({frozenset({programs[first.name], programs[second.name]}) for first, second, _ in mine})
        for first, second, found in mine:
            one = _pair(results, first, second, machine, found, size)
            made.append(replace(one, floor=floor.get((protocol, machine), 1.0)))
    return tuple(made)


def _by_case(results: Results) -> dict[str, dict[str, pd.DataFrame]]:
    """Each case's finished runs by machine and seed."""
    runs = finished(results)[COLUMNS]
    found: dict[str, dict[str, pd.DataFrame]] = {}
    for (case, machine), mine in runs.groupby(["case", "machine"], sort=False):
        found.setdefault(case, {})[machine] = mine.set_index("seed")
    return found


def _pairs(runs: dict[str, dict[str, pd.DataFrame]], first: str, second: str) -> Iterator[tuple[str, Pairs]]:
    """(machine, pairs) of two cases for each machine on which both ran a seed; one, with its warning, where there is none."""
    mine, theirs = runs.get(first, {}), runs.get(second, {})
    shared = [(machine, mine[machine].index.intersection(theirs[machine].index)) for machine in mine if machine in theirs]
    shared = [(machine, seeds) for machine, seeds in shared if len(seeds)]
    for machine, seeds in shared:
        yield machine, Pairs(mine[machine].loc[seeds], theirs[machine].loc[seeds], "")
    if mine and theirs and not shared:
        found = pairs(pd.concat([*mine.values(), *theirs.values()]).reset_index(), first, second)
        if len(found.first):
            yield "", found


def _pair(results: Results, first: Case, second: Case, machine: str, found: Pairs, family: int) -> PairOfCases:
    barred = next((f"{case}: {why}" for case, why in _barred(found)), None)
    one, other = found.first, found.second
    clean = found.clean
    speed = everything = NOTHING
    if not found.warning:
        everything = ratio(other["first_epoch_seconds"], one["first_epoch_seconds"], family)
        speed = ratio(other["epoch_seconds"][clean], one["epoch_seconds"][clean], family)
        speed = everything.unclaimed if speed.value is None else speed
    accuracy = difference(one["validation_accuracy"], other["validation_accuracy"], family, resolution(results))
    if barred:
        speed = speed.unclaimed
    flat, both = int(one["unlearnt"].sum() + other["unlearnt"].sum()), len(one) + len(other)
    unlearnt = f"no claim: the loss was not seen to fall in {flat} of {both} runs" if flat else None
    unlearnt = "no claim: made sequences teach nothing" if kind_of(results.data) == "synthetic" else unlearnt
    if barred or unlearnt or accuracy.pairs < len(one) or _of_another_program(one) or _of_another_program(other):
        accuracy = accuracy.unclaimed
    made = PairOfCases(
        first.name, second.name, first.matched, machine, setting(results, first), found, speed, everything, int(clean.sum()),
        accuracy, barred, unlearnt, by_session=_by_session(one[clean], other[clean]),
    )  # fmt: skip
    return _turned(made) if speed.value is not None and speed.value < 1 else made


def _of_another_program(runs: pd.DataFrame) -> bool:
    """Whether something else was trained than parity was measured of, or nothing that learns."""
    return bool(runs["unproven"].notna().any() or runs["diverged"].any())


def resolution(results: Results) -> float:
    """What one validation sequence more or less makes of an accuracy."""
    sequences: int = results.data["validation_sequences"]
    return 1 / sequences


def _by_session(one: pd.DataFrame, other: pd.DataFrame) -> tuple[float, ...]:
    """Ratio of times, `other` over `one`, in each session in turn; nothing where there is one alone."""
    ratios = np.log(other["epoch_seconds"].to_numpy() / one["epoch_seconds"].to_numpy())
    means = pd.Series(ratios).groupby(one["session"].to_numpy()).mean()
    return tuple(np.exp(means)) if len(means) > 1 else ()


def _barred(found: Pairs) -> Iterator[tuple[str, str]]:
    """Each run of a barred case, with what is wrong with it."""
    for side in (found.first, found.second):
        yield from ((case, why) for case, why in zip(side["case"], side["barred"], strict=True) if isinstance(why, str))


def _turned(one: PairOfCases) -> PairOfCases:
    """The same two the other way round."""
    accuracy, bounds = one.accuracy, (one.accuracy.value, one.accuracy.high, one.accuracy.low)
    value, low, high = (None if bound is None else 0 - bound for bound in bounds)  # 0 stays 0, not −0
    return replace(
        one, case=one.against, against=one.case, found=Pairs(one.found.second, one.found.first, one.found.warning),
        speed=one.speed.inverse, speed_of_all=one.speed_of_all.inverse, accuracy=replace(accuracy, value=value, low=low, high=high),
        by_session=tuple(1 / value for value in one.by_session),
    )  # fmt: skip


def setting(results: Results, case: Case) -> str:
    """What a case's protocol has of its own beside the study's: `batch size 64`; empty where it is the study's."""
    mine, usual = vars(case.protocol), vars(results.study.protocol)
    own = {name: value for name, value in mine.items() if value != usual[name]}
    told = [
        f"{name.replace('_', ' ')} {results.models[case.name] if name == 'model' else value}" for name, value in own.items()
    ]
    return ", ".join(told)


@lru_cache(maxsize=4)
def twins(results: Results) -> tuple[PairOfCases, ...]:
    """Each case that was run twice under two names against itself, the slower name second; no family."""
    runs, cases = _by_case(results), {case.name: case for case in results.study.expanded}
    return tuple(
        _pair(results, cases[first], cases[twin], machine, found, 1)
        for twin, first in results.twins.items()
        for machine, found in _pairs(runs, first, twin)
    )


def floors(results: Results) -> dict[tuple[Protocol, str], float]:
    """(protocol, machine) to the ratio of a case to itself, where it was to be run twice: what is smaller is noise.

    Where the two are shown to differ, the far end of the interval; infinite where too few pairs are clean to tell.
    """
    protocols = {case.name: case.protocol for case in results.study.expanded}
    found = {(protocols[case], machine): float("inf") for case in results.twins.values() for machine in results.machines}
    for one in twins(results):
        if one.speed.enough:
            assert one.speed.value is not None and one.speed.high is not None
            found[protocols[one.case], one.machine] = one.speed.high if one.speed.leaves_out(1) else one.speed.value
    return found


def floor_in_words(floor: float) -> str:
    return (
        f"the noise floor of {floor:.2f}"
        if isfinite(floor)
        else "a noise floor that is not known (too few clean pairs of the twin)"
    )


def matched_families(results: Results) -> dict[tuple[str, str], list[PairOfCases]]:
    """The comparisons of matched cases by setting and machine, in the study's order."""
    found: dict[tuple[str, str], list[PairOfCases]] = {}
    for one in pairs_of_cases(results):
        if one.matched and one.machine:
            found.setdefault((one.setting, one.machine), []).append(one)
    return found


SHOWN = "in 4 of 5 such studies (80 % power), at the median spread of its pairs"


def enough(results: Results, unshown: bool = False) -> list[str]:
    """For each family of matched cases, what its pairs could have shown, and what more of them would; unshown: only where some pair
    showed nothing, of speed no difference, of accuracy neither difference nor equivalence."""
    return _by_family(results, None, f"What this study could show, {SHOWN}: ", unshown=unshown)


def foreseen(results: Results, planned: Study) -> list[str]:
    """What as many clean pairs as a planned study has seeds would show of each family of matched cases, with as many comparisons as it
    will have, if they spread as those of these earlier results do."""
    return _by_family(
        results, len(planned.seeds), f"What it could show, {SHOWN} in {results.folder}: ", largest_family(planned)
    )


def largest_family(study: Study) -> int:
    """How many comparisons the largest family of the study's matched cases has: every two programs of one protocol."""
    programs: dict[Protocol, set[tuple[str, tuple[str, ...], Protocol]]] = {}
    for case in study.expanded:
        if case.matched and TWIN not in case.name:
            programs.setdefault(case.protocol, set()).add(program(case))
    return max((comb(len(mine), 2) for mine in programs.values()), default=1)


def _by_family(
    results: Results, pairs: int | None, opening: str, planned: int | None = None, unshown: bool = False
) -> list[str]:
    """planned: the number of comparisons that hold together, where it is not these results' own."""
    said = []
    families = matched_families(results)
    usual = "the study's own protocol" if len({setting_told for setting_told, _ in families}) > 1 else ""
    for (setting_told, machine), mine in families.items():
        where = [setting_told or usual] * bool(setting_told or usual) + [machine] * (len(results.machines) > 1)
        family, margin = planned or max(one.speed_of_all.family for one in mine), results.study.equivalence_margin
        slow = not unshown or not all(one.faster for one in mine)
        apart = not unshown or not all(one.equivalent(margin) or one.accuracy.leaves_out(0) for one in mine)
        parts = [
            _speed_power(mine, family, pairs) if slow else "",
            _accuracy_power(mine, family, margin, pairs) if apart else "",
        ]
        if any(parts):
            said.append(f"{'With ' + ', '.join(where) + ': ' if where else ''}{'; '.join(filter(None, parts))}.")
    if said:
        said[0] = opening + said[0]
    return said


def _known_speed(mine: list[PairOfCases]) -> tuple[float, int] | None:
    """The median spread of a family's comparisons of speed, and the fewest clean pairs of one; None where there are too few for any."""
    known = [one for one in mine if one.speed.enough]
    spreads = pd.Series([one.speed.deviation for one in known], dtype=float)
    return (float(spreads.median()), min(one.clean for one in known)) if known else None


def smallest_shown(results: Results) -> list[float | None]:
    """For each family of matched cases with clean pairs enough, the smallest ratio of times that its pairs would show in 4 of 5 such
    studies, as `enough` tells it, and no smaller than noise; None for one whose pairs would show none."""
    found = []
    for mine in matched_families(results).values():
        if known := _known_speed(mine):
            shown = smallest_ratio(*known, max(one.speed_of_all.family for one in mine))
            smallest = None if shown is None else max(shown, *(one.floor for one in mine))
            found.append(smallest if smallest is None or isfinite(smallest) else None)
    return found


def _speed_power(mine: list[PairOfCases], family: int, planned: int | None) -> str:
    """planned: the number of pairs, all clean; None for those that there are."""
    if not (known := _known_speed(mine)):
        return ""
    spread, pairs = known[0], planned or known[1]
    shown = smallest_ratio(spread, pairs, family)
    more = f"{SMALL:g} would take {_seeds(pairs_for_ratio(spread, SMALL, family))}"
    if shown is None:
        return f"no ratio of times from {pairs} clean {'pair' if pairs == 1 else 'pairs'}; {more}"
    floor = max(one.floor for one in mine)
    if not isfinite(floor):
        return f"no ratio of times, below {floor_in_words(floor)}"
    if shown < floor:
        return (
            f"a ratio of times of {floor:.2f}, the noise floor, below which more pairs show nothing, from {pairs} clean pairs"
        )
    return f"a ratio of times of {shown:.2f} from {pairs} clean pairs{'' if shown <= SMALL else f'; {more}'}"


def _accuracy_power(mine: list[PairOfCases], family: int, margin: float, planned: int | None) -> str:
    spreads = pd.Series([one.accuracy.deviation for one in mine if one.accuracy.enough], dtype=float)
    if spreads.empty:
        return ""
    pairs = planned or min(one.accuracy.pairs for one in mine if one.accuracy.enough)
    shown = smallest_difference(spreads.median(), pairs, family)
    told = "no difference of accuracy" if shown is None else f"a difference of accuracy of {100 * shown:.2f} points"
    needed = pairs_for_equivalence(spreads.median(), margin, family)
    return f"{told} from {pairs} {'pair' if pairs == 1 else 'pairs'}; equivalence within {100 * margin:g} points takes {_seeds(needed)}"


def _seeds(number: int | None) -> str:
    return "more than 10,000 seeds" if number is None else f"{number:,} seeds"
