"""Locks that all users of a machine share: one run at a time on a device, whichever checkout it comes from.

A lock is held by a process and ends with it, however it ends. Who waits is told who holds it, and does not wait for ever.
"""

import fcntl
import os
import pwd
import stat
import sys
import time
from pathlib import Path

from levelfield.errors import NodeError

LOCKS = Path("/tmp")
"""Not TMPDIR, which differs between users and jobs: everyone who measures on this machine must see the same files."""
ELSEWHERE = "LEVELFIELD_LOCKS"
"""The environment variable that names another folder."""
HELD = "LEVELFIELD_HELD"
"""The environment variable by which a block tells its runs the lock that it holds for them all."""
WAIT_SECONDS = 24 * 3600
POLL_SECONDS = 1.0
PROC = Path("/proc")


def first_free(names: list[str], what: str, count: int = 1) -> tuple[list[str], list[int]]:
    """The first `count` of `names` whose locks could be had, and the descriptors that hold them; waits until there are as many.

    All at once or none: who waits holds nothing that another waits for. Inside a block they are of those that the block holds, and the
    descriptors hold nothing. what: the devices in words, for who reads that it waits. Raises UserError where a lock's file cannot be
    used, and after a day.
    """
    folder, began, told = Path(os.environ.get(ELSEWHERE) or LOCKS), time.monotonic(), False
    while True:
        free: dict[str, int] = {}
        for name in names:
            lock = _open(path := folder / f"levelfield-{name}.lock")
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if not _is(lock, path):  # the file was cleared away and another one made
                    os.close(lock)
                    continue
                free[name] = lock
            except BlockingIOError:
                if name in os.environ.get(HELD, "").split(","):
                    free[name] = lock
                else:
                    os.close(lock)
            except OSError as error:  # as of a network's disk without locks
                for opened in (lock, *free.values()):
                    os.close(opened)
                raise NodeError(
                    f"{path}: cannot be locked: {error.strerror}: set {ELSEWHERE} to a folder on a disk of this machine"
                ) from None
            if len(free) == count:
                return list(free), list(free.values())
        for lock in free.values():
            os.close(lock)
        holders = ", ".join(holder(folder / f"levelfield-{name}.lock") for name in names)
        if not told:
            print(f"waiting for {what}, held by {holders}", file=sys.stderr, flush=True)
            told = True
        if time.monotonic() - began > WAIT_SECONDS:
            raise NodeError(
                f"waited {WAIT_SECONDS / 3600:.0f} hours for {what}, held by {holders}: end that process, or set {ELSEWHERE} to "
                "a folder that all who measure on this machine share"
            )
        time.sleep(POLL_SECONDS)


def _open(path: Path) -> int:
    """Opens a lock's file, which another user may own: in /tmp such a file can be opened, but not with O_CREAT."""
    safely = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # no link, no pipe that waits for a writer
    try:
        try:
            lock = os.open(path, safely)
        except FileNotFoundError:
            lock = os.open(path, safely | os.O_CREAT, 0o666)
            os.fchmod(lock, 0o666)
    except OSError as error:
        raise NodeError(
            f"{path}: the lock cannot be opened: {error.strerror}: remove it, or set {ELSEWHERE} to another folder"
        ) from None
    if not stat.S_ISREG(os.fstat(lock).st_mode):
        os.close(lock)
        raise NodeError(f"{path}: is no plain file, so it is no lock: remove it, or set {ELSEWHERE} to another folder")
    return lock


def _is(lock: int, path: Path) -> bool:
    """Whether a descriptor is of the file that has this name now."""
    try:
        return os.path.samestat(os.fstat(lock), path.stat())
    except OSError:
        return False


def holder(path: Path) -> str:
    """Who holds a lock, as `process 4711 of ada`; what Linux tells in `/proc/locks`, elsewhere and in other containers nothing."""
    try:
        inode, lines = path.stat().st_ino, (PROC / "locks").read_text(encoding="utf-8").splitlines()
        for line in lines:
            fields = line.split()
            if "FLOCK" in fields and fields[5].rpartition(":")[2] == str(inode):
                number = int(fields[4])
                owner = (PROC / str(number)).stat().st_uid
                return f"process {number} of {_user(owner)}"
    except (OSError, ValueError, IndexError):
        pass
    return "another process"


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"
