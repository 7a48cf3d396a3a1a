"""From a corpus to the four arrays that every backend maps into memory, and `data.json` beside them."""

import hashlib
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from levelfield.data.corpus import Corpus
from levelfield.data.encode import UNKNOWN, Reviews, encode, fingerprints, shuffled_orders
from levelfield.data.origin import Origin
from levelfield.data.shuffle import in_order
from levelfield.errors import UserError
from levelfield.records import write_json

ROWS_AT_ONCE = 8192
"""Rows encoded and written together: 6.5 MB at 200 tokens, however many there are."""
BARS = 30
"""Of how long the texts are, up to the length that 99 of 100 do not exceed; one more holds those that do."""


@dataclass(frozen=True)
class Shape:
    """What the protocol says of the data."""

    vocabulary: int
    length: int
    padding: str
    truncation: str


def prepare(
    corpus: Corpus, shape: Shape, train: int | None, validation: int | None, out: Path, origin: Origin | None = None
) -> dict[str, Any]:
    """Writes x_train.npy, y_train.npy, x_val.npy, y_val.npy (x int32, y float32) and data.json to `out`; returns the latter.

    train, validation: take the first so many of Keras's shuffled order, None: all. UserError where there are fewer, unless
    the corpus stands in for IMDB. `arrays` in data.json tells each file's sha256, bytes and shape; `sha256` is that of the
    four checksums, one a line as `sha256sum` writes them; `source` is the `origin`.
    """
    found, lines, why = {}, "", [corpus.why]
    orders = shuffled_orders(len(corpus.train), len(corpus.validation))
    parts = [("train", corpus.train, orders[0], train), ("validation", corpus.validation, orders[1], validation)]
    for part, reviews, order, wanted in parts:
        if not len(reviews):
            raise UserError(f"{corpus.title}: has no rows in the {part} part")
        if wanted is not None and wanted > len(order):
            if not corpus.all_there_is:
                raise UserError(f"data.{part}: found {wanted:,}, but {corpus.title} has {len(order):,} reviews in that part")
            why.append(f"{wanted:,} {part} reviews were asked for, there are {len(order):,}")
    _refuse_untaught(corpus, orders[0][:train], orders[1][:validation])
    out = Path(out)
    told: dict[str, Any] = {}
    out.mkdir(parents=True, exist_ok=True)
    seen = {}
    with ThreadPoolExecutor(1) as pool:
        for part, reviews, order, wanted in parts:
            rows = order[:wanted]
            # in the order in which they lie: what is larger than memory is read from end to end
            places = np.argsort(rows)
            prints = pool.submit(fingerprints, reviews, rows[places])
            counted: dict[str, int] = {"tokens": 0, "unknown": 0}
            short = {"train": "train", "validation": "val"}[part]
            x = in_order(_encoded(corpus, reviews, rows[places], shape, counted), places, shape.length, out)
            arrays = {
                f"x_{short}.npy": ((len(rows), shape.length), np.dtype(np.int32), x),
                f"y_{short}.npy": ((len(rows),), np.dtype(np.float32), [reviews.labels[rows].astype(np.float32)]),
            }
            for name, (lengths, dtype, blocks) in arrays.items():
                found[name] = _write(out / name, lengths, dtype, blocks)
                lines += f"{found[name]['sha256']}  {name}\n"
            told |= {f"{part}_{key}": value for key, value in _told(corpus, reviews, rows, shape, counted).items()}
            seen[part] = np.sort(prints.result())
    data = {
        "corpus": corpus.corpus,
        "title": corpus.title,
        "why": "; ".join(why),
        "citation": corpus.citation,
        "source_sha256": corpus.source_sha256,
        "source": asdict(origin) if origin else None,
        "sha256": hashlib.sha256(lines.encode()).hexdigest(),
        "labels": list(corpus.labels),
        **told,
        "train_duplicates": int((seen["train"][1:] == seen["train"][:-1]).sum()),
        "validation_also_in_train": int(np.isin(seen["validation"], seen["train"]).sum()),
        **corpus.told,
        "vocabulary": shape.vocabulary,
        "length": shape.length,
        "padding": shape.padding,
        "truncation": shape.truncation,
        "bytes": sum(array["bytes"] for array in found.values()),
        "arrays": found,
    }
    if origin is None:
        del data["source"]
    write_json(out / "data.json", data)
    return data


def _refuse_untaught(corpus: Corpus, train: np.ndarray, validation: np.ndarray) -> None:
    """Raises UserError where a label stands in the validation rows that are taken and in none of those for training. Synthetic
    sequences teach nothing."""
    taught, asked = corpus.train.labels[train], corpus.validation.labels[validation]
    missing = np.setdiff1d(asked, taught)
    if len(missing) and corpus.kind != "synthetic":
        names = ", ".join(repr(corpus.labels[number]) for number in missing[:6]) + (", …" if len(missing) > 6 else "")
        rows = int(np.isin(asked, missing).sum())
        raise UserError(
            f"data.train: none of the {len(taught):,} training rows of {corpus.title} has the label {names}, which {rows:,} of those for "
            "validation have: take more, or leave it out for all there are"
        )


def _encoded(corpus: Corpus, reviews: Reviews, rows: np.ndarray, shape: Shape, counted: dict[str, int]) -> Iterator[np.ndarray]:
    """The rows encoded, a block at a time; `counted` gets the tokens that are no padding, and the unknown words among them."""
    with tqdm(desc="encoding", total=len(rows), unit=" rows", disable=None, leave=False, delay=2) as bar:
        for first in range(0, len(rows), ROWS_AT_ONCE):
            part = rows[first : first + ROWS_AT_ONCE]
            x, tokens = encode(
                reviews, part, shape.vocabulary, shape.length, shape.padding, shape.truncation, as_they_are=corpus.encoded
            )
            counted["tokens"] += tokens
            counted["unknown"] += int((x == UNKNOWN).sum())
            bar.update(len(part))
            yield x


def _told(corpus: Corpus, reviews: Reviews, rows: np.ndarray, shape: Shape, counted: dict[str, int]) -> dict[str, Any]:
    """What a person wants to know of a part before training on it. Lengths in words, a start id not counted."""
    classes = np.bincount(reviews.labels[rows], minlength=len(corpus.labels)).tolist()
    sizes, ahead = reviews.sizes[rows], 0 if corpus.encoded else 1
    middle = np.percentile(sizes, [50, 90])
    return {
        "sequences": len(rows),
        "positive_share": classes[1] / len(rows) if len(classes) == 2 else None,
        "tokens": counted["tokens"],
        "classes": dict(zip(corpus.labels, classes, strict=True)),
        "words": {
            "least": int(sizes.min()),
            "median": float(middle[0]),
            "mean": float(sizes.mean()),
            "p90": float(middle[1]),
            "most": int(sizes.max()),
        },
        "lengths": _lengths(sizes),
        "empty": int((sizes == 0).sum()),
        "padding_share": 1 - counted["tokens"] / (len(rows) * shape.length),
        "truncated_share": float((sizes + ahead > shape.length).mean()),
        "unknown_share": None if corpus.encoded else counted["unknown"] / max(1, counted["tokens"]),
    }


def _lengths(sizes: np.ndarray) -> dict[str, Any]:
    """How many texts have how many words: `texts` of each bar, which is `words` wide, from 0; the last one has no end."""
    width = max(1, int(np.ceil(np.percentile(sizes, 99) / BARS)))
    return {"words": width, "texts": np.bincount(np.minimum(sizes // width, BARS), minlength=BARS + 1).tolist()}


def _write(path: Path, shape: tuple[int, ...], dtype: np.dtype, blocks: Iterable[np.ndarray]) -> dict[str, Any]:
    """Writes an array block by block, as `np.save` would, under another name until it is whole; tells what it is."""
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    digest = hashlib.sha256()
    try:
        with part.open("w+b") as file:
            np.lib.format.write_array_header_1_0(
                file, {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
            )
            file.seek(0)
            digest.update(file.read())
            for block in blocks:
                content = np.ascontiguousarray(block).data
                digest.update(content)
                file.write(content)
            file.flush()
            os.fsync(file.fileno())
            size = file.tell()
        part.replace(path)
    except OSError as error:
        error.filename = str(path)
        raise
    finally:
        part.unlink(missing_ok=True)
    return {"sha256": digest.hexdigest(), "bytes": size, "shape": list(shape), "dtype": str(dtype)}


def review(corpus: Corpus, number: int, vocabulary: int) -> tuple[np.ndarray, int]:
    """The ids, uncut and unpadded, and the label of a training review, counted from 0 in Keras's shuffled order."""
    order, _ = shuffled_orders(len(corpus.train), len(corpus.validation))
    if not 0 <= number < len(order):
        raise UserError(f"found review {number}, expected 0 to {len(order) - 1}")
    row = order[number : number + 1]
    length = int(corpus.train.sizes[row[0]]) + (0 if corpus.encoded else 1)
    ids, _tokens = encode(corpus.train, row, vocabulary, length, "post", "post", as_they_are=corpus.encoded)
    return ids[0], int(corpus.train.labels[row[0]])
