"""Sequences in the protocol's shape, made from a fixed seed: for timing alone, since nothing can be learnt from them."""

import numpy as np

from levelfield.data.corpus import Asked, Corpus
from levelfield.data.encode import RESERVED, Reviews
from levelfield.study.data import Data

SEED = 20_210_320
SEQUENCES = 25_000
"""As many as IMDB has in each part."""
LOG_MEAN, LOG_SPREAD = 5.2, 0.7
"""Lengths are log-normal: median 181 words, mean 232, as IMDB's (median 174 to 178, mean 229 to 238)."""


def read(data: Data, asked: Asked) -> Corpus:
    """As many sequences as the config asks for."""
    made = synthetic_reviews(asked.vocabulary, data.train, data.validation)
    why = f"data.synthetic is set; made from the seed {SEED}, nothing can be learnt from it"
    return Corpus("synthetic sequences", "synthetic, timing only", why, None, None, *made, kind="synthetic")


def synthetic_reviews(vocabulary: int, train: int | None, validation: int | None) -> tuple[Reviews, Reviews]:
    """Training and validation reviews; ranks fall off as 1/rank, as words do; labels are drawn evenly."""
    generator = np.random.default_rng(SEED)
    return _part(generator, train or SEQUENCES, vocabulary), _part(generator, validation or SEQUENCES, vocabulary)


def _part(generator: np.random.Generator, count: int, vocabulary: int) -> Reviews:
    ends = np.cumsum(np.maximum(1, generator.lognormal(LOG_MEAN, LOG_SPREAD, count)).astype(np.int64))
    ranks = np.floor((vocabulary - RESERVED) ** generator.random(ends[-1], np.float32)).astype(np.uint32)
    return Reviews(ranks, ends, generator.integers(0, 2, count))
