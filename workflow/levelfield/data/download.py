"""Fetches one file over https: progress, retries, resumption, and its final name only when the checksum is right."""

import errno
import fcntl
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests
from tqdm import tqdm
from urllib3.exceptions import NewConnectionError

from levelfield.data.origin import checksum
from levelfield.errors import UserError, without_secrets

TIMEOUTS = (5, 30)
"""Seconds to connect, seconds without a byte."""
CERTIFICATES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
"""The variables that requests takes a file of certificates from, the first first."""
ATTEMPTS, ATTEMPTS_TO_REACH = 4, 2
"""Of a transfer that breaks; of a host that can't be reached: there the caller has another source."""
SLOWEST, PATIENCE = 1024, 60
"""Bytes a second that are given up as too few, and the seconds after which that is asked."""
LARGEST = 256 * 2**20
"""Bytes; nothing that is fetched here is near it."""
NO_ADDRESS = (
    "an address cannot be read, the proxy's or one that the server leads to: look at HTTPS_PROXY and its kin, where #, / and @ "
    "in a password are written %23, %2F and %40"
)
"""In place of what a library says, which is the address with its password, whole or cut anywhere."""


class DownloadError(Exception):
    """The file could not be had; the message says why, without the passwords in it: it gets into logs and `data.json`."""

    def __init__(self, told: str):
        super().__init__(without_secrets(told))


class RefusedError(DownloadError):
    """The file came whole and is not the one expected; it was kept aside."""


def refuse_unless(path: Path, expected: str, algorithm: str = "sha256", told_as: str | None = None) -> None:
    """Moves `path` aside as `<name>.refused` and raises RefusedError unless it has the checksum.

    `told_as`: the final name, where `path` is still under another one.
    """
    found = checksum(path, algorithm)
    if found != expected:
        name = told_as or path.name
        aside = path.with_name(f"{name}.refused")
        path.replace(aside)
        raise RefusedError(f"{name} has the {algorithm} {found}, expected {expected}; kept aside as {aside}")


def at_hand(path: Path, expected: str, algorithm: str = "sha256") -> bool:
    """Whether `path` is there with the checksum; with another one it is moved aside, which is said on stderr."""
    if not path.exists():
        return False
    try:
        refuse_unless(path, expected, algorithm)
    except RefusedError as error:
        print(f"levelfield: {error}", file=sys.stderr)
        return False
    return True


def fetch(url: str, target: Path, expected: str, algorithm: str = "sha256") -> Path:
    """Fetches `url` as `target`. What came of a broken transfer stays as `<name>.part`, and is gone on with next time; where the
    whole is not right then, it is fetched once from the beginning."""
    if missing := missing_certificates():
        raise DownloadError(f"{url}: not asked for, since {missing}")
    part = target.with_name(f"{target.name}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with _alone(target.parent):
            if target.exists() and checksum(target, algorithm) == expected:
                return target  # fetched by another process meanwhile
            went_on = part.exists()
            _fetch_part(url, part, target.name)
            if went_on and checksum(part, algorithm) != expected:
                part.unlink()
                _fetch_part(url, part, target.name)
            refuse_unless(part, expected, algorithm, told_as=target.name)
            part.replace(target)
    except OSError as error:  # requests' own were told above
        raise UserError(f"{error.filename or part}: cannot be written: {error.strerror or error}") from None
    return target


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Within the block no other process fetches into the folder: two of them would write into one part."""
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"levelfield: waiting for another download into {folder}", file=sys.stderr, flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.EBADF, errno.EINVAL):
                raise
            # a file system without locks, or with none of folders
        yield
    finally:
        os.close(lock)


def _fetch_part(url: str, part: Path, name: str) -> None:
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return _transfer(url, part, name)
        except requests.RequestException as error:
            attempts = ATTEMPTS_TO_REACH if _unreachable(error) else ATTEMPTS
            refused = error.response is not None and error.response.status_code < 500
            hopeless = isinstance(error, (requests.ConnectTimeout, ValueError))  # the latter: requests' own for an address
            if refused or hopeless or attempt >= attempts:
                raise DownloadError(f"{url}: {_told(error)}") from None
            time.sleep(2 ** (attempt - 1))
        except ValueError:  # of urllib3's or Python's own reading of an address
            raise DownloadError(f"{url}: {NO_ADDRESS}") from None


def missing_certificates() -> str | None:
    """What is wrong with the variables that name a file of certificates; None where nothing is. requests would raise OSError."""
    for variable in CERTIFICATES:
        path = os.environ.get(variable)
        if path and not Path(path).exists():
            return f"{variable} names {path}, which is not there: unset it, or name the file of certificates"
        if path:
            return None
    return None


def _transfer(url: str, part: Path, name: str) -> None:
    """One attempt, appending to what is there where the server can go on from it; raises requests' exceptions."""
    have = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUTS) as response:
        if response.status_code == requests.codes.requested_range_not_satisfiable and have:
            # Either all of it is there, or more than all: the checksum tells.
            return
        response.raise_for_status()
        goes_on = response.status_code == requests.codes.partial_content
        if goes_on and not response.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            raise requests.RequestException("the server sent another range than asked for")
        have = have if goes_on else 0
        announced = response.headers.get("Content-Length", "")
        total = have + int(announced) if announced.isdecimal() else None
        began, before = time.monotonic(), have
        with (
            part.open("ab" if goes_on else "wb") as file,
            tqdm(desc=name, total=total, initial=have, unit="B", unit_scale=True, disable=None) as bar,
        ):
            for chunk in response.iter_content(2**13):
                have += len(chunk)
                if have > LARGEST:
                    part.unlink()
                    raise DownloadError(f"{url}: sends more than {LARGEST:,} bytes")
                file.write(chunk)
                took = time.monotonic() - began
                if took > PATIENCE and (have - before) / took < SLOWEST:
                    raise DownloadError(
                        f"{url}: sends {(have - before) / took:.0f} bytes a second; what came is kept as {part}"
                    )
                bar.update(len(chunk))


def _unreachable(error: requests.RequestException) -> bool:
    """Whether no connection came about: no such name, nobody there, a proxy or a certificate in the way."""
    if isinstance(error, (requests.ConnectTimeout, requests.exceptions.ProxyError, requests.exceptions.SSLError)):
        return True
    cause = error.args[0] if error.args else None
    return isinstance(getattr(cause, "reason", None), NewConnectionError)


def _told(error: requests.RequestException) -> str:
    """The failure in few words: requests' own messages hold whole chains of objects."""
    if error.response is not None:
        return f"the server answered {error.response.status_code} {error.response.reason}"
    if _unreachable(error):
        return "the host cannot be reached"
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    if isinstance(error, (requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
        return "the connection broke"
    if isinstance(error, requests.exceptions.InvalidURL):
        return NO_ADDRESS
    return str(error)
