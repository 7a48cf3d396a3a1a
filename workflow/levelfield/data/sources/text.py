"""Labelled text of one's own: a table, a folder for each label, or a saved data set; words by the training part alone."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from levelfield.data.corpus import Asked, Corpus, own_names
from levelfield.data.origin import origin_of
from levelfield.data.rows import Block, Rows
from levelfield.data.split import divide
from levelfield.data.words import Growing, Tokenizer, TokenizerError, Vocabulary, words
from levelfield.errors import UserError
from levelfield.study.data import Data

TAKES = (
    "file", "sha256", "text", "label", "labels", "validation_file", "validation_share", "split_seed", "tokenizer", "title",
    "citation",
)  # fmt: skip
NEEDS = ("file",)
AT_ONCE = 2
"""Blocks of text split up at the same time."""
Split = tuple[pa.DictionaryArray | np.ndarray, np.ndarray]
"""Words or ids of a block's texts, one text's after the other's, and how many each has."""
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
    """Reads a part's text into the rows held for training and for validation: a block's words are numbered while the next are split."""
    split_up: Callable[[pa.Array], Split] = tokenizer.words if tokenizer else words
    with (
        tqdm(desc=f"text of {rows.path.name}", total=len(codes), unit=" rows", disable=None, leave=False, delay=2) as bar,
        ThreadPoolExecutor(1 if tokenizer else AT_ONCE) as pool,  # a tokenizer has threads of its own
    ):
        blocks = ((block, pool.submit(split_up, block.content)) for block in rows.blocks(used=codes >= 0))
        waiting = deque(islice(blocks, AT_ONCE))
        while waiting:
            block, found = waiting.popleft()
            numbers, sizes = _split_up(block, found, rows)
            waiting.extend(islice(blocks, 1))
            bar.update(len(block.labels))
            mine, later = codes[block.span][block.places], validation[block.span][block.places]
            of_later = np.repeat(later, sizes)
            if not tokenizer:
                numbers = vocabulary.add(numbers, counted=~of_later)
            for part, rows_of, words_of in ((held[0], ~later, ~of_later), (held[1], later, of_later)):
                part.add(numbers[words_of], sizes[rows_of], mine[rows_of])


def _split_up(block: Block, found: Future[Split], rows: Rows) -> Split:
    """A block's words or ids, and how many each text has."""
    try:
        return found.result()
    except TokenizerError as error:
        number = block.first + block.places[error.place]
        raise UserError(
            f"{error.path}: cannot encode {rows.path}, row {number:,}, column {rows.text}: {error}: take a tokenizer that can, or "
            "leave `data.tokenizer` out"
        ) from None
