"""What holds of every input, tried on many that hypothesis makes up: encoding, padding, splitting, statistics, planning.

What is expected is computed here once more, the plain way, and never by the code that is tried.
"""

import string
import tempfile
from math import isclose, log
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from levelfield.data import shuffle
from levelfield.data.encode import Reviews, encode, fingerprints
from levelfield.data.split import split
from levelfield.data.words import Vocabulary, words
from levelfield.study.config import read_study
from levelfield.tell import power
from levelfield.tell.estimates import ENOUGH, Estimate, difference, equivalent, ratio, unpaired_ratio

SIDES = st.sampled_from(["pre", "post"])
ROWS = st.lists(st.lists(st.integers(1, 40), max_size=12), min_size=1, max_size=8).filter(any)
SECONDS = st.floats(1e-3, 1e5)
ACCURACIES = st.floats(0, 1)


def pairs_of(values: st.SearchStrategy, least: int = 1, most: int = 12) -> st.SearchStrategy:
    return st.integers(least, most).flatmap(lambda n: st.tuples(*[st.lists(values, min_size=n, max_size=n)] * 2))


def near(first: float | None, second: float | None, scale: float = 1.0) -> bool:
    return first == second or (
        first is not None and second is not None and isclose(first, second, rel_tol=1e-6, abs_tol=1e-9 * scale)
    )


# --- encoding and padding -------------------------------------------------------------------------------------------------------


@given(ROWS, st.integers(4, 30), st.integers(1, 15), SIDES, SIDES, st.booleans(), st.randoms(use_true_random=False))
def test_a_row_is_a_start_and_its_words_cut_and_filled_on_the_sides_named(
    rows, vocabulary, length, padding, truncation, as_they_are, random
):
    chosen = random.sample(range(len(rows)), random.randint(1, len(rows)))
    reviews = Reviews.from_lists(rows, np.zeros(len(rows), np.int64))
    found, tokens = encode(reviews, np.array(chosen), vocabulary, length, padding, truncation, as_they_are)
    expected, kept = [], 0
    for row in (rows[number] for number in chosen):
        ids = row if as_they_are else [1] + [rank + 3 if rank + 3 < vocabulary else 2 for rank in row]
        ids = ids[-length:] if truncation == "pre" else ids[:length]
        kept += len(ids)
        fill = [0] * (length - len(ids))
        expected.append(fill + ids if padding == "pre" else ids + fill)
    assert found.tolist() == expected and tokens == kept and found.dtype == np.int32


@given(ROWS)
def test_rows_are_equal_where_their_fingerprints_are(rows):
    reviews = Reviews.from_lists(rows, np.zeros(len(rows), np.int64))
    found = fingerprints(reviews, np.arange(len(rows)))
    assert [[one == other for other in rows] for one in rows] == (found[:, None] == found).tolist()


@given(st.permutations(range(23)), st.integers(1, 23), st.integers(1, 3), st.integers(1, 24), st.integers(0, 23))
def test_rows_come_out_at_their_places_whatever_the_blocks_and_the_buckets(order, rows, columns, bucket, held):
    places = np.argsort(np.argsort(order[:rows]))
    lines = np.arange(rows * columns, dtype=np.int32).reshape(rows, columns)
    expected = np.empty_like(lines)
    expected[places] = lines
    cuts = sorted(place for place in order[rows:] if place < rows)
    with pytest.MonkeyPatch.context() as patched, tempfile.TemporaryDirectory() as folder:
        patched.setattr(shuffle, "BUCKET_BYTES", 4 * columns * bucket)
        patched.setattr(shuffle, "MEMORY_BYTES", 4 * columns * held)
        patched.setattr(shuffle, "AT_ONCE", 5)
        found = list(shuffle.in_order(np.split(lines, cuts), places, columns, Path(folder)))
        assert not list(Path(folder).iterdir())
    assert np.array_equal(np.concatenate(found), expected) and {block.dtype for block in found} == {np.dtype(np.int32)}
    assert max(map(len, found)) <= 5


@given(st.lists(st.text("abC é\t.!'9", max_size=20), min_size=1, max_size=10), st.integers(1, 4), st.data())
def test_words_are_ranked_by_how_often_the_training_part_has_them_however_they_come(texts, size, data):
    training = data.draw(st.lists(st.booleans(), min_size=len(texts), max_size=len(texts)))
    vocabulary, numbers = Vocabulary(), []
    for first in range(0, len(texts), size):
        flat, sizes = words(pa.array(texts[first : first + size], pa.large_string()))
        numbers += vocabulary.add(flat, np.repeat(training[first : first + size], sizes)).tolist()
    ranks, index = vocabulary.ranked()
    plain = [text.translate(str.maketrans("C", "c", string.punctuation)).split() for text in texts]
    counts: dict[str, int] = {}
    for row, counted in zip(plain, training, strict=True):
        for word in row if counted else ():
            counts[word] = counts.get(word, 0) + 1
    expected = {word: rank for rank, word in enumerate(sorted(counts, key=lambda word: (-counts[word], word.encode())), 1)}
    assert index == expected
    flat = [word for row in plain for word in row]
    assert [int(ranks[number]) for number in numbers] == [expected.get(word, 2**32 - 1) for word in flat]


@given(st.lists(st.integers(-1, 3), min_size=8, max_size=200), st.floats(0.05, 0.9), st.integers(0, 2**31 - 1))
def test_a_share_for_validation_is_that_of_each_label_and_the_same_each_time(codes, share, seed):
    codes = np.array(codes)
    counts = np.bincount(codes[codes >= 0], minlength=4)
    assume((counts[counts > 0] >= 2).all() and (counts > 0).sum() >= 2)
    codes = np.searchsorted(np.flatnonzero(counts), codes) * (codes >= 0) - (codes < 0)
    labels = int(codes.max()) + 1
    chosen = split(codes, labels, share, seed)
    assert chosen.shape == codes.shape and not chosen[codes < 0].any()
    for label in range(labels):
        of_label = int((codes == label).sum())
        assert 1 <= chosen[codes == label].sum() < of_label
        assert abs(chosen[codes == label].sum() - share * of_label) <= 1
    assert (chosen == split(codes, labels, share, seed)).all()


# --- statistics -----------------------------------------------------------------------------------------------------------------


@given(pairs_of(ACCURACIES), st.integers(1, 50))
def test_a_difference_the_other_way_round_is_its_negative(both, family):
    there, back = difference(*both, family), difference(*both[::-1], family)
    assert near(there.value, -back.value) and there.enough == back.enough == (there.low is not None)
    if there.enough:
        assert near(there.low, -back.high) and near(there.high, -back.low) and near(there.p, back.p)


@given(pairs_of(SECONDS), st.integers(1, 50))
def test_a_ratio_the_other_way_round_is_its_inverse(both, family):
    there, back = ratio(*both, family), ratio(*both[::-1], family).inverse
    assert near(there.value, back.value)
    assert near(there.low, back.low) and near(there.high, back.high)
    other, unpaired = unpaired_ratio(*both, family), unpaired_ratio(*both[::-1], family).inverse
    assert near(other.value, unpaired.value) and near(other.low, unpaired.low) and near(other.high, unpaired.high)


@given(pairs_of(SECONDS), st.floats(0.01, 100))
def test_a_clock_of_another_unit_changes_no_ratio(both, unit):
    here, there = ratio(*both), ratio(*[np.array(side) * unit for side in both])
    assert near(here.value, there.value)
    assume(here.deviation is None or here.deviation > 1e-9)  # else all are equal but for rounding, which the unit moves
    assert here.enough == there.enough
    if here.enough:
        assert log(here.low) == pytest.approx(log(there.low), rel=1e-6, abs=1e-9)
        assert log(here.high) == pytest.approx(log(there.high), rel=1e-6, abs=1e-9)


@given(pairs_of(ACCURACIES, ENOUGH), st.integers(1, 50), st.integers(1, 50))
def test_an_interval_holds_its_value_widens_with_its_family_and_agrees_with_its_p(both, family, more):
    alone, among = difference(*both, family), difference(*both, family + more)
    assume(alone.enough)
    assert among.low <= alone.low <= alone.value <= alone.high <= among.high
    assume(abs(alone.p_corrected - 0.05) > 1e-6)
    assert alone.leaves_out(0) == (alone.p_corrected < 0.05)
    assert not alone.leaves_out(alone.value)


@given(pairs_of(ACCURACIES, 2), st.randoms(use_true_random=False), st.integers(0, 3))
def test_neither_the_order_of_pairs_nor_pairs_without_a_value_count(both, random, missing):
    order = random.sample(range(len(both[0])), len(both[0]))
    one, other = ([side[place] for place in order] for side in both)
    here, there = difference(*both), difference(one + [np.nan] * missing, other + [0.5] * missing)
    assert near(here.value, there.value) and here.pairs == there.pairs and here.enough == there.enough
    assert not here.enough or (near(here.low, there.low, 1e3) and near(here.high, there.high, 1e3))


@given(st.floats(-1, 1), st.floats(0, 1), st.floats(0, 1), st.floats(1e-3, 1), st.floats(0, 1))
def test_what_is_equivalent_within_a_margin_is_so_within_a_wider_one(value, below, above, margin, more):
    found = Estimate(value, value - below, value + above, 0.5, 5)
    assert not equivalent(found, margin) or equivalent(found, margin + more)
    assert equivalent(found, margin) == (max(abs(found.low), abs(found.high)) < margin)
    assert not equivalent(found.unclaimed, 10)


@given(st.floats(1e-4, 0.5), st.integers(ENOUGH, 60), st.integers(1, 30), st.integers(1, 20))
def test_more_pairs_show_less_and_a_larger_family_more(deviation, pairs, more, family):
    least = power.smallest_difference(deviation, pairs, family)
    assert power.smallest_difference(deviation, pairs + more, family) < least
    assert power.smallest_difference(deviation, pairs, family + 1) > least
    assert power.smallest_ratio(deviation, pairs, family) == pytest.approx(np.exp(least))
    assert power.smallest_difference(2 * deviation, pairs, family) == pytest.approx(2 * least)


@given(st.floats(0.01, 0.3), st.floats(1.02, 3), st.integers(1, 20))
def test_the_pairs_that_a_ratio_needs_are_the_fewest(deviation, wanted, family):
    pairs = power.pairs_for_ratio(deviation, wanted, family)
    assume(pairs is not None)
    assert power.smallest_ratio(deviation, pairs, family) <= wanted
    assert pairs == ENOUGH or power.smallest_ratio(deviation, pairs - 1, family) > wanted


# --- planning -------------------------------------------------------------------------------------------------------------------

BACKENDS = ["torch", "jax", "keras-jax", "flax", "keras-tensorflow"]


@given(
    st.lists(st.sampled_from(BACKENDS), min_size=1, unique=True),
    st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=6, unique=True),
    st.lists(st.sampled_from([8, 16, 32]), max_size=3, unique=True),
    st.booleans(),
    st.data(),
)
def test_every_case_runs_once_with_each_seed_in_an_order_that_the_block_alone_decides(cases, seeds, sizes, twin, data):
    sessions = data.draw(st.integers(1, len(seeds)))
    asked = {"study": "s", "cases": cases, "seeds": seeds, "twin": twin, "sessions": sessions} | (
        {"vary": {"batch_size": sizes}} if sizes else {}
    )
    study = read_study(asked, "s.yaml")
    names = {case.name for case in study.expanded}
    assert len(names) == len(study.expanded) == (len(cases) + twin) * max(1, len(sizes))
    assert sorted(study.runs) == sorted((name, seed) for name in names for seed in seeds)
    # a size's blocks stand together, and a block holds all cases of its size and seed
    assert [block.seed for block in study.blocks] == seeds * max(1, len(sizes))
    of_case = {case.name: case.protocol.batch_size for case in study.expanded}
    for place, block in enumerate(study.blocks):
        assert len({of_case[name] for name in block.cases}) == 1
        if sizes:
            assert of_case[block.cases[0]] == sizes[place // len(seeds)]
    assert [seed for mine in study.sessions_of_seeds for seed in mine] == seeds
    shares = [len(mine) for mine in study.sessions_of_seeds]
    assert len(shares) == sessions and max(shares) - min(shares) <= 1
    # more seeds, other sessions: what has run stays where it was
    fewer = read_study(asked | {"seeds": seeds[:1], "sessions": 1}, "s.yaml")
    orders = {block.name: block.cases for block in study.blocks}
    assert all(orders[block.name] == block.cases for block in fewer.blocks)
