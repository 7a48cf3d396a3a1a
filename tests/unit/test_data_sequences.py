"""Encoding and padding: by hand on small reviews, and against Keras on the whole file."""

import os
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from levelfield.data.archive import read_archive
from levelfield.data.encode import Reviews, decode, encode, shuffled_orders
from levelfield.data.sources.synthetic import synthetic_reviews

SIDES = list(product(("pre", "post"), ("pre", "post")))
REVIEWS = Reviews.from_lists([[1, 2, 3, 4, 5], [], [6], [9, 1, 9]], np.array([0, 1, 1, 0]))


def plainly(rows, vocabulary, length, padding, truncation) -> list[list[int]]:
    """The rule, one token at a time."""
    told = []
    for row in rows:
        ids = [1] + [rank + 3 if rank + 3 < vocabulary else 2 for rank in row]
        ids = ids[-length:] if truncation == "pre" else ids[:length]
        fill = [0] * (length - len(ids))
        told.append(fill + ids if padding == "pre" else ids + fill)
    return told


def test_short_and_long_reviews_by_hand():
    encoded, tokens = encode(REVIEWS, np.array([0, 2]), 8, 4, "pre", "pre")
    assert encoded.tolist() == [[5, 6, 7, 2], [0, 0, 1, 2]]
    assert tokens == 6 and encoded.dtype == np.int32


@pytest.mark.parametrize(("padding", "truncation"), SIDES)
@pytest.mark.parametrize("length", [1, 2, 4, 6, 9])
def test_every_side_and_length(padding, truncation, length):
    rows = [[1, 2, 3, 4, 5], [], [6], [9, 1, 9]]
    order = np.array([3, 0, 2, 1])
    encoded, tokens = encode(REVIEWS, order, 10, length, padding, truncation)
    expected = plainly([rows[row] for row in order], 10, length, padding, truncation)
    assert encoded.tolist() == expected
    assert tokens == np.count_nonzero(expected)


@pytest.mark.parametrize(("padding", "truncation"), SIDES)
def test_more_rows_than_are_encoded_at_once(padding, truncation):
    reviews, _ = synthetic_reviews(500, 2500, 1)
    rows = [row.tolist() for row in np.split(reviews.ranks, reviews.ends[:-1])]
    encoded, _tokens = encode(reviews, np.arange(2500), 500, 100, padding, truncation)
    assert encoded.tolist() == plainly(rows, 500, 100, padding, truncation)


def test_the_order_is_that_of_keras():
    generator = np.random.RandomState(113)
    train, validation = np.arange(10), np.arange(7)
    generator.shuffle(train)
    generator.shuffle(validation)
    assert [order.tolist() for order in shuffled_orders(10, 7)] == [train.tolist(), validation.tolist()]


def test_decoding_names_what_it_does_not_know():
    assert decode([0, 1, 4, 2, 5, 99], {"the": 1, "film": 2}) == "<PAD> <START> the <UNK> film <99>"


def test_synthetic_reviews_are_the_same_each_time_and_of_the_protocols_shape():
    (train, validation), (again, _) = synthetic_reviews(20_000, 2000, 1000), synthetic_reviews(20_000, 2000, 1000)
    assert np.array_equal(train.ranks, again.ranks) and np.array_equal(train.labels, again.labels)
    assert (len(train), len(validation)) == (2000, 1000)
    assert train.ranks.min() == 1 and train.ranks.max() < 20_000 - 3
    assert 200 < np.diff(train.ends).mean() < 260 and 0.45 < train.labels.mean() < 0.55


@pytest.mark.skipif("LEVELFIELD_IMDB" not in os.environ, reason="LEVELFIELD_IMDB names no imdb.npz: NOT compared with Keras")
def test_the_whole_file_bit_for_bit_as_keras(monkeypatch):
    pytest.importorskip("keras", reason="Keras is not installed: NOT compared with Keras")
    monkeypatch.setitem(os.environ, "KERAS_BACKEND", os.environ.get("KERAS_BACKEND", "jax"))
    monkeypatch.setattr(sys, "path", [str(Path(__file__).parents[1] / "performance"), *sys.path])
    import bench_encoding
    from keras.utils import pad_sequences

    path = Path(os.environ["LEVELFIELD_IMDB"])
    ours, keras = read_archive(path), bench_encoding.keras_load(path)
    orders = shuffled_orders(*map(len, ours))
    for padding, truncation in SIDES:
        for reviews, order, (sequences, labels) in zip(ours, orders, keras, strict=True):
            x, _tokens = encode(reviews, order, bench_encoding.VOCABULARY, bench_encoding.LENGTH, padding, truncation)
            expected = pad_sequences(sequences, maxlen=bench_encoding.LENGTH, padding=padding, truncating=truncation)
            assert x.dtype == expected.dtype and np.array_equal(x, expected)
            assert np.array_equal(reviews.labels[order], labels)
