"""A corpus: reviews, their labels and what they are called; and the way to it, by the source that the config names."""

import importlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from levelfield import registry
from levelfield.data.encode import Reviews
from levelfield.study.data import Data


@dataclass(frozen=True)
class Asked:
    """What a source is asked for, beside the config's `data`."""

    downloads: Path
    """Where downloaded files are kept."""
    vocabulary: int
    words: bool = False
    """Also get the words, where that is one more download."""
    work: Path | None = None
    """A folder for what is too large for memory while it is read; the system's own where None."""


@dataclass(frozen=True)
class Corpus:
    """Reviews and what they are called; rows in the order of their source."""

    corpus: str
    """By this program: what own data is called never passes for a source that is not its own."""
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
    kind: str = "imdb"
    """The source that it came from in the end: of `imdb` it may be `snippets`."""
    labels: tuple[str, ...] = ("negative", "positive")
    """Each class's name, by its number."""
    encoded: bool = False
    """The ranks are token ids already: they stay as they are, and no start is set before them."""
    told: dict[str, Any] = field(default_factory=dict)
    """What else the source has to say of itself, for `data.json`."""


def find_corpus(
    downloads: Path, data: Data | None = None, *, vocabulary: int, words: bool = False, work: Path | None = None
) -> Corpus:
    """The corpus of a study, from its source. Raises UserError where it cannot be had, or where a file is not what it should be."""
    data = data or Data()
    source = importlib.import_module(registry.sources()[data.kind].module)
    found: Corpus = source.read(data, Asked(Path(downloads), vocabulary, words, work))
    return found


def own_names(file: Path, title: str | None) -> tuple[str, str]:
    """What own data is called, at length and for titles. The first says that it is own data, whatever its owner calls it."""
    name = f"own file {file.name}"
    return (f"{name} ({title})", title) if title else (name, name)
