"""Statistics of runs that are paired by seed: ratios of times, differences of accuracies, and of two samples that nothing pairs.

A seed fixes the initial weights and the batch order, so that two cases differ within a pair by themselves alone. An interval is
simultaneous: the more comparisons stand in its family, the wider it is (Bonferroni), so that all of a family's intervals hold
together in 95 of 100 studies. The interval alone judges: what it leaves out is shown not to be so, whatever the words. Under
`ENOUGH` pairs nothing is claimed.
"""

from dataclasses import dataclass, replace
from math import ceil

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike
from scipy import stats
from scipy.special import stdtr, stdtrit

ENOUGH = 3
"""Fewest pairs that an interval is given for: with two, Student's t is 12.7 and the interval says nothing."""
LEVEL = 0.95
MOST_FREEDOM = 1e6
"""Degrees of freedom from which Student's t is the normal distribution."""
SLOPES_OF = 1_000
"""Runs that a drift is told from at most: the slopes are those of all their pairs."""
NOT_ENOUGH = "not enough seeds to say"
NO_DIFFERENCE = "no difference shown"


@dataclass(frozen=True)
class Estimate:
    """A ratio or difference with its interval and the p-value against "none"; those are None with too few pairs."""

    value: float | None
    low: float | None
    high: float | None
    p: float | None
    pairs: int
    family: int = 1
    """How many comparisons the interval holds together with."""
    deviation: float | None = None
    """Standard deviation over the pairs; of a ratio, of its logarithm; of two samples, within them."""

    @property
    def enough(self) -> bool:
        return self.low is not None

    @property
    def p_corrected(self) -> float | None:
        """p for the whole family (Bonferroni): under 0.05 where the interval leaves "none" out."""
        return None if self.p is None else min(1.0, self.p * self.family)

    def leaves_out(self, none: float) -> bool:
        """Whether a difference from "none" is shown: 0 of a difference, 1 of a ratio."""
        return self.low is not None and self.high is not None and (self.low > none or self.high < none)

    @property
    def inverse(self) -> "Estimate":
        """Of a ratio the other way round."""
        value, low, high = (None if bound is None else 1 / bound for bound in (self.value, self.high, self.low))
        return replace(self, value=value, low=low, high=high)

    @property
    def unclaimed(self) -> "Estimate":
        """The value without its interval: nothing is claimed."""
        return replace(self, low=None, high=None, p=None)


NOTHING = Estimate(None, None, None, None, 0)


def difference(first: ArrayLike, second: ArrayLike, family: int = 1, resolution: float = 0.0) -> Estimate:
    """Mean of first − second over the pairs with its simultaneous 95 % t interval; p of the paired t test against 0.

    resolution: the step in which the values are told, of an accuracy over n sequences 1 / n. A difference of two such values is off by
    1/√6 of it at least (each is evenly spread within its step), so that pairs that agree by chance have an interval nonetheless.
    """
    one, other = _paired(first, second)
    found, pairs = one - other, len(one)
    if not pairs:
        return NOTHING
    value = float(np.mean(found))
    if pairs < ENOUGH:
        return Estimate(value, None, None, None, pairs, family)
    deviation = max(float(np.std(found, ddof=1)), resolution / np.sqrt(6))
    if _equal(found) and not resolution:
        same = abs(value) < 1e-12
        # the same bits each time, or but for rounding: nothing differs. The same difference each time has no spread that t could
        # judge it by
        return Estimate(0.0, 0.0, 0.0, 1.0, pairs, family, 0.0) if same else Estimate(value, None, None, None, pairs, family)
    error = deviation / np.sqrt(pairs)
    width = float(-stdtrit(pairs - 1, (1 - LEVEL) / 2 / family) * error)
    p = float(2 * stdtr(pairs - 1, -abs(value) / error))
    return Estimate(value, value - width, value + width, p, pairs, family, deviation)


def ratio(first: ArrayLike, second: ArrayLike, family: int = 1) -> Estimate:
    """Geometric mean of first / second over the pairs, its simultaneous 95 % interval and test on the logarithms.

    Times vary in proportion (a slow machine is slow by a factor), which logarithms turn into an even spread. Raises
    ValueError where a value is not positive.
    """
    one, other = _paired(first, second)
    if (one <= 0).any() or (other <= 0).any():
        raise ValueError("a ratio needs positive values")
    return _exponential(difference(np.log(one), np.log(other), family))


def unpaired_ratio(
    first: ArrayLike, second: ArrayLike, family: int = 1, level: float = 0.90, shared: tuple[float, float] = (0.0, 0.0)
) -> Estimate:
    """Geometric mean of first over that of second, two samples that nothing pairs, with Welch's interval (1947) on the logarithms.

    The interval's two ends hold for a whole family of comparisons at (1 + level) / 2 each; `pairs` is the smaller sample. From two
    values on each side: two that are alike give an interval that is wide, and that three times the time lies outside of.
    shared: standard deviation of what all values of a side have in common, such as their hour and its machine; known, not estimated.
    """
    one, other = (np.log(side[np.isfinite(side)]) for side in (np.asarray(first, float), np.asarray(second, float)))
    pairs = min(len(one), len(other))
    if not pairs:
        return NOTHING
    value = float(one.mean() - other.mean())
    if pairs < 2:
        return _exponential(Estimate(value, None, None, None, pairs, family))
    known = shared[0] ** 2 + shared[1] ** 2
    if _equal(one) and _equal(other) and not known:
        same = abs(value) < 1e-12
        value = 0.0 if same else value
        return _exponential(Estimate(value, value, value, float(same), pairs, family, 0.0))
    parts = np.array([side.var(ddof=1) / len(side) for side in (one, other)])
    error = float(np.sqrt(parts.sum() + known))
    # Welch and Satterthwaite's, in which what is known has no uncertainty of its own
    freedom = float(error**4 / max((parts**2 / [len(one) - 1, len(other) - 1]).sum(), error**4 / MOST_FREEDOM))
    width = float(-stdtrit(freedom, (1 - level) / 2 / family) * error)
    p = float(2 * stdtr(freedom, -abs(value) / error))
    deviation = float(np.sqrt(np.mean([side.var(ddof=1) for side in (one, other)])))
    return _exponential(Estimate(value, value - width, value + width, p, pairs, family, deviation))


def _exponential(logs: Estimate) -> Estimate:
    value, low, high = (None if bound is None else float(np.exp(bound)) for bound in (logs.value, logs.low, logs.high))
    return replace(logs, value=value, low=low, high=high)


def equivalent(found: Estimate, margin: float) -> bool:
    """Whether a difference is shown to be under `margin`: its whole interval is (two one-sided tests, Schuirmann 1987)."""
    return found.low is not None and found.high is not None and -margin < found.low and found.high < margin


def accuracy_verdict(found: Estimate, margin: float, why: str = NOT_ENOUGH) -> str:
    """A difference of accuracies in words, in points of 0.01; why: the reason, where nothing is claimed."""
    if found.value is None:
        return ""
    points = f"{100 * found.value:+.2f} points"
    if found.low is None or found.high is None:
        return f"{points}: {why}"
    points += f" [{100 * found.low:+.2f}, {100 * found.high:+.2f}]"
    same = f"equivalent within {100 * margin:g} points" if equivalent(found, margin) else ""
    if found.leaves_out(0):
        return f"{points}, yet {same}" if same else points
    return f"{same or NO_DIFFERENCE}: {points}"


def _equal(values: np.ndarray) -> bool:
    """Whether all are the same but for rounding, as deterministic backends give them: t is not defined without a spread."""
    return bool(np.ptp(values) <= 1e-12 * max(1.0, np.abs(values).max()))


def _paired(first: ArrayLike, second: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Both as arrays of the pairs in which both are finite; raises ValueError where their lengths differ."""
    one, other = np.asarray(first, float), np.asarray(second, float)
    if one.shape != other.shape:
        raise ValueError(f"{one.size} values are paired with {other.size}")
    both = np.isfinite(one) & np.isfinite(other)
    return one[both], other[both]


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
