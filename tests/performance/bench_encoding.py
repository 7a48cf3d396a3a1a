"""Reading and encoding 50,000 reviews: ours against Keras's two calls, on the file that LEVELFIELD_IMDB names."""

import os
import statistics
import time
from pathlib import Path
from unittest import mock

from levelfield.data.archive import read_archive
from levelfield.data.encode import encode, shuffled_orders

REPEATS = 5
VOCABULARY, LENGTH = 20_000, 200


def measure() -> dict:
    """Medians of alternating repeats: `ratio` (ours over Keras's), `ours_seconds`, `keras_seconds`.

    Both begin at the npz on disk, without its checksum, and end at two padded int32 arrays and their labels.
    """
    path = Path(os.environ["LEVELFIELD_IMDB"])
    keras_calls(path)  # Imports Keras, outside the measurement.
    times = {"ours": [], "keras": []}
    for _repeat in range(REPEATS):
        for name, work in (("ours", read_and_encode), ("keras", keras_calls)):
            started = time.perf_counter()
            work(path)
            times[name].append(time.perf_counter() - started)
    ours, keras = (statistics.median(times[name]) for name in ("ours", "keras"))
    return {"ratio": ours / keras, "ours_seconds": ours, "keras_seconds": keras}


def read_and_encode(path: Path):
    """x and y of both parts, by this project."""
    parts = read_archive(path)
    orders = shuffled_orders(*map(len, parts))
    return [
        (encode(part, order, VOCABULARY, LENGTH, "pre", "pre")[0], part.labels[order])
        for part, order in zip(parts, orders, strict=True)
    ]


def keras_calls(path: Path):
    """x and y of both parts, by Keras's two calls."""
    parts = keras_load(path)
    from keras.utils import pad_sequences

    return [(pad_sequences(x, maxlen=LENGTH), y) for x, y in parts]


def keras_load(path: Path):
    """Keras's own loading, its download replaced by the path."""
    os.environ.setdefault("KERAS_BACKEND", "jax")
    from keras.src.datasets import imdb

    with mock.patch.object(imdb, "get_file", lambda **_: str(path)):
        return imdb.load_data(num_words=VOCABULARY)
