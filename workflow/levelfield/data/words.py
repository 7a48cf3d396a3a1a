"""Text into words, as Keras's `TextVectorization` does by default, and words into ranks by the training part alone.

Lower case, punctuation off, split on white space: all three of ASCII alone, as TensorFlow's operations behind that layer
(`tf.strings.lower`, `regex_replace`, `split`; keras/src/layers/preprocessing/text_vectorization.py, Keras 3.15).
"""

import re
import tempfile
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from levelfield.data.encode import PAD, Reviews
from levelfield.errors import UserError

PUNCTUATION = r"""[!"#$%&()*+,\-./:;<=>?@\[\\\]^_`{|}~']"""
UNSEEN = 2**32 - 1
"""Rank of a word that the training part does not have: above any vocabulary."""
ROWS_AT_ONCE = 2**22
FIRST = 2**17
"""Words looked up by pyarrow, all of a block's at once: those that came first, most of what later blocks have."""
PADDING = re.compile(r"[\[<|]+pad[\]>|]+", re.IGNORECASE)
"""What tokenizers call the token of padding."""


def words(texts: pa.LargeStringArray) -> tuple[pa.DictionaryArray, np.ndarray]:
    """The words of texts without nulls, one after the other, and how many each text has, int64 (texts,). A word may stand in the
    dictionary several times.

    Splitting comes first, where the bytes lie: each piece goes up to a white space and with it, or to the end of its text. What is
    to be made of a piece is then done once for all that are alike, and since no punctuation is white space, it comes to the same.
    """
    bounds, content = _bytes(texts)
    ends_here = (content == ord(" ")) | (content - np.uint8(ord("\t")) <= ord("\r") - ord("\t"))
    ends_here[bounds[1:][bounds[1:] > bounds[:-1]] - 1] = True
    ends = np.flatnonzero(ends_here) + 1
    starts = np.searchsorted(ends, bounds, "right")
    offsets = np.concatenate([[0], ends])
    cut = pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(ends), [None, pa.py_buffer(offsets), pa.py_buffer(content)])
    pieces = cut.dictionary_encode()
    made = pc.ascii_lower(pieces.dictionary.cast(pa.large_string()))
    made = pc.replace_substring_regex(pc.ascii_rtrim_whitespace(made), PUNCTUATION, "")
    empty = np.asarray(pc.equal(made, ""))
    gone, place = empty[pieces.indices], np.cumsum(~empty, dtype=np.int32) - 1
    sizes = np.diff(np.searchsorted(np.flatnonzero(~gone), starts))
    return pa.DictionaryArray.from_arrays(place[np.asarray(pieces.indices)[~gone]], made.filter(pa.array(~empty))), sizes


def _bytes(texts: pa.LargeStringArray) -> tuple[np.ndarray, np.ndarray]:
    """Where each text begins and the last one ends, int64 (texts + 1,), in their bytes, uint8, which come with it."""
    _, offsets, content = texts.buffers()
    if not len(texts) or not content:
        return np.zeros(len(texts) + 1, np.int64), np.empty(0, np.uint8)
    bounds = np.frombuffer(offsets, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    return bounds - bounds[0], np.frombuffer(content, np.uint8)[bounds[0] : bounds[-1]]


class Growing:
    """Rows of numbers that grow beyond memory: they lie in a file without a name, which is gone with the process."""

    def __init__(self, folder: Path | None):
        self.file = tempfile.TemporaryFile(dir=folder, prefix=".reading-")  # noqa: SIM115
        self.sizes: list[np.ndarray] = []
        self.labels: list[np.ndarray] = []
        self.count = 0

    def add(self, numbers: np.ndarray, sizes: np.ndarray, labels: np.ndarray) -> None:
        self.file.write(np.ascontiguousarray(numbers, np.uint32).data)
        self.sizes.append(sizes)
        self.labels.append(labels)
        self.count += len(numbers)

    def reviews(self, table: np.ndarray | None = None) -> Reviews:
        """The rows, each number replaced by that of `table`."""
        self.file.flush()
        ends = np.cumsum(np.concatenate(self.sizes)) if self.sizes else np.empty(0, np.int64)
        labels = np.concatenate(self.labels) if self.labels else np.empty(0, np.int64)
        if not self.count:
            return Reviews(np.zeros(1, np.uint32), ends, labels)
        numbers = np.memmap(self.file, np.uint32, "r+", shape=(self.count,))
        if table is not None:
            for first in range(0, self.count, ROWS_AT_ONCE):
                part = slice(first, first + ROWS_AT_ONCE)
                numbers[part] = table[numbers[part]]
        return Reviews(numbers, ends, labels)


class _Numbers(dict[str, int]):
    """Gives each new word the next number."""

    def __missing__(self, word: str) -> int:
        number = self[word] = len(self)
        return number


class Vocabulary:
    """Words as they come, by number, and how often the training part has each."""

    def __init__(self) -> None:
        self.numbers = _Numbers()
        self.first = pa.array([], pa.large_string())
        self.counts = np.zeros(0, np.int64)

    def add(self, found: pa.DictionaryArray, counted: np.ndarray) -> np.ndarray:
        """The words' numbers, uint32 (words,). counted, bool (words,): which are of the training part."""
        indices, known = np.asarray(found.indices), self.numbers
        near = pc.index_in(found.dictionary, value_set=self.first)
        table, far = np.asarray(near.fill_null(0)).astype(np.uint32), np.flatnonzero(near.is_null())
        table[far] = np.fromiter(map(known.__getitem__, found.dictionary.take(pa.array(far)).to_pylist()), np.uint32, len(far))
        if len(self.first) < min(len(known), FIRST):
            self.first = pa.array(islice(known, FIRST), pa.large_string())
        if len(known) > len(self.counts):
            self.counts = np.concatenate([self.counts, np.zeros(max(len(known), len(self.counts)), np.int64)])
        np.add.at(self.counts, table, np.bincount(indices[counted], minlength=len(table)))
        numbers: np.ndarray = table[indices]
        return numbers

    def ranked(self) -> tuple[np.ndarray, dict[str, int]]:
        """Each number's rank, uint32, by how often the training part has the word, ties alphabetically; and each word's."""
        numbers = np.flatnonzero(self.counts)
        seen = pa.array(self.numbers.keys(), pa.large_string()).take(pa.array(numbers))
        keys = pa.table({"count": self.counts[numbers], "word": seen})
        order = pc.sort_indices(keys, sort_keys=[("count", "descending"), ("word", "ascending")])
        ranks = np.full(len(self.numbers), UNSEEN, np.uint32)
        ranks[numbers[np.asarray(order)]] = np.arange(1, len(order) + 1)
        return ranks, {word: rank for rank, word in enumerate(seen.take(order).to_pylist(), 1)}


class TokenizerError(Exception):
    """A text that a tokenizer cannot encode."""

    def __init__(self, path: Path, place: int, what: str):
        super().__init__(what)
        self.path, self.place = path, place
        """The tokenizer's file; which of the texts it is, from 0."""


class Tokenizer:
    """A `tokenizer.json` of Hugging Face's `tokenizers`, whose own ids are kept."""

    def __init__(self, path: Path):
        try:
            import tokenizers
        except ImportError:
            raise UserError(
                "data.tokenizer: the package `tokenizers` is not installed: type `pip install tokenizers` (it is in none of the "
                "containers: leave out `--sdm apptainer`)"
            ) from None
        try:
            self.tokenizer = tokenizers.Tokenizer.from_file(str(path))
        except Exception as error:  # the package raises Exception itself
            raise UserError(f"{path}: no tokenizer.json: {' '.join(str(error).split())}") from None
        self.path = path
        declared = self.tokenizer.padding or {}
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        # numbers below the greatest id may be left out
        self.size: int = 1 + max(self.tokenizer.get_vocab().values(), default=-1)
        # the token that has the id of padding here, where it is not the tokenizer's own padding; how often texts have it
        self.zero: str | None = self.tokenizer.id_to_token(PAD)
        if self.zero and (PADDING.fullmatch(self.zero) or declared.get("pad_token") == self.zero):
            self.zero = None
        self.zeros = 0

    def words(self, texts: pa.Array) -> tuple[np.ndarray, np.ndarray]:
        """The ids of texts (large_string), uint32, one text's after the other's, and how many each has, int64 (texts,). Raises
        TokenizerError for the first text that cannot be encoded."""
        given = texts.to_pylist()
        try:
            found = [encoding.ids for encoding in self.tokenizer.encode_batch(given)]
        except BaseException as error:
            _refuse_interruption(error)
            found = list(self._one_by_one(given))
        sizes = np.array([len(ids) for ids in found], np.int64)
        ids = np.fromiter(chain.from_iterable(found), np.uint32, int(sizes.sum()))
        if self.zero:
            self.zeros += int((ids == PAD).sum())
        return ids, sizes

    def _one_by_one(self, texts: list[str]) -> Iterator[list[int]]:
        for place, text in enumerate(texts):
            try:
                yield self.tokenizer.encode(text).ids
            except BaseException as error:
                _refuse_interruption(error)
                raise TokenizerError(self.path, place, " ".join(str(error).split()) or type(error).__name__) from None


def _refuse_interruption(error: BaseException) -> None:
    """Raises it again unless it is the package's own: Exception itself, or what becomes of a panic in Rust, which is none."""
    if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
        raise error


def lengths(lists: pa.Array) -> np.ndarray:
    """int64: how many entries each list has."""
    return np.asarray(pc.list_value_length(lists)).astype(np.int64)
