"""Labelled text of one's own: a table, a folder for each label, or a saved data set; words by the training part alone."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from levelfield.data.corpus import Asked, Corpus, own_names
from levelfield.data.origin import origin_of
from levelfield.data.rows import Rows
from levelfield.data.split import divide, taken
from levelfield.data.words import Growing, Tokenizer, Vocabulary, words
from levelfield.errors import UserError
from levelfield.study.data import Data

TAKES = (
    "file", "sha256", "text", "label", "labels", "validation_file", "validation_share", "split_seed", "tokenizer", "title",
    "citation",
)  # fmt: skip
NEEDS = ("file",)
ENDINGS = (".csv", ".tsv", ".tab", ".jsonl", ".ndjson", ".json", ".parquet", ".pq")


def read(data: Data, asked: Asked) -> Corpus:
    """Reads the file twice, the labels and then the text, in blocks: memory holds the distinct words and a few numbers a row."""
    assert data.file is not None
    origin = origin_of(data, asked.downloads)
    divided = divide(data, "text")
    tokenizer = Tokenizer(data.tokenizer) if data.tokenizer else None
    if tokenizer and tokenizer.size > asked.vocabulary:
        raise UserError(
            f"{data.tokenizer}: has {tokenizer.size:,} token ids, the protocol {asked.vocabulary:,}: write "
            f"`protocol: {{vocabulary: {tokenizer.size}}}`"
        )
    held, vocabulary = (Growing(asked.work), Growing(asked.work)), Vocabulary()
    for rows, codes, validation in zip(divided.rows, divided.codes, divided.validation, strict=True):
        _read(rows, codes, validation, held, vocabulary, tokenizer)
    table, index = (None, None) if tokenizer else vocabulary.ranked()
    corpus, title = own_names(data.file, data.title)
    if not held[0].count:
        raise UserError(f"{divided.rows[0].path}: column {divided.rows[0].text}: found no words in it")
    why = divided.why
    if tokenizer and tokenizer.zeros:
        why += f"; id 0, which is padding, is also the tokenizer's {tokenizer.zero!r}, which stands in the texts {tokenizer.zeros:,} times"
    told = {
        "rows_left_out": int(sum((part < 0).sum() for part in divided.codes)),
        "distinct_words": None if index is None else len(index),
        "tokenizer": data.tokenizer.name if data.tokenizer else "words",
    }
    return Corpus(
        corpus, title, why, origin.sha256, data.citation, held[0].reviews(table), held[1].reviews(table), words=index,
        kind="text", labels=divided.labels, encoded=tokenizer is not None, told=told,
    )  # fmt: skip


def _read(
    rows: Rows,
    codes: np.ndarray,
    validation: np.ndarray,
    held: tuple[Growing, Growing],
    vocabulary: Vocabulary,
    tokenizer: Tokenizer | None,
) -> None:
    """Reads a part's text into the rows held for training and for validation: a block's words are numbered while the next is split."""
    split_up = tokenizer.words if tokenizer else words
    with (
        tqdm(desc=f"text of {rows.path.name}", total=len(codes), unit=" rows", disable=None, leave=False, delay=2) as bar,
        ThreadPoolExecutor(1) as pool,
    ):
        blocks = _kept(rows, codes)
        block = pool.submit(_next, blocks, split_up)
        while (found := block.result()) is not None:
            block = pool.submit(_next, blocks, split_up)
            here, kept, numbers, sizes = found
            bar.update(len(kept))
            mine, later = codes[here][kept], validation[here][kept]
            of_later = np.repeat(later, sizes)
            if not tokenizer:
                numbers = vocabulary.add(numbers, counted=~of_later)
            for part, rows_of, words_of in ((held[0], ~later, ~of_later), (held[1], later, of_later)):
                part.add(numbers[words_of], sizes[rows_of], mine[rows_of])


def _kept(rows: Rows, codes: np.ndarray) -> Iterator[tuple[slice, np.ndarray, pa.Array]]:
    """Of each block where its rows stand in `codes`, which of them are used, and these texts."""
    for block in rows.blocks():
        here = slice(block.first - 1, block.first - 1 + len(block.content))
        if len(codes[here]) < len(block.content):
            raise UserError(f"{rows.path}: grew while it was read: try again")
        kept = codes[here] >= 0
        yield here, kept, taken(block.content, kept)


def _next(
    blocks: Iterator[tuple[slice, np.ndarray, pa.Array]],
    split_up: Callable[[pa.Array], tuple[pa.Array | np.ndarray, np.ndarray]],
) -> tuple[slice, np.ndarray, pa.Array | np.ndarray, np.ndarray] | None:
    """The next block with its texts split up; None after the last."""
    for here, kept, content in blocks:
        return here, kept, *split_up(content)
    return None
