"""How many pairs or runs it takes, against scipy's distributions by the plainest search, and against simulated studies."""

from itertools import count

import numpy as np
import pytest
from scipy import stats

from levelfield.tell.power import (
    MOST,
    POWER,
    effect,
    pairs_for_equivalence,
    pairs_for_ratio,
    runs_to_tell,
    smallest_difference,
    smallest_ratio,
)


def bound(pairs: int, family: int) -> float:
    return stats.t.ppf(1 - 0.025 / family, pairs - 1)


@pytest.mark.parametrize(("pairs", "family"), [(3, 1), (3, 3), (6, 1), (6, 21), (40, 3)])
def test_the_effect_is_shown_in_80_percent_of_simulated_studies(pairs, family):
    shift = effect(pairs, family)
    found = np.random.default_rng(5).normal(shift, 1, (40_000, pairs))
    t = found.mean(axis=1) * np.sqrt(pairs) / found.std(axis=1, ddof=1)
    assert np.mean(t > bound(pairs, family)) == pytest.approx(0.80, abs=0.01)
    assert stats.nct.sf(bound(pairs, family), pairs - 1, shift * np.sqrt(pairs)) == pytest.approx(POWER, abs=1e-9)


def test_the_smallest_difference_and_ratio_are_the_effect_times_the_spread():
    assert (
        [smallest_difference(0.1, pairs) for pairs in (1, 2)]
        == [None, None]
        == [smallest_ratio(0.1, 1), smallest_ratio(0.1, 2)]
    )
    for pairs, family in ((3, 1), (3, 2), (10, 6)):
        assert smallest_difference(0.1, pairs, family) == pytest.approx(0.1 * effect(pairs, family))
        assert smallest_ratio(0.1, pairs, family) == pytest.approx(np.exp(0.1 * effect(pairs, family)))
    assert smallest_difference(0.1, 5) == smallest_difference(0.1, 5, 1) < smallest_difference(0.1, 5, 2)
    assert smallest_ratio(0.1, 5) == smallest_ratio(0.1, 5, 1) and effect(5) == effect(5, 1)


@pytest.mark.parametrize(
    ("deviation", "ratio", "family"), [(0.05, 1.05, 1), (0.05, 1.05, 3), (0.3, 1.2, 21), (0.001, 1.5, 1), (0.02, 1.01, 1)]
)
def test_pairs_for_a_ratio_are_the_fewest_that_show_it(deviation, ratio, family):
    shows = lambda n: stats.nct.sf(bound(n, family), n - 1, np.log(ratio) / deviation * np.sqrt(n)) >= POWER  # noqa: E731
    expected = next(n for n in count(3) if shows(n))
    assert pairs_for_ratio(deviation, ratio, family) == expected
    assert smallest_ratio(deviation, expected, family) <= ratio
    assert expected == 3 or smallest_ratio(deviation, expected - 1, family) > ratio
    assert family > 1 or pairs_for_ratio(deviation, ratio) == expected
    assert pairs_for_ratio(deviation, smallest_ratio(deviation, 11, family), family) == 11, "as much as it takes is enough"


@pytest.mark.parametrize(
    ("deviation", "margin", "family"), [(0.0141, 0.005, 1), (0.0141, 0.005, 3), (0.004, 0.005, 1), (0.02, 0.005, 1)]
)
def test_pairs_for_equivalence_are_the_fewest(deviation, margin, family):
    def shows(n):
        room = margin * np.sqrt(n) / deviation - bound(n, family)
        return stats.t.cdf(room, n - 1) - stats.t.cdf(-room, n - 1) >= POWER

    expected = next(n for n in count(3) if shows(n))
    assert pairs_for_equivalence(deviation, margin, family) == expected
    assert family > 1 or pairs_for_equivalence(deviation, margin) == expected
    assert pairs_for_equivalence(0.0, margin, family) == 3


@pytest.mark.parametrize(
    ("deviation", "threshold", "family", "level"),
    [(0.05, 0.05, 1, 0.9), (0.05, 0.05, 4, 0.9), (0.02, 0.05, 1, 0.9), (0.1, 0.02, 1, 0.95)],
)
def test_runs_to_tell_are_the_fewest(deviation, threshold, family, level):
    def shows(n):
        end = stats.t.ppf((1 - level) / 2 / family, 2 * n - 2)
        return stats.t.cdf(np.log(1 + threshold) / (deviation * np.sqrt(2 / n)) + end, 2 * n - 2) >= POWER

    expected = next(n for n in count(3) if shows(n))
    assert runs_to_tell(deviation, threshold, family, level) == expected
    if family == 1 and level == 0.9:
        assert runs_to_tell(deviation, threshold) == expected
    assert runs_to_tell(0.0, threshold, family, level) == 3 and runs_to_tell(deviation, 0.0, family, level) is None
    assert runs_to_tell(deviation, -0.1) is None


def test_what_would_take_too_many_is_none_and_what_just_does_not_is_told():
    assert (
        pairs_for_equivalence(10.0, 0.005) is None
        and pairs_for_ratio(10.0, 1.001) is None
        and runs_to_tell(10.0, 0.001) is None
    )
    assert MOST == 10_000 and pairs_for_ratio(1.0, smallest_ratio(1.0, MOST)) == MOST
    assert pairs_for_ratio(1.0, smallest_ratio(1.0, MOST + 1)) is None
