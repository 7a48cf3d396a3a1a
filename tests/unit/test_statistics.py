"""Intervals cover what they say, corrections correct, and too few seeds are called that."""

import numpy as np
import pytest
from scipy import stats

from levelfield.tell.estimates import (
    Estimate,
    accuracy_verdict,
    difference,
    drift,
    equivalence,
    holm,
    ratio,
    speed_verdict,
    time_to_target,
)

STUDIES = 1_500


@pytest.mark.parametrize("seeds", [3, 8])
def test_intervals_of_ratios_cover_the_true_ratio_in_95_percent_of_studies(seeds):
    """Machine drift is shared within a pair; each run has a noise of its own in proportion."""
    rng = np.random.default_rng(seeds)
    drift = np.exp(rng.normal(0, 0.2, (STUDIES, seeds)))
    first = 118 * drift * np.exp(rng.normal(0, 0.03, (STUDIES, seeds)))
    second = 100 * drift * np.exp(rng.normal(0, 0.03, (STUDIES, seeds)))
    found = [ratio(a, b) for a, b in zip(first, second, strict=True)]
    assert 0.93 <= np.mean([estimate.low <= 1.18 <= estimate.high for estimate in found]) <= 0.97


@pytest.mark.parametrize("seeds", [3, 8])
def test_intervals_of_differences_cover_the_true_difference_in_95_percent_of_studies(seeds):
    rng = np.random.default_rng(seeds)
    start = rng.normal(0.85, 0.01, (STUDIES, seeds))
    first, second = start + rng.normal(0.002, 0.003, start.shape), start + rng.normal(0, 0.003, start.shape)
    found = [difference(a, b) for a, b in zip(first, second, strict=True)]
    assert 0.93 <= np.mean([estimate.low <= 0.002 <= estimate.high for estimate in found]) <= 0.97


def test_equivalence_is_claimed_wrongly_in_at_most_5_percent_of_studies_at_the_margin():
    rng = np.random.default_rng(7)
    found = rng.normal(0.005, 0.002, (STUDIES, 6))
    assert np.mean([equivalence(values, np.zeros(6), 0.005) < 0.05 for values in found]) <= 0.06


def test_equivalence_is_shown_where_the_spread_is_small():
    assert equivalence([0.851, 0.8505, 0.852, 0.8515], [0.850, 0.8507, 0.851, 0.8513], 0.005) < 0.01
    assert equivalence([0.86, 0.84, 0.85], [0.85, 0.85, 0.84], 0.005) > 0.05


def test_pairing_takes_the_drift_out():
    paired = ratio([110, 220, 330], [100, 201, 299])
    assert paired.value == pytest.approx(1.099, abs=1e-3)
    assert 1.07 < paired.low < paired.high < 1.13
    assert paired.p == pytest.approx(stats.ttest_rel(np.log([110, 220, 330]), np.log([100, 201, 299])).pvalue)


def test_a_pair_with_a_missing_run_is_left_out():
    assert difference([1, np.nan, 3, 5], [1, 2, 2, np.nan]).pairs == 2


def test_fewer_than_three_pairs_are_not_enough():
    assert ratio([110, 220], [100, 200]) == Estimate(pytest.approx(1.1), None, None, None, 2)
    assert speed_verdict(ratio([110, 220], [100, 200]), None) == "1.10 times: not enough seeds to say"
    assert equivalence([1, 2], [1, 2], 0.1) is None
    assert difference([], []).value is None


def test_identical_figures_are_no_difference_and_equivalent():
    same = difference([0.85, 0.86, 0.84], [0.85, 0.86, 0.84])
    assert (same.value, same.low, same.high, same.p) == (0, 0, 0, 1)
    assert equivalence([0.85, 0.86, 0.84], [0.85, 0.86, 0.84], 0.005) == 0


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, None, 0.02]) == [0.5, None, 0.04]


def test_verdicts():
    faster = Estimate(1.18, 1.15, 1.21, 0.001, 3)
    assert speed_verdict(faster, 0.001) == "1.18 times as fast [1.15, 1.21]"
    assert speed_verdict(faster, 0.06) == "not sure among so many pairs: 1.18 times [1.15, 1.21]"
    small = Estimate(0.001, -0.001, 0.003, 0.2, 3)
    assert accuracy_verdict(small, 0.2, 0.01, 0.005) == "equivalent within 0.5 points: +0.10 points [-0.10, +0.30]"
    assert accuracy_verdict(small, 0.2, 0.5, 0.005) == "no difference shown: +0.10 points [-0.10, +0.30]"


def test_runs_that_never_reached_the_target_count_as_longest():
    assert time_to_target([10, 20, np.nan]).median_seconds == 20
    never = time_to_target([10, np.nan, np.nan])
    assert (never.reached, never.runs, never.median_seconds) == (1, 3, None)


def test_a_time_of_zero_is_an_error():
    with pytest.raises(ValueError, match="positive"):
        ratio([0, 1, 2], [1, 1, 1])


def test_drift_is_found_within_cases_and_not_between_them():
    hours = np.arange(8) / 2
    cases = np.array(["slow", "fast"] * 4)
    seconds = np.where(cases == "slow", 300.0, 100.0)
    assert drift(hours, seconds, cases) == 0
    assert drift(hours, seconds * (1 + 0.1 * hours / 3.5), cases) == pytest.approx(0.1, abs=0.01)
    assert drift(hours[:2], seconds[:2], cases[:2]) is None
