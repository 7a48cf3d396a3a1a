"""Make the containers' images, their locks, or a base from Debian's packages."""

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from datetime import UTC, datetime
from hashlib import file_digest
from pathlib import Path
from tempfile import TemporaryDirectory

from levelfield.errors import UserError
from levelfield.images import images, lockfiles

ASK = """
import json, sys
from importlib.metadata import distributions
packages = {}
for found in distributions():  # in the order of sys.path: the first of a name is the one that is imported
    packages.setdefault(found.metadata["Name"], found.version)
json.dump({"python": sys.version.split()[0], "packages": dict(sorted(packages.items()))}, sys.stdout)
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    choices = parser.add_subparsers(dest="what", required=True, metavar="what")
    build = choices.add_parser("build", help="build an image, or take a ready one, into results/.images")
    build.add_argument("name", help="an image: " + ", ".join(images.names()))
    build.add_argument("--kind", choices=["cuda", "cpu"], default="cuda", help="for an NVIDIA GPU (default), or without one")
    build.add_argument("--base", help="`image@sha256:…`, or the folder of a root file system; default: the template's")
    build.add_argument("--ready", help="take this image instead: a `.sif`, or `docker://…@sha256:…`")
    lock = choices.add_parser("lock", help="resolve the locks anew (downloads no package)")
    lock.add_argument("names", nargs="*", default=images.names(), help="images; default: all")
    base = choices.add_parser("base", help="make a root file system from this machine's Debian mirror")
    base.add_argument("folder", type=Path, help="where to; must not exist")


def run(args) -> None:
    if args.what == "lock":
        for name in args.names:
            for kind in images.kinds(name):
                text = lockfiles.resolve(name, kind)
                images.lock_file(name, kind).write_text(text, encoding="utf-8")
                say(f"{images.lock_file(name, kind).name}: {len(lockfiles.pins(text))} packages")
    elif args.what == "base":
        make_base(args.folder)
    else:
        image = images.ready(args.name, args.ready) if args.ready else images.built(args.name, args.kind, args.base)
        make_image(image)


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def call(command: list[str | Path], failure: str) -> None:
    """Runs a program whose output goes to the person; raises UserError where it fails."""
    # what jobs bind has no place in an image that is being built: the runtime would stop
    environment = {name: value for name, value in os.environ.items() if name not in ("APPTAINER_BIND", "SINGULARITY_BIND")}
    if code := subprocess.run(command, stdout=sys.stderr, env=environment).returncode:
        why = images.namespaces_forbidden()
        raise UserError(
            f"{failure}: `{Path(command[0]).name}` ended with exit code {code}, see above" + (f"; {why}" if why else "")
        )


def make_image(image: images.Image) -> None:
    """Makes `image.file` and its record; both appear whole or not at all."""
    runtime = images.runtime()
    file = Path(image.file)
    file.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=file.parent, prefix=f".{image.stem}-") as work:
        part, times = Path(work) / file.name, {}
        if image.kind == "ready":
            take(runtime, image.source, part)
        else:
            times = build(runtime, image, part, Path(work) / "wheels")
        say(f"{image.stem}: asks what is inside")
        asked = subprocess.run(
            [runtime, "exec", "--cleanenv", "--contain", part, "python", "-c", ASK],
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
        )
        if asked.returncode:
            raise UserError(
                f"{image.stem}: no `python` runs in the image: {images.namespaces_forbidden() or asked.stderr.strip()}"
            )
        record = describe(image, part, json.loads(asked.stdout)) | times
        part.with_suffix(".json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        for made in (part.with_suffix(".json"), part):
            made.replace(file.parent / made.name)
    say(f"{image.stem}: {file}, {record['bytes'] / 1e6:.0f} MB, {record['digest']}")


def build(runtime: str, image: images.Image, part: Path, wheels: Path) -> dict:
    """Downloads the lock's packages, then builds the image from the template; returns the seconds of both."""
    started = time.monotonic()
    say(f"{image.stem}: downloads {len(pinned(image))} packages")
    lock = images.lock_file(image.name, image.kind)
    lockfiles.download(lock, wheels)
    downloaded = time.monotonic()
    say(f"{image.stem}: builds the image")
    values = {"LOCK": lock, "NAME": image.name, "DEBIAN": " ".join(images.debian_packages(image.name))}
    if image.source:
        local = Path(image.source).is_dir()
        values |= {
            "BOOTSTRAP": "localimage" if local else "docker",
            "BASE": Path(image.source).resolve() if local else image.source,
        }
    command = [runtime, "build", "--bind", f"{wheels.resolve()}:/mnt"]
    # lz4: built in a third of gzip's time, and quicker to start, for half as much disk again
    command += ["--mksquashfs-args", "-comp lz4"]
    for name, value in values.items():
        command += ["--build-arg", f"{name}={value}"]
    call([*command, part, images.TEMPLATE], f"{image.stem} could not be built")
    return {"download_seconds": round(downloaded - started, 1), "build_seconds": round(time.monotonic() - downloaded, 1)}


def pinned(image: images.Image) -> dict[str, str]:
    return lockfiles.pins(images.lock_file(image.name, image.kind).read_text(encoding="utf-8"))


def take(runtime: str, source: str, part: Path) -> None:
    """Pulls a ready image, or links it into place (copies it from another disk)."""
    if "://" in source:
        call([runtime, "pull", part, source], f"{source} could not be pulled")
        return
    try:
        os.link(source, part)
    except OSError:
        shutil.copyfile(source, part)


def describe(image: images.Image, file: Path, inside: dict) -> dict:
    """The record of an image: what it is, and which CUDA and cuDNN its packages bring (None: none of them does)."""
    packages = inside["packages"]
    if image.kind != "ready":
        wrong = {name: pin for name, pin in pinned(image).items() if packages.get(name) != pin}
        if wrong:
            raise UserError(f"{image.stem}: its packages are not those of its lock: {wrong}")

    def version(*names: str) -> str | None:
        return next((packages[name] for name in names if name in packages), None)

    with file.open("rb") as content:
        digest = f"sha256:{file_digest(content, 'sha256').hexdigest()}"
    return {
        "name": image.name,
        "kind": image.kind,
        "source": image.source,
        "digest": digest,
        "sif_id": images.sif_id(file),
        "bytes": file.stat().st_size,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "cuda": version("nvidia-cuda-runtime", "nvidia-cuda-runtime-cu12"),
        "cudnn": version("nvidia-cudnn-cu13", "nvidia-cudnn-cu12"),
    } | inside


def make_base(folder: Path) -> None:
    """A root file system with Python, pip and apt from the mirror of the machine's own Debian: about 200 MB."""
    if folder.exists():
        raise UserError(f"{folder} exists already: name a new folder, or remove it")
    if not shutil.which("mmdebstrap"):
        raise UserError("a base is made with mmdebstrap, which is not installed: `apt-get install mmdebstrap` (Debian, Ubuntu)")
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = folder.with_name(f".{folder.name}.part")
    slim = [f"--dpkgopt=path-exclude=/usr/share/{part}/*" for part in ("man", "locale", "doc")]
    try:
        call(
            ["mmdebstrap", "--variant=apt", *slim, "--include=python3,python3-pip", images.SUITE, part],
            f"{folder} could not be made",
        )
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    say(f"{folder}: Debian {images.SUITE}; `images: {{base: {folder}}}` in a config uses it")
