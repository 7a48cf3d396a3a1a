"""What so many pairs could have shown, and how many it would take: the power of the simultaneous intervals of `estimates`."""

from collections.abc import Callable
from functools import cache
from math import sqrt

import numpy as np
from scipy.optimize import brentq
from scipy.special import stdtr, stdtrit
from scipy.stats import nct

from levelfield.tell.estimates import ENOUGH, LEVEL

POWER = 0.80
MOST = 10_000
"""Pairs that are searched to."""


def _bound(pairs: int, family: int) -> float:
    return float(-stdtrit(pairs - 1, (1 - LEVEL) / 2 / family))


@cache
def effect(pairs: int, family: int = 1) -> float:
    """The true mean of differences, in their standard deviations, that the interval leaves 0 out for in 80 % of studies.

    Of the noncentral t distribution (Student's t of n pairs whose mean is δ σ: noncentrality δ √n).
    """
    bound = _bound(pairs, family)
    shift: float = brentq(lambda shift: nct.sf(bound, pairs - 1, shift) - POWER, 0, bound * 20 + 20)
    return shift / sqrt(pairs)


def smallest_difference(deviation: float, pairs: int, family: int = 1) -> float | None:
    """The smallest true difference that so many pairs of this spread show in 80 % of studies; None with too few pairs."""
    return None if pairs < ENOUGH else deviation * effect(pairs, family)


def smallest_ratio(deviation: float, pairs: int, family: int = 1) -> float | None:
    """The same of a ratio above 1; deviation: of its logarithm."""
    found = smallest_difference(deviation, pairs, family)
    return None if found is None else float(np.exp(found))


def pairs_for_ratio(deviation: float, ratio: float, family: int = 1) -> int | None:
    """How many pairs show such a ratio in 80 % of studies; None where it would be more than `MOST`."""

    def shown(pairs: int) -> bool:
        found = smallest_ratio(deviation, pairs, family)
        return found is not None and found <= ratio

    return _fewest(shown)


def pairs_for_equivalence(deviation: float, margin: float, family: int = 1) -> int | None:
    """How many pairs show that two cases without a difference are equivalent within `margin`, in 80 % of studies.

    The interval lies within ± margin where |mean| < margin − t s / √n; s is taken as it is expected.
    """

    def shown(pairs: int) -> bool:
        room = margin * sqrt(pairs) / deviation - _bound(pairs, family) if deviation else np.inf
        return bool(2 * stdtr(pairs - 1, room) - 1 >= POWER)

    return _fewest(shown)


def runs_to_tell(deviation: float, threshold: float, family: int = 1, level: float = 0.90) -> int | None:
    """How many runs on each side show, in 80 % of comparisons, that a time that stayed the same grew by less than `threshold`.

    Of `unpaired_ratio`'s interval, with the deviation of the logarithms within a side; None where it would be more than `MOST`.
    """

    def shown(runs: int) -> bool:
        error, freedom = deviation * sqrt(2 / runs), 2 * runs - 2
        room = np.log1p(threshold) / error + stdtrit(freedom, (1 - level) / 2 / family) if error else np.inf
        return bool(stdtr(freedom, room) >= POWER)

    return _fewest(shown) if threshold > 0 else None


def _fewest(enough: Callable[[int], bool]) -> int | None:
    """The smallest number of pairs, from `ENOUGH` to `MOST`, that is enough; what is enough stays so."""
    low, high = ENOUGH - 1, ENOUGH
    while not enough(high):
        if high >= MOST:
            return None
        low, high = high, min(2 * high, MOST)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
