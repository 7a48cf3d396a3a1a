"""From a corpus to the four arrays that every backend maps into memory, and `data.json` beside them."""

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from levelfield.data.encode import Reviews, encode, shuffled_orders
from levelfield.data.sources.find import Corpus
from levelfield.errors import UserError
from levelfield.records import write_json, write_whole


@dataclass(frozen=True)
class Shape:
    """What the protocol says of the data."""

    vocabulary: int
    length: int
    padding: str
    truncation: str


def prepare(corpus: Corpus, shape: Shape, train: int | None, validation: int | None, out: Path) -> dict:
    """Writes x_train.npy, y_train.npy, x_val.npy, y_val.npy (x int32, y float32) and data.json to `out`; returns the latter.

    train, validation: take the first so many of Keras's shuffled order, None: all. UserError where there are fewer, unless
    the corpus stands in for IMDB. `arrays` in data.json tells each file's sha256, bytes and shape; `sha256` is that of the
    four checksums, one a line as `sha256sum` writes them.
    """
    found, lines, why = {}, "", [corpus.why]
    orders = shuffled_orders(len(corpus.train), len(corpus.validation))
    parts = [("train", corpus.train, orders[0], train), ("validation", corpus.validation, orders[1], validation)]
    for part, _reviews, order, wanted in parts:
        if wanted is not None and wanted > len(order):
            if not corpus.all_there_is:
                raise UserError(f"data.{part}: found {wanted:,}, but {corpus.title} has {len(order):,} reviews in that part")
            why.append(f"{wanted:,} {part} reviews were asked for, there are {len(order):,}")
    told = {}
    for part, reviews, order, wanted in parts:
        rows = order[:wanted]
        x, tokens = encode(reviews, rows, shape.vocabulary, shape.length, shape.padding, shape.truncation)
        y = reviews.labels[rows].astype(np.float32)
        told |= {
            f"{part}_sequences": len(rows),
            f"{part}_positive_share": float(y.mean(dtype=np.float64)),
            f"{part}_tokens": tokens,
        }
        short = {"train": "train", "validation": "val"}[part]
        for name, array in ((f"x_{short}.npy", x), (f"y_{short}.npy", y)):
            content = _npy(array)
            digest = hashlib.sha256(content).hexdigest()
            lines += f"{digest}  {name}\n"
            found[name] = {"sha256": digest, "bytes": len(content), "shape": list(array.shape), "dtype": str(array.dtype)}
            write_whole(Path(out) / name, content)
    data = {
        "corpus": corpus.corpus,
        "title": corpus.title,
        "why": "; ".join(why),
        "citation": corpus.citation,
        "source_sha256": corpus.source_sha256,
        "sha256": hashlib.sha256(lines.encode()).hexdigest(),
        **told,
        "vocabulary": shape.vocabulary,
        "length": shape.length,
        "padding": shape.padding,
        "truncation": shape.truncation,
        "bytes": sum(array["bytes"] for array in found.values()),
        "arrays": found,
    }
    write_json(Path(out) / "data.json", data)
    return data


def review(corpus: Corpus, number: int, vocabulary: int) -> tuple[np.ndarray, int]:
    """The ids, uncut and unpadded, and the label of a training review, counted from 0 in Keras's shuffled order."""
    order, _ = shuffled_orders(len(corpus.train), len(corpus.validation))
    if not 0 <= number < len(order):
        raise UserError(f"found review {number}, expected 0 to {len(order) - 1}")
    row = order[number : number + 1]
    length = _words(corpus.train, row) + 1
    ids, _tokens = encode(corpus.train, row, vocabulary, length, "post", "post")
    return ids[0], int(corpus.train.labels[row[0]])


def _words(reviews: Reviews, row: np.ndarray) -> int:
    return int((reviews.ends - reviews.starts)[row[0]])


def _npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=False)
    return file.getvalue()
