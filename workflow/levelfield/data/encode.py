"""Reviews as word ranks, and the way from there to what a model reads: shuffled, encoded, padded. All in numpy.

The result is bit for bit that of Keras's `imdb.load_data(num_words=vocabulary)` followed by
`pad_sequences(maxlen=length)`, which do the same one Python object at a time (keras/src/datasets/imdb.py and
keras/src/utils/sequence_utils.py, Keras 3.15).
"""

from array import array
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np

PAD, START, UNKNOWN = 0, 1, 2
RESERVED = 3
"""A word's id is its rank plus this: rank 1, the most frequent word, is id 4; Keras leaves 3 unused."""
SHUFFLE_SEED = 113
"""Keras's own default for `imdb.load_data`."""
ROWS_AT_ONCE = 1024
"""Rows encoded together: their index arrays (1.6 MB at 200 tokens) stay in the processor's cache."""


@dataclass(frozen=True)
class Reviews:
    """Reviews one after the other in one array: row i is `ranks[ends[i - 1]:ends[i]]`."""

    ranks: np.ndarray
    """uint32 (words of all reviews,): ranks from 1, the most frequent word; or token ids, where somebody else encoded."""
    ends: np.ndarray
    """int64 (reviews,): where each review ends in `ranks`."""
    labels: np.ndarray
    """int64 (reviews,): class numbers; 0 negative, 1 positive where there are two of that kind."""

    def __len__(self) -> int:
        return len(self.ends)

    @cached_property
    def starts(self) -> np.ndarray:
        return np.concatenate([[0], self.ends[:-1]])

    @cached_property
    def sizes(self) -> np.ndarray:
        """int64 (reviews,): words of each."""
        found: np.ndarray = self.ends - self.starts
        return found

    @classmethod
    def from_lists(cls, rows: Iterable[list[int]], labels: np.ndarray, lowest: int = 1, classes: int = 2) -> "Reviews":
        """Takes lists of ranks. Raises TypeError or OverflowError for what is no list of unsigned 32-bit integers, ValueError for
        no words, ranks below `lowest`, labels other than the class numbers or another number of labels."""
        ranks, ends = array("I"), []  # Four times as fast as "i", which goes through a format string.
        for number, row in enumerate(rows):
            try:
                ranks.fromlist(row)
            except (TypeError, OverflowError) as error:
                raise type(error)(f"row {number}, counted from 0: {error}") from None
            ends.append(len(ranks))
        if not ranks:
            raise ValueError("found no words in it")
        flat = np.frombuffer(ranks, np.uintc)
        low = np.flatnonzero(flat < lowest)
        if len(low):
            row = np.searchsorted(ends, low[0], "right")
            raise ValueError(f"row {row}, counted from 0: found the rank {flat[low[0]]}, expected ranks from {lowest}")
        labels = np.asarray(labels)
        if len(labels) != len(ends):
            raise ValueError(f"found {len(labels)} labels for {len(ends)} reviews")
        other = np.flatnonzero(~np.isin(labels, np.arange(classes)))
        if len(other):
            expected = "0 and 1" if classes == 2 else f"0 to {classes - 1}"
            raise ValueError(f"row {other[0]}, counted from 0: found the label {labels[other[0]]}, expected {expected}")
        return cls(flat, np.array(ends, np.int64), labels.astype(np.int64))


def shuffled_orders(train: int, validation: int) -> tuple[np.ndarray, np.ndarray]:
    """The order in which Keras hands out the rows of both parts: two shuffles of one generator, training first."""
    generator = np.random.RandomState(SHUFFLE_SEED)
    orders = np.arange(train), np.arange(validation)
    for order in orders:
        generator.shuffle(order)
    return orders


def encode(
    reviews: Reviews, rows: np.ndarray, vocabulary: int, length: int, padding: str, truncation: str, as_they_are: bool = False
) -> tuple[np.ndarray, int]:
    """Encodes and pads `rows` of the reviews, in that order.

    Each row becomes START and its words' ids, UNKNOWN for ids not below `vocabulary`; longer rows are cut to `length` and
    shorter ones filled with PAD, each on the side that `truncation` and `padding` (`pre`, `post`) name. as_they_are: the ranks
    are token ids already, to be cut and padded alone.
    Returns int32 (rows, length) and the number of tokens in it that are no padding.
    """
    ranks, ahead = np.asarray(reviews.ranks), 0 if as_they_are else 1
    starts, sizes = reviews.starts[rows] - ahead, reviews.sizes[rows] + ahead
    kept = np.minimum(sizes, length)
    columns, encoded = np.arange(length), np.empty((len(rows), length), np.int32)
    # What to add to a column to get the token of the review that stands there, counted from 0, which is START.
    shift = (sizes - kept) * (truncation == "pre") - (length - kept) * (padding == "pre")
    for first in range(0, len(rows), ROWS_AT_ONCE):
        part = slice(first, first + ROWS_AT_ONCE)
        token, keep = columns + shift[part, None], kept[part, None]
        taken = np.take(ranks, token + starts[part, None], mode="clip")
        encoded[part] = taken if as_they_are else np.where(taken < vocabulary - RESERVED, taken + RESERVED, UNKNOWN)
        if not as_they_are:
            encoded[part][token == 0] = START
        encoded[part][columns < length - keep if padding == "pre" else columns >= keep] = PAD
    return encoded, int(kept.sum())


def fingerprints(reviews: Reviews, rows: np.ndarray) -> np.ndarray:
    """uint64 (rows,): equal for rows of equal words, different (but for a chance of one in 10^19 a pair) for all others."""
    found = np.zeros(len(rows), np.uint64)
    ranks, odd, other = np.asarray(reviews.ranks), np.uint64(0x9E3779B97F4A7C15), np.uint64(0xC2B2AE3D27D4EB4F)
    for first in range(0, len(rows), ROWS_AT_ONCE):
        part = rows[first : first + ROWS_AT_ONCE]
        sizes = reviews.sizes[part]
        places = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        words = ranks[np.repeat(reviews.starts[part], sizes) + places].astype(np.uint64)
        mixed = (words + np.uint64(1)) * odd ^ (places.astype(np.uint64) + np.uint64(1)) * other
        mixed = (mixed ^ mixed >> np.uint64(29)) * odd
        mixed ^= mixed >> np.uint64(32)
        mixed *= other
        full = sizes > 0
        if full.any():
            found[first : first + len(part)][full] = np.add.reduceat(mixed, (np.cumsum(sizes) - sizes)[full])
    return found


def decode(ids: Iterable[int], word_index: dict[str, int]) -> str:
    """The text of ids, from a word index (word to rank); reserved ids and ids that it does not know in angle brackets."""
    words = {rank + RESERVED: word for word, rank in word_index.items()}
    words |= {PAD: "<PAD>", START: "<START>", UNKNOWN: "<UNK>"}
    return " ".join(words.get(number, f"<{number}>") for number in map(int, ids))
