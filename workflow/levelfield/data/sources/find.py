"""Where the reviews come from: an own file, the copy at hand, Keras's published file, or what stands in for it."""

import json
import os
from dataclasses import dataclass, replace
from pathlib import Path

from levelfield.data.archive import read_archive
from levelfield.data.download import DownloadError, at_hand, checksum, fetch
from levelfield.data.encode import Reviews
from levelfield.data.sources.snippets import fetch_snippets, read_snippets
from levelfield.data.sources.synthetic import SEED, synthetic_reviews
from levelfield.errors import UserError

PUBLISHED = "https://storage.googleapis.com/tensorflow/tf-keras-datasets"
IMDB_SHA256 = "69664113be75683a8fe16e3ed0ab59fda8886cb3cd7ada244f7d9544e4676b9f"
WORD_INDEX_MD5 = "bfafd718b763782e994055a2d397834f"
"""Keras publishes no other checksum of its word index; the file is JSON and runs nothing."""
OWN_FILE = "LEVELFIELD_IMDB"
"""The environment variable that names an own file where `data.file` is unset."""

MAAS = (
    "A. L. Maas, R. E. Daly, P. T. Pham, D. Huang, A. Y. Ng, C. Potts: Learning Word Vectors for Sentiment Analysis. "
    "ACL 2011, 142-150."
)
HUTTO = (
    "C. J. Hutto, E. Gilbert: VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social Media Text. "
    "ICWSM 2014, 216-225."
)


@dataclass(frozen=True)
class Corpus:
    """Reviews and what they are called; rows in the order of their source, before Keras's shuffle."""

    corpus: str
    title: str
    """Short, for the titles of tables and figures."""
    why: str
    """Why it is this corpus and no other."""
    source_sha256: str | None
    """Of the file that it was read from; None where it was made."""
    citation: str | None
    train: Reviews
    validation: Reviews
    all_there_is: bool = False
    """It stands in for IMDB: a study that asks for more reviews than it has gets those that it has."""
    words: dict[str, int] | None = None
    """Word to rank; None where no word index is at hand."""


def find_corpus(
    downloads: Path,
    *,
    file: Path | None = None,
    sha256: str | None = None,
    otherwise: str = "snippets",
    synthetic: bool = False,
    train: int | None = None,
    validation: int | None = None,
    vocabulary: int,
    words: bool = False,
) -> Corpus:
    """The corpus of a study, from the first source that has it.

    file, sha256, otherwise, synthetic, train, validation: as in the config's `data`. words: also get the word index.
    Raises UserError where no source has it, or where a file is not what it should be.
    """
    if synthetic:
        made = synthetic_reviews(vocabulary, train, validation)
        why = f"data.synthetic is set; made from the seed {SEED}, nothing can be learnt from it"
        return Corpus("synthetic sequences", "synthetic, timing only", why, None, None, *made)
    own = file or (Path(os.environ[OWN_FILE]) if os.environ.get(OWN_FILE) else None)
    if own:
        return _own_file(Path(own), "data.file names it" if file else f"{OWN_FILE} names it", sha256, words)
    if sha256:
        raise UserError(
            f"data.sha256 is set, but neither data.file nor {OWN_FILE} names a file that it could be of: set one, or unset it"
        )
    return _published(Path(downloads), otherwise, words)


def _own_file(path: Path, why: str, sha256: str | None, words: bool) -> Corpus:
    if not path.is_file():
        raise UserError(f"{path}: no such file; {why}: give the path of an imdb.npz in Keras's layout, or unset it")
    found = checksum(path)
    if sha256 and found != sha256:
        raise UserError(
            f"{path}: refused: found the sha256 {found}, expected {sha256} (data.sha256): take the right file, or correct it"
        )
    kind = "Keras's imdb.npz" if found == IMDB_SHA256 else "own file"
    index = path.with_name("imdb_word_index.json")
    known = json.loads(index.read_text()) if words and index.exists() else None
    return Corpus(f"IMDB reviews ({kind})", "IMDB", why, found, MAAS, *read_archive(path), words=known)


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
                f"the IMDB reviews cannot be had: {error}. Three ways out: name a file in data.file or {OWN_FILE}; "
                f"put Keras's imdb.npz at {path}; or set data.otherwise: snippets to use the VADER snippets instead"
            ) from None
        return _snippets(downloads, str(error))
    why = "the copy already downloaded" if here else f"downloaded from {PUBLISHED}"
    return Corpus("IMDB reviews (Keras's imdb.npz)", "IMDB", why, IMDB_SHA256, MAAS, *read_archive(path), words=index)


def _published_words(downloads: Path) -> dict[str, int]:
    path = downloads / "imdb_word_index.json"
    if not at_hand(path, WORD_INDEX_MD5, "md5"):
        fetch(f"{PUBLISHED}/{path.name}", path, WORD_INDEX_MD5, "md5")
    return json.loads(path.read_text())


def _snippets(downloads: Path, reason: str) -> Corpus:
    try:
        sdist = fetch_snippets(downloads)
    except DownloadError as error:
        raise UserError(
            f"neither the IMDB reviews nor the VADER snippets can be had: {reason}; {error}. Three ways out: name a file in "
            f"data.file or {OWN_FILE}; put Keras's imdb.npz at {downloads / 'imdb.npz'}; or set data.synthetic: true (timing only)"
        ) from None
    train, validation, index = read_snippets(sdist)
    corpus = Corpus(
        "VADER movie-review snippets", "VADER snippets, not IMDB", f"IMDB could not be had: {reason}",
        checksum(sdist), HUTTO, train, validation, all_there_is=True,
    )  # fmt: skip
    return replace(corpus, words=index)
