"""Encoded data, kept by content: the same file with the same settings is encoded once for all studies of a checkout.

Copies and no links: a link shares its time of change, by which Snakemake tells what is newer than what.
"""

import errno
import hashlib
import json
import os
import shutil
import time
from contextlib import suppress
from dataclasses import asdict
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from levelfield import registry
from levelfield.data.origin import Origin
from levelfield.data.prepare import Shape
from levelfield.records import write_json
from levelfield.study.data import Data

FOLDER = "encoded"
"""Beside the downloads."""
LIMIT_BYTES = 8 << 30
"""Of all that is kept: those not used for longest go first. What is larger by itself is not kept."""
COPIED_AT_ONCE = 1 << 22
LEFT_OVER_SECONDS = 86_400
"""Age at which a copy that was never finished is taken for one of a process that was killed."""


def name_of(origin: Origin, shape: Shape, data: Data) -> str | None:
    """A hash of all that the four arrays and `data.json` depend on, this code included.

    None where the content is not known before it is read, or where the code that reads it is not this package's.
    """
    if origin.sha256 is None or not registry.sources()[origin.kind].module.startswith("levelfield."):
        return None
    names = [path.name if path else None for path in (data.validation_file, data.tokenizer)]
    told = [asdict(origin), asdict(shape), data.train, data.validation, data.title, data.citation, names, _versions(), _code()]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


@cache
def _versions() -> dict[str, str | None]:
    """Of the packages that read and split the text; None of one that is not installed."""
    found: dict[str, str | None] = {}
    for package in ("pyarrow", "tokenizers"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


@cache
def _code() -> str:
    files = sorted(Path(__file__).parent.rglob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


def described(name: str, downloads: Path) -> dict[str, Any] | None:
    """The `data.json` that is kept under `name`; None where there is none."""
    try:
        told: dict[str, Any] = json.loads((Path(downloads) / FOLDER / name / "data.json").read_text(encoding="utf-8"))
        whole = (
            all(isinstance(array["sha256"], str) for array in told["arrays"].values()) and {"title", "labels"} <= told.keys()
        )
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None
    return told if whole else None


def take(name: str, downloads: Path, out: Path) -> dict[str, Any] | None:
    """Copies what is kept under `name` into `out`, each array against its checksum; returns its `data.json`.

    None where nothing whole is kept: what is damaged goes.
    """
    folder, data = Path(downloads) / FOLDER / name, described(name, downloads)
    if data is None:
        return None
    out.mkdir(parents=True, exist_ok=True)
    if not all(_copied(folder / array, out / array, told["sha256"]) for array, told in data["arrays"].items()):
        shutil.rmtree(folder, ignore_errors=True)
        return None
    with suppress(OSError):
        os.utime(folder)
    write_json(out / "data.json", data)
    return data


def keep(name: str, downloads: Path, out: Path) -> None:
    """Keeps the arrays and `data.json` of `out` under `name`. A disk that has no room for it is no error: it is said."""
    kept = Path(downloads) / FOLDER
    files = [*json.loads((out / "data.json").read_text(encoding="utf-8"))["arrays"], "data.json"]
    size = sum((out / file).stat().st_size for file in files)
    part = kept / f".{name}.{os.getpid()}.part"
    if (kept / name).exists() or size > LIMIT_BYTES:
        return
    try:
        kept.mkdir(parents=True, exist_ok=True)
        _make_room(kept, size)
        part.mkdir()
        for file in files:
            shutil.copyfile(out / file, part / file)
        part.rename(kept / name)
    except OSError as error:
        print(f"not kept for other studies: {error.strerror or error}")
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _make_room(kept: Path, wanted: int) -> None:
    """Deletes what was not used for longest, until `wanted` bytes more are within the limit, and what was never finished."""
    for part in kept.glob(".*.part"):
        if time.time() - part.stat().st_mtime > LEFT_OVER_SECONDS:
            shutil.rmtree(part, ignore_errors=True)
    folders = sorted(
        (folder for folder in kept.glob("[0-9a-f]*") if folder.is_dir()), key=lambda folder: folder.stat().st_mtime
    )
    sizes = {folder: sum(file.stat().st_size for file in folder.iterdir()) for folder in folders}
    for folder in folders:
        if sum(sizes.values()) + wanted <= LIMIT_BYTES:
            return
        shutil.rmtree(folder, ignore_errors=True)
        del sizes[folder]


def _copied(source: Path, target: Path, sha256: str) -> bool:
    """Whether the file was there and is what it was; the target stands under its name only then."""
    part, digest = target.with_name(f".{target.name}.{os.getpid()}.part"), hashlib.sha256()
    try:
        with source.open("rb") as read, part.open("wb") as written:
            while content := read.read(COPIED_AT_ONCE):
                digest.update(content)
                written.write(content)
            written.flush()
            os.fsync(written.fileno())
        if digest.hexdigest() != sha256:
            return False
        part.replace(target)
        return True
    except OSError as error:  # another study made room meanwhile, or the disk has lost it
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        return False
    finally:
        part.unlink(missing_ok=True)
