"""Full disks, folders that can only be read or that are another's, files that may not grow: one line that names file and way out,
nothing half-written under a final name, nothing that was there lost; and once it is mended the same command works."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from checkout import ROOT
from chosen import ALL
from jobs import Tiny, levelfield
from made_study import make_study
from outside import made_known

from levelfield.plan.finished import LOCK

OUTSIDE = ROOT / "tests/parity/outside_package"
MODEL = {"name": "bag-of-words", "embedding": 8}
NOBODY = 65534
UNPRIVILEGED = ("setpriv", "--bounding-set=-dac_override,-dac_read_search,-fowner")
"""Root as any other user: the owner of what is root's, and a stranger elsewhere."""
VERBS = ("data", "start", "reference", "parity", "train", "collect", "tables", "figures", "report", "keep")
QUICK = [("full", "data"), ("full", "start"), ("full", "train"), ("full", "collect")]
TOLD = {
    "full": "the disk is full",
    "read-only": "can only be read",
    "another's": "you have no right to",
    "limited": "no file may be that large",
}
EACH = [(kind, verb) for kind in TOLD for verb in VERBS]
CHOSEN = [
    (kind, verb)
    for number, (kind, verb) in enumerate(EACH)
    if ALL or (kind, verb) in QUICK or number // len(VERBS) == (number + 1) % len(TOLD)
]
"""The quick ones, and each verb with one kind, another one for each; or all."""
FILE_LIMIT = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (400, resource.RLIM_INFINITY))"
PAGE = os.sysconf("SC_PAGE_SIZE")
TAKE = """
import sys
from levelfield.errors import UserError
from levelfield.plan import finished
try:
    finished.take(sys.argv[1])
except UserError as error:
    sys.exit(str(error))
"""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="mounts as Linux does")


def mounted(*arguments: str) -> None:
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"this user may not mount: {done.stderr.strip()}")


@pytest.fixture
def place() -> Iterator[Path]:
    """A disk of its own, 48 MB, that everybody can look into."""
    if os.geteuid():
        pytest.skip("only root may mount a small disk")
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    folder.chmod(0o755)
    disk = folder / "disk"
    disk.mkdir()
    try:
        mounted("-t", "tmpfs", "-o", "size=48m,mode=755", "tmpfs", str(disk))
        try:
            yield disk
        finally:
            subprocess.run(["umount", "-l", str(disk)], check=True)
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def tiny() -> Iterator[Tiny]:
    """Data and start, and a study that was trained, to be copied; where everybody can read them."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        folder = Path(name)
        made_known(OUTSIDE, folder / "site")
        made = Tiny.made(folder, MODEL, (folder / "site", OUTSIDE))
        make_study(folder / "results/study", cases=["torch", "jax"], seeds=[0], steps=20)
        readable(folder)
        yield made


@pytest.fixture(scope="module")
def told(tiny) -> None:
    """The reference, and the study collected and told."""
    arguments = ("--protocol", json.dumps(tiny.protocol), "--data", tiny.folder / "data", "--start", tiny.folder / "start.npz")
    done = tiny.run("reference", *arguments, "--out", tiny.folder / "reference.npz")
    assert done.returncode == 0, done.stdout
    assert levelfield("tell", tiny.folder / "results/study").returncode == 0
    readable(tiny.folder)


def readable(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


def command(tiny: Tiny, verb: str, disk: Path, **how):
    """Runs the verb such that all it writes comes to `disk`."""
    if verb == "data":
        return tiny.data(disk / "data", **how)
    if verb == "start":
        return tiny.start(disk / "start.npz", **how)
    known = ("--data", tiny.folder / "data", "--start", tiny.folder / "start.npz")
    if verb == "reference":
        return tiny.run("reference", "--protocol", json.dumps(tiny.protocol), *known, "--out", disk / "reference.npz", **how)
    if verb == "parity":
        options = ("--reference", tiny.folder / "reference.npz", "--threads", 1, "--out", disk / "parity.json")
        return tiny.run("parity", "--case", tiny.case("plain-numpy", tiny.folder / "case.json"), *known, *options, **how)
    if verb == "train":
        options = ("--study", "tiny", "--seed", 0, "--threads", 1, "--out", disk / "run")
        return tiny.run("train", "--case", tiny.case("plain-numpy", tiny.folder / "case.json"), *known, *options, **how)
    if verb == "keep":
        return levelfield("keep", tiny.folder / "results/study", disk / "kept", **how)
    return levelfield(verb, disk / "results/study", **how)


def files(disk: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(disk)): file.read_bytes()
        for file in sorted(disk.rglob("*"))
        if file.is_file() and file.name != "filler"
    }


@contextmanager
def closed(kind: str, disk: Path, room: int = 0) -> Iterator[dict]:
    """The disk is as `kind` says within the block; yields how a command must be run for that."""
    if kind == "limited":
        yield {"code": FILE_LIMIT}
    elif kind == "another's":
        locks = disk.with_name("locks")
        locks.mkdir(exist_ok=True)
        everything = [disk, *disk.rglob("*")]
        for path in everything:
            os.chown(path, NOBODY, NOBODY)
        yield {"before": UNPRIVILEGED, "environment": {"LEVELFIELD_LOCKS": str(locks)}}
        for path in everything:
            os.chown(path, 0, 0)
    elif kind == "read-only":
        mounted("-o", "remount,ro", str(disk))
        try:
            yield {}
        finally:
            mounted("-o", "remount,rw", str(disk))
    else:
        with (disk / "filler").open("wb", buffering=0) as filler:
            try:
                while True:
                    filler.write(bytes(PAGE))
            except OSError:
                filler.truncate(max(0, filler.tell() - room))
        try:
            yield {}
        finally:
            (disk / "filler").unlink()


@pytest.mark.parametrize(
    ("kind", "verb"),
    [pytest.param(kind, verb, marks=[] if (kind, verb) in QUICK else pytest.mark.long) for kind, verb in CHOSEN],
)
def test_a_place_that_cannot_be_written_is_told_and_nothing_is_lost(request, tiny, place, kind, verb):
    if (kind, verb) not in QUICK:
        request.getfixturevalue("told")
    shutil.copytree(tiny.folder / "results", place / "results")
    before = files(place)
    with closed(kind, place) as how:
        done = command(tiny, verb, place, **how)
    said = [line for line in done.stdout.splitlines() if line.startswith(f"levelfield {verb}: ")]
    assert done.returncode == 2 and len(said) == 1 and TOLD[kind] in said[0] and str(place) in said[0], done.stdout[-3000:]
    assert "Traceback" not in done.stdout
    after = files(place)
    assert {name: content for name, content in after.items() if name in before} == before, "what was there is as it was"
    assert set(after) - set(before) <= {"run/failure.json"}, "nothing half-written"
    again = command(tiny, verb, place)
    assert again.returncode == 0, again.stdout[-3000:]


@pytest.mark.parametrize("pages", [1, 2, 3])
@pytest.mark.parametrize("verb", ["data", "start"])
def test_a_disk_that_fills_up_leaves_whole_files_alone(tiny, place, verb, pages):
    assert command(tiny, verb, place).returncode == 0
    whole = files(place)
    for file in place.iterdir():
        shutil.rmtree(file) if file.is_dir() else file.unlink()
    with closed("full", place, pages * PAGE):
        done = command(tiny, verb, place)
    left = files(place)
    assert all(whole[name] == content for name, content in left.items()), sorted(left)
    assert (done.returncode == 0) == (left == whole), done.stdout[-2000:]


@pytest.mark.parametrize(
    ("kind", "there", "taken"),
    [("full", True, True), ("read-only", True, False), ("another's", True, True), ("another's", False, False)],
)
def test_a_study_is_taken_by_what_can_be_read_alone_and_else_it_is_told_why_not(place, kind, there, taken):
    """The file by which Snakemake takes a study before its first job, left by an earlier one or not."""
    folder = place / "results/study"
    folder.mkdir(parents=True)
    if there:
        (folder / LOCK).write_text("process 1 on another\n")
    with closed(kind, place) as how:
        command = [*how.get("before", ()), sys.executable, "-c", TAKE, str(folder)]
        done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode == 0) == taken and "Traceback" not in done.stderr, done.stderr
    if not taken:
        assert done.stderr.startswith(f"{folder / LOCK}: ") and "work in a copy of your own" in done.stderr
        assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("variable", ["LEVELFIELD_LOCKS", "TMPDIR"])
def test_a_full_folder_for_what_is_temporary(tiny, place, variable):
    """As a full `/tmp`: a lock takes no room there, and a run needs none."""
    with closed("full", place):
        done = tiny.train("plain-numpy", tiny.folder / f"run-{variable}", environment={variable: str(place)})
    assert done.returncode == 0, done.stdout[-3000:]


def test_a_folder_for_locks_that_can_only_be_read(tiny, place):
    with closed("read-only", place):
        done = tiny.train("plain-numpy", tiny.folder / "run", environment={"LEVELFIELD_LOCKS": str(place)})
    assert done.returncode == 2 and "the lock cannot be opened: Read-only file system" in done.stdout
