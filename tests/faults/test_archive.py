"""Damaged, foreign and hostile archives of reviews: refused in one line before anything is unpickled that should not be, in bounded
memory, or read as what they were, where the damage is in what nobody reads."""

import builtins
import io
import os
import pickle
import random
import resource
import shutil
import socket
import struct
import subprocess
import sys
import warnings
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest

from levelfield.data import archive
from levelfield.data.archive import MEMBERS, read_archive
from levelfield.errors import UserError
from levelfield.level.start import file_sha256, load_start
from levelfield.records import load_arrays

CASES = 240


def objects(rows) -> np.ndarray:
    array = np.empty(len(rows), object)
    array[:] = rows
    return array


def members() -> dict[str, bytes]:
    rng, found = np.random.default_rng(0), {}
    for part, count in (("train", 300), ("test", 200)):
        rows = objects([rng.integers(1, 30_000, rng.integers(3, 60)).tolist() for _ in range(count)])
        for name, array in ((f"x_{part}", rows), (f"y_{part}", np.arange(count) % 2)):
            file = io.BytesIO()
            np.save(file, array, allow_pickle=True)
            found[f"{name}.npy"] = file.getvalue()
    return found


def packed(content: list[tuple[str, bytes]]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as out:
        for name, member in content:
            with warnings.catch_warnings():  # of a name that is there twice
                warnings.simplefilter("ignore")
                out.writestr(zipfile.ZipInfo(name), member, zipfile.ZIP_DEFLATED)
    return file.getvalue()


WHOLE = members()
BYTES = packed(list(WHOLE.items()))


def flipped(rng: random.Random) -> bytes:
    content = bytearray(BYTES)
    for _ in range(rng.choice([1, 1, 1, 5, 50])):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    return bytes(content)


def truncated(rng: random.Random) -> bytes:
    return BYTES[: rng.randrange(len(BYTES))]


def cut_out(rng: random.Random) -> bytes:
    first = rng.randrange(len(BYTES) - 100)
    return BYTES[:first] + BYTES[first + rng.randrange(1, 100) :]


def swapped(rng: random.Random) -> bytes:
    """Members under each other's names, or one of them missing, twice, or empty."""
    names, content = list(WHOLE), list(WHOLE.values())
    kind = rng.randrange(4)
    if kind == 0:
        a, b = rng.choice([(0, 1), (2, 3), (0, 3), (1, 2), (1, 3), (0, 2)])
        content[a], content[b] = content[b], content[a]
        if (a, b) == (0, 2):  # labels of the other part no longer fit
            content[1] = WHOLE["y_train.npy"]
    elif kind == 1:
        del names[(place := rng.randrange(4))], content[place]
    elif kind == 2:
        names.append(rng.choice(names))
        content.append(rng.choice(content))
    else:
        content[rng.randrange(4)] = b""
    return packed(list(zip(names, content, strict=True)))


def altered_inside(rng: random.Random) -> bytes:
    """The zip is whole, a member's own bytes are not."""
    name = rng.choice(list(WHOLE))
    content = bytearray(WHOLE[name])
    for _ in range(rng.choice([1, 3, 20])):
        content[rng.randrange(len(content))] = rng.randrange(256)
    return packed(list((WHOLE | {name: bytes(content)}).items()))


def path_tricks(rng: random.Random) -> bytes:
    name = rng.choice(MEMBERS)
    other = rng.choice(["../", "/", "..\\", "./", "C:\\", "a/../", "\u202e", "//host/"]) + name
    content = [(other if own == name and rng.random() < 0.7 else own, member) for own, member in WHOLE.items()]
    return packed([*content, ("../../escaped", b"x"), ("/tmp/escaped-levelfield", b"x")])


def bomb(rng: random.Random) -> bytes:
    """A member that unpacks to far more than it is: told by the header, or denied by it."""
    name, size = rng.choice(MEMBERS), 300 * 2**20
    squeezed = zlib.compressobj(9, zlib.DEFLATED, -15)
    chunk = b"\0" * 2**20
    body = b"".join(squeezed.compress(chunk) for _ in range(size // 2**20)) + squeezed.flush()
    told = rng.choice([size, 1000, len(WHOLE[name]), 2**32 - 2])
    content = bytearray(packed([(own, b"" if own == name else member) for own, member in WHOLE.items()]))
    # the bomb goes behind all else, and the directory's entry is led to it
    entry = content.rindex(name.encode()) - 46
    directory = struct.unpack("<I", content[-6:-2])[0]
    head = struct.pack("<4s5H3I2H", b"PK\3\4", 20, 0, 8, 0, 0, 0, len(body), told & 0xFFFFFFFF, len(name), 0) + name.encode()
    struct.pack_into("<II", content, entry + 20, len(body), told & 0xFFFFFFFF)
    struct.pack_into("<I", content, entry + 42, directory)
    struct.pack_into("<I", content, len(content) - 6, directory + len(head) + len(body))
    return bytes(content[:directory] + head + body + content[directory:])


KINDS = [flipped, truncated, cut_out, swapped, altered_inside, path_tricks]


def expected() -> tuple:
    train, validation = read_archive_bytes(BYTES)
    return train.ranks.tobytes(), train.labels.tobytes(), validation.ranks.tobytes(), validation.labels.tobytes()


def read_archive_bytes(content: bytes, folder: Path = Path("/tmp")):
    path = folder / f"levelfield-{os.getpid()}.npz"
    path.write_bytes(content)
    try:
        return read_archive(path)
    finally:
        path.unlink()


class Watched(BaseException):
    """Something ran that a reader of archives has no need of."""


@pytest.fixture
def watched(monkeypatch):
    """Whatever would start a program, open a connection or run code fails the test: what it raises is no UserError."""

    def never(*arguments, **_):
        raise Watched(f"{arguments}")

    for module, names in {
        os: ("system", "popen", "execv", "execve", "fork", "rmdir", "kill"),
        subprocess: ("Popen",),
        socket: ("socket",),
        shutil: ("rmtree",),
        builtins: ("eval", "exec"),
    }.items():
        for name in names:
            monkeypatch.setattr(module, name, never)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_damage_is_refused_or_without_effect(tmp_path, kind):
    """Each of the seeded cases: one clear line, or exactly the rows that were written; nothing beside the file."""
    right, refused, harmless, others = expected(), 0, 0, 0
    for seed in range(CASES // len(KINDS)):
        content = kind(random.Random(f"{kind.__name__} {seed}"))
        try:
            train, validation = read_archive_bytes(content, tmp_path)
        except UserError as error:
            assert "\n" not in str(error) and "refused" in str(error), (seed, str(error))
            refused += 1
            continue
        found = train.ranks.tobytes(), train.labels.tobytes(), validation.ranks.tobytes(), validation.labels.tobytes()
        if found == right:
            harmless += 1
        else:  # other numbers where numbers stand, under a checksum that was made for them: a valid archive of other rows
            others += 1
            assert kind in (altered_inside, swapped), seed
    assert refused >= CASES // len(KINDS) // 3, (refused, harmless, others)
    assert list(tmp_path.iterdir()) == [] and not Path("/tmp/escaped-levelfield").exists()


@pytest.mark.parametrize("seed", range(4))
def test_a_zip_bomb_is_not_unpacked(tmp_path, seed):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    content = bomb(random.Random(seed))
    with pytest.raises(UserError, match="refused"):
        read_archive_bytes(content, tmp_path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024


class Hostile:
    def __init__(self, function, *arguments):
        self.how = function, arguments

    def __reduce__(self):
        return self.how


def text(module: str, name: str, *arguments: str) -> bytes:
    """A pickle of protocol 0 that calls a function by name."""
    return f"c{module}\n{name}\n({''.join(f'V{argument}' + chr(10) for argument in arguments)}tR.".encode()


TRACE = "/tmp/levelfield-hostile-trace"
HOSTILE = {
    "os.system": text("os", "system", f"touch {TRACE}"),
    "posix.system": text("posix", "system", f"touch {TRACE}"),
    "subprocess.call": text("subprocess", "call", f"touch {TRACE}"),
    "subprocess.Popen": pickle.dumps(Hostile(subprocess.Popen, ["touch", TRACE])),
    "builtins.eval": text("builtins", "eval", f"open('{TRACE}', 'w')"),
    "builtins.exec": text("builtins", "exec", f"open('{TRACE}', 'w')"),
    "__builtin__.eval of Python 2": text("__builtin__", "eval", f"open('{TRACE}', 'w')"),
    "builtins.open": text("builtins", "open", TRACE, "w"),
    "builtins.getattr": text("builtins", "getattr", "os", "system"),
    "builtins.__import__": text("builtins", "__import__", "antigravity"),
    "pathlib.Path.touch": pickle.dumps(Hostile(Path.touch, Path(TRACE))),
    "importlib.import_module": text("importlib", "import_module", "antigravity"),
    "runpy.run_path": text("runpy", "run_path", TRACE),
    "webbrowser.open": text("webbrowser", "open", "http://localhost"),
    "socket.create_connection": text("socket", "create_connection", "localhost"),
    "shutil.rmtree": text("shutil", "rmtree", "/tmp/levelfield-nothing"),
    "numpy.load": text("numpy", "load", TRACE),
    "numpy.ndarray.tofile": b"\x80\x04\x8c\x05numpy\x8c\x0endarray.tofile\x93.",
    "numpy.f2py": text("numpy.f2py", "compile", "x"),
    "numpy's runstring": text("numpy.testing._private.utils", "runstring", f"open('{TRACE}','w')", "{}"),
    "a module of the own package": text("levelfield.records", "write_whole", TRACE, "x"),
    "the reader's own helpers": text("levelfield.data.archive", "read_archive", TRACE),
    "a stand-in's globals": b"\x80\x04\x8c\x05numpy\x8c\x10ndarray.__init__\x93.",
    "an object's state": b"\x80\x04\x8c\x05numpy\x94\x8c\x07ndarray\x93)\x81}\x8c\x08__dict__}sb.",
    "copyreg's extension": b"\x80\x02\x82\x01.",
    "a persistent id": b"Pimdb\n.",
    "an inner pickle": text("pickle", "loads", "cos\nsystem\n(Vtrue\ntR."),
    "functools.partial": text("functools", "partial", "os.system"),
    "operator.methodcaller": text("operator", "methodcaller", "system", "true"),
    "code.interact": text("code", "interact"),
}


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("within", ["whole", "row"])
def test_a_hostile_pickle_is_never_run(tmp_path, watched, kind, within):
    """In place of the array, and as one of its rows."""
    payload = HOSTILE[kind]
    if within == "row":
        # the array's own pickle, its first row replaced by what the hostile one makes
        inner = payload[2:-1] if payload[:1] == b"\x80" else payload[:-1]
        whole = pickle.dumps(objects([["mark"], [2]]), protocol=2)
        place = whole.index(b"X\x04\x00\x00\x00mark")
        payload = whole[:place] + inner + whole[place + 9 :]
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, np.lib.format.header_data_from_array_1_0(objects([[1], [2]])))
    content = packed(list((WHOLE | {"x_train.npy": head.getvalue() + payload}).items()))
    loaded = set(sys.modules)
    with pytest.raises(UserError, match="refused"):
        read_archive_bytes(content, tmp_path)
    assert not Path(TRACE).exists() and not {"antigravity", "webbrowser", "runpy"} & (set(sys.modules) - loaded)


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("within", ["array", "file"])
def test_a_hostile_pickle_in_a_start_or_in_weights_is_never_run(tmp_path, watched, kind, within):
    """Made by hand, with a checksum that fits: in place of one of its arrays, and of the whole file."""
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, np.lib.format.header_data_from_array_1_0(objects([[1], [2]])))
    plain = WHOLE["y_train.npy"]
    entries = {"order.npy": plain, "seed.npy": plain, "dense/bias.npy": head.getvalue() + HOSTILE[kind]}
    path = tmp_path / "seed-1.npz"
    path.write_bytes(packed(list(entries.items())) if within == "array" else HOSTILE[kind])
    path.with_name("seed-1.npz.sha256").write_text(f"{file_sha256(path)}  seed-1.npz\n")
    loaded = set(sys.modules)
    for read in (load_start, load_arrays):
        with pytest.raises(UserError, match=r"seed-1\.npz: no archive of plain arrays"):
            read(path)
    assert not Path(TRACE).exists() and not {"antigravity", "webbrowser", "runpy"} & (set(sys.modules) - loaded)


@pytest.mark.parametrize(
    "payload",
    [
        b"\x80\x04" + b"N" + b"r" + struct.pack("<I", 2**32 - 2) + b".",  # a memo of 4 thousand million entries
        b"\x80\x04" + b"\x8d" + struct.pack("<Q", 2**40) + b"x.",  # a text of a terabyte
        b"\x80\x04" + b"\x8e" + struct.pack("<Q", 2**36) + b"x.",  # bytes of 64 GiB
        b"\x80\x04" + b"\x8b" + struct.pack("<I", 2**31 - 1) + b"\1.",  # a number of 2 GiB
        b"\x80\x04" + b"\x95" + struct.pack("<Q", 2**62) + b".",  # a frame of 4 EiB
        b"\x80\x05" + b"\x96" + struct.pack("<Q", 2**38) + b".",  # a bytearray of 256 GiB
        b"(" * 2_000_000 + b".",  # marks upon marks
        b"\x80\x04" + b"]" + b"2" * 100 + b"\x94h\0" * 1000 + b"a" * 1000 + b".",
    ],
    ids=["memo", "text", "bytes", "number", "frame", "bytearray", "marks", "lists in lists"],
)
def test_a_pickle_that_asks_for_all_memory(tmp_path, payload, monkeypatch):
    """In a process of its own, whose memory is looked at from outside."""
    monkeypatch.setattr(archive, "LARGEST_IN_MEMORY", 2**30)
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, np.lib.format.header_data_from_array_1_0(objects([[1], [2]])))
    path = tmp_path / "imdb.npz"
    path.write_bytes(packed(list((WHOLE | {"x_train.npy": head.getvalue() + payload}).items())))
    code = f"""
import resource
from pathlib import Path
from levelfield.data.archive import read_archive
from levelfield.errors import UserError
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    read_archive(Path({str(path)!r}))
except UserError as error:
    print(error)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr[-1000:]
    line, kilobytes = done.stdout.strip().splitlines()
    assert "refused" in line and int(kilobytes) < 5 * 2**20, done.stdout
