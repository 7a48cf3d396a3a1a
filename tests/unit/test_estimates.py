"""Intervals cover what they say, one by one and as a family; what they leave out is shown; too few seeds are called that."""

import numpy as np
import pytest
from scipy import stats

from levelfield.tell import power
from levelfield.tell.estimates import (
    Estimate,
    accuracy_verdict,
    difference,
    drift,
    equivalent,
    ratio,
    unpaired_ratio,
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
    assert np.mean([equivalent(difference(values, np.zeros(6)), 0.005) for values in found]) <= 0.05


def test_equivalence_is_shown_where_the_spread_is_small():
    assert equivalent(difference([0.851, 0.8505, 0.852, 0.8515], [0.850, 0.8507, 0.851, 0.8513]), 0.005)
    assert not equivalent(difference([0.86, 0.84, 0.85], [0.85, 0.85, 0.84]), 0.005)


def test_the_interval_is_scipys_and_widens_with_the_family():
    rng = np.random.default_rng(3)
    first, second = rng.normal(1, 0.1, 7), rng.normal(1, 0.1, 7)
    test = stats.ttest_rel(first, second)
    alone, among = difference(first, second), difference(first, second, 10)
    assert (alone.low, alone.high) == pytest.approx(tuple(test.confidence_interval(0.95)))
    assert (among.low, among.high) == pytest.approx(tuple(test.confidence_interval(0.995)))
    assert alone.p == among.p == pytest.approx(test.pvalue) and among.p_corrected == pytest.approx(min(1, 10 * test.pvalue))


@pytest.mark.parametrize("shift", [0.0, 0.05, 0.1])
def test_words_and_brackets_agree(shift):
    """What the corrected p-value calls shown, the interval leaves out, and the other way round."""
    rng = np.random.default_rng(5)
    for _ in range(300):
        found = difference(rng.normal(shift, 0.05, 6), np.zeros(6), 6)
        assert found.leaves_out(0) == (found.p_corrected < 0.05)


def test_two_samples_are_compared_as_welch_does():
    rng = np.random.default_rng(4)
    before, after = np.exp(rng.normal(0, 0.05, 5)), np.exp(rng.normal(0.1, 0.02, 8))
    found, test = unpaired_ratio(after, before), stats.ttest_ind(np.log(after), np.log(before), equal_var=False)
    assert (found.low, found.high) == pytest.approx(tuple(np.exp(test.confidence_interval(0.90))))
    assert found.p == pytest.approx(test.pvalue)
    assert unpaired_ratio([1.0], [2.0, 2.0]).low is None and unpaired_ratio([], [1.0]).value is None
    assert unpaired_ratio([3.0, 3.1], [1.0, 1.1]).low > 2


def test_pairing_takes_the_drift_out():
    paired = ratio([110, 220, 330], [100, 201, 299])
    assert paired.value == pytest.approx(1.099, abs=1e-3)
    assert 1.07 < paired.low < paired.high < 1.13
    assert paired.p == pytest.approx(stats.ttest_rel(np.log([110, 220, 330]), np.log([100, 201, 299])).pvalue)


def test_a_pair_with_a_missing_run_is_left_out():
    assert difference([1, np.nan, 3, 5], [1, 2, 2, np.nan]).pairs == 2


def test_a_pair_with_a_figure_that_is_not_finite_is_left_out():
    assert difference([1, np.inf, 3, 5], [1, 2, 2, np.nan]).pairs == 2


def test_fewer_than_three_pairs_are_not_enough():
    found = ratio([110, 220], [100, 200])
    assert found == Estimate(pytest.approx(1.1), None, None, None, 2) and not found.leaves_out(1)
    assert not equivalent(difference([1, 2], [1, 2]), 0.1)
    assert difference([], []).value is None


def test_identical_figures_are_no_difference_and_equivalent():
    same = difference([0.85, 0.86, 0.84], [0.85, 0.86, 0.84])
    assert (same.value, same.low, same.high, same.p) == (0, 0, 0, 1) and equivalent(same, 0.005)


def test_accuracies_that_agree_by_chance_are_told_as_far_apart_as_one_sequence_may_put_them():
    of_128 = difference([0.5, 0.5, 0.5], [0.5, 0.5, 0.5], resolution=1 / 128)
    assert of_128.low < -0.005 and not equivalent(of_128, 0.005)
    of_25_000 = difference([0.5, 0.5, 0.5], [0.5, 0.5, 0.5], resolution=1 / 25_000)
    assert -0.0002 < of_25_000.low < 0 and equivalent(of_25_000, 0.005)
    wide = difference([0.5, 0.6, 0.7], [0.4, 0.6, 0.6], resolution=1 / 25_000)
    assert wide == difference([0.5, 0.6, 0.7], [0.4, 0.6, 0.6])


def test_the_same_difference_three_times_is_no_proof_of_one():
    found = difference([0.51, 0.61, 0.71], [0.5, 0.6, 0.7])
    assert found.value == pytest.approx(0.01) and not found.enough and not found.leaves_out(0)


def test_verdicts():
    small = Estimate(0.001, -0.001, 0.003, 0.2, 3)
    assert accuracy_verdict(small, 0.005) == "equivalent within 0.5 points: +0.10 points [-0.10, +0.30]"
    assert accuracy_verdict(small, 0.002) == "no difference shown: +0.10 points [-0.10, +0.30]"
    clear = Estimate(0.003, 0.001, 0.0045, 0.01, 9)
    assert accuracy_verdict(clear, 0.005) == "+0.30 points [+0.10, +0.45], yet equivalent within 0.5 points"


@pytest.mark.parametrize(("pairs", "family"), [(3, 1), (6, 1), (6, 15)])
def test_the_smallest_difference_is_shown_in_80_percent_of_studies(pairs, family):
    rng, deviation = np.random.default_rng(pairs), 0.03
    shift = power.smallest_difference(deviation, pairs, family)
    found = rng.normal(shift, deviation, (STUDIES, pairs))
    shown = np.mean([difference(values, np.zeros(pairs), family).leaves_out(0) for values in found])
    assert shown == pytest.approx(0.8, abs=0.04)
    assert power.smallest_ratio(deviation, pairs, family) == pytest.approx(np.exp(shift))


def test_so_many_seeds_show_equivalence_in_80_percent_of_studies():
    seeds, rng = power.pairs_for_equivalence(0.0141, 0.005), np.random.default_rng(1)
    assert seeds == 86  # two one-sided tests at 5 % each would take 68; the interval of 95 % is asked to lie within
    shown = np.mean([equivalent(difference(values, 0 * values), 0.005) for values in rng.normal(0, 0.0141, (STUDIES, seeds))])
    assert shown == pytest.approx(0.8, abs=0.04)
    assert power.pairs_for_equivalence(0.0, 0.005) == 3 and power.pairs_for_equivalence(10.0, 0.005) is None


def test_how_many_seeds_a_ratio_takes_and_what_these_show_agree():
    seeds = power.pairs_for_ratio(0.05, 1.05, 3)
    assert power.smallest_ratio(0.05, seeds, 3) <= 1.05 < power.smallest_ratio(0.05, seeds - 1, 3)


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
