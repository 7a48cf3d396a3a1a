"""The design of the experiment, simulated: how often a study claims what is not so, and how often it misses what is.

A machine's noise comes in stretches: here a neighbour's job that takes a quarter of a block's time and comes back about as often as a
block takes, so that in a fixed order it meets the same case every time.
"""

from itertools import combinations

import numpy as np
import pytest

from levelfield.study.config import read_study
from levelfield.tell.estimates import ratio, unpaired_ratio
from levelfield.tell.power import runs_to_tell

STUDIES, BLOCKS = 600, 6
CASES = 4
PAIRS = list(combinations(range(CASES), 2))


def study(rng: np.random.Generator, order: str, slow: np.ndarray) -> np.ndarray:
    """Seconds of each block and case, (BLOCKS, CASES): the case's own factor, a block's, a run's, and a stretch of noise."""
    seconds = np.empty((BLOCKS, CASES))
    phase = rng.uniform(0, CASES)
    for block in range(BLOCKS):
        places = np.arange(CASES) if order == "fixed" else rng.permutation(CASES)
        met = (phase + rng.normal(0, 0.3)) % CASES
        shared = rng.normal(0, 0.03)
        for place, case in enumerate(places):
            # the share of this run that the neighbour's job, as long as a run, lies beside
            beside = max(0.0, 1 - min(abs(place - met), CASES - abs(place - met)))
            seconds[block, case] = slow[case] * np.exp(shared + rng.normal(0, 0.01) + 0.08 * beside)
    return seconds


def claims(seconds: np.ndarray) -> dict[tuple[int, int], bool]:
    """Which pairs of cases are called different."""
    return {pair: ratio(seconds[:, pair[0]], seconds[:, pair[1]], len(PAIRS)).leaves_out(1) for pair in PAIRS}


def false_claims(order: str) -> float:
    """The share of studies of equal cases that call any two of them different."""
    rng = np.random.default_rng(11)
    return float(np.mean([any(claims(study(rng, order, np.ones(CASES))).values()) for _ in range(STUDIES)]))


def test_in_random_order_noise_in_stretches_makes_at_most_5_percent_false_claims():
    assert false_claims("random") <= 0.05


def test_in_a_fixed_order_the_same_noise_makes_claims_that_are_false():
    assert false_claims("fixed") > 0.30


@pytest.mark.parametrize("cases", [["torch", "jax"], ["torch", "jax", "keras-tensorflow", "flax"]])
def test_what_a_place_in_the_block_is_worth_moves_no_ratio_of_an_even_number_of_seeds(cases):
    """As a processor that warms up, by 5 % from place to place: each case stands before any other as often as after it."""
    study = read_study({"study": "s", "cases": cases, "seeds": list(range(BLOCKS))}, "s.yaml")
    places = {case: np.array([block.cases.index(case) for block in study.blocks]) for case in cases}
    for one, other in combinations(cases, 2):
        found = ratio(np.exp(0.05 * places[one]), np.exp(0.05 * places[other]))
        assert found.value == pytest.approx(1) and not found.leaves_out(1)


def test_in_random_order_a_true_difference_is_found_nonetheless():
    rng = np.random.default_rng(12)
    found = [claims(study(rng, "random", np.array([1, 1, 1, 1.4]))) for _ in range(200)]
    assert np.mean([one[0, 3] for one in found]) > 0.9


@pytest.mark.parametrize("blocks", [3, 6, 12])
def test_all_intervals_of_a_family_hold_together_in_95_percent_of_studies(blocks):
    """Cases of unlike spread, a block's drift shared by all: the intervals of all pairs cover their true ratios at once."""
    rng, true = np.random.default_rng(blocks), np.array([1.0, 1.02, 1.3, 4.0])
    spread, held = np.array([0.01, 0.02, 0.05, 0.1]), []
    for _ in range(1_000):
        logs = np.log(true) + rng.normal(0, 0.1, (blocks, 1)) + rng.normal(0, 1, (blocks, CASES)) * spread
        found = {(a, b): ratio(np.exp(logs[:, a]), np.exp(logs[:, b]), len(PAIRS)) for a, b in PAIRS}
        held.append(all(one.low <= true[a] / true[b] <= one.high for (a, b), one in found.items()))
    assert np.mean(held) >= 0.94
    # each by itself, as before, they would not hold together
    alone = [ratio(np.exp(logs[:, a]), np.exp(logs[:, b])) for a, b in PAIRS]
    assert all(one.high / one.low < found[pair].high / found[pair].low for one, pair in zip(alone, PAIRS, strict=True))


def codes(
    slower: float, seeds: int, spread: float = 0.03, session: float = 0.0, threshold: float = 0.05, known: float = 0.0
) -> dict[str, float]:
    """How often a comparison of two studies of three cases, of which one became slower, ends in which word.

    session: standard deviation of what each study's session makes of all its times; known: what the comparison takes it for.
    """
    rng, ends = np.random.default_rng(seeds), []
    for _ in range(1_000):
        shift = rng.normal(0, session, 2)
        true = np.array([slower, 1.0, 1.0])
        before = np.exp(shift[0] + rng.normal(0, spread, (3, seeds)))
        after = true[:, None] * np.exp(shift[1] + rng.normal(0, spread, (3, seeds)))
        found = [unpaired_ratio(a, b, 3, shared=(known, known)) for a, b in zip(after, before, strict=True)]
        slow = any(one.low > 1 + threshold for one in found)
        fine = all(one.high < 1 + threshold for one in found)
        ends.append("slower" if slow else "fine" if fine else "cannot tell")
    return {word: ends.count(word) / len(ends) for word in ("slower", "fine", "cannot tell")}


@pytest.mark.parametrize("seeds", [2, 3, 6])
def test_compare_raises_a_false_alarm_in_at_most_5_percent_of_comparisons(seeds):
    assert codes(1.0, seeds)["slower"] <= 0.01
    assert codes(1.05, seeds)["slower"] <= 0.05  # slower by no more than the threshold
    for session in (0.05, 0.1, 0.15):  # the machine itself is slower or faster in another session
        assert codes(1.0, seeds, session=session, known=session)["slower"] <= 0.05
        assert codes(1.06, seeds, session=session, known=session)["fine"] <= 0.05
    assert codes(1.0, 6, session=0.1)["slower"] > 0.1, "who does not count it raises false alarms"


@pytest.mark.parametrize("seeds", [2, 3, 6])
def test_compare_lets_a_slow_down_pass_in_at_most_5_percent_of_comparisons(seeds):
    assert codes(1.06, seeds)["fine"] <= 0.05 and codes(1.2, seeds)["fine"] == 0


def test_compare_finds_what_is_large_and_passes_what_is_not_slower():
    assert codes(3.0, 2)["slower"] > 0.9  # two seeds tell of three times the time
    assert codes(3.0, 2, session=0.1, known=0.1)["slower"] > 0.9
    assert codes(1.2, 6)["slower"] > 0.95
    assert codes(1.2, 6, session=0.01, known=0.01)["slower"] > 0.95
    assert codes(1.0, 12, spread=0.02)["fine"] > 0.95
    runs = runs_to_tell(0.03, 0.05, 3)
    shown = [
        unpaired_ratio(*np.exp(rng.normal(0, 0.03, (2, runs))), 3).high < 1.05
        for rng in map(np.random.default_rng, range(1_000))
    ]
    assert np.mean(shown) == pytest.approx(0.8, abs=0.04)
    assert codes(1.0, 2)["cannot tell"] > 0.5  # and two seeds cannot tell that nothing changed
