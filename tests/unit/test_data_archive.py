"""Archives of reviews: what is read, and what is refused before it could do anything."""

import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

from levelfield.data.archive import LARGEST_MEMBER, MEMBERS, read_archive
from levelfield.errors import UserError

ROWS = [[1, 2, 30_000], [4], [7, 300, 1, 2]]
LABELS = [0, 1, 1]


def objects(rows) -> np.ndarray:
    array = np.empty(len(rows), object)
    array[:] = rows
    return array


def npy(array: np.ndarray, payload: bytes | None = None) -> bytes:
    """A `.npy` file; with `payload` in place of the pickle that follows the header."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, np.lib.format.header_data_from_array_1_0(array))
    if array.dtype.kind != "O":
        return file.getvalue() + array.tobytes()
    return file.getvalue() + (pickle.dumps(array, protocol=4) if payload is None else payload)


def written(path: Path, **members: bytes) -> Path:
    """An archive of ROWS, members of it replaced."""
    content = {"x_train": npy(objects(ROWS)), "x_test": npy(objects(ROWS[:2]))}
    content |= {"y_train": npy(np.array(LABELS)), "y_test": npy(np.array(LABELS[:2]))}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, member in (content | members).items():
            if member is not None:
                archive.writestr(f"{name}.npy", member)
    return path


def rows_of(reviews) -> list[list[int]]:
    return [row.tolist() for row in np.split(reviews.ranks, reviews.ends[:-1])]


def test_numpys_own_archive_is_read(tmp_path):
    path = tmp_path / "imdb.npz"
    np.savez(path, x_train=objects(ROWS), y_train=np.array(LABELS), x_test=objects(ROWS[:2]), y_test=np.array(LABELS[:2]))
    train, validation = read_archive(path)
    assert rows_of(train) == ROWS and train.labels.tolist() == LABELS
    assert rows_of(validation) == ROWS[:2] and validation.labels.tolist() == LABELS[:2]


@pytest.mark.parametrize("protocol", [3, 4, 5])
@pytest.mark.parametrize("module", ["numpy.core.multiarray", "numpy._core.multiarray"])
def test_both_numpys_names_are_admitted(tmp_path, protocol, module):
    payload = pickle.dumps(objects(ROWS), protocol=protocol)
    own = b"numpy._core.multiarray"
    assert own in payload
    if protocol == 3:
        payload = payload.replace(own, module.encode())
    else:
        # The name's length stands before it, and frames tell theirs: write the pickle without frames.
        payload = payload.replace(bytes([len(own)]) + own, bytes([len(module)]) + module.encode())
        payload = payload[:2] + payload[11:] if payload[2:3] == pickle.FRAME else payload
    train, _ = read_archive(written(tmp_path / "imdb.npz", x_train=npy(objects(ROWS), payload)))
    assert rows_of(train) == ROWS


@pytest.mark.parametrize(
    ("rows", "meant"),
    [
        (objects([np.array(row) for row in ROWS]), ROWS),
        (objects([np.array(row, np.int32) for row in ROWS]), ROWS),
        (objects([np.array(row, ">u4") for row in ROWS]), ROWS),
        (objects([np.array(row, object) for row in ROWS]), ROWS),
        (objects([tuple(row) for row in ROWS]), ROWS),
        (objects([[np.int64(rank) for rank in row] for row in ROWS]), ROWS),
        (np.array([[1, 2], [4, 3], [7, 30_000]]), [[1, 2], [4, 3], [7, 30_000]]),
        (np.array([[1, 2], [4, 3], [7, 30_000]], object), [[1, 2], [4, 3], [7, 30_000]]),
    ],
    ids=["arrays", "int32", "big-endian", "arrays of objects", "tuples", "numpy's numbers", "a table", "a table of objects"],
)
def test_rows_of_every_shape_that_people_save(tmp_path, rows, meant):
    path = tmp_path / "imdb.npz"
    np.savez(path, x_train=rows, y_train=np.array(LABELS), x_test=objects(ROWS[:2]), y_test=np.array(LABELS[:2]))
    assert rows_of(read_archive(path)[0]) == meant


def test_what_load_data_gives_is_no_archive_of_ranks(tmp_path):
    """Saved again as `imdb.npz` its start and offset would be set twice."""
    loaded = npy(objects([[1, *(rank + 3 for rank in row)] for row in ROWS]))
    content = {"x_train": loaded, "x_test": loaded, "y_test": npy(np.array(LABELS))}
    with pytest.raises(UserError, match=r"every row begins with 1.*`load_data`.*write `data: \{source: encoded"):
        read_archive(written(tmp_path / "imdb.npz", **content))
    assert rows_of(read_archive(tmp_path / "imdb.npz", encoded=True)[0])[0] == [1, 4, 5, 30_003]


class Runs:
    """Unpickled as usual, it would make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_a_pickle_that_would_run_something_does_not(tmp_path):
    trace = tmp_path / "trace"
    for content in (pickle.dumps(Runs(trace)), pickle.dumps(objects([[1], Runs(trace), [2]]))):
        with pytest.raises(UserError, match="it asks for pathlib"):
            read_archive(written(tmp_path / "imdb.npz", x_train=npy(objects(ROWS), content)))
    assert not trace.exists()


@pytest.mark.parametrize(
    "name", ["numpy.load", "numpy.ndarray.tofile", "builtins.eval", "os.system", "numpy.core.multiarray.fromfile"]
)
def test_other_names_are_refused(tmp_path, name):
    module, function = name.rsplit(".", 1)
    payload = f"c{module}\n{function}\n(I1\ntR.".encode()
    with pytest.raises(UserError, match="which no array of reviews needs"):
        read_archive(written(tmp_path / "imdb.npz", x_train=npy(objects(ROWS), payload)))


def test_an_array_may_not_claim_more_rows_than_its_list_has(tmp_path):
    """numpy's own reconstruction reads past the end of the list here."""
    payload = pickle.dumps(objects(ROWS), protocol=4).replace(b"K\x01K\x03\x85", b"K\x01M\xff\xff\x85")[2 + 9 :]
    with pytest.raises(UserError, match=r"found an array of shape \(65535,\)"):
        read_archive(written(tmp_path / "imdb.npz", x_train=npy(objects(ROWS), b"\x80\x04" + payload)))


@pytest.mark.parametrize(
    ("member", "told"),
    [
        ({"x_train": None}, "found x_train.npy 0 times"),
        ({"x_train": npy(np.array([1, 2, 3]))}, "x_train holds int64"),
        ({"x_train": npy(objects(ROWS), pickle.dumps(ROWS))}, "does not hold the 3 rows"),
        ({"x_train": npy(objects(ROWS[:2]), pickle.dumps(objects(ROWS)))}, "does not hold the 2 rows"),
        ({"x_train": npy(objects([[1], [2.5], [3]]))}, "float"),
        ({"x_train": npy(objects([[1], ["two"], [3]]))}, "str"),
        ({"x_train": npy(objects([[1], [[2]], [3]]))}, "list"),
        ({"x_train": npy(objects([[1], 2, [3]]))}, "row 1, counted from 0: arg must be list"),
        ({"x_train": npy(objects([[1], np.array([2.5]), [3]]))}, "expected objects or whole numbers"),
        ({"x_train": npy(np.array([[1.5], [2.5], [3.5]]))}, "x_train holds float64"),
        ({"x_train": npy(objects([[1], [-2], [3]]))}, "negative"),
        ({"x_train": npy(objects([[1], [0], [3]]))}, "row 1, counted from 0: found the rank 0, expected ranks from 1"),
        ({"x_train": npy(objects([[1], [2**40], [3]]))}, "greater than maximum"),
        ({"x_train": npy(objects([[], [], []]))}, "found no words"),
        ({"x_train": npy(objects(ROWS), pickle.dumps(objects(ROWS))[:-20])}, "refused"),
        ({"x_train": b"no npy"}, "magic string"),
        ({"y_train": npy(np.array([0, 1]))}, "found 2 labels for 3 reviews"),
        ({"y_train": npy(np.array([0, 1, 2]))}, "row 2, counted from 0: found the label 2, expected 0 and 1"),
        ({"y_train": npy(np.array([0.0, 1.0, 1.0]))}, "y_train holds float64, expected whole numbers"),
        ({"y_train": npy(np.array([False, True, True]))}, "y_train holds bool, expected whole numbers"),
        ({"y_train": npy(np.array(LABELS))[:-8]}, "does not hold the 3 integers"),
        ({"y_train": npy(np.array([LABELS]))}, "expected one dimension"),
    ],
)
def test_foreign_content_is_refused_in_one_line(tmp_path, member, told):
    with pytest.raises(UserError, match="refused") as caught:
        read_archive(written(tmp_path / "imdb.npz", **member))
    assert told in str(caught.value) and "\n" not in str(caught.value)
    assert "expected an archive in the layout of Keras's imdb.npz" in str(caught.value)


def test_no_archive_at_all(tmp_path):
    page = tmp_path / "imdb.npz"
    page.write_text("<html>please log in</html>")
    with pytest.raises(UserError, match="not a zip file"):
        read_archive(page)
    with pytest.raises(UserError, match="No such file"):
        read_archive(tmp_path / "nothing.npz")


@pytest.mark.parametrize("kept", [0.3, 0.9, 0.99])
def test_a_truncated_archive_is_refused(tmp_path, kept):
    path = written(tmp_path / "imdb.npz")
    path.write_bytes(path.read_bytes()[: int(kept * path.stat().st_size)])
    with pytest.raises(UserError, match="refused"):
        read_archive(path)


def test_an_altered_archive_is_refused(tmp_path):
    path = written(tmp_path / "imdb.npz")
    with zipfile.ZipFile(path) as archive:
        offset = archive.getinfo("x_train.npy").header_offset + 30 + len("x_train.npy") + 40
    content = bytearray(path.read_bytes())
    content[offset] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(UserError, match="refused"):
        read_archive(path)


def test_a_huge_member_is_refused_by_its_header_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(zipfile.ZipFile, "read", lambda *_: pytest.fail("unpacked"))
    path = tmp_path / "imdb.npz"
    zeros = b"\0" * 2**20
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in MEMBERS:
            with archive.open(name, "w") as file:
                for _ in range(LARGEST_MEMBER // 2**20 + 1 if name == "x_train.npy" else 1):
                    file.write(zeros)
    assert path.stat().st_size < 2**20
    with pytest.raises(UserError, match="declares 269,484,032 bytes, expected at most 268,435,456"):
        read_archive(path)


def test_a_member_named_twice_is_refused(tmp_path):
    path = written(tmp_path / "imdb.npz")
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("x_train.npy", npy(objects(ROWS)))
    with pytest.raises(UserError, match=r"found x_train.npy 2 times"):
        read_archive(path)


def test_an_archive_of_one_label_is_refused(tmp_path):
    member = {"y_train": npy(np.zeros(3, np.int64)), "y_test": npy(np.zeros(2, np.int64))}
    with pytest.raises(UserError, match="refused: every row of y_train has the label 0, expected 0 and 1"):
        read_archive(written(tmp_path / "imdb.npz", **member))
