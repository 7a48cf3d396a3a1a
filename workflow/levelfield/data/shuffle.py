"""Rows into another order, however many there are: what is too much for memory lies in a file without a name, bucket by bucket."""

import tempfile
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np

MEMORY_BYTES = 2**28
"""Of rows that are held without a file."""
BUCKET_BYTES = 2**25
"""Of rows that follow each other in the new order, put into it in memory: few enough for a processor's cache."""
AT_ONCE = 8192
"""Rows that come out together."""


def in_order(blocks: Iterable[np.ndarray], places: np.ndarray, columns: int, folder: Path) -> Iterator[np.ndarray]:
    """The rows of `blocks`, each int32 (some rows, columns), in another order.

    places, int64 (rows,): where each row is to stand, from 0, each place once. `folder` needs room for all rows once more where they
    are more than are held in memory.
    """
    size = columns * np.dtype(np.int32).itemsize
    edges = np.append(np.arange(0, len(places), max(1, BUCKET_BYTES // size)), len(places))
    if len(places) * size <= MEMORY_BYTES:
        found, came = np.empty((len(places), columns), np.int32), 0
        for block in blocks:
            found[places[came : came + len(block)]] = block
            came += len(block)
        yield from np.split(found, range(AT_ONCE, len(found), AT_ONCE))
        return
    # each bucket has its part of the file, in which rows lie as they came; where each place's row lies
    ends, lies = edges[:-1].copy(), np.empty(len(places), np.int64)
    with tempfile.TemporaryFile(dir=folder, prefix=".shuffling-") as file:
        came = 0
        for block in blocks:
            wanted = places[came : came + len(block)]
            by_place = np.argsort(wanted)
            wanted, rows = wanted[by_place], block[by_place]
            cuts = np.searchsorted(wanted, edges)
            for bucket in np.flatnonzero(np.diff(cuts)):
                part = slice(cuts[bucket], cuts[bucket + 1])
                lies[wanted[part]] = ends[bucket] + np.arange(part.stop - part.start)
                file.seek(ends[bucket] * size)
                file.write(rows[part].data)
                ends[bucket] += part.stop - part.start
            came += len(block)
        for begin, end in pairwise(edges):
            file.seek(begin * size)
            bucket_rows = np.frombuffer(file.read((end - begin) * size), np.int32).reshape(end - begin, columns)
            for first in range(begin, end, AT_ONCE):
                yield bucket_rows[lies[first : min(first + AT_ONCE, end)] - begin]
