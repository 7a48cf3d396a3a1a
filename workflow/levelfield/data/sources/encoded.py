"""Token ids already made, by somebody's own tokeniser or by Keras's `load_data`: an `.npz` in its layout, or a `.parquet`."""

from pathlib import Path

import numpy as np

from levelfield.data import split
from levelfield.data.archive import read_archive
from levelfield.data.corpus import Asked, Corpus
from levelfield.data.encode import PAD, START, UNKNOWN, Reviews
from levelfield.data.origin import origin_of
from levelfield.data.rows import parts
from levelfield.data.words import Growing, lengths
from levelfield.errors import UserError
from levelfield.study.data import Data

TAKES = ("file", "sha256", "text", "label", "labels", "validation_file", "validation_share", "split_seed", "title", "citation")
NEEDS = ("file",)


def read(data: Data, asked: Asked) -> Corpus:
    """The ids as they are: no start is set and nothing is counted; padding at a row's ends is taken off and set anew."""
    assert data.file is not None
    origin = origin_of(data, asked.downloads)
    if data.file.suffix == ".npz":
        for key in ("text", "label", "labels", "validation_file", "validation_share", "split_seed"):
            if getattr(data, key) is not None:
                raise UserError(
                    f"data.{key}: an .npz has its labels and its parts in x_train, y_train, x_test, y_test: leave it out"
                )
        train, validation = read_archive(data.file, encoded=True, classes=split.MOST_LABELS)
        count = 1 + max(int(train.labels.max()), int(validation.labels.max()))
        labels, why = tuple(map(str, range(max(2, count)))), "data.file names it"
    else:
        train, validation, labels, why = _table(data.file, data, asked)
    train, validation = _unpadded(train), _unpadded(validation)
    train, validation = _within(data, asked.vocabulary, train, validation)
    title = data.title or f"own file {data.file.name}"
    return Corpus(
        title, title, why, origin.sha256, data.citation, train, validation, kind="encoded", labels=labels, encoded=True
    )  # fmt: skip


def _table(file: Path, data: Data, asked: Asked) -> tuple[Reviews, Reviews, tuple[str, ...], str]:
    training, own = parts(file, data.text or "ids", data.label or "label", data.validation_file, ids=True)
    labels, codes = split.classes(training, own, data.labels)
    held = Growing(asked.work), Growing(asked.work)
    if own:
        chosen, why = [np.zeros(len(codes[0]), bool), np.ones(len(codes[1]), bool)], f"validation by {own.path.name}"
    else:
        seed = split.SEED if data.split_seed is None else data.split_seed
        chosen = [split.split(codes[0], len(labels), data.validation_share or split.SHARE, seed)]
        why = split.told(file, data.validation_share, data.split_seed)
    for rows, mine, validation in zip((training, own) if own else (training,), codes, chosen, strict=True):
        for block in rows.blocks():
            here = slice(block.first - 1, block.first - 1 + len(block.content))
            for part, wanted in zip(held, (~validation[here], validation[here]), strict=True):
                keep = wanted & (mine[here] >= 0)
                content = split.taken(block.content, keep)
                part.add(np.asarray(content.flatten()), lengths(content), mine[here][keep])
    return held[0].reviews(), held[1].reviews(), labels, f"data.file names it; {why}"


def _unpadded(reviews: Reviews) -> Reviews:
    """Without the ids 0 at the rows' ends."""
    ranks, full = np.asarray(reviews.ranks), reviews.sizes > 0
    if not full.any() or ((ranks[reviews.starts[full]] != PAD).all() and (ranks[reviews.ends[full] - 1] != PAD).all()):
        return reviews
    places, starts = np.arange(len(ranks)), reviews.starts[full]
    words = ranks[: reviews.ends[-1]] != PAD
    first = np.minimum.reduceat(np.where(words, places, len(ranks)), starts)
    last = np.maximum.reduceat(np.where(words, places, -1), starts)
    sizes = reviews.sizes[full]
    keep = (places >= np.repeat(first, sizes)) & (places <= np.repeat(last, sizes))
    kept = np.zeros(len(reviews), np.int64)
    kept[full] = np.add.reduceat(keep.astype(np.int64), starts)
    return Reviews(ranks[keep], np.cumsum(kept), reviews.labels)


def _within(data: Data, vocabulary: int, *parts: Reviews) -> list[Reviews]:
    """Ids not below the vocabulary become UNKNOWN where the rows are Keras's, as `load_data(num_words=…)` makes them; else they are
    refused, since nobody knows which id stands for what."""
    largest = max(int(np.max(part.ranks)) for part in parts)
    if largest < vocabulary:
        return list(parts)
    if all((part.ranks[part.starts[part.sizes > 0]] == START).all() for part in parts):
        return [
            Reviews(np.where(part.ranks < vocabulary, part.ranks, np.uint32(UNKNOWN)), part.ends, part.labels) for part in parts
        ]
    raise UserError(
        f"{data.file}: the largest token id is {largest:,}, the protocol's vocabulary {vocabulary:,}: write "
        f"`protocol: {{vocabulary: {largest + 1}}}`"
    )
