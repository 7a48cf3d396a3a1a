"""Reads an `imdb.npz` in Keras's layout without running anything that it may hold.

The reviews in it are pickled: object arrays of lists. Sizes are checked in the zip's own headers before anything is
unpacked, and the unpickler knows four names, those of an array's reconstruction, each of which leads to a stand-in of this
file: no code of the archive's choosing runs, numpy's included.
"""

import gc
import io
import pickle
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from levelfield.data.encode import Reviews
from levelfield.errors import UserError

MEMBERS = ("x_train.npy", "y_train.npy", "x_test.npy", "y_test.npy")
LARGEST_MEMBER = 256 * 2**20
"""Bytes unpacked; Keras's file holds 14.3 MB at most in one member."""
LARGEST_ARCHIVE = 256 * 2**20
LAYOUT = f"an archive in the layout of Keras's imdb.npz, with {', '.join(MEMBERS)}"


class _Array:
    """Stands in for an object array: keeps the list of its rows."""

    rows: list | None = None

    def __setstate__(self, state) -> None:
        _version, shape, dtype, _fortran, rows = state
        if not isinstance(dtype, _ObjectType) or not isinstance(rows, list) or shape != (len(rows),):
            raise pickle.UnpicklingError(f"found an array of shape {shape}, expected one dimension of lists")
        self.rows = rows


class _ObjectType:
    """Stands in for numpy's dtype of objects; all else about it is of no account."""

    def __init__(self, name: str, _align=False, _copy=True) -> None:
        if name not in ("O", "O4", "O8"):
            raise pickle.UnpicklingError(f"found the dtype {name!r}, expected objects")

    def __setstate__(self, _state) -> None:
        pass


class _Reconstruct:
    """Stands in for numpy's function that makes an empty array, to be filled by its state."""

    __slots__ = ()

    def __call__(self, subtype, _shape, _typecode) -> _Array:
        if subtype is not _Array:
            raise pickle.UnpicklingError("found a kind of array that is not numpy's own")
        return _Array()


class _Unpickler(pickle.Unpickler):
    """Admits the names of an array's reconstruction alone, in numpy 1's and numpy 2's modules."""

    ADMITTED = {  # noqa: RUF012
        ("numpy", "ndarray"): _Array,
        ("numpy", "dtype"): _ObjectType,
        ("numpy.core.multiarray", "_reconstruct"): _Reconstruct(),
        ("numpy._core.multiarray", "_reconstruct"): _Reconstruct(),
    }

    def find_class(self, module: str, name: str):
        if (module, name) not in self.ADMITTED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no array of reviews needs")
        return self.ADMITTED[module, name]


def read_archive(path: Path) -> tuple[Reviews, Reviews]:
    """The training and the validation reviews of `path`, rows in the file's order; UserError for any other file."""
    path = Path(path)
    try:
        if path.stat().st_size > LARGEST_ARCHIVE:
            raise ValueError(f"found {path.stat().st_size:,} bytes, expected at most {LARGEST_ARCHIVE:,}")
        # Threads unpack the next member while this one is unpickled: zlib lets go of the interpreter.
        with zipfile.ZipFile(path) as archive, ThreadPoolExecutor() as pool:
            _check_headers(archive)
            contents = pool.map(archive.read, MEMBERS)
            train, validation = (
                Reviews.from_lists(_objects(next(contents), f"x_{part}"), _integers(next(contents), f"y_{part}"))
                for part in ("train", "test")
            )
            return train, validation
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from None
    # The documentation of pickle: damaged data may raise any exception; the same is true of damaged zip files.
    except Exception as error:
        raise UserError(f"{path}: refused: {error or type(error).__name__}; expected {LAYOUT}") from error


def _check_headers(archive: zipfile.ZipFile) -> None:
    """Raises ValueError unless the four members are there once each, unencrypted and of bounded size."""
    names = archive.namelist()
    for name in MEMBERS:
        if names.count(name) != 1:
            raise ValueError(f"found {name} {names.count(name)} times, expected it once")
        member = archive.getinfo(name)
        if member.file_size > LARGEST_MEMBER:
            raise ValueError(f"{name} declares {member.file_size:,} bytes, expected at most {LARGEST_MEMBER:,}")
        if member.flag_bits & 1 or member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise ValueError(f"{name} is encrypted or compressed otherwise than numpy does it")


def _header(content: bytes, name: str) -> tuple[io.BytesIO, int, np.dtype]:
    """The file behind its `.npy` header, the number of rows and the dtype."""
    file = io.BytesIO(content)
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"{name} has the unknown npy version {version}")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _fortran, dtype = read(file)
    if len(shape) != 1:
        raise ValueError(f"{name} has the shape {shape}, expected one dimension")
    return file, shape[0], dtype


def _objects(content: bytes, name: str) -> list[list[int]]:
    file, count, dtype = _header(content, name)
    if dtype.kind != "O":
        raise ValueError(f"{name} holds {dtype}, expected lists of word ranks")
    collecting = gc.isenabled()
    # 25,000 lists set off the garbage collector again and again: without it they take 0.17 s, with it 0.31 s.
    gc.disable()
    try:
        found = _Unpickler(file).load()
    finally:
        if collecting:
            gc.enable()
    if not isinstance(found, _Array) or found.rows is None or len(found.rows) != count:
        raise ValueError(f"{name} does not hold the {count} rows that its header declares")
    return found.rows


def _integers(content: bytes, name: str) -> np.ndarray:
    file, count, dtype = _header(content, name)
    if dtype.kind not in "iu" or len(content) - file.tell() != count * dtype.itemsize:
        raise ValueError(f"{name} does not hold the {count} integers that its header declares")
    return np.frombuffer(content, dtype, count, file.tell())
