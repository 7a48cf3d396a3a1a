"""The VADER study's snippets, also the stand-in where IMDB cannot be had: the rated movie-review snippets of the VADER study.

10,605 sentences, each rated by 20 people from -4 to 4. They come out of the source distribution of `vaderSentiment`,
which pip takes from the package index; pip itself checks the pinned checksum before it looks inside.
"""

import io
import os
import re
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from itertools import chain
from pathlib import Path

import numpy as np

from levelfield.data.corpus import Asked, Corpus
from levelfield.data.download import CERTIFICATES, NO_ADDRESS, DownloadError, at_hand, refuse_unless
from levelfield.data.encode import Reviews
from levelfield.data.origin import checksum
from levelfield.errors import UserError
from levelfield.images import pip
from levelfield.study.data import Data

PACKAGE, VERSION = "vaderSentiment", "3.3.2"
SDIST = f"{PACKAGE}-{VERSION}.tar.gz"
SHA256 = "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9"
MEMBERS = (
    f"{PACKAGE}-{VERSION}/additional_resources/hutto_ICWSM_2014.tar.gz",
    "hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt",
)
SPLIT_SEED = 20_210_320
PIP_SECONDS = 180
UNREADABLE = ("InvalidURL", "InvalidProxyURL", "LocationParseError")
"""Errors of an address that cannot be read, as pip names them: after the name comes the address, a proxy's with its password."""
HUTTO = (
    "C. J. Hutto, E. Gilbert: VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social Media Text. "
    "ICWSM 2014, 216-225."
)

SEPARATORS = re.compile(r"[!\"#$%&()*+,\-./:;<=>?@\[\\\]^_`{|}~\t\n\s]+")
"""What Keras's Tokenizer takes out by default; apostrophes stay."""


def read(data: Data, asked: Asked) -> Corpus:
    """The snippets; UserError where they cannot be had."""
    try:
        return corpus(asked.downloads)
    except DownloadError as error:
        raise UserError(
            f"the VADER snippets cannot be had: {error}. Two ways out: put {SDIST} at {asked.downloads / SDIST}; or take another "
            "data.source"
        ) from None


def corpus(downloads: Path) -> Corpus:
    """The snippets as a corpus; raises DownloadError."""
    sdist = fetch_snippets(downloads)
    train, validation, index = read_snippets(sdist)
    return Corpus(
        "VADER movie-review snippets", "VADER snippets, not IMDB", "data.source asks for them", checksum(sdist), HUTTO,
        train, validation, all_there_is=True, words=index, kind="snippets",
    )  # fmt: skip


def fetch_snippets(downloads: Path) -> Path:
    """The source distribution in `downloads`, fetched unless it is there; raises DownloadError."""
    target = Path(downloads) / SDIST
    if at_hand(target, SHA256):
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        wanted = Path(folder) / "wanted.txt"
        wanted.write_text(f"{PACKAGE}=={VERSION} --hash=sha256:{SHA256}\n", encoding="utf-8")
        # Only this package from source: what pip needs to read its metadata may come as wheels.
        options = ["--quiet", "--no-deps", "--no-binary", PACKAGE, "--require-hashes", "--retries", "2", "--timeout", "30"]
        command = [sys.executable, "-m", "pip", "download", *options, "--dest", folder, "--requirement", str(wanted)]
        # the checksum is pinned: certificates that are not there are no reason to do without
        absent = {name for name in (*CERTIFICATES, "PIP_CERT") if not Path(os.environ.get(name) or "/").exists()}
        environment = {name: value for name, value in os.environ.items() if name not in absent}
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=PIP_SECONDS, env=environment, encoding="utf-8"
            )
        except subprocess.TimeoutExpired:
            raise DownloadError(f"pip download {PACKAGE}=={VERSION}: nothing came within {PIP_SECONDS} s") from None
        if done.returncode and pip.is_missing(done.stderr):
            raise DownloadError(
                f"{SDIST} is fetched by pip, and this environment has none: {pip.INSTALL}, or put the file at {target}"
            )
        if done.returncode and any(name in done.stderr for name in UNREADABLE):
            raise DownloadError(f"pip download {PACKAGE}=={VERSION}: {NO_ADDRESS}")
        if done.returncode:
            lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()[-1:]
            raise DownloadError(f"pip download {PACKAGE}=={VERSION}: {' '.join(lines)}")
        fetched = Path(folder) / SDIST
        refuse_unless(fetched, SHA256)
        fetched.replace(target)
    return target


def read_snippets(sdist: Path) -> tuple[Reviews, Reviews, dict[str, int]]:
    """Training and validation halves, and the word index.

    Label: the sign of the mean rating, zeros left out. The halves are drawn with a fixed seed. Words are ranked by how often
    the training half has them, ties alphabetically; words that it does not have are dropped, as Keras's IMDB does.
    """
    texts, labels = _rated(sdist)
    order = np.random.default_rng(SPLIT_SEED).permutation(len(texts))
    half = len(texts) // 2
    train = [words(texts[row]) for row in order[:half]]
    validation = [words(texts[row]) for row in order[half:]]
    counts = Counter(chain.from_iterable(train))
    ranked = sorted(counts, key=lambda word: (-counts[word], word))
    index = {word: rank for rank, word in enumerate(ranked, 1)}
    return _reviews(train, labels[order[:half]], index), _reviews(validation, labels[order[half:]], index), index


def words(text: str) -> list[str]:
    """Lower-case words, split as Keras's Tokenizer does."""
    return [word for word in SEPARATORS.split(text.lower()) if word]


def _rated(sdist: Path) -> tuple[list[str], np.ndarray]:
    """Texts and labels of the snippets whose mean rating is not zero."""
    outer, inner = MEMBERS
    with tarfile.open(sdist) as archive, tarfile.open(fileobj=io.BytesIO(_content(archive, outer))) as resources:
        lines = _content(resources, inner).decode("utf-8").splitlines()
    texts, labels = [], []
    for line in lines:
        _number, rating, text = line.split("\t", 2)
        if float(rating):
            texts.append(text)
            labels.append(int(float(rating) > 0))
    return texts, np.array(labels)


def _content(archive: tarfile.TarFile, member: str) -> bytes:
    file = archive.extractfile(member)
    assert file is not None  # a folder, which the pinned checksum rules out
    return file.read()


def _reviews(rows: list[list[str]], labels: np.ndarray, index: dict[str, int]) -> Reviews:
    return Reviews.from_lists([[index[word] for word in row if word in index] for row in rows], labels)
