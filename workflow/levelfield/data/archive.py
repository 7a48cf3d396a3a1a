"""Reads an `imdb.npz` in Keras's layout without running anything that it may hold.

The reviews in it are pickled: object arrays of lists. Sizes are checked in the zip's own headers before anything is
unpacked, and the unpickler knows five names, those of an array's and a number's reconstruction, each of which leads to a
stand-in of this file: no code of the archive's choosing runs, numpy's included. Rows may be lists, tuples or arrays of whole
numbers of any kind, and where all are of one length a table of them.
"""

import gc
import io
import pickle
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from levelfield.data.encode import START, Reviews
from levelfield.errors import UserError

MEMBERS = ("x_train.npy", "y_train.npy", "x_test.npy", "y_test.npy")
LARGEST_MEMBER = 256 * 2**20
"""Bytes unpacked; Keras's file holds 14.3 MB at most in one member."""
LARGEST_ARCHIVE = 256 * 2**20
LARGEST_IN_MEMORY = 4 * 2**30
"""Bytes that unpickling may take: a pickle of 20 bytes can ask for a table of any size."""
LAYOUT = f"an archive in the layout of Keras's imdb.npz, with {', '.join(MEMBERS)}"


class _Array:
    """Stands in for an array: of objects it keeps the list of its rows, of whole numbers the numbers."""

    rows: list[Any] | None = None

    def __setstate__(self, state: Any) -> None:
        _version, shape, dtype, _fortran, content = state
        if not isinstance(dtype, _Type) or not isinstance(shape, tuple):
            raise pickle.UnpicklingError("found an array without a type")
        if dtype.numpy is None:
            if not isinstance(content, list) or shape not in ((len(content),), (shape[0], len(content) // max(1, shape[0]))):
                raise pickle.UnpicklingError(f"found an array of shape {shape}, expected one dimension of lists")
            width = shape[1] if len(shape) == 2 else None
            whole = width is None or shape[0] * width == len(content)
            if not whole:
                raise pickle.UnpicklingError(f"found an array of shape {shape} with {len(content)} entries")
            self.rows = content if width is None else [content[n * width : (n + 1) * width] for n in range(shape[0])]
        else:
            if not isinstance(content, bytes) or shape != (len(content) // dtype.numpy.itemsize,):
                raise pickle.UnpicklingError(f"found a row of shape {shape}, expected one dimension of whole numbers")
            self.rows = np.frombuffer(content, dtype.numpy).tolist()


class _Type:
    """Stands in for numpy's dtype, of objects or of whole numbers; what else there is of it is of no account."""

    def __init__(self, name: str, _align: object = False, _copy: object = True) -> None:
        if name not in ("O", "O4", "O8", *(f"{kind}{size}" for kind in "iu" for size in (1, 2, 4, 8))):
            raise pickle.UnpicklingError(f"found the dtype {name!r}, expected objects or whole numbers")
        self.numpy = None if name[0] == "O" else np.dtype(name)

    def __setstate__(self, state: Any) -> None:
        if self.numpy is not None and state[1] == ">":
            self.numpy = self.numpy.newbyteorder(">")


class _Reconstruct:
    """Stands in for numpy's function that makes an empty array, to be filled by its state."""

    __slots__ = ()

    def __call__(self, subtype: object, _shape: object, _typecode: object) -> _Array:
        if subtype is not _Array:
            raise pickle.UnpicklingError("found a kind of array that is not numpy's own")
        return _Array()


class _Scalar:
    """Stands in for numpy's function that makes a number of its own kinds."""

    __slots__ = ()

    def __call__(self, dtype: object, content: Any) -> int:
        if not isinstance(dtype, _Type) or dtype.numpy is None or len(content) != dtype.numpy.itemsize:
            raise pickle.UnpicklingError("found a number that is not whole")
        number: int = np.frombuffer(content, dtype.numpy)[0].item()
        return number


class _Unpickler(pickle.Unpickler):
    """Admits the names of an array's and a number's reconstruction alone, in numpy 1's and numpy 2's modules."""

    ADMITTED = {  # noqa: RUF012
        ("numpy", "ndarray"): _Array,
        ("numpy", "dtype"): _Type,
        ("numpy.core.multiarray", "_reconstruct"): _Reconstruct(),
        ("numpy._core.multiarray", "_reconstruct"): _Reconstruct(),
        ("numpy.core.multiarray", "scalar"): _Scalar(),
        ("numpy._core.multiarray", "scalar"): _Scalar(),
    }

    def find_class(self, module: str, name: str) -> object:
        if (module, name) not in self.ADMITTED:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no array of reviews needs")
        return self.ADMITTED[module, name]


@contextmanager
def _bounded_memory() -> Iterator[None]:
    """Within the block the process gets LARGEST_IN_MEMORY more and no byte beyond, where the system can say so (Linux)."""
    try:
        import resource

        pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[0])
    except (ImportError, OSError, ValueError):
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    wanted = pages * resource.getpagesize() + LARGEST_IN_MEMORY
    limits = [limit for limit in (soft, hard) if limit != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_AS, (min([wanted, *limits]), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def read_archive(path: Path, encoded: bool = False, classes: int = 2) -> tuple[Reviews, Reviews]:
    """The training and the validation reviews of `path`, rows in the file's order; UserError for any other file.

    encoded: the rows are token ids, as `load_data` gives them, in place of ranks. classes: labels are 0 to one less.
    """
    path = Path(path)
    try:
        if path.stat().st_size > LARGEST_ARCHIVE:
            raise ValueError(f"found {path.stat().st_size:,} bytes, expected at most {LARGEST_ARCHIVE:,}")
        # Threads unpack the next member while this one is unpickled: zlib lets go of the interpreter.
        with _bounded_memory(), zipfile.ZipFile(path) as archive, ThreadPoolExecutor() as pool:
            _check_headers(archive)
            contents = pool.map(lambda name: _unpacked(archive, name), MEMBERS)
            found = []
            for part in ("train", "test"):
                rows = _rows(next(contents), f"x_{part}")
                found.append(_part(rows, _integers(next(contents), f"y_{part}"), part, 0 if encoded else 1, classes))
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from None
    # The documentation of pickle: damaged data may raise any exception; the same is true of damaged zip files.
    except Exception as error:
        told = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{path}: refused: {told}; expected {LAYOUT}") from error
    if not encoded and all((part.ranks[part.starts[part.sizes > 0]] == START).all() for part in found):
        raise UserError(
            f"{path}: refused: every row begins with {START}, so that these are token ids as Keras's `load_data` gives them, "
            "their start and offset set already, and no ranks: write `data: {source: encoded, file: …}`, or take Keras's own file"
        )
    if not encoded and len(alone := np.unique(found[0].labels)) < 2:
        raise UserError(f"{path}: refused: every row of y_train has the label {alone[0]}, expected 0 and 1")
    return found[0], found[1]


def _unpacked(archive: zipfile.ZipFile, name: str) -> bytes:
    """A member's bytes, as many as its header tells. `ZipFile.read` unpacks all that there is before it looks at that number."""
    with archive.open(name) as file:
        return file.read(max(1, archive.getinfo(name).file_size))


def _part(rows: list[list[int]], labels: np.ndarray, part: str, lowest: int, classes: int) -> Reviews:
    try:
        return Reviews.from_lists(rows, labels, lowest, classes)
    except (TypeError, ValueError, OverflowError) as error:
        raise type(error)(f"x_{part}, y_{part}: {error}") from None


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


def _header(content: bytes, name: str, dimensions: tuple[int, ...] = (1,)) -> tuple[io.BytesIO, tuple[int, ...], np.dtype]:
    """The file behind its `.npy` header, the shape and the dtype."""
    file = io.BytesIO(content)
    version = np.lib.format.read_magic(file)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"{name} has the unknown npy version {version}")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(file)
    if len(shape) not in dimensions or (fortran and len(shape) > 1):
        raise ValueError(f"{name} has the shape {shape}, expected one dimension{' or two' if len(dimensions) > 1 else ''}")
    return file, shape, dtype


def _rows(content: bytes, name: str) -> list[list[int]]:
    """The rows of an array of lists, of arrays or tuples, or of a table of whole numbers."""
    file, shape, dtype = _header(content, name, (1, 2))
    if dtype.kind in "iu" and len(shape) == 2:
        table: list[list[int]] = _numbers(file, content, shape, dtype, name).tolist()
        return table
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
    if not isinstance(found, _Array) or found.rows is None or len(found.rows) != shape[0]:
        raise ValueError(f"{name} does not hold the {shape[0]} rows that its header declares")
    return [_plain(row) for row in found.rows]


def _plain(row: Any) -> Any:
    """A row as a list; what is none stays as it is, and is refused by who takes it."""
    if type(row) is list:
        return row
    if isinstance(row, _Array):
        return row.rows if row.rows is not None else row
    return list(row) if isinstance(row, tuple) else row


def _numbers(file: io.BytesIO, content: bytes, shape: tuple[int, ...], dtype: np.dtype, name: str) -> np.ndarray:
    count = 1
    for length in shape:
        count *= length
    if len(content) - file.tell() != count * dtype.itemsize:
        raise ValueError(f"{name} does not hold the {count} integers that its header declares")
    return np.frombuffer(content, dtype, count, file.tell()).reshape(shape)


def _integers(content: bytes, name: str) -> np.ndarray:
    file, shape, dtype = _header(content, name)
    if dtype.kind not in "iu":
        raise ValueError(f"{name} holds {dtype}, expected whole numbers")
    return _numbers(file, content, shape, dtype, name)
