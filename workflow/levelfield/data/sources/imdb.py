"""The IMDB reviews: an own file, the copy at hand, Keras's published file, or the snippets that stand in for it."""

import json
from dataclasses import replace
from pathlib import Path

from levelfield.data.archive import read_archive
from levelfield.data.corpus import Asked, Corpus, own_names
from levelfield.data.download import DownloadError, at_hand, fetch
from levelfield.data.origin import IMDB_SHA256, origin_of, own_file
from levelfield.data.sources import snippets
from levelfield.errors import UserError
from levelfield.study.data import Data

TAKES = ("file", "sha256", "otherwise", "title", "citation")
VARIABLE = "LEVELFIELD_IMDB"
PUBLISHED = "https://storage.googleapis.com/tensorflow/tf-keras-datasets"
WORD_INDEX_MD5 = "bfafd718b763782e994055a2d397834f"
"""Keras publishes no other checksum of its word index; the file is JSON and runs nothing."""

MAAS = (
    "A. L. Maas, R. E. Daly, P. T. Pham, D. Huang, A. Y. Ng, C. Potts: Learning Word Vectors for Sentiment Analysis. "
    "ACL 2011, 142-150."
)


def read(data: Data, asked: Asked) -> Corpus:
    """The reviews from the first place that has them."""
    path, named_by = own_file(data)
    origin = origin_of(data, asked.downloads)
    if path is None:
        return _published(asked.downloads, data.otherwise, asked.words)
    index = path.with_name("imdb_word_index.json")
    known = _words(index) if asked.words and index.exists() else None
    train, validation = read_archive(path)
    corpus, title = own_names(path, data.title)
    if title.startswith("IMDB"):  # its owner says so
        corpus = title
    citation = data.citation  # nobody but its owner knows what an own file holds
    if origin.sha256 == IMDB_SHA256:
        corpus, title, citation = "IMDB reviews (Keras's imdb.npz)", "IMDB", MAAS
    return Corpus(corpus, title, f"{named_by} names it", origin.sha256, citation, train, validation, words=known)


def _published(downloads: Path, otherwise: str, words: bool) -> Corpus:
    """The published file: at hand, or fetched; where it can't be had, what `otherwise` says."""
    path = downloads / "imdb.npz"
    here = at_hand(path, IMDB_SHA256)
    try:
        if not here:
            fetch(f"{PUBLISHED}/{path.name}", path, IMDB_SHA256)
        index = _published_words(downloads) if words else None
    except DownloadError as error:
        if otherwise == "none":
            raise UserError(
                f"the IMDB reviews cannot be had: {error}. Three ways out: name a file in data.file or {VARIABLE}; "
                f"put Keras's imdb.npz at {path}; or set data.otherwise: snippets to use the VADER snippets instead"
            ) from None
        return _snippets(downloads, str(error))
    why = "the copy already downloaded" if here else f"downloaded from {PUBLISHED}"
    train, validation = read_archive(path)
    return Corpus("IMDB reviews (Keras's imdb.npz)", "IMDB", why, IMDB_SHA256, MAAS, train, validation, words=index)


def _published_words(downloads: Path) -> dict[str, int]:
    path = downloads / "imdb_word_index.json"
    if not at_hand(path, WORD_INDEX_MD5, "md5"):
        fetch(f"{PUBLISHED}/{path.name}", path, WORD_INDEX_MD5, "md5")
    return _words(path)


def _words(file: Path) -> dict[str, int]:
    """A word index: each word and its rank. Raises UserError where the file holds none."""
    wrong = "put Keras's imdb_word_index.json there, or take it away: it is there to show the reviews as text"
    try:
        found: dict[str, int] = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{file}: cannot be read: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file}: damaged ({error}): {wrong}") from None
    if not isinstance(found, dict):
        raise UserError(f"{file}: found a {type(found).__name__}, expected an object of words and their ranks: {wrong}")
    odd = next((word for word, rank in found.items() if type(rank) is not int), None)
    if odd is not None:
        raise UserError(f"{file}: {odd[:60]!r}: found {str(found[odd])[:60]!r}, expected its rank, a whole number: {wrong}")
    return found


def _snippets(downloads: Path, reason: str) -> Corpus:
    try:
        corpus = snippets.corpus(downloads)
    except DownloadError as error:
        raise UserError(
            f"neither the IMDB reviews nor the VADER snippets can be had: {reason}; {error}. Three ways out: name a file in "
            f"data.file or {VARIABLE}; put Keras's imdb.npz at {downloads / 'imdb.npz'}; or set data.synthetic: true (timing only)"
        ) from None
    return replace(corpus, why=f"IMDB could not be had: {reason}")
