"""Token ids already made, by somebody's own tokeniser or by Keras's `load_data`: an `.npz` in its layout, or a `.parquet`."""

from dataclasses import replace

import numpy as np

from levelfield.data.archive import read_archive
from levelfield.data.corpus import Asked, Corpus, own_names
from levelfield.data.encode import PAD, RESERVED, START, UNKNOWN, Reviews
from levelfield.data.origin import origin_of
from levelfield.data.split import MOST_LABELS, divide, refuse_labels, taken
from levelfield.data.words import Growing, lengths
from levelfield.errors import UserError
from levelfield.study.data import Data

TAKES = ("file", "sha256", "text", "label", "labels", "validation_file", "validation_share", "split_seed", "title", "citation")
NEEDS = ("file",)
ENDINGS = (".npz", ".csv", ".tsv", ".tab", ".jsonl", ".ndjson", ".json", ".parquet", ".pq")
ROWS_AT_ONCE = 8192


def read(data: Data, asked: Asked) -> Corpus:
    """The ids as they are: no start is set and nothing is counted; padding at a row's ends is taken off and set anew."""
    assert data.file is not None
    origin = origin_of(data, asked.downloads)
    of_keras = data.file.suffix.lower() == ".npz"
    train, validation, labels, why = archive(data) if of_keras else _table(data, asked)
    if not train.sizes.any():
        raise UserError(f"{data.file}: the training part has no token ids but {PAD}, which is padding")
    if of_keras:
        train, validation, changed = _within(data, asked.vocabulary, train, validation)
        if changed:
            why += f"; {changed:,} ids not below the vocabulary became {UNKNOWN}, as `load_data(num_words=…)` makes them"
    corpus, title = own_names(data.file, data.title)
    return Corpus(
        corpus, title, why, origin.sha256, data.citation, train, validation, kind="encoded", labels=labels, encoded=True
    )  # fmt: skip


def archive(data: Data) -> tuple[Reviews, Reviews, tuple[str, ...], str]:
    """The parts of an .npz without their padding, its labels, and why it is read: the labels are the numbers that occur in it."""
    assert data.file is not None
    for key in ("text", "label", "labels", "validation_file", "validation_share", "split_seed"):
        if getattr(data, key) is not None:
            raise UserError(
                f"data.{key}: an .npz has its labels and its parts in x_train, y_train, x_test, y_test: leave it out"
            )
    parts = read_archive(data.file, encoded=True, classes=MOST_LABELS)
    numbers = np.union1d(parts[0].labels, parts[1].labels)
    labels = tuple(map(str, numbers.tolist()))
    codes = [np.searchsorted(numbers, part.labels) for part in parts]
    counts = [dict(zip(labels, np.bincount(part, minlength=len(labels)).tolist(), strict=True)) for part in codes]
    refuse_labels(labels, counts, (f"{data.file}: y_train", "y_test"), None)
    train, validation = (replace(_unpadded(part), labels=code) for part, code in zip(parts, codes, strict=True))
    return train, validation, labels, "data.file names it"


def _table(data: Data, asked: Asked) -> tuple[Reviews, Reviews, tuple[str, ...], str]:
    """The parts of a table. Raises UserError that names the row of the largest id where that is not below the vocabulary."""
    divided, held = divide(data, "ids", ids=True), (Growing(asked.work), Growing(asked.work))
    largest, where = -1, ""
    for rows, codes, later in zip(divided.rows, divided.codes, divided.validation, strict=True):
        for block in rows.blocks(used=codes >= 0):
            mine, of_later = codes[block.span][block.places], later[block.span][block.places]
            ids = np.asarray(block.content.flatten())
            if len(ids) and ids.max() > largest:
                row = np.searchsorted(np.cumsum(lengths(block.content)), ids.argmax(), "right")
                largest = int(ids.max())
                where = f"{rows.path}: row {block.first + block.places[row]:,}, column {rows.text}"
            for part, keep in zip(held, (~of_later, of_later), strict=True):
                content = taken(block.content, keep)
                part.add(*unpadded(np.asarray(content.flatten()), lengths(content)), mine[keep])
    if largest >= asked.vocabulary:
        raise _beyond(where, largest, asked.vocabulary)
    return held[0].reviews(), held[1].reviews(), divided.labels, divided.why


def _beyond(where: str, largest: int, vocabulary: int) -> UserError:
    return UserError(
        f"{where}: the largest token id is {largest:,}, the protocol's vocabulary {vocabulary:,}: write "
        f"`protocol: {{vocabulary: {largest + 1}}}`"
    )


def unpadded(ids: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows that follow each other without the ids 0 at their ends, and how many ids each has left."""
    ends = np.cumsum(sizes)
    starts, full = ends - sizes, sizes > 0
    if (ids[starts[full]] != PAD).all() and (ids[ends[full] - 1] != PAD).all():
        return ids, sizes
    places = np.flatnonzero(ids != PAD)
    first, last = np.searchsorted(places, starts), np.searchsorted(places, ends)
    some = last > first
    left = np.zeros_like(sizes)
    left[some] = places[last[some] - 1] + 1 - places[first[some]]
    within = np.arange(left.sum()) - np.repeat(np.cumsum(left) - left, left)
    return ids[within + np.repeat(places[first[some]], left[some])], left


def _unpadded(reviews: Reviews) -> Reviews:
    """The same of all rows, some of them at a time."""
    found, sizes = [], []
    for first in range(0, len(reviews), ROWS_AT_ONCE):
        rows = slice(first, first + ROWS_AT_ONCE)
        ids, left = unpadded(reviews.ranks[reviews.starts[first] : reviews.ends[rows][-1]], reviews.sizes[rows])
        found.append(ids)
        sizes.append(left)
    ranks = np.concatenate(found)
    return Reviews(ranks if len(ranks) else np.zeros(1, np.uint32), np.cumsum(np.concatenate(sizes)), reviews.labels)


def _within(data: Data, vocabulary: int, train: Reviews, validation: Reviews) -> tuple[Reviews, Reviews, int]:
    """Of an .npz: ids not below the vocabulary become UNKNOWN where the rows are Keras's, as `load_data(num_words=…)` makes them, and how many
    did; else they are refused, since nobody knows which id stands for what."""
    parts = {"x_train": train, "x_test": validation}
    part = max(parts, key=lambda name: int(parts[name].ranks.max()))
    place = int(parts[part].ranks.argmax())
    largest = int(parts[part].ranks[place])
    if largest < vocabulary:
        return train, validation, 0
    if all(map(_by_load_data, parts.values())):
        beyond = sum(int((one.ranks >= vocabulary).sum()) for one in parts.values())
        changed = [np.where(one.ranks < vocabulary, one.ranks, np.uint32(UNKNOWN)) for one in parts.values()]
        return replace(train, ranks=changed[0]), replace(validation, ranks=changed[1]), beyond
    row = np.searchsorted(parts[part].ends, place, "right")
    raise _beyond(f"{data.file}: {part}, row {row}, counted from 0", largest, vocabulary)


def _by_load_data(part: Reviews) -> bool:
    """Whether these are ids as Keras's `load_data` gives them: START begins each row and stands nowhere else, and id 3 is left unused."""
    full = part.sizes > 0
    begun = (part.ranks[part.starts[full]] == START).all() and (part.ranks == START).sum() == full.sum()
    return bool(begun and not (part.ranks == RESERVED).any())
