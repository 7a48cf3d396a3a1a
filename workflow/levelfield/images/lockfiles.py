"""Locks of the images: what an `.in` file asks for, every package that answers it pinned with its hash, and their download.

Resolving is pip's own, for one Python and one platform, whatever this machine is; a lock names no place to download from.
"""

import json
import re
import subprocess
import sys
from pathlib import Path

from levelfield.errors import UserError
from levelfield.images import images, pip

# glibc 2.36 is Debian 12's, the base of every image; pip must be told of all older ones by name
PLATFORMS = [f"manylinux_2_{minor}_x86_64" for minor in range(36, 4, -1)] + [
    f"manylinux{year}_x86_64" for year in (2014, 2010, 1)
]
TARGET = ["--only-binary=:all:", "--implementation=cp", f"--python-version={images.PYTHON}"] + [
    f"--platform={platform}" for platform in PLATFORMS
]


def requirements(name: str, kind: str) -> list[str]:
    """The lines of an `.in` file that hold for a kind, without comments."""
    asked = []
    for line in (images.CONTAINERS / f"{name}.in").read_text(encoding="utf-8").splitlines():
        requirement, _, mark = (part.strip() for part in line.partition("#"))
        if requirement and mark in ("", kind):
            asked.append(requirement)
    return asked


def asked(lock: str) -> list[str]:
    """The requirements that the text of a lock says it was resolved from."""
    return re.findall(r"^# asked: (.+)$", lock, re.MULTILINE)


def pins(lock: str) -> dict[str, str]:
    """Version of each package that the text of a lock pins."""
    return dict(re.findall(r"^(\S+)==(\S+) --hash=sha256:[0-9a-f]{64}$", lock, re.MULTILINE))


def resolve(name: str, kind: str) -> str:
    """The text of a lock, resolved anew: reads the wheels' metadata, downloads none of them.

    Raises UserError for another Python than the images' (pip reads `python_version` markers from its own interpreter), for no pip or
    one that would download every wheel, and where pip finds no answer.
    """
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    if here != images.PYTHON or not sys.platform.startswith("linux"):
        raise UserError(
            f"this is Python {here} on {sys.platform}: locks are resolved with Python {images.PYTHON} on Linux, the images' own"
        )
    version = _pip_version()
    if tuple(int(part) for part in version.split(".")[:2]) < (25, 3):
        raise UserError(
            f"pip 25.3 or newer resolves without downloading; found {version}: `{sys.executable} -m pip install --upgrade pip`"
        )
    wanted = requirements(name, kind)
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--dry-run",
        "--quiet",
        "--ignore-installed",
        "--report=-",
        "--target=/nowhere",
    ]
    done = subprocess.run([*command, *TARGET, *wanted], stdout=subprocess.PIPE, text=True, encoding="utf-8")
    if done.returncode:
        raise UserError(f"pip found no packages for {name} ({kind}) that answer {', '.join(wanted)}: see above")
    pinned = {}
    for package in json.loads(done.stdout)["install"]:
        archive = package["download_info"]["archive_info"]
        metadata = package["metadata"]
        pinned[metadata["name"].lower()] = (
            f"{metadata['name']}=={metadata['version']} --hash=sha256:{archive['hashes']['sha256']}"
        )
    lines = [
        f"# Packages of the image {name}, kind {kind}: CPython {images.PYTHON}, Linux x86_64. `levelfield images lock {name}` renews it.",
        *(f"# asked: {requirement}" for requirement in wanted),
        *(pinned[package] for package in sorted(pinned)),
    ]
    return "\n".join(lines) + "\n"


def _pip_version() -> str:
    """The version of this environment's pip; raises UserError where it has none."""
    done = subprocess.run([sys.executable, "-m", "pip", "--version"], capture_output=True, text=True, encoding="utf-8")
    if pip.is_missing(done.stderr):
        raise UserError(f"locks and images are made with pip, and this environment has none: {pip.INSTALL}")
    words = done.stdout.split()
    if len(words) < 2:
        raise UserError(
            f"pip does not tell its version: `{sys.executable} -m pip --version` says: {done.stderr.strip()[-200:]}"
        )
    return words[1]


def download(lock: Path, folder: Path) -> None:
    """Downloads every package of a lock, from where pip is set up to look. Raises UserError where one is not there, or not the
    one whose hash the lock holds."""
    _pip_version()
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--require-hashes",
        f"--dest={folder}",
        f"--requirement={lock}",
    ]
    if subprocess.run([*command, *TARGET]).returncode:
        raise UserError(
            f"the packages of {lock.name} could not be had as they are pinned (see above). A `+cpu` build comes from PyTorch's own "
            "index of CPU builds: name it to pip with PIP_EXTRA_INDEX_URL. Other hashes than the lock's are never installed"
        )
