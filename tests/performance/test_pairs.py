"""The bench's own statistics: a known cost, in noise as it was seen, is found."""

import numpy as np
from pairs import FEWEST, MOST, WIDTH, mean_and_interval


def stopped(ratios):
    """As `paired` stops."""
    for count in range(FEWEST, MOST + 1):
        found = np.exp(mean_and_interval(np.log(ratios[:count])))
        if found[2] - found[1] <= WIDTH:
            break
    return found


def test_the_interval_holds_the_true_ratio_where_some_pairs_are_stolen_from():
    rng, cost, held = np.random.default_rng(0), 1.007, 0
    for _ in range(300):
        ratios = cost * np.exp(rng.normal(0, 0.02, MOST))
        stolen = rng.random(MOST) < 0.1
        ratios[stolen] *= np.exp(rng.normal(0, 0.2, stolen.sum()))  # from either side alike
        ratio, low, high = stopped(ratios)
        assert low <= ratio <= high
        held += low <= cost <= high
    assert held >= 0.92 * 300


def test_one_pair_tells_nothing():
    assert mean_and_interval(np.array([1.2])) == (1.2, -np.inf, np.inf)
