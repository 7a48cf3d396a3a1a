"""Images: which container a rule runs in, under what name, and the proof that a run is in the one that was planned.

An image's file name holds a hash of all that it is built from (template, lock, base), so that a changed lock is another
file. Beside each `.sif` lies its record, a `.json` of the same name. Needs the standard library alone: it also runs inside.
"""

import json
import os
import re
import shutil
import stat
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from hashlib import file_digest, sha256
from pathlib import Path
from typing import Any
from uuid import UUID

from levelfield.errors import UserError

CONTAINERS = Path(__file__).resolve().parents[3] / "containers"
TEMPLATE = CONTAINERS / "levelfield.def"
FOLDER = Path("results/.images")
"""Images are shared by all studies of a checkout; relative to Snakemake's working folder, which containers see."""

DIGEST = re.compile(r"@sha256:[0-9a-f]{64}$")
SYSCTL = Path("/proc/sys")
ANSWER_SECONDS = 30
SUITE, PYTHON = "bookworm", "3.11"
"""Debian's suite of a base made by `levelfield images base`, and the Python of every base: what the locks are resolved for."""
RUNTIME = (
    "Apptainer is not installed (no `apptainer` or `singularity` in PATH), and `--sdm apptainer` runs every job in it: "
    "install the package `apptainer` (1.3 or newer; as root on Debian: `.ci/install-apptainer`), load your cluster's module, "
    "or leave out `--sdm apptainer`"
)


def names() -> list[str]:
    """The images that there are: one `.in` file each."""
    return sorted(file.stem for file in CONTAINERS.glob("*.in"))


def without(name: str, kind: str) -> list[str]:
    """Patterns of what an image leaves out of its packages: the lines `# without: …` and `# without <kind>: …` of its `.in` file."""
    lines = re.findall(r"^# without(?: (\w+))?: (.+)$", _asked(name), re.MULTILINE)
    return [pattern for of, patterns in lines if of in ("", kind) for pattern in patterns.split()]


def lock_file(name: str, kind: str) -> Path:
    return CONTAINERS / f"{name}.{kind}.lock"


def _asked(name: str) -> str:
    return (CONTAINERS / f"{name}.in").read_text(encoding="utf-8")


def kinds(name: str) -> list[str]:
    """`cuda` and `cpu` where the `.in` file tells them apart, else `cpu` alone."""
    return ["cuda", "cpu"] if re.search(r"# cuda$", _asked(name), re.MULTILINE) else ["cpu"]


def debian_packages(name: str) -> list[str]:
    """Debian packages that an image needs beyond its base: the line `# debian: …` of its `.in` file."""
    line = re.search(r"^# debian: (.+)$", _asked(name), re.MULTILINE)
    return line[1].split() if line else []


@dataclass(frozen=True)
class Image:
    """An image that a study asks for: built from a lock, or a ready one that the config names."""

    name: str
    kind: str
    """`cuda`, `cpu`, or `ready`."""
    source: str | None
    """Base of a built image (None: the template's), or where a ready one comes from."""
    hash: str

    @property
    def stem(self) -> str:
        return f"{self.name}-{self.kind}-{self.hash}"

    @property
    def file(self) -> str:
        return str(FOLDER / f"{self.stem}.sif")

    @property
    def record(self) -> str:
        return str(FOLDER / f"{self.stem}.json")


def built(name: str, kind: str, base: str | None = None) -> Image:
    """The image `name` as it is to be built; a name without the kind (`analysis` has no `cuda`) takes its only one.

    base: None for the template's own, `image@sha256:…`, or the folder of a root file system.
    Raises UserError where there is no such image, or where the base is not one that gives the same image twice.
    """
    if name not in names():
        raise UserError(f"no image {name!r}: there are {', '.join(names())} (one `.in` file each in {CONTAINERS.name}/)")
    kind = kind if kind in kinds(name) else kinds(name)[0]
    lock = lock_file(name, kind)
    if not lock.exists():
        raise UserError(f"{lock.name} is missing: `levelfield images lock {name}` makes it")
    base = os.path.expanduser(base) if base else None
    parts = [
        TEMPLATE.read_text(encoding="utf-8"),
        lock.read_text(encoding="utf-8"),
        " ".join(debian_packages(name)),
        " ".join(without(name, kind)),
        base_identity(base),
    ]
    return Image(name, kind, base, sha256(json.dumps(parts).encode()).hexdigest()[:8])


def ready(name: str, source: str) -> Image:
    """A ready image: the path of a `.sif` file, or `docker://…@sha256:…`.

    Raises UserError for a file that is not there, and for a reference without a digest: it may change under its name.
    """
    source = os.path.expanduser(source)
    if "://" in source:
        if not DIGEST.search(source):
            raise UserError(f"the ready image {name!r} is named as {source!r}: add its digest, `…@sha256:<64 digits>`")
        identity = source
    elif Path(source).is_file():
        identity = f"{Path(source).resolve()} {sif_id(Path(source))}"
    else:
        raise UserError(
            f"the ready image {name!r} is named as {source!r}: no such file, nor a reference like docker://…@sha256:…"
        )
    return Image(name, "ready", source, sha256(identity.encode()).hexdigest()[:8])


def base_identity(base: str | None) -> str:
    """What tells one base from another: its digest, or the versions of all Debian packages in the folder."""
    if base is None:
        return "template"
    if DIGEST.search(base):
        return base
    status = Path(base) / "var/lib/dpkg/status"
    if not status.is_file():
        raise UserError(
            f"the base {base!r} is neither `image@sha256:…` nor the folder of a root file system: "
            f"`levelfield images base {base}` makes one from Debian's packages"
        )
    return sha256(status.read_bytes()).hexdigest()


def runtime() -> str:
    """The container runtime's command; raises UserError that says what to install where there is none."""
    for command in ("apptainer", "singularity"):
        if shutil.which(command):
            return command
    raise UserError(RUNTIME)


def namespaces_forbidden() -> str | None:
    """Why this user's containers may not start here; None where nothing speaks against it.

    An ordinary user's Apptainer needs user namespaces, or a setuid helper that only an administrator installs.
    """
    if os.geteuid() == 0 or not sys.platform.startswith("linux"):
        return None
    found = _namespaces_refused()
    if found is None or setuid_starter():
        return None
    return (
        f"user namespaces {found}, and without them containers run for root alone, or where the package "
        "`apptainer-suid` is installed: ask the administrator for one of both, or build the images on another machine"
    )


def _namespaces_refused() -> str | None:
    """What speaks against user namespaces: a setting of the kernel, or what `unshare` says. That may be refused what Apptainer is
    granted, since an AppArmor profile goes by the program."""
    for file, wanted in (("user/max_user_namespaces", "0"), ("kernel/unprivileged_userns_clone", "0")):
        with suppress(OSError):
            if (SYSCTL / file).read_text(encoding="ascii").strip() == wanted:
                return f"are forbidden here ({file.replace('/', '.')} is {wanted})"
    if shutil.which("unshare"):
        tried = subprocess.run(
            ["unshare", "--user", "--map-root-user", "true"], capture_output=True, text=True, encoding="utf-8", errors="replace"
        )
        if tried.returncode:
            return f"may be forbidden here ({' '.join(tried.stderr.split())})"
    return None


def setuid_starter() -> bool:
    """Whether a runtime is installed with its setuid helper, by the folder that `apptainer buildcfg` names: then an ordinary user's
    containers need no user namespaces."""
    for command in filter(shutil.which, ("apptainer", "singularity")):
        with suppress(OSError, subprocess.TimeoutExpired):
            told = subprocess.run(
                [command, "buildcfg"],
                capture_output=True,
                text=True,
                encoding="utf-8",
                errors="replace",
                timeout=ANSWER_SECONDS,
            ).stdout
            for folder in re.findall(r"^LIBEXECDIR=(.+)$", told, re.MULTILINE):
                starter = Path(folder.strip(), command, "bin", "starter-suid")
                if starter.stat().st_mode & stat.S_ISUID:
                    return True
    return False


def sif_id(file: Path) -> str:
    """The random identity in a SIF header (bytes 48 to 64): tells one image from another, and proves nothing of what is in it."""
    with Path(file).open("rb") as image:
        head = image.read(64)
    if head[32:41] != b"SIF_MAGIC":
        raise UserError(f"{file} is not an image in Apptainer's format SIF: build or pull it anew")
    return str(UUID(bytes=head[48:64]))


def digest(file: Path) -> str:
    """`sha256:…` of a whole file."""
    with Path(file).open("rb") as content:
        return "sha256:" + file_digest(content, "sha256").hexdigest()


def stamp(file: Path) -> list[int]:
    """What a file changes when it is written to, moved in from elsewhere or replaced: its number, bytes, nanosecond of the last change."""
    told = Path(file).stat()
    return [told.st_ino, told.st_size, told.st_mtime_ns]


def digest_in_use(planned: Path | None) -> str | None:
    """Digest of the image that this process runs in; None where the plan names none.

    planned: the image file that the plan names, its record beside it. The file is the one that the record speaks of where its
    stamp is; any other is read whole. Raises UserError where the process runs in another image, in none, or in a changed one, and
    where the record is not there or damaged.
    """
    if planned is None:
        return None
    inside = os.environ.get("APPTAINER_CONTAINER") or os.environ.get("SINGULARITY_CONTAINER")
    if inside is None:
        raise UserError(f"the plan's image is {planned}, but this process runs outside any: add `--sdm apptainer`")
    if Path(inside).resolve() != planned.resolve():
        raise UserError(f"the plan's image is {planned}, but this process runs in {inside}")
    recorded, stamped = _recorded(planned)
    if stamp(planned) != stamped and digest(planned) != recorded:
        raise UserError(
            f"{planned} is not the file of its record (other content, other sha256): remove both, then `snakemake images`"
        )
    return recorded


def _recorded(image: Path) -> tuple[str, Any]:
    """(digest, stamp) of an image by its record; the stamp is None where the record tells none."""
    file = image.with_suffix(".json")
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        found, stamped = record["digest"], record.get("stamp")
        if not isinstance(found, str):
            raise TypeError("its digest is no text")
    except (FileNotFoundError, ValueError, KeyError, TypeError, RecursionError) as error:
        why = "is not there" if isinstance(error, FileNotFoundError) else f"is damaged ({type(error).__name__}: {error})"
        # Snakemake asks for the image alone: with one of both it would make nothing anew
        raise UserError(
            f"{file}: the image's record {why}: put it back, or remove it and {image.name}, then `snakemake images` makes both"
        ) from None
    return found, stamped
