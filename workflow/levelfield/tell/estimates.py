"""Statistics of runs that are paired by seed: ratios of times, differences of accuracies, equivalence, many pairs at once.

A seed fixes the initial weights and the batch order, so that two cases differ within a pair by themselves alone. The t
intervals and tests are scipy's; under `ENOUGH` pairs nothing is claimed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
import pandas as pd
from scipy import stats

ENOUGH = 3
"""Fewest pairs that an interval is given for: with two, Student's t is 12.7 and the interval says nothing."""
LEVEL = 0.95
SLOPES_OF = 1_000
"""Runs that a drift is told from at most: the slopes are those of all their pairs."""
NOT_ENOUGH = "not enough seeds to say"
NO_DIFFERENCE = "no difference shown"
NOT_SURE = "not sure among so many pairs"
"""Where a pair's own interval leaves out "none", and the correction for all pairs does not."""


@dataclass(frozen=True)
class Estimate:
    """A paired ratio or difference with its interval and the p-value against "none"; those are None with too few pairs."""

    value: float | None
    low: float | None
    high: float | None
    p: float | None
    pairs: int

    @property
    def enough(self) -> bool:
        return self.low is not None


def difference(first: Sequence[float], second: Sequence[float]) -> Estimate:
    """Mean of first − second over the pairs with its 95 % t interval; p of the paired t test against 0."""
    first, second = _paired(first, second)
    if not len(first):
        return Estimate(None, None, None, None, 0)
    value = float(np.mean(first - second))
    if len(first) < ENOUGH:
        return Estimate(value, None, None, None, len(first))
    if _equal(first - second):
        return Estimate(value, value, value, float(value == 0), len(first))
    test = stats.ttest_rel(first, second)
    interval = test.confidence_interval(LEVEL)
    return Estimate(value, float(interval.low), float(interval.high), float(test.pvalue), len(first))


def ratio(first: Sequence[float], second: Sequence[float]) -> Estimate:
    """Geometric mean of first / second over the pairs, its 95 % interval and test on the logarithms.

    Times vary in proportion (a slow machine is slow by a factor), which logarithms turn into an even spread. Raises
    ValueError where a value is not positive.
    """
    first, second = _paired(first, second)
    if (first <= 0).any() or (second <= 0).any():
        raise ValueError("a ratio needs positive values")
    logs = difference(np.log(first), np.log(second))
    value, low, high = (None if bound is None else float(np.exp(bound)) for bound in (logs.value, logs.low, logs.high))
    return Estimate(value, low, high, logs.p, logs.pairs)


def equivalence(first: Sequence[float], second: Sequence[float], margin: float) -> float | None:
    """p-value of two one-sided paired t tests (Schuirmann 1987): small where |first − second| is shown to be under `margin`.

    None with too few pairs.
    """
    first, second = _paired(first, second)
    if len(first) < ENOUGH:
        return None
    found = first - second
    if _equal(found):
        return float(abs(found[0]) >= margin)
    above = stats.ttest_1samp(found, -margin, alternative="greater").pvalue
    below = stats.ttest_1samp(found, margin, alternative="less").pvalue
    return float(max(above, below))


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """p-values corrected for their number (Holm 1979), in the order given; None stays None and is not counted."""
    known = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    corrected: list[float | None] = [None] * len(p_values)
    so_far = 0.0
    for rank, (p, index) in enumerate(known):
        so_far = max(so_far, min(1.0, p * (len(known) - rank)))
        corrected[index] = so_far
    return corrected


@dataclass(frozen=True)
class TimeToTarget:
    """How many of the runs got to the target, and how long they took; runs that never did count as longer than any other."""

    reached: int
    runs: int
    median_seconds: float | None
    """None where half of the runs or more never got there."""


def time_to_target(seconds: Sequence[float]) -> TimeToTarget:
    """`seconds` to the target of each run, NaN for one that never reached it."""
    values = np.asarray(seconds, float)
    reached = int(np.isfinite(values).sum())
    median = float(np.median(np.where(np.isnan(values), np.inf, values))) if len(values) else np.inf
    return TimeToTarget(reached, len(values), median if np.isfinite(median) else None)


def speed_verdict(found: Estimate, corrected: float | None) -> str:
    """A ratio of times in words, `corrected` its p-value after `holm`: "1.18 times as fast [1.15, 1.21]"."""
    if found.value is None:
        return ""
    if not found.enough:
        return f"{found.value:.2f} times: {NOT_ENOUGH}"
    if corrected >= 1 - LEVEL:
        return f"{_not_shown(found)}: {found.value:.2f} times [{found.low:.2f}, {found.high:.2f}]"
    return f"{found.value:.2f} times as fast [{found.low:.2f}, {found.high:.2f}]"


def accuracy_verdict(found: Estimate, corrected: float | None, equivalent: float | None, margin: float) -> str:
    """A difference of accuracies in words, in points of 0.01; `equivalent` is the p-value of `equivalence`."""
    if found.value is None:
        return ""
    points = f"{100 * found.value:+.2f} points"
    if not found.enough:
        return f"{points}: {NOT_ENOUGH}"
    points += f" [{100 * found.low:+.2f}, {100 * found.high:+.2f}]"
    same = f"equivalent within {100 * margin:g} points" if equivalent < 1 - LEVEL else ""
    if corrected < 1 - LEVEL:
        return f"{points}, yet {same}" if same else points
    return f"{same or _not_shown(found)}: {points}"


def _not_shown(found: Estimate) -> str:
    return NOT_SURE if found.p < 1 - LEVEL else NO_DIFFERENCE


def _equal(values: np.ndarray) -> bool:
    """Whether all are the same but for rounding, as deterministic backends give them: t is not defined without a spread."""
    return bool(np.ptp(values) <= 1e-12 * max(1.0, np.abs(values).max()))


def _paired(first: Sequence[float], second: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Both as arrays of the pairs in which neither is NaN; raises ValueError where their lengths differ."""
    first, second = np.asarray(first, float), np.asarray(second, float)
    if first.shape != second.shape:
        raise ValueError(f"{first.size} values are paired with {second.size}")
    both = ~(np.isnan(first) | np.isnan(second))
    return first[both], second[both]


def drift(hours: np.ndarray, seconds: np.ndarray, cases: np.ndarray) -> float | None:
    """Relative change of speed over a study: +0.03 where the last runs took 3 % longer than the first.

    hours: start of each run; seconds: its training time; cases: its case's name; all of shape (runs,). Each time is
    taken relative to its case's median, then Theil and Sen's slope (of 1,000 runs at most, evenly chosen) times the study's
    length; None with fewer than two runs of some case.
    """
    runs = pd.DataFrame({"hours": hours, "seconds": seconds, "case": cases}).sort_values("hours")
    runs = runs[runs.groupby("case")["case"].transform("size") > 1]
    runs = runs.iloc[:: max(1, ceil(len(runs) / SLOPES_OF))]
    if len(runs) < 2 or (length := np.ptp(runs["hours"])) == 0:
        return None
    relative = runs["seconds"] / runs.groupby("case")["seconds"].transform("median")
    return float(stats.theilslopes(relative, runs["hours"]).slope * length)
