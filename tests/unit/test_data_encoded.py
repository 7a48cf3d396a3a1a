"""Token ids made elsewhere: labels as they occur, padding taken off, ids above the vocabulary of Keras's own alone."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from levelfield.data import formats
from levelfield.data.corpus import find_corpus
from levelfield.data.prepare import Shape, prepare
from levelfield.data.sources import encoded as source
from levelfield.data.sources.encoded import unpadded
from levelfield.errors import UserError
from levelfield.study.data import Data


def npz(path, rows=None, train=(0, 1, 0, 1), test=(0, 1)):
    """Each part's labels, and rows that are given again and again."""
    arrays = {}
    for part, labels in (("train", train), ("test", test)):
        arrays[f"x_{part}"], arrays[f"y_{part}"] = np.empty(len(labels), object), np.array(labels)
        arrays[f"x_{part}"][:] = [list((rows or [[5, 6], [7]])[n % len(rows or "ab")]) for n in range(len(labels))]
    np.savez(path, **arrays)
    return path


def found(path, vocabulary=50, **settings):
    return find_corpus(path.parent / "downloads", Data(source="encoded", file=path, **settings), vocabulary=vocabulary)


def test_labels_of_an_archive_are_those_that_occur(tmp_path):
    corpus = found(npz(tmp_path / "stars.npz", train=[1, 2, 3, 4, 5, 10], test=[5, 1]))
    assert corpus.labels == ("1", "2", "3", "4", "5", "10")
    assert corpus.train.labels.tolist() == [0, 1, 2, 3, 4, 5] and corpus.validation.labels.tolist() == [4, 0]


@pytest.mark.parametrize(
    ("train", "test", "told"),
    [
        ([0, 0], [0], r"stars.npz: y_train: every row has the label '0': two at least are needed$"),
        ([0, 1], [2], r"y_train: no row has the label '2'; y_test has it: it has '0', '1'$"),
        ([0, 1000], [0], "row 1, counted from 0: found the label 1000, expected 0 to 999"),
        ([0.0, 1.0], [0], "y_train holds float64, expected whole numbers"),
    ],
)
def test_labels_of_an_archive_are_checked_as_those_of_a_table(tmp_path, train, test, told):
    with pytest.raises(UserError, match=told):
        found(npz(tmp_path / "stars.npz", train=train, test=test))


def test_ids_above_the_vocabulary_become_unknown_in_keras_own_alone(tmp_path):
    """Another tokeniser begins its rows with id 1, too."""
    corpus = found(npz(tmp_path / "keras.npz", rows=[[1, 4, 60], [1, 70, 60]]))
    assert corpus.train.ranks.tolist() == [1, 4, 2, 1, 2, 2] * 2
    assert corpus.why == "data.file names it; 9 ids not below the vocabulary became 2, as `load_data(num_words=…)` makes them"
    assert found(npz(tmp_path / "keras.npz", rows=[[1, 4, 40]])).why == "data.file names it"
    for name, rows in {"bytes": [[1, 3, 60]], "twice": [[1, 4, 1, 60]], "bert": [[7, 60]]}.items():
        with pytest.raises(
            UserError, match=r"x_train, row \d, counted from 0: the largest token id is 60, the protocol's vocabulary 50"
        ):
            found(npz(tmp_path / f"{name}.npz", rows=rows))
    rows = [[1, 5], [1, 50], [2, 60, 3], [60]] * 2
    pa.parquet.write_table(pa.table({"ids": rows, "label": [0, 0, 1, 1] * 2}), tmp_path / "ids.parquet")
    with pytest.raises(
        UserError,
        match=r"ids\.parquet: row 3, column ids: the largest token id is 60, .* 50: write `protocol: \{vocabulary: 61\}`",
    ):
        found(tmp_path / "ids.parquet")


def plainly(rows) -> list[list[int]]:
    told = []
    for row in rows:
        full = np.flatnonzero(row)
        told.append(row[full[0] : full[-1] + 1] if len(full) else [])
    return told


@pytest.mark.parametrize("zeros", [0.0, 0.3, 0.8, 1.0])
def test_padding_is_taken_off_the_ends_alone(zeros):
    rng = np.random.default_rng(0)
    rows = [(rng.integers(1, 9, size) * (rng.random(size) >= zeros)).tolist() for size in rng.integers(0, 7, 300)]
    ids, sizes = np.array([number for row in rows for number in row]), np.array([len(row) for row in rows])
    kept, left = unpadded(ids, sizes)
    assert [part.tolist() for part in np.split(kept, np.cumsum(left)[:-1])] == plainly(rows)


@pytest.mark.parametrize("kind", ["npz", "parquet"])
def test_padding_is_taken_off_block_by_block(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(formats, "BLOCK_BYTES", 64)
    monkeypatch.setattr(source, "ROWS_AT_ONCE", 3)
    rows = [[0, 0, 4], [5, 0, 6, 0], [7], [0], [8, 8], [], [0, 9]] * 2
    labels = [n % 2 for n in range(14)]
    if kind == "npz":
        corpus = found(npz(tmp_path / "ids.npz", rows, labels, labels))
    else:
        pa.parquet.write_table(pa.table({"ids": rows, "label": labels}), tmp_path / "ids.parquet")
        corpus = found(tmp_path / "ids.parquet", validation_file=tmp_path / "ids.parquet")
    for part in (corpus.train, corpus.validation):
        assert [row.tolist() for row in np.split(np.asarray(part.ranks), part.ends[:-1])] == plainly(rows)
        assert part.labels.tolist() == labels


def test_a_part_of_nothing_but_padding(tmp_path):
    for name in ("ids.npz", "ids.parquet"):
        path, rows, labels = tmp_path / name, [[0, 0], []], [0, 1] * 4
        if name == "ids.npz":
            npz(path, rows, labels, labels)
        else:
            pa.parquet.write_table(pa.table({"ids": pa.array(rows * 4, pa.list_(pa.int64())), "label": labels}), path)
        with pytest.raises(UserError, match="the training part has no token ids but 0, which is padding"):
            found(path)
    pa.parquet.write_table(pa.table({"ids": [[4], [5]] * 4, "label": [0, 1] * 4}), tmp_path / "full.parquet")
    corpus = found(tmp_path / "full.parquet", validation_file=tmp_path / "ids.parquet")
    data = prepare(corpus, Shape(50, 3, "pre", "pre"), None, None, tmp_path / "out")
    assert data["validation_empty"] == 8 and not np.load(tmp_path / "out/x_val.npy").any()
